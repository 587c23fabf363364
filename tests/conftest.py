"""What every test may ask for."""

import compileall
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import make_project

import mlstack


def pytest_configure() -> None:
    """Compile mlstack before any process runs it, and let signals end what tests start.

    Python takes a .pyc that it could write a part of for a whole one, and tests that allow files of
    a few bytes only would leave such parts to every process after them. Below `nohup`, or behind
    `&` in a script, processes are born deaf to SIGHUP or SIGINT, which tests send.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        compileall.compile_dir(Path(mlstack.__file__).parent, quiet=2)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A digits project of 300 images that a test may change."""
    return make_project(tmp_path / "digits-demo")


@pytest.fixture(scope="session")
def project_maker() -> Callable[..., Path]:
    """Give `make_project` to fixtures that outlive one test."""
    return make_project
