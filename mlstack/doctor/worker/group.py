"""What GPUs can do together: add up a known sum, copy what was sent."""

import os
import time
from datetime import timedelta

from mlstack.doctor.seen import GroupSeen

REACH_S = 20
ELEMENTS = 1 << 24  # 64 MiB of float32
WARM_UP, TIMES = 1, 3


def add_up(backend: str) -> GroupSeen:
    """Give the sum of 1, 2, ... over all processes, and what a sum of 64 MiB takes."""
    try:
        import torch  # noqa: PLC0415  that it cannot be imported is a finding
        from torch import distributed  # noqa: PLC0415

        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else "cpu"
        distributed.init_process_group(backend, timeout=timedelta(seconds=REACH_S))
        mine = torch.full((1,), int(os.environ["RANK"]) + 1, device=device)
        distributed.all_reduce(mine)
        large = torch.ones(ELEMENTS, device=device)
        for turn in range(WARM_UP + TIMES):
            if turn == WARM_UP:
                began = time.monotonic()
            distributed.all_reduce(large)
        float(large[0])  # waits for the device
        taken_s = (time.monotonic() - began) / TIMES
        distributed.destroy_process_group()
    except (ImportError, OSError, RuntimeError) as error:
        return GroupSeen(problem=str(error).strip().splitlines()[0])
    return GroupSeen(total=int(mine.item()), milliseconds=taken_s * 1000)


def copy_between() -> GroupSeen:
    """Copy from each GPU to each other one and back."""
    try:
        import torch  # noqa: PLC0415

        count = torch.cuda.device_count()
        indirect = []
        for here in range(count):
            sent = torch.arange(ELEMENTS, device=f"cuda:{here}", dtype=torch.int32)
            for there in range(count):
                if here == there:
                    continue
                arrived = sent.to(f"cuda:{there}")
                if not torch.equal(arrived.cpu(), sent.cpu()):
                    return GroupSeen(problem=f"GPU {there} does not get what GPU {here} sends")
                if not torch.cuda.can_device_access_peer(here, there):
                    indirect.append(f"{here} to {there}")
    except (ImportError, OSError, RuntimeError) as error:
        return GroupSeen(problem=str(error).strip().splitlines()[0])
    return GroupSeen(indirect=indirect)
