"""What the writer may have meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

# Words that other tools use for a setting or a value of ours.
OTHER_WORDS = {
    "tflite": "litert",
    "tensorflow-lite": "litert",
    "bayesian": "tpe",
    "bayes": "tpe",
    "cuda": "gpu",
    "16-mixed": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "bf16-mixed": "bf16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "int8": "int8-static",
    "sha": "asha",
    "maximize": "max",
    "minimize": "min",
    "classification": "image-classification",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "early_stopping": "patience",
    "devices": "gpus",
    "learning_rate": "lr",
    "n_trials": "trials",
    "path": "source",
}


ALIKE = 0.8  # at most one letter in five is wrong


def near(word: str, options: Iterable[str]) -> str | None:
    """Give the option that `word` looks like; None when nothing does."""
    known = list(options)
    other = OTHER_WORDS.get(word.lower())
    if other in known:
        return other
    folded = {option.lower().replace("-", "_"): option for option in known}
    plain = word.lower().replace("-", "_")
    match = get_close_matches(plain, folded, n=1, cutoff=0.6)
    if match:
        return folded[match[0]]
    longer = [
        option for name, option in folded.items() if len(plain) > 2 and name.startswith(plain)
    ]
    return longer[0] if len(longer) == 1 else None


def resembling(word: str, names: Iterable[str]) -> str | None:
    """Give the name that `word` is but a slip of the hand away from."""
    match = near(word, names)
    if match is None or OTHER_WORDS.get(word.lower()) == match:
        return match
    typed, found = (name.lower().replace("-", "_") for name in (word, match))
    return match if SequenceMatcher(None, typed, found).ratio() >= ALIKE else None


def setting(path: tuple[str, ...], here: Iterable[str], everywhere: Iterable[str]) -> str:
    """Say what an unknown key may have been: `; did you mean "epochs"?`, or nothing.

    A key that another section has under exactly this name outranks a near one here.

    Args:
        path: the unknown key, section by section.
        here: the keys of its section.
        everywhere: the dotted names of all settings.
    """
    siblings, settings = list(here), list(everywhere)
    *parents, key = path
    if key in settings and "." in key:
        return f'; write "{key.rpartition(".")[2]}:" under "{key.rpartition(".")[0]}:"'
    section = ".".join(parents)
    elsewhere = [
        name for name in settings if name.endswith(f".{key}") and name != f"{section}.{key}"
    ]
    sibling = near(key, siblings)
    if elsewhere and len(elsewhere) <= 2:
        owners = " or ".join(f'"{name}"' for name in elsewhere)
        also = f', or did you mean "{sibling}"?' if sibling else ""
        return f'; "{key}" belongs to {owners}{also}'
    match = resembling(key, siblings) or _far(key, settings) or sibling
    if match:
        return f'; did you mean "{match}"?'
    if 0 < len(siblings) <= 6:
        return f"; there is {', '.join(siblings)}"
    return ""


def searched(name: str, settings: Iterable[str], free: tuple[str, ...]) -> str:
    """Say which setting `tune.space` may have meant; below `free` every name is possible."""
    known = list(settings)
    last = name.rpartition(".")[2]
    owners = [setting for setting in known if setting.endswith(f".{name}")]
    match = owners[0] if owners else near(name, [*known, *(f"{prefix}{last}" for prefix in free)])
    if not match and name == last:
        match = f"{free[0]}{name}"
    return f'; did you mean "{match}"?' if match else ""


def _far(key: str, settings: list[str]) -> str | None:
    last = {name.rpartition(".")[2]: name for name in reversed(settings)}
    match = resembling(key, last)
    return last[match] if match else None
