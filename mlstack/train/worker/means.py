"""Means of val and test over all ranks, also of what the user's code logs for its own rank alone.

Without `sync_dist=True`, which most code for one GPU leaves out, Lightning keeps the mean of the
first rank's share: a quarter of val would choose the best epoch of four GPUs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pytorch_lightning import Trainer
from torch import distributed

MEANS = ("mean", "avg", "max", "min")  # the same when they are taken twice; a sum is not


def is_shared(reduce_fx: Any) -> bool:
    """Tell whether what val or test logs with this `reduce_fx` becomes one number of all ranks."""
    return (reduce_fx if isinstance(reduce_fx, str) else reduce_fx.__name__).lower() in MEANS


def share_means(trainer: Trainer) -> None:
    """Have a trainer of several ranks reduce over all what val and test have logged.

    It does so where Lightning computes what was logged in all ranks at the same time; elsewhere
    (`trainer.callback_metrics`) the user's code may ask in one rank alone.
    """
    connector = trainer._logger_connector
    for name in ("update_eval_epoch_metrics", "on_epoch_end"):
        vars(connector)[name] = partial(_shared, trainer, getattr(connector, name))


def _shared(trainer: Trainer, compute: Callable[[], Any]) -> Any:
    results = trainer._results
    if results is None or not trainer.evaluating:
        return compute()
    with _over_all_ranks(dict(results.valid_items())):
        return compute()


@contextmanager
def _over_all_ranks(logged: dict[str, Any]) -> Iterator[None]:
    """Let Lightning reduce what every rank has logged, and logged in the same order.

    What one rank alone has logged is left as it is: the others would wait for it for ever.
    """
    told: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(
        told, [(key, _is_of_one_rank(one)) for key, one in logged.items()]
    )
    everywhere = set.intersection(*({key for key, _ in keys} for keys in told))
    orders = [[one for one in keys if one[0] in everywhere] for keys in told]
    alone = [key for key, is_alone in orders[0] if is_alone and all(o == orders[0] for o in orders)]
    for key in alone:
        logged[key].meta.sync.should = True
    try:
        yield
    finally:
        for key in alone:  # or the next call of `log` would be taken for another one
            logged[key].meta.sync.should = False


def _is_of_one_rank(one: Any) -> bool:
    meta = one.meta
    is_asked = meta.sync.should or meta.sync.rank_zero_only or one._computed is not None
    return bool(one.is_tensor and meta.on_epoch and is_shared(meta.reduce_fx) and not is_asked)
