"""Ludwig's `train` command up to its first step, in an environment of its own."""

import os
import tempfile

import pandas as pd
from ludwig.callbacks import Callback
from ludwig.train import train_cli
from marks import mark
from networks import BATCH, LR, examples


class First(Callback):
    """Notes what everything until the end of the first step has cost."""

    def on_batch_end(self, *_: object, **__: object) -> None:
        mark("first", ancestors=True)
        os._exit(0)


inputs, labels = examples("mlp", 20).tensors
columns = [f"f{number}" for number in range(inputs.shape[1])]
config = {
    "input_features": [{"name": name, "type": "number"} for name in columns],
    "combiner": {"type": "concat", "fc_layers": [{"output_size": 128}]},
    "output_features": [{"name": "label", "type": "category"}],
    "trainer": {"epochs": 1, "batch_size": BATCH["mlp"], "learning_rate": LR},
}
with tempfile.TemporaryDirectory() as folder:
    table = f"{folder}/table.csv"
    frame = pd.DataFrame(inputs.numpy(), columns=columns)
    frame["label"] = [f"class {label}" for label in labels.tolist()]
    frame.to_csv(table, index=False)
    train_cli(
        config=config, dataset=table, output_directory=folder, backend="local", callbacks=[First()]
    )
