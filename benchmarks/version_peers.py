"""Git, git-lfs and Oxen at the same steps as `benchmarks/version.py`, as far as they do them."""

import os
import subprocess
import sys
import venv
from pathlib import Path

OXEN = "oxenai==0.65.1"  # its Python wheel; there is no command line in it
OXEN_HOME = Path(os.environ.get("MLSTACK_BENCH_OXEN", "/tmp/mlstack-bench-oxen"))
START_OXEN = "import oxen.user as u; u.config_user('bench', 'bench@example.invalid'); r.init()"


class CannotError(Exception):
    """A tool has no such step, or failed at it."""


class Git:
    """Files in git itself; the remote is a bare repository."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.root = home / name
        self.remote = home / f"{name}-remote"
        self.clone = home / f"{name}-clone"
        self.places = (self.root, self.remote, self.clone)
        self.data = self.root / "data" / "set"
        self.environment = os.environ | {
            "HOME": str(home),
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@example.invalid",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@example.invalid",
            "GIT_LFS_PROGRESS": "",
        }

    def start(self) -> None:
        """Make an empty repository with a remote."""
        self.root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "gc.auto", "0")  # it would go on in the background, uncounted
        self.git("init", "-q", "-b", "main", "--bare", str(self.remote))
        self.git("remote", "add", "origin", f"file://{self.remote}")

    def git(self, *words: str, cwd: Path | None = None) -> None:
        """Run git."""
        self.run("git", *words, cwd=cwd)

    def run(self, *command: str, cwd: Path | None = None) -> None:
        """Run a command.

        Raises:
            CannotError: it failed.
        """
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, check=False
        )
        if done.returncode:
            raise CannotError((done.stderr or done.stdout).decode(errors="replace")[-300:])

    def snapshot(self) -> None:
        """Add and commit."""
        self.git("add", "-A")
        self.git("commit", "-qm", "data")

    def status(self) -> None:
        """Ask whether anything has changed."""
        self.git("status", "--porcelain")

    def checkout(self) -> None:
        """Go back to the files of the version before."""
        self.git("checkout", "-q", "HEAD~1", "--", "data")

    def forward(self) -> None:
        """Come back."""
        self.git("checkout", "-q", "HEAD", "--", "data")

    def push(self) -> None:
        """Copy to the remote what it lacks."""
        self.git("push", "-q", "origin", "main")

    def pull(self) -> None:
        """Clone with the files."""
        self.git("clone", "-q", "-b", "main", f"file://{self.remote}", str(self.clone))


class Lfs(Git):
    """The same with the bytes in git-lfs."""

    def start(self) -> None:
        """Have git-lfs keep everything below data/."""
        super().start()
        self.git("lfs", "install", "--local", "--skip-repo")
        self.git("lfs", "install", "--local")
        self.git("config", "--global", "filter.lfs.process", "git-lfs filter-process")
        self.git("config", "--global", "filter.lfs.required", "true")
        (self.root / ".gitattributes").write_text("data/** filter=lfs diff=lfs merge=lfs -text\n")

    def pull(self) -> None:
        """Clone, and see that it is not pointers alone."""
        super().pull()
        first = next(path for path in (self.clone / "data").rglob("*") if path.is_file())
        if first.read_bytes().startswith(b"version https://git-lfs"):
            raise CannotError("pointers, not files")


class Oxen(Git):
    """Oxen by its Python module; pushing needs a server."""

    def start(self) -> None:
        """Make a repository."""
        self.root.mkdir(parents=True)
        self.oxen(START_OXEN)

    def oxen(self, steps: str) -> None:
        """Run some steps with `r`, the repository."""
        python = oxen_python()
        self.run(str(python), "-c", f"from oxen import Repo; r = Repo('.'); {steps}")

    def snapshot(self) -> None:
        """Add and commit."""
        self.oxen("r.add('data'); r.commit('data')")

    def after_snapshot(self) -> None:
        """Name the first version: Oxen checks out branches, not commits."""
        if not (self.root / ".oxen" / "named").exists():
            self.oxen("r.checkout('old', create=True); r.checkout('main')")
            (self.root / ".oxen" / "named").touch()

    def status(self) -> None:
        """Ask whether anything has changed."""
        self.oxen("r.status()")

    def checkout(self) -> None:
        """Go back to the version before."""
        self.oxen("r.checkout('old')")

    def forward(self) -> None:
        """Come back."""
        self.oxen("r.checkout('main')")

    def push(self) -> None:
        """Refuse: there is no folder as a remote."""
        raise CannotError("needs oxen-server")

    pull = push


PEERS = {"git": Git, "git-lfs": Lfs, "oxen": Oxen}


def oxen_python() -> Path:
    """Give the Python of an environment that has Oxen; it is made where there is none."""
    python = OXEN_HOME / "bin" / "python"
    if not python.exists():
        venv.create(OXEN_HOME, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", OXEN], check=True)
    return python


def versions(names: list[str]) -> str:
    """Say which versions of the peers are measured."""
    asked = {"git": ["git", "--version"], "git-lfs": ["git", "lfs", "version"]}
    found = [subprocess.check_output(asked[n], text=True).strip() for n in names if n in asked]
    return ", ".join(found + ([OXEN] if "oxen" in names else []))


if __name__ == "__main__":
    sys.exit("type `python benchmarks/version.py --tools mlstack git git-lfs oxen`")
