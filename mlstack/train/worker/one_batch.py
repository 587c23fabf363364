"""What the training on one batch says of a model: its loss, its gradients, its weights, its modes.

After A. Karpathy, "A Recipe for Training Neural Networks" (2019). Calls nothing wrong that may be
meant so.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlstack.train.worker.probes import Verdict, outputs, tensors
from mlstack.train.worker.trial import STEPS, UNTOLD_STEPS, Trial, relative_change

FALLEN = 0.7  # of the loss at the start: what one batch must come down to
STILL = 1e-3  # of their size: weights that moved by less in all steps have hardly been trained
TORN = 1.0  # of their size: weights that moved by more have forgotten how they began
LEAP = 4.0  # of their size: what no first step of a sound learning rate does
LEARNT = 0.6  # of the other classes: what the right one must stand above, in the end
ZEROS = 0.1  # of all outputs
ALIKE = 0.1  # as two losses are that are the same but for dropout and BatchNorm


def of_one_batch(trial: Trial) -> Iterator[Verdict]:
    """Judge what some steps on one batch did."""
    is_told = not math.isinf(trial.watch.losses[0])  # who optimizes by hand need not return it
    if is_told:
        yield _start(trial)
    yield _gradients(trial)
    yield _cleared(trial)
    yield _modes(trial)
    if is_told:
        yield _overfit(trial)
        yield _logits(trial)
        yield _learnt(trial)


def _start(trial: Trial) -> Verdict:
    name, classes, loss = "loss at the start", len(trial.job.spec.classes), trial.watch.first
    if math.isnan(loss):
        return Verdict(name, False, "it is not a number", "scale the input inside forward")
    if classes < 2:
        return Verdict(name, True, f"{loss:.3f}")
    chance = math.log(classes)
    detail = f"{loss:.3f}; guessing among {classes} classes costs {chance:.3f}"
    if (rows := _summed(trial)) > 1:
        loss /= rows
        detail = f"{detail}; it is the sum over {rows} examples, {loss:.3f} each"
    if loss > 4 * chance:
        return Verdict(name, False, detail, "scale the input, or initialise the last layer smaller")
    if loss < 0:
        return Verdict(name, False, detail, "a cross-entropy is never below 0: turn its sign")
    if loss < 0.2 * chance:
        return Verdict(name, False, detail, "does the input give the target away?")
    return Verdict(name, True, detail)


def _summed(trial: Trial) -> int:
    """Count the examples that the loss is a sum of; 1 for a mean."""
    answers, chance = _answers(trial), math.log(len(trial.job.spec.classes))
    if answers is None or not chance / 2 < trial.watch.first / len(answers[0]) < 4 * chance:
        return 1
    rows, targets = answers
    mean, last = float(functional.cross_entropy(rows, targets)), trial.watch.losses[-1]
    if not (mean > 0 and last > 0 and math.isfinite(last + mean)):
        return 1
    return len(rows) if 2 * math.log(last / mean) > math.log(len(rows)) else 1


def _gradients(trial: Trial) -> Verdict:
    name = "gradients reach every parameter"
    parameters = dict(trial.model.named_parameters())
    wanted = [key for key, p in parameters.items() if p.requires_grad]
    if not wanted:
        return Verdict(name, False, "every parameter is frozen", "set requires_grad on some")
    missed = [key for key in wanted if key not in trial.watch.reached]
    if missed:
        hint = "is it used in forward, and without detach() or no_grad()?"
        return Verdict(name, False, f"none reaches {_some(missed)}", hint)
    still = [k for k in wanted if torch.equal(trial.watch.before[k].cpu(), parameters[k].cpu())]
    if still:
        detail = f"{_some(still)} got gradients but did not change"
        hint = "hand all parameters to the optimizer"
        if len(still) == len(wanted):
            hint = f"{hint}; is the learning rate, or what its scheduler makes of it, 0?"
        return Verdict(name, False, detail, hint)
    frozen = [key for key in parameters if key not in wanted]
    aside = f"; frozen on purpose: {_some(frozen)}" if frozen else ""
    return Verdict(name, True, f"all {len(wanted)} trained tensors{aside}")


def _cleared(trial: Trial) -> Verdict:
    """Gradients of one step must not be added to those of the next."""
    name, watch = "gradients are cleared", trial.watch
    if watch.asked < UNTOLD_STEPS // 4:
        return Verdict(name, True, "nothing to compare")
    if watch.held == watch.asked:
        detail = f"those of all {watch.held} steps were added up"
        return Verdict(name, False, detail, "call optimizer.zero_grad() before each backward()")
    return Verdict(name, True, "each step begins without those of the one before")


def _modes(trial: Trial) -> Verdict:
    """Dropout and BatchNorm must know whether the network trains; what is frozen may sleep."""
    name, watch = "dropout and BatchNorm know when it trains", trial.watch
    moody = [key for key, module in trial.model.named_modules() if is_moody(module)]
    if not moody:
        return Verdict(name, True, "the network has none")
    awake = watch.awake_in_val
    if any(key in awake for key in moody if _is_norm(trial.model, key)) or set(moody) <= awake:
        some = _some([key for key in moody if key in awake])
        hint = "leave train() out of validation_step: Lightning sets the modes"
        return Verdict(name, False, f"{some} trains while it validates", hint)
    frozen = any(not p.requires_grad for p in trial.model.parameters())
    meant = frozen or all(_is_norm(trial.model, key) for key in moody)
    if set(moody) <= watch.asleep and ("" in watch.asleep or not meant):
        hint = "call train() on it in on_fit_start: an eval() or from_pretrained() left it so"
        return Verdict(name, False, f"{_some(moody)} is in eval mode while it trains", hint)
    return Verdict(name, True, f"{len(moody)} of them, looked at in train and val")


def is_moody(module: nn.Module) -> bool:
    """Tell whether a layer itself does something else in training than after it."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return bool(module.p > 0)
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _is_norm(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.modules.batchnorm._BatchNorm)


def _overfit(trial: Trial) -> Verdict:
    name, losses, leap = "overfits one batch", trial.watch.losses, trial.watch.leap
    detail = f"loss {losses[0]:.3f} -> {losses[-1]:.3g} in {len(losses)} steps"
    if not math.isfinite(losses[-1]):
        return Verdict(name, False, detail, "lower the learning rate")
    if leap > LEAP:
        detail = f"{detail}, but the first one changed the weights by {leap:.0%} of their size"
        return Verdict(name, False, detail, "lower the learning rate")
    if min(losses[-3:]) > FALLEN * losses[0] and not _would_fall(losses):
        share = _moved(trial)
        detail = f"{detail}; the weights moved by {share:.2g} of their size"
        hint = f"{_direction(losses, share)} the learning rate, or look for a bug in training_step"
        return Verdict(name, False, detail, hint)
    return Verdict(name, True, detail)


def _would_fall(losses: list[float]) -> bool:
    """Tell whether a loss that fell all along wanted more time: steps were slow."""
    fell = (losses[0] - losses[-1]) * STEPS / len(losses)
    return len(losses) < STEPS and fell > (1 - FALLEN) * losses[0] > 0


def _direction(losses: list[float], moved: float) -> str:
    if moved < STILL:
        return "raise"
    if losses[-1] > losses[0] or moved > TORN:
        return "lower"
    is_steady = losses == sorted(losses, reverse=True)  # straight down, and hardly at all
    return "raise" if is_steady else "raise or lower"


def _moved(trial: Trial) -> float:
    """Say how far the weights have moved, in parts of their size (median of the tensors)."""
    return relative_change(trial.watch.before, dict(trial.model.named_parameters()))


def _answers(trial: Trial) -> tuple[Tensor, Tensor] | None:
    """Give outputs (rows, classes) and targets (rows,) of the batch; None where these are not."""
    targets = tensors(trial.batch)[-1].cpu()
    rows = outputs(trial.model, tensors(trial.batch)[0]).float()
    if rows.ndim != 2 or targets.is_floating_point() or targets.shape != rows.shape[:1]:
        return None
    if rows.shape[1] != len(trial.job.spec.classes) or rows.shape[1] < 2:
        return None
    return rows, targets.long()


def _logits(trial: Trial) -> Verdict:
    """Cross-entropy takes logits; of probabilities it cannot fall, however right they are."""
    name, answers, last = "outputs are logits", _answers(trial), trial.watch.losses[-1]
    if answers is None:
        return Verdict(name, True, "not a classifier of single labels")
    rows, targets = answers
    as_logits = float(functional.cross_entropy(rows, targets))
    if bool((rows < 0).any()):
        return _once(trial, rows, targets)
    if float((rows == 0).float().mean()) > ZEROS:
        detail = "forward ends in a ReLU: no output is below 0, and many are 0"
        return Verdict(name, False, detail, "leave out the last ReLU")
    sums = rows.sum(dim=1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        if bool((rows <= 1).all()) and abs(last - as_logits) < ALIKE * last:
            detail = "forward gives numbers from 0 to 1, and the loss takes them for logits"
            return Verdict(name, False, detail, "leave out sigmoid in forward")
        return Verdict(name, True, "rows do not add up to 1")
    as_shares = float(functional.nll_loss((rows + 1e-9).log(), targets))
    if abs(last - as_logits) < abs(last - as_shares):
        detail = "forward gives probabilities, and the loss takes them for logits"
        return Verdict(name, False, detail, "leave out softmax in forward")
    return Verdict(
        name, True, "forward gives probabilities, as the loss knows; `mlstack export` wants logits"
    )


def _once(trial: Trial, rows: Tensor, targets: Tensor) -> Verdict:
    """Tell whether the loss took a softmax of what forward gives before its own."""
    name, last = "outputs are logits", trial.watch.losses[-1]
    twice = float(functional.cross_entropy(rows.softmax(dim=1), targets))
    if (
        abs(last - twice) < ALIKE * last
        and float(functional.cross_entropy(rows, targets)) < last / 2
    ):
        detail = f"a loss of {last:.3f} is what a softmax before cross-entropy leaves of them"
        return Verdict(name, False, detail, "leave out softmax before the loss: it has its own")
    return Verdict(name, True, "rows do not add up to 1")


def _learnt(trial: Trial) -> Verdict:
    """A loss that fell must have taught the targets of the batch, and not something else."""
    name, answers, losses = "learns the targets", _answers(trial), trial.watch.losses
    if answers is None or not losses[-1] < FALLEN * losses[0]:
        return Verdict(name, True, "nothing to compare")
    targets = answers[1]
    # After few steps BatchNorm has not yet averaged what it needs after the training.
    share = max(_above(answers[0], targets), _above(_in_training(trial), targets))
    detail = f"the right class stands above {share:.0%} of the others"
    if share < LEARNT:
        hint = "give the loss the targets of its own batch; the highest output is the answer"
        return Verdict(name, False, f"{detail}; guessing gives 50%", hint)
    return Verdict(name, True, detail)


def _above(rows: Tensor, targets: Tensor) -> float:
    """Say which share of the other classes the right one stands above; an equal one is half."""
    right = rows.gather(1, targets[:, None])
    above = (rows < right).sum(dim=1) + 0.5 * ((rows == right).sum(dim=1) - 1)
    return float((above / (rows.shape[1] - 1)).mean())


def _in_training(trial: Trial) -> Tensor:
    trial.model.train()
    with torch.inference_mode():
        found = trial.model(tensors(trial.batch)[0].clone().to(trial.model.device))
    trial.model.eval()
    return (found if isinstance(found, Tensor) else tensors(found)[0]).float().cpu()


def _some(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
