"""Where each file of a project lies."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The paths below a project's folder."""

    root: Path

    @property
    def state(self) -> Path:
        """Everything that is not committed."""
        return self.root / ".mlstack"

    @property
    def labels_db(self) -> Path:
        """Label events."""
        return self.state / "labels.db"

    @property
    def label_session(self) -> Path:
        """What the labeling server was started with."""
        return self.state / "label-session.json"

    @property
    def label_lock(self) -> Path:
        """Held by the one process that writes label events."""
        return self.state / "labels.lock"

    @property
    def source(self) -> Path:
        """What was copied from the URL in `data.source`."""
        return self.state / "source.jsonl"

    @property
    def coming(self) -> Path:
        """Files that are being copied from there; what is half here goes on."""
        return self.state / "coming"

    @property
    def laying(self) -> Path:
        """A dataset folder that is being laid out; it gets its name when it is whole."""
        return self.state / "laying"

    @property
    def features(self) -> Path:
        """Tables with their features, by a hash of what was joined; each can be joined again."""
        return self.state / "features"

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.state / "runs"

    @property
    def runs_db(self) -> Path:
        """Index of the runs, rebuilt from their folders when lost."""
        return self.state / "runs.db"

    @property
    def studies(self) -> Path:
        """One Optuna journal a study."""
        return self.state / "studies"

    @property
    def models(self) -> Path:
        """One folder a model; also a Triton model repository."""
        return self.root / "models"

    @property
    def proven(self) -> Path:
        """One small file for each package that was opened here, in a process that could die."""
        return self.state / "proven"

    @property
    def tensorrt(self) -> Path:
        """Engines that TensorRT has built here, by GPU and versions, then by the graph's hash."""
        return self.state / "tensorrt"

    @property
    def requests(self) -> Path:
        """Request log: Parquet parts and Arrow write-ahead files."""
        return self.state / "requests"

    @property
    def feedback(self) -> Path:
        """Late labels by prediction id."""
        return self.state / "feedback"

    @property
    def reports(self) -> Path:
        """Monitor's reports."""
        return self.state / "reports"

    @property
    def alerts(self) -> Path:
        """One JSON file an alert."""
        return self.state / "alerts"

    @property
    def stages(self) -> Path:
        """What `mlstack run` remembers of each stage."""
        return self.state / "stages"

    @property
    def prepared(self) -> Path:
        """The division of the data that the stage `prepare` made."""
        return self.state / "prepared"

    @property
    def evaluation(self) -> Path:
        """What the stage `evaluate` measured, for people and for DVC; small enough for git."""
        return self.root / "evaluation"

    @property
    def augmented(self) -> Path:
        """Examples as `train --check` saw them augmented, a picture."""
        return self.state / "augmented.png"

    @property
    def litert_python(self) -> Path:
        """Python of LiteRT's converter, in an environment that the user makes once."""
        return self.state / "litert" / "bin" / "python"

    @property
    def last_error(self) -> Path:
        """Traceback of the last unforeseen error."""
        return self.state / "last-error.txt"

    def index(self, source: str) -> Path:
        """What is known of the files of a dataset, so that only changed ones are read again."""
        return self.state / "index" / f"{source.replace('/', '~')}.idx"

    def run(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.runs / run_id

    def days(self, model: str, version: int) -> Path:
        """What each day of the request log looked like to one version; one file a day."""
        return self.state / "days" / model / str(version)

    def model(self, name: str) -> Path:
        """Folder of one model."""
        return self.models / name

    def package(self, name: str, number: int) -> Path:
        """Folder of one model package."""
        return self.models / name / str(number)
