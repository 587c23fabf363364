"""A push over SSH under kill -9: what has a name on the other side is whole."""

import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ssh_server import SSHD, serving
from test_faults_version import Killer
from versioned import content, make_versions, typed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(SSHD).is_file(), reason="needs openssh-server"),
]


def assert_whole(store):
    there = {p.parent.name + p.name: p for p in (store / "files/md5").rglob("*") if p.is_file()}
    for name, path in there.items():
        assert hashlib.md5(path.read_bytes()).hexdigest() == name.removesuffix(".dir")
        if name.endswith(".dir"):
            assert {entry["md5"] for entry in json.loads(path.read_bytes())} <= there.keys()


def test_a_killed_push_over_ssh_leaves_no_half_object_and_goes_on(tmp_path, monkeypatch):
    project = make_versions(tmp_path / "project one", files=300)
    store = tmp_path / "store"
    with serving(tmp_path / "sshd") as server:
        monkeypatch.setenv("PATH", server.environment["PATH"])
        settings = f"versioning: {{remote: '{server.url(store)}'}}\n"
        (project / "mlstack.local.yaml").write_text(settings)
        killer = Killer(project, 20)
        while not killer.is_done:
            if not killer.strike("version", "push"):
                while store.exists():  # all of it again; who was killed may still tidy up there
                    shutil.rmtree(store, ignore_errors=True)
            assert_whole(store)
        typed(project, "version", "push")
        time.sleep(0.5)  # the other side of the last one killed ends by itself

        assert_whole(store)
        assert not list((store / "files").glob(".mlstack-*"))
        clone = project / "clone"
        subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
        (clone / "mlstack.local.yaml").write_text(settings)
        typed(clone, "version", "pull")
        assert content(clone) == content(project)
