"""What a run's own events say about its training, for the model card."""

from dataclasses import dataclass
from pathlib import Path

from mlstack.records import run
from mlstack.records.system import Energy, Used, energy, read_system


@dataclass(frozen=True)
class Training:
    """How long a run trained, and on what."""

    seconds: float = 0.0
    epochs: int = 0
    steps: int = 0
    device: str = "cpu"
    ranks: int = 1
    attempts: int = 1
    energy: Energy | None = None

    def told(self) -> str:
        """Say it in one line; what was not recorded is left out."""
        ranks = f", {self.ranks} ranks" if self.ranks > 1 else ""
        parts = [f"{self.epochs} epochs, {self.steps:,} steps on {self.device}{ranks}"]
        if self.seconds:
            parts.append(f"{self.seconds:,.1f} s")
        if self.attempts > 1:
            parts.append(f"in {self.attempts} attempts")
        took = self.energy.told() if self.energy else ["energy was not measured"]
        return "; ".join([", ".join(parts), *took])


def training(folder: Path) -> Training:
    """Read a run's events."""
    events = run.read_events(folder)
    started = [e for e in events if isinstance(e, run.Started)]
    ended = [e for e in events if isinstance(e, run.Finished)]
    if not started or not ended:
        return Training()
    used = [one for one in read_system(folder) if isinstance(one, Used)]
    return Training(
        seconds=ended[-1].seconds,
        epochs=ended[-1].epoch,
        steps=ended[-1].step,
        device=started[-1].device,
        ranks=started[-1].ranks,
        attempts=started[-1].attempt,
        energy=energy(used) if used else None,
    )
