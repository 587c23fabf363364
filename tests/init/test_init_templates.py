"""The shipped networks and data modules, for grey and colour, without the rest of mlstack."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlstack.init import catalog

TEMPLATES = Path(__file__).parents[2] / "templates"
SCRIPT = """
import sys, torch
from importlib import import_module
sys.path.insert(0, sys.argv[1])
module = import_module("my_project.model")
if sys.argv[2] == "tabular":
    assert module.Net(features=5, num_classes=4).eval()(torch.zeros(2, 5)).shape == (2, 4)
    assert not [m for m in sys.modules if m == "mlstack"], "the network must not need mlstack"
    sys.exit()
if sys.argv[2] == "text-classification":
    net = module.Net(vocabulary=50, num_classes=4).eval()
    assert net(torch.ones(2, 7, dtype=torch.int32)).shape == (2, 4)
    assert not [m for m in sys.modules if m == "mlstack"], "the network must not need mlstack"
    sys.exit()
for channels, size in ((1, 16), (3, 64)):
    args = {} if sys.argv[2] == "bare" else {"channels": channels}
    nets = [module.Net]
    if sys.argv[2] == "bare":
        channels, size = 1, 8
    else:
        nets.append(import_module("my_project.mobile").Mobile)
    for net in (one(num_classes=4, **args).eval() for one in nets):
        logits = net(torch.zeros(2, size, size, channels, dtype=torch.uint8))
        assert logits.shape == (2, 4), logits.shape
assert not [m for m in sys.modules if m == "mlstack"], "the network must not need mlstack"
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.names())
def test_a_shipped_network_runs_without_mlstack(name: str, tmp_path: Path) -> None:
    folder = str(catalog.find(name).folder)

    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, folder, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_template_names_its_data(tmp_path: Path) -> None:
    for name in catalog.names():
        template = catalog.find(name)

        assert template.data.sheet.is_file()
        assert template.data.licence
        assert template.data.source


@pytest.mark.parametrize("name", catalog.names())
def test_what_a_template_logs_is_of_all_ranks(name: str) -> None:
    code = (TEMPLATES / name / "my_project" / "model.py").read_text()

    assert code.count("self.log") == code.count("sync_dist=True")
