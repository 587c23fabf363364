"""mosec: batches of 32, a window of 5 ms; one worker for JSON, another for raw bytes."""

import os

import numpy as np
import onnxruntime as ort
from mosec import Runtime, Server, Worker


class Json(Worker):
    """Rows as JSON."""

    def __init__(self) -> None:
        super().__init__()
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
        self.shape = self.session.get_inputs()[0].shape[1:]

    def row(self, data: dict) -> np.ndarray:
        """Read one row."""
        return np.asarray(data["inputs"], np.float32).reshape(self.shape)

    def forward(self, data: list[dict]) -> list[dict]:
        """Answer a batch."""
        x = np.stack([self.row(one) for one in data])
        answers = self.session.run(["probabilities"], {"x": x})[0]
        return [{"probabilities": answer.tolist()} for answer in answers]


class Raw(Json):
    """Rows as the bytes of a tensor."""

    def deserialize(self, data: bytes) -> bytes:
        """Keep the bytes."""
        return data

    def row(self, data: bytes) -> np.ndarray:
        """Read one row."""
        return np.frombuffer(data, np.float32).reshape(self.shape)


if __name__ == "__main__":
    server = Server()
    worker = Raw if os.environ["BENCH_PAYLOAD"] == "binary" else Json
    server.register_runtime({"/predict": [Runtime(worker, max_batch_size=32, max_wait_time=5)]})
    server.run()
