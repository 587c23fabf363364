"""Empty hooks are taken away, and no others."""

from pytorch_lightning import Callback, LightningModule

from mlstack.train.worker.thrift import A_STEP, Unprofiled, lighten, lighten_model


class Beats(Callback):
    def on_train_batch_end(self, *_: object) -> None:
        """Do something."""


class Net(LightningModule):
    def on_after_backward(self) -> None:
        """Do something."""


def test_a_callback_keeps_the_hooks_that_it_has() -> None:
    callback = lighten(Beats())

    kept = [hook for hook in A_STEP if getattr(callback, hook) is not None]

    assert kept == ["on_train_batch_end"]
    assert callable(callback.on_save_checkpoint)
    assert callable(Beats().on_after_backward)  # the class is as it was


def test_a_model_keeps_what_its_class_has_and_what_lightning_asks_for() -> None:
    model = lighten_model(Net())

    assert callable(model.on_after_backward)
    assert model.on_before_backward is None
    assert callable(model.on_train_batch_start)
    assert "on_before_backward" not in model.state_dict()


def test_nothing_is_profiled() -> None:
    with Unprofiled().profile("a step") as context:
        assert context == ""
