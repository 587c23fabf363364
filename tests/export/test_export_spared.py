"""A graph whose INT8 is refused is tried again with its first layers in full precision."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from export_runs import TRAIN, finish, mlstack, python_path, write_run
from projects import commit_all, make_project

from mlstack.export import kinds
from mlstack.records import dataset, run

DEEP = '''

class Deep(Net):
    """Little of its weight is in its first layers."""

    def _body(self, channels: int, width: int, num_classes: int) -> nn.Module:
        blocks = [self._block(channels, 8), self._block(8, 8), nn.MaxPool2d(2)]
        blocks += [self._block(8, 64), nn.MaxPool2d(2), self._block(64, 64)]
        blocks += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
        return nn.Sequential(*blocks)
'''
# The same answers in FP32; one channel between the first two layers takes all of INT8's range.
LOUD = """
with torch.no_grad():
    net.body[0][1].weight[0] *= 3000
    net.body[0][1].bias[0] *= 3000
    net.body[1][0].weight[:, 0] /= 3000
torch.save("""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_first_layers_that_int8_cannot_hold_stay_in_fp32(tmp_path: Path) -> None:
    root = make_project(tmp_path / "digits", images=600)
    config, model = root / "mlstack.yaml", root / "my_project/model.py"
    config.write_text(config.read_text().replace(":Net", ":Deep"))
    model.write_text(model.read_text() + DEEP)
    commit_all(root)
    folder = write_run(root)
    code = TRAIN.replace("Net", "Deep").replace("range(25)", "range(8)")
    subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace("torch.save(", LOUD),
            folder / dataset.EXAMPLES,
            folder / run.CHECKPOINTS / run.BEST,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path(root)},
        check=True,
    )
    finish(folder)

    done = mlstack(root, "export", "--precision", "int8", "--set", "gates={}", "--json")

    assert done.code == 0, done.out + done.err
    rows = {row["precision"]: row for row in done.json["variants"]}
    assert rows["int8-static"]["red"]
    assert done.json["precision"] == "int8-static-after-5"
    assert rows["int8-static-after-5"]["agreement"] >= 0.99
    assert rows["int8-static-after-5"]["size_bytes"] < 0.6 * rows["fp32"]["size_bytes"]


def test_only_static_int8_is_tried_again() -> None:
    assert kinds.spared("int8-static-s8s8") == [
        "int8-static-s8s8-after-1",
        "int8-static-s8s8-after-5",
    ]
    assert kinds.spared("int8-static-after-1") == ["int8-static-after-5"]
    assert kinds.spared("int8-static-after-5") == []
    assert kinds.spared("int8-dynamic") == []
    assert kinds.spared("fp16") == []


def test_a_network_of_depthwise_convolutions_is_not_asked_for_its_first_layers() -> None:
    mobile = {"Conv": 6_000, "DepthwiseConv": 600, "MatMul": 10}

    found = kinds.plan("auto", "cpu", mobile)

    assert found.kinds == ["int8-static-after-1"]
    assert "depthwise" in found.left_out["int8-static"]
    assert kinds.plan("int8", "arm", mobile).kinds == ["int8-static-s8s8-after-1"]
    assert kinds.plan("int8-static", "cpu", mobile).kinds == ["int8-static"]
    assert kinds.plan("auto", "tensorrt", mobile).kinds == ["fp16", "int8-static-s8s8-after-1"]
