"""Play the whole story once: `make demo`.

Every line that starts with `$` is a command that you can type yourself in the folder that is left
behind. What a person would do in the browser goes through the labeling page's HTTP API, and what
users would send goes through the server's HTTP API.
"""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.parquet as pq
from PIL import Image, ImageChops

REPOSITORY = Path(__file__).resolve().parents[1]
TRUTH = REPOSITORY / "templates" / "image-classification" / "data" / "digits.txt"
LABELS = 20  # images labeled through the page
REQUESTS = 500  # predictions before and after the camera moves
SHIFT = 2  # pixels of 8
WAIT_S = 60


class Story:
    """One telling, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.project = folder / "digits-demo"
        self.at = folder
        self.started = time.monotonic()

    def chapter(self, title: str) -> None:
        """Say what comes, and when."""
        say(f"\n== {title}  [{time.monotonic() - self.started:.0f} s]")

    def type(self, *words: str, expect: int = 0) -> None:
        """Run one mlstack command as a person would; another exit code ends the demo."""
        say(f"$ {shown(words)}")
        code = subprocess.run(command(words), cwd=self.at, check=False).returncode
        if code != expect:
            sys.exit(f"demo: `{shown(words)}` ended with {code}, not {expect}; see {self.at}")

    @contextmanager
    def running(self, *words: str) -> Iterator[httpx.Client]:
        """Keep a server running for a block; give a client for the address it prints."""
        say(f"$ {shown(words)} &")
        process = subprocess.Popen(
            command(words),
            cwd=self.at,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        try:
            yield httpx.Client(base_url=address(process), timeout=30)
        finally:
            process.terminate()
            process.wait(timeout=30)


def say(text: str) -> None:
    """Print one line at once, so that it stands before what a command prints."""
    print(text, flush=True)


def shown(words: tuple[str, ...]) -> str:
    """Give a command as it would be typed."""
    return " ".join(["mlstack", *(f"'{w}'" if " " in w else w for w in words)])


def command(words: tuple[str, ...]) -> list[str]:
    """Give the command line of the mlstack beside this Python."""
    return [sys.executable, "-m", "mlstack", *words]


def address(process: "subprocess.Popen[str]") -> str:
    """Read a server's output until it tells its address."""
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip())
        if found := re.search(r"http://[\w.]+:\d+", line):
            return found.group()
    sys.exit("demo: the server ended before it was ready")


def label_some(client: httpx.Client) -> None:
    """Answer what the page asks, as its keys 1-9 would; the truth comes with the template."""
    truth = TRUTH.read_text().strip()
    for _ in range(LABELS):
        (item,) = client.get("/api/next", params={"annotator": "demo", "n": 1}).json()["items"][:1]
        digit = truth[int(Path(item["path"]).stem)]
        answer = {"path": item["path"], "label": digit, "annotator": "demo", "seconds": 0.8}
        client.post("/api/label", json=answer).raise_for_status()
    say(f"labeled {LABELS} images through {client.base_url}")


def send(client: httpx.Client, project: Path, *, shift: int) -> None:
    """Ask for predictions of real images, moved sideways by some pixels, and count the hits."""
    labels = pq.read_table(project / "data/digits/labels.parquet").to_pylist()[-REQUESTS:]
    hits = 0
    for row in labels:
        content = moved((project / "data/digits" / row["path"]).read_bytes(), shift)
        answer = client.post("/predict", content=content).raise_for_status().json()
        hits += answer["prediction"] == row["label"]
    how = f"moved by {shift} pixels" if shift else "as they are"
    say(f"sent {len(labels)} images {how}: {hits / len(labels):.1%} were read right")


def moved(content: bytes, shift: int) -> bytes:
    """Move an image sideways; what enters at the border is black."""
    if not shift:
        return content
    image = ImageChops.offset(Image.open(io.BytesIO(content)), shift, 0)
    image.paste(0, (0, 0, shift, image.height))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def free_folder() -> Path:
    """Take the first of demo-1, demo-2, ... that is not there."""
    number = 1
    while (folder := Path.cwd() / f"demo-{number}").exists():
        number += 1
    return folder


def play(story: Story) -> None:
    """Tell the story from an empty folder to an alarm."""
    story.chapter("A project with real data: 1,797 handwritten digits")
    story.type("init", "digits-demo")
    story.at = story.project
    story.chapter("Label what is not labeled yet")
    with story.running("label", "--no-browser", "--port", "0") as client:
        label_some(client)
    story.type("label", "export")
    story.chapter("Name the state of the data")
    story.type("version", "snapshot", "-m", f"{LABELS} more labels")
    story.chapter("Train: first a minute of doubt, then the real run")
    story.type("train", "--check")
    story.type("train")
    story.chapter("Search for better settings, a little")
    story.type("tune", "--trials", "3", "--set", "train.epochs=3")
    story.chapter("Prove the model and pack it")
    story.type("export")
    story.chapter("Serve it, and watch")
    with story.running("serve", "--port", "0") as client:
        send(client, story.project, shift=0)
        story.type("monitor", "check")
        story.chapter("The camera moves")
        send(client, story.project, shift=SHIFT)
        story.type("monitor", "check", expect=5)
    story.type("monitor", "report")
    story.chapter("Where it stands")
    story.type()


def main() -> None:
    """Play, and say where it was left."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    story = Story(free_folder())
    play(story)
    say(f"\nThe story took {time.monotonic() - story.started:.0f} s. It is yours to play with:")
    say(f"  cd {story.project.relative_to(Path.cwd())} && {Path(sys.executable).parent}/mlstack")


if __name__ == "__main__":
    main()
