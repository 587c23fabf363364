"""BentoML: one adaptive, batchable API on arrays."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": True})
class Bench:
    """One graph."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=2000)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Answer a batch."""
        return self.session.run(["probabilities"], {"x": inputs.astype(np.float32)})[0]
