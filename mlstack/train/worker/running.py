"""The metrics of an epoch that is not over: what Lightning forgets when it saves inside one.

`self.log` adds up in a `_ResultCollection`, which no checkpoint of Lightning 2.6 holds; a metric of
torchmetrics keeps its states out of `state_dict`. Without both, an epoch that is gone on with in
its middle would report the batches after the break as if they were all.
"""

import builtins
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.connectors.logger_connector.result import (
    _Metadata,
    _ResultMetric,
    _Sync,
)
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mlstack.train.worker.checkpoint import Position
from mlstack.train.worker.ranks import Job

_SAME = (
    "fx",
    "name",
    "prog_bar",
    "logger",
    "on_step",
    "on_epoch",
    "enable_graph",
    "add_dataloader_idx",
    "dataloader_idx",
    "metric_attribute",
)


def running_metrics(trainer: Trainer, model: LightningModule) -> dict[str, Any]:
    """Give what this rank has added up since the epoch began, as plain data.

    A value logged with a `sync_dist_group` of its own is left out: a group cannot be stored.
    """
    logged = trainer.fit_loop.epoch_loop._results
    return {
        "logged": {
            key: _plain_result(result)
            for key, result in logged.items()
            if not result.has_reset and result.meta.sync.group is None
        },
        "metrics": {name: _plain_metric(metric) for name, metric in _metrics(model).items()},
    }


class RunningMetrics(Callback):
    """Lets the metrics of an epoch that is gone on with count its first batches too.

    It comes before the callbacks of the model, which may log when a batch starts.
    """

    def __init__(self, job: Job, position: Position) -> None:
        number = job.rank.number
        self._stored = position.running[number] if number < len(position.running) else None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Put back, once, what `running_metrics` gave.

        In the first batch of a loop Lightning sets to zero whatever is logged, so it is told that
        this is not the first.
        """
        if self._stored is not None:
            trainer._logger_connector._first_loop_iter = False
            _restore(trainer, pl_module, self._stored)
            self._stored = None


def _restore(trainer: Trainer, model: LightningModule, stored: dict[str, Any]) -> None:
    metrics = _metrics(model)
    for name, found in stored["metrics"].items():
        if name in metrics:
            _fill(metrics[name], found, model.device)
    for key, found in stored["logged"].items():
        meta = _meta(trainer, found["meta"])
        result = _ResultMetric(meta, found["is_tensor"])
        if not found["is_tensor"]:
            if meta.metric_attribute not in metrics:
                continue
            result.value = metrics[meta.metric_attribute]
        _fill(result, found, model.device)
        trainer.fit_loop.epoch_loop._results[key] = result


def _metrics(model: LightningModule) -> dict[str, Metric]:
    """Find the metrics of torchmetrics; those that share one state are made to show it first."""
    modules = dict(model.named_modules())
    for module in modules.values():
        if isinstance(module, MetricCollection):
            module.values(copy_state=False)
    return {name: module for name, module in modules.items() if isinstance(module, Metric)}


def _plain_result(result: _ResultMetric) -> dict[str, Any]:
    meta = result.meta
    return _plain_metric(result) | {
        "is_tensor": result.is_tensor,
        "meta": {name: getattr(meta, name) for name in _SAME}
        | {
            "reduce": meta.reduce_fx.__name__,
            "builtin": meta.reduce_fx is getattr(builtins, meta.reduce_fx.__name__, None),
            "sync": meta.sync.should,
            "rank_zero_only": meta.sync.rank_zero_only,
        },
    }


def _meta(trainer: Trainer, found: dict[str, Any]) -> _Metadata:
    """Rebuild what the model's next `self.log` must be equal to."""
    reduce = getattr(builtins if found["builtin"] else torch, found["reduce"])
    meta = _Metadata(**{name: found[name] for name in _SAME}, reduce_fx=reduce)
    meta.sync = _Sync(
        fn=trainer.strategy.reduce, _should=found["sync"], rank_zero_only=found["rank_zero_only"]
    )
    return meta


def _plain_metric(metric: Metric) -> dict[str, Any]:
    cache = metric._forward_cache
    return {
        "state": metric._copy_state_dict(),
        "updates": metric._update_count,
        "cache": cache.detach().clone() if isinstance(cache, Tensor) else None,
    }


def _fill(metric: Metric, found: dict[str, Any], device: torch.device) -> None:
    for name, value in found["state"].items():
        setattr(metric, name, _on(device, value))
    metric._update_count = found["updates"]
    metric._forward_cache = _on(device, found["cache"])
    metric._computed = None


def _on(device: torch.device, value: Any) -> Any:
    if isinstance(value, list):
        return [_on(device, one) for one in value]
    return value.to(device) if isinstance(value, Tensor) else value
