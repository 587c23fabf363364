"""Read the weights of a checkpoint without running, or unpacking, what may hide in it."""

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from mlstack.errors import DataError

MAX_ENTRIES = 100_000


def load_weights(checkpoint: str) -> dict[str, Tensor]:
    """Read the weights without running any code that the file may hold.

    Raises:
        DataError: it is damaged, holds more than plain values, or would unpack to more bytes than
            it has.
    """
    _check_archive(Path(checkpoint))
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = stored["state_dict"]
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise DataError(
            f"the checkpoint holds a `{named[1] if named else 'value'}`, which is not loaded",
            hint="keep hyper-parameters plain (numbers, text, lists), and train again",
            where=checkpoint,
        ) from error
    except (RuntimeError, EOFError, KeyError, OSError, TypeError) as error:
        raise _damaged(checkpoint, str(error)) from error
    return weights


def _check_archive(path: Path) -> None:
    """Refuse an archive that torch did not write: packed, overlapping, or with names twice.

    torch stores tensors as they are. A deflated one of 260 kB unpacked to 268 MB, and entries that
    share their bytes unpack to any size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(str(path), str(error)) from error
    names = {entry.filename for entry in entries}
    whole = sum(entry.file_size for entry in entries)
    is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if is_packed or whole > path.stat().st_size:
        raise DataError(
            f"the checkpoint would unpack to {whole:,} bytes and has {path.stat().st_size:,}",
            hint="train again",
            where=str(path),
        )
    if len(names) < len(entries) or len(entries) > MAX_ENTRIES:
        raise _damaged(str(path), "its entries are not those of a checkpoint")


def _damaged(checkpoint: str, problem: str) -> DataError:
    return DataError(
        f"the checkpoint is damaged: {(problem.splitlines() or [''])[0]}",
        hint="train again",
        where=checkpoint,
    )
