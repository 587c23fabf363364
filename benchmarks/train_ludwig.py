"""Make an environment in which Ludwig trains beside torch for the CPU.

    python benchmarks/train_ludwig.py FOLDER

prints the Python to hand to `benchmarks/train.py --ludwig`. The torchvision that pip installs
beside torch for the CPU does not import (`operator torchvision::nms does not exist`), and Ludwig
imports it, and torchaudio, whatever is trained. Columns of numbers need neither, so both are
written as packages that have every name and do nothing.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

NEEDS = ["torch==2.13.0", "ludwig==0.11.0"]
STUBS = {
    "torchvision": ("transforms", "transforms/functional", "io", "models", "models/_api"),
    "torchaudio": ("transforms", "functional"),
}
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n"
NOTHING = '''"""Has every name, and nothing behind it."""

__version__ = "99.0"


class _Kind(type):
    def __getattr__(cls, name):
        return __getattr__(name)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Kind(name, (), {})
'''


def main() -> None:
    """Make the environment, unless it is there."""
    folder = Path(sys.argv[1]).resolve()
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        venv.create(folder, with_pip=True, clear=True)
        (site,) = folder.glob("lib/python*/site-packages")
        said = [_pretend(site, name) for name in STUBS]  # for pip, which would bring the real ones
        subprocess.run([python, "-m", "pip", "install", "-q", *NEEDS], check=True)
        for metadata in said:  # torchmetrics and transformers ask by these whether they are there
            shutil.rmtree(metadata)
        (folder / "made").touch()
    subprocess.run([python, "-W", "ignore", "-c", "import ludwig.api"], check=True)
    print(python)


def _pretend(site: Path, name: str) -> Path:
    """Write a package that does nothing; give the folder by which pip knows it."""
    for part in ("", *STUBS[name]):
        (site / name / part).mkdir(parents=True, exist_ok=True)
        (site / name / part / "__init__.py").write_text(NOTHING)
    metadata = site / f"{name}-99.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(METADATA.format(name=name))
    (metadata / "INSTALLER").write_text("mlstack\n")
    (metadata / "RECORD").write_text("")
    return metadata


if __name__ == "__main__":
    main()
