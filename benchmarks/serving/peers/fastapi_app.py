"""FastAPI with onnxruntime, as written by hand: a pydantic body, a plain `def`, no batches."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
shape = [1, *session.get_inputs()[0].shape[1:]]
app = FastAPI()


class Body(BaseModel):
    """One row, flat."""

    inputs: list[float]


@app.get("/health")
def health() -> dict[str, bool]:
    """Say that it answers."""
    return {"ready": True}


@app.post("/predict")
def predict(body: Body) -> dict[str, list[float]]:
    """Answer one row."""
    row = np.asarray(body.inputs, np.float32).reshape(shape)
    return {"probabilities": session.run(["probabilities"], {"x": row})[0][0].tolist()}
