"""`python -m mlstack.serve.worker serve|predict|bench ...`: see mlstack/serve/api.py."""

import gc
import socket
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Do what the first argument says; what it needs is loaded here, for a start must be short."""
    if arguments[:1] == ["serve"]:
        gc.disable()  # until `memory.collect_rarely`: modules are no garbage
        from mlstack.serve.worker.server import serve  # noqa: PLC0415

        _, spec_file, descriptor = arguments
        return serve(Path(spec_file), socket.socket(fileno=int(descriptor)))
    from mlstack.launch.worker import report  # noqa: PLC0415
    from mlstack.serve.worker.engine import Gpus  # noqa: PLC0415
    from mlstack.serve.worker.offline import bench, predict  # noqa: PLC0415

    match arguments:
        case ["predict", package, device, *names]:
            return report(predict(Path(package), device, names), sys.stdout.buffer)
        case ["bench", package, largest, device, count, engines]:
            gpus = Gpus(int(count), Path(engines) if engines else None)
            return report(bench(Path(package), int(largest), device, gpus), sys.stdout.buffer)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
