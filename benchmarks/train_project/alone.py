"""Lightning alone: `python alone.py defaults` or `python alone.py ddp RANKS`."""

import sys

from modules import Data, First, Logging
from networks import EPOCHS
from pytorch_lightning import Trainer

if sys.argv[1] == "defaults":
    Trainer(max_epochs=EPOCHS["mlp"], accelerator="cpu").fit(Logging(), datamodule=Data())
else:
    ranks = int(sys.argv[2])
    trainer = Trainer(
        strategy="ddp",
        accelerator="cpu",
        devices=ranks,
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(First(), datamodule=Data(batch_size=64 // ranks))
