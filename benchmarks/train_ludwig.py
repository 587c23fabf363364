"""Make an environment in which Ludwig trains beside torch for the CPU.

    python benchmarks/train_ludwig.py FOLDER

prints the Python to hand to `benchmarks/train.py --ludwig`. The torchvision that pip installs
beside torch for the CPU does not import (`operator torchvision::nms does not exist`), and Ludwig
imports it, and torchaudio, whatever is trained. Columns of numbers need neither, so both are
written as packages that have every name and do nothing.
"""

import subprocess
import sys
import venv
from pathlib import Path

NEEDS = ["torch==2.13.0", "ludwig==0.11.0"]
STUBS = {
    "torchvision": ("transforms", "transforms/functional", "io", "models", "models/_api"),
    "torchaudio": ("transforms", "functional"),
}
NOTHING = '''"""Has every name, and nothing behind it."""

__version__ = "2.13.0"


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
        subprocess.run([python, "-m", "pip", "install", "-q", *NEEDS], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *STUBS], check=True)
        for name, parts in STUBS.items():
            for place in (site / name, *(site / name / part for part in parts)):
                place.mkdir(parents=True, exist_ok=True)
                (place / "__init__.py").write_text(NOTHING)
        subprocess.run([python, "-W", "ignore", "-c", "import ludwig.api"], check=True)
        (folder / "made").touch()
    print(python)


if __name__ == "__main__":
    main()
