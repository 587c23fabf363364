"""LitServe: batches of 32, a window of 5 ms, one worker."""

import os

import litserve
import numpy as np
import onnxruntime as ort


class Api(litserve.LitAPI):
    """The four methods that LitServe asks for, and two for batches."""

    def setup(self, device: str) -> None:
        """Open the graph."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
        self.shape = self.session.get_inputs()[0].shape[1:]

    def decode_request(self, request: dict) -> np.ndarray:
        """Read one row."""
        return np.asarray(request["inputs"], np.float32).reshape(self.shape)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Stack rows."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run the graph."""
        return self.session.run(["probabilities"], {"x": x})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Part rows."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict:
        """Write one answer."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        log_level="error",
        generate_client_file=False,
    )
