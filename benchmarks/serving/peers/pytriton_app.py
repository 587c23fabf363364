"""pytriton: Triton with a Python backend, dynamic batches of 32 without delay."""

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = ort.SessionOptions()
options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)


@batch
def infer(x: np.ndarray) -> list[np.ndarray]:
    """Answer a batch."""
    return [session.run(["probabilities"], {"x": x})[0]]


if __name__ == "__main__":
    given, answered = session.get_inputs()[0], session.get_outputs()[1]
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["BENCH_PORT"]),
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="bench",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=given.shape[1:])],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=answered.shape[1:])],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher()),
        )
        triton.serve()
