"""MLServer: a runtime of our own, batches of 32, a window of 5 ms, in the process of the server."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Bench(MLModel):
    """One graph."""

    async def load(self) -> bool:
        """Open it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch."""
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        answer = self.session.run(["probabilities"], {"x": x})[0]
        outputs = [NumpyCodec.encode_output("probabilities", answer)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
