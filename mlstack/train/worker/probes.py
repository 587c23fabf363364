"""What a look at some batches, and a network that was trained on them, say of a run to come.

Each probe gives a `Verdict`, and calls nothing wrong that may be right: it stays silent where it
cannot know. After A. Karpathy, "A Recipe for Training Neural Networks" (2019), and N. Breck et al.,
"The ML Test Score" (2017).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from mlstack.inputs.tables import leave_out
from mlstack.records.run import Checked

FEW_ROWS = 8  # fewer examples than this say nothing
ROWS = 16  # examples that are given to forward once more
BLOCKS = 64  # of an example's values that are exchanged one after the other
LOOK_S = 5.0  # that may take
MIXED = 0.7  # of the classes that a batch would hold if it were drawn at random
SLOW_S = 0.05  # a batch that loads in less keeps up with anything
SLOW_SHARE = 3.0  # times as long to load as to learn from
UNSURE = 0.05  # chance to do as well by guessing, from which that is what it looks like
EXPECTED = 10  # examples of a class that would be there by chance: none of them is no accident
CLEARLY = 0.3  # of the examples, in which a linear probe that found something is right oftener
NEVER = 1e-4  # chance of what is no accident
FEATURES = 1024  # values of an example that a linear probe looks at


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    name: str
    passed: bool
    detail: str
    hint: str = ""

    def event(self, run: str) -> Checked:
        """Give it as an event of a run."""
        return Checked(
            run=run, name=self.name, passed=self.passed, detail=self.detail, hint=self.hint
        )


@dataclass(frozen=True)
class Seen:
    """Batches of both parts."""

    train: list[Any]
    val: list[Any]
    val_again: Any  # the first batch of a second pass over val
    classes: int
    load_s: float  # seconds to load one batch of train
    origins: tuple[str, ...] = ()  # of a table: the column of each value of an example


def of_data(seen: Seen) -> Iterator[Verdict]:
    """Look at batches alone."""
    yield _mixed(seen)
    yield _held(seen)
    yield _apart(seen)
    yield _alike(seen)
    yield _steady(seen)


def of_both(
    seen: Seen, model: LightningModule, step_s: float, *, is_dead: bool
) -> Iterator[Verdict]:
    """Look at a network after some steps, and at batches; one that is dead was named before."""
    yield _independent(model, seen.train[0])
    if not is_dead:
        yield _used(model, seen)
    yield _meaning(seen)
    yield _pace(seen, step_s)


def tensors(value: Any) -> list[Tensor]:
    """List the tensors of a batch."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for one in value for tensor in tensors(one)]
    return []


def outputs(model: LightningModule, inputs: Tensor) -> Tensor:
    """Run forward on the first part of a batch, as serving will."""
    model.eval()
    with torch.inference_mode():
        found = model(inputs.to(model.device))
    return (found if isinstance(found, Tensor) else tensors(found)[0]).cpu()


def _mixed(seen: Seen) -> Verdict:
    """Shuffled batches hold many classes; sorted ones hold one each."""
    name, held = "batches are mixed", [one for one in map(_targets, seen.train) if one]
    inputs = [tensors(batch)[0].flatten(1) for batch in seen.train if tensors(batch)[0].ndim > 1]
    if inputs and sum(map(len, inputs)) >= FEW_ROWS:
        first = inputs[0][:1]
        if all(bool((rows == first).all()) for rows in inputs if rows.shape[1:] == first.shape[1:]):
            return Verdict(name, False, "all examples are equal", "is the file read at all?")
    if seen.classes < 2 or len(held) < 2 or len(held[0]) < FEW_ROWS:
        return Verdict(name, True, "nothing to compare")
    shares = torch.bincount(
        torch.tensor([one for part in held for one in part]), minlength=seen.classes
    ).double()
    shares /= shares.sum()
    found = sum(len(set(one)) for one in held) / len(held)
    wanted = sum(float((1 - (1 - shares) ** len(one)).sum()) for one in held) / len(held)
    detail = f"a batch holds {found:.1f} classes; at random it would hold {wanted:.1f}"
    if found < MIXED * wanted:
        return Verdict(name, False, detail, "DataLoader(..., shuffle=True) for train")
    return Verdict(name, True, detail)


def _held(seen: Seen) -> Verdict:
    """What val asks for must be taught: a class of val may not be missing from train."""
    name = "train holds what val asks for"
    train, val = (
        torch.bincount(
            torch.tensor([one for batch in part for one in _targets(batch)], dtype=torch.long),
            minlength=seen.classes,
        )
        for part in (seen.train, seen.val)
    )
    if seen.classes < 2 or not len(train) == len(val) == seen.classes or not int(train.sum()):
        return Verdict(name, True, "nothing to compare")
    expected = val * train.sum() / val.sum().clamp(min=1)
    is_one = int((train > 0).sum()) == 1 and int(train.sum()) >= FEW_ROWS
    missing = (
        ((train == 0) & (expected >= (1 if is_one else EXPECTED))).nonzero().flatten().tolist()
    )
    if missing:
        which = (
            f"class {missing[0]}" if len(missing) == 1 else f"classes {missing[0]}, {missing[1]}"
        )
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        detail = f"{which}{more} of val: no example among {int(train.sum())} of train"
        hint = "DataLoader(..., shuffle=True) for train, and the column `split` of the examples"
        return Verdict(name, False, detail, hint)
    return Verdict(name, True, f"{int((train > 0).sum())} classes seen in train")


def _apart(seen: Seen) -> Verdict:
    """No example may be in both parts."""
    name = "parts share no example"
    train = {key for batch in seen.train for key in _keys(batch)}
    val = [key for batch in seen.val for key in _keys(batch)]
    shared = sum(key in train for key in val)
    if shared > max(1, len(val) // 100):  # an accident among small images is none
        detail = f"{shared} of {len(val)} val examples are in train too"
        return Verdict(name, False, detail, "use the column `split` of the examples")
    return Verdict(name, True, f"{len(train)} of train, {len(val)} of val compared")


def _alike(seen: Seen) -> Verdict:
    """Train and val must be prepared the same way."""
    name = "parts are scaled alike"
    first, second = tensors(seen.train[0])[0], tensors(seen.val[0])[0]
    if first.dtype != second.dtype or first.shape[1:] != second.shape[1:]:
        detail = f"train gives {_kind(first)}, val gives {_kind(second)}"
        return Verdict(name, False, detail, "prepare both parts the same way")
    if min(len(first), len(second)) < FEW_ROWS:
        return Verdict(name, True, "too few examples to compare")
    (mean, spread), (other, other_spread) = map(_moments, (first, second))
    off = abs(mean - other) > 3 * max(spread, other_spread, 1e-9)
    ratio = (spread + 1e-9) / (other_spread + 1e-9)
    detail = f"mean {mean:.3g} and {other:.3g}, deviation {spread:.3g} and {other_spread:.3g}"
    if off or not 0.1 < ratio < 10:
        return Verdict(name, False, detail, "prepare train and val the same way")
    return Verdict(name, True, detail)


def _steady(seen: Seen) -> Verdict:
    """Two passes over val must judge by the same examples."""
    name = "val is the same each time"
    pairs = zip(tensors(seen.val[0]), tensors(seen.val_again), strict=False)
    if all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
        return Verdict(name, True, "its first batch was loaded twice and compared")
    hint = "no shuffle and no random augmentation in val_dataloader"
    return Verdict(name, False, "its first batch differs between two passes", hint)


def _independent(model: LightningModule, batch: Any) -> Verdict:
    """What one example gets must not depend on the others (a reshape that mixes them)."""
    name, inputs = "examples do not mix", tensors(batch)[0][:ROWS]
    if len(inputs) < 3:
        return Verdict(name, True, "too few examples to tell")
    other = inputs.clone()
    other[0] = inputs[1]
    before, after = outputs(model, inputs), outputs(model, other)
    if before.ndim < 1 or len(before) != len(inputs):
        detail = f"{len(inputs)} examples give outputs of shape {tuple(before.shape)}"
        return Verdict(name, False, detail, "forward must give one row for each example")
    moved = float((after[1:] - before[1:]).abs().max())
    if moved > 1e-3 * max(1.0, float(before.abs().max())):
        detail = f"another first example moves the outputs of the rest by {moved:.3g}"
        return Verdict(name, False, detail, "look for a view() or permute() that mixes the batch")
    return Verdict(name, True, "the outputs of the rest stay when one example changes")


def _used(model: LightningModule, seen: Seen) -> Verdict:
    """Which values of an example change nothing: dead inputs."""
    name, inputs = "inputs are used", tensors(seen.train[0])[0][:ROWS]
    if len(inputs) < FEW_ROWS or inputs.ndim < 2:
        return Verdict(name, True, "too little to tell")
    flat = inputs.flatten(1)
    began = time.monotonic()
    plain = outputs(model, inputs)
    count = max(FEW_ROWS, min(BLOCKS, int(LOOK_S / (time.monotonic() - began + 1e-6))))
    dead, alive = [], 0
    for number, block in enumerate(torch.arange(flat.shape[1]).tensor_split(count)):
        rolled = flat[:, block].roll(1, dims=0)
        if not len(block) or torch.equal(rolled, flat[:, block]):
            continue  # constant in this batch: nothing to tell
        changed = flat.clone()
        changed[:, block] = rolled
        if torch.equal(outputs(model, changed.view_as(inputs)), plain):
            dead.append(number)
        else:
            alive += 1
    # A table's columns are few and each is meant; of an image an edge may be cut off on purpose.
    if dead and (len(dead) > alive or (inputs.ndim == 2 and flat.shape[1] <= count)):
        is_value = flat.shape[1] <= count
        which = _named(seen, dead[0], flat) if is_value else f"part {dead[0]} of {count}"
        detail = f"{len(dead)} of {len(dead) + alive} parts of the input change nothing: {which}"
        return Verdict(name, False, detail, "are they read in forward?")
    return Verdict(name, True, f"{alive} parts of the input were exchanged; each changes outputs")


def _meaning(seen: Seen) -> Verdict:
    """A linear probe must do better than chance; the label alone must not be in the input."""
    name = "labels fit the inputs"
    table = _table([*seen.train, *seen.val])
    if seen.classes < 2 or table is None or len(table[1]) < 100:
        return Verdict(name, True, "too few examples to tell")
    rows, targets = table
    given = _gives_away(rows, targets, seen.classes)
    if given is not None:
        detail = f"{_named(seen, given, rows)} of the input alone says the class of every example"
        hint = "take the label, or what follows from it, out of it"
        if _is_named(seen, rows):
            hint = f"was it known before the label? If not, {leave_out(seen.origins[given])}"
        return Verdict(name, False, detail, hint)
    right = sum(
        int((_probe(rows[one::2], targets[one::2], rows[1 - one :: 2], seen.classes)
             == targets[1 - one :: 2]).sum())
        for one in (0, 1)
    )  # fmt: skip
    often = int(torch.bincount(targets, minlength=seen.classes).max()) / len(targets)
    share = right / len(targets)
    detail = f"a linear probe is right in {share:.0%} of {len(targets)}; one class has {often:.0%}"
    balanced = 1 / seen.classes
    if _chance(right, len(targets), balanced) > UNSURE and often < 2 * balanced:
        hint = "compare some examples with their labels; were they sorted apart?"
        return Verdict(name, False, f"{detail}; that is guessing", hint)
    if share > often + CLEARLY and (guessed := _guesses_val(seen, share)):
        hint = "compare some examples of val with their labels: they were sorted apart, or changed"
        return Verdict(name, False, guessed, hint)
    return Verdict(name, True, detail)


def _is_named(seen: Seen, rows: Tensor) -> bool:
    return len(seen.origins) == rows.shape[1]


def _named(seen: Seen, value: int, rows: Tensor) -> str:
    return f"column `{seen.origins[value]}`" if _is_named(seen, rows) else f"value {value}"


def _guesses_val(seen: Seen, share: float) -> str:
    """Say how a probe that learned from train fails on val; nothing where it does not.

    Of both parts together it is right in `share`; so much worse on val is no accident.
    """
    train, val = _table(seen.train), _table(seen.val)
    if train is None or val is None or train[0].shape[1] != val[0].shape[1]:
        return ""
    right = int((_probe(*train, val[0], seen.classes) == val[1]).sum())
    count = len(val[1])
    often = int(torch.bincount(val[1], minlength=seen.classes).max()) / count
    is_guess = _chance(right, count, max(often, 1 / seen.classes)) > UNSURE
    if not is_guess or _chance(count - right, count, 1 - share) > NEVER:
        return ""
    inside = (_probe(*train, train[0], seen.classes) == train[1]).float().mean()
    return (
        f"a linear probe of train is right in {inside:.0%} of train and {right / count:.0%} "
        f"of {count} of val; that is guessing"
    )


def _pace(seen: Seen, step_s: float) -> Verdict:
    """The loader should not be what training waits for."""
    name = "loading keeps up"
    detail = f"{1000 * seen.load_s:.1f} ms to load a batch, {1000 * step_s:.1f} ms to learn from it"
    if seen.load_s > max(SLOW_S, SLOW_SHARE * step_s):
        return Verdict(name, False, detail, "num_workers, smaller files, or decode once in setup()")
    return Verdict(name, True, detail)


def _targets(batch: Any) -> list[int]:
    parts = tensors(batch)
    if len(parts) < 2 or parts[-1].is_floating_point() or parts[-1].ndim != 1:
        return []
    return [int(one) for one in parts[-1].tolist()]


def _keys(batch: Any) -> list[bytes]:
    inputs = tensors(batch)[0]
    if inputs.ndim < 2 or inputs[0].numel() < 4:
        return []
    return [row.contiguous().cpu().numpy().tobytes() for row in inputs]


def _kind(rows: Tensor) -> str:
    shape = " x ".join(map(str, rows.shape[1:])) or "one value"
    return f"{str(rows.dtype).removeprefix('torch.')} of {shape}"


def _moments(rows: Tensor) -> tuple[float, float]:
    values = rows.double()
    return float(values.mean()), float(values.std())


def _table(batches: list[Any]) -> tuple[Tensor, Tensor] | None:
    """Make one table of float rows and their classes; None for other batches."""
    rows, targets = [], []
    for batch in batches:
        inputs, wanted = tensors(batch)[0], _targets(batch)
        if inputs.ndim < 2 or len(wanted) != len(inputs):
            return None
        rows.append(_counted(inputs) if _is_tokens(inputs) else _thinned(inputs))
        targets += wanted
    if not rows or len({part.shape[1] for part in rows}) > 1:
        return None
    return torch.cat(rows), torch.tensor(targets)


def _is_tokens(inputs: Tensor) -> bool:
    return inputs.ndim == 2 and inputs.dtype in (torch.int32, torch.int64)


def _counted(inputs: Tensor) -> Tensor:
    """Count the tokens of each text: their numbers are names, and mean nothing as numbers."""
    names = inputs.long().remainder(FEATURES)
    ones = torch.ones(names.shape)
    return torch.zeros(len(inputs), FEATURES).scatter_add_(1, names, ones)


def _thinned(inputs: Tensor) -> Tensor:
    flat = inputs.flatten(1).float()
    return flat[:, :: math.ceil(flat.shape[1] / FEATURES)]


def _gives_away(rows: Tensor, targets: Tensor, classes: int) -> int | None:
    """Find a value that has another, constant number in each class."""
    if len(rows) < 10 * classes:
        return None
    low = torch.full((classes, rows.shape[1]), torch.inf)
    high = torch.full((classes, rows.shape[1]), -torch.inf)
    place = targets[:, None].expand_as(rows)
    low.scatter_reduce_(0, place, rows, "amin")
    high.scatter_reduce_(0, place, rows, "amax")
    there = torch.bincount(targets, minlength=classes) > 1
    constant = (low[there] == high[there]).all(dim=0)
    for column in constant.nonzero().flatten().tolist():
        values = low[there][:, column]
        if len(set(values.tolist())) == len(values) > 1:
            return int(column)
    return None


def _probe(rows: Tensor, targets: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Answer by ridge regression on standardised values (a linear classifier in closed form)."""
    mean, spread = rows.mean(dim=0), rows.std(dim=0)
    kept = spread > 1e-6 * (1 + mean.abs())
    known = (rows[:, kept] - mean[kept]) / spread[kept]
    wanted = torch.nn.functional.one_hot(targets, classes).float()
    gram = known.T @ known + len(known) * torch.eye(known.shape[1])
    weights = torch.linalg.solve(gram, known.T @ (wanted - wanted.mean(dim=0)))
    answers = (asked[:, kept] - mean[kept]) / spread[kept] @ weights + wanted.mean(dim=0)
    best: Tensor = answers.argmax(dim=1)
    return best


def _chance(right: int, count: int, share: float) -> float:
    """Give the probability of at least so many hits by guessing (normal approximation)."""
    deviation = math.sqrt(count * share * (1 - share))
    return 0.5 * math.erfc((right - 0.5 - count * share) / (deviation * math.sqrt(2)))
