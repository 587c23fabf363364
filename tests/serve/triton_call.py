"""Ask with the stock Triton client, in a process of its own (it brings gevent)."""

import sys

import numpy as np
import tritonclient.http as triton

address, name, as_bytes = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, 16, 16, 1)
client = triton.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready(name)
assert client.get_model_metadata(name)["name"] == name
given = triton.InferInput("images", list(pixels.shape), "UINT8")
given.set_data_from_numpy(pixels, binary_data=as_bytes)
wanted = [triton.InferRequestedOutput("probabilities", binary_data=as_bytes)]
answer = client.infer(name, [given], outputs=wanted if not as_bytes else None, request_id="7")
assert answer.get_response()["id"] == "7"
sys.stdout.buffer.write(answer.as_numpy("probabilities").astype(np.float32).tobytes())
