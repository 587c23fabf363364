"""Ask over gRPC with the stock Triton client, in a process of its own: `COMMAND ADDRESS [KEY]`."""

import json
import sys
import threading
import time

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as messages
from tritonclient.utils import InferenceServerException

NAME = "digits-test"  # as in serving.py, which brings more than a client needs

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 1), dtype=np.uint8)


def given(pixels: np.ndarray, name: str = "images", datatype: str = "UINT8") -> list:
    tensor = triton.InferInput(name, list(pixels.shape), datatype)
    tensor.set_data_from_numpy(pixels)
    return [tensor]


def refused(call, *words, **named) -> list[str]:
    try:
        call(*words, **named)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    except grpc.RpcError as error:
        return [f"StatusCode.{error.code().name}", error.details()]
    raise AssertionError("it was answered")


def rounds(client: triton.InferenceServerClient) -> dict:
    """Everything that the protocol knows."""
    answer = client.infer(NAME, given(PIXELS), request_id="7", model_version="1")
    chosen = client.infer(
        NAME, given(PIXELS), outputs=[triton.InferRequestedOutput("probabilities")]
    )
    typed = messages.ModelInferRequest(model_name=NAME)
    tensor = typed.inputs.add(name="images", datatype="UINT8", shape=[1, 16, 16, 1])
    tensor.contents.uint_contents.extend(PIXELS[0].ravel().tolist())
    said = client._client_stub.ModelInfer(typed)
    place = [output.name for output in said.outputs].index("probabilities")
    metadata = client.get_model_metadata(NAME, as_json=True)
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready(NAME),
        "other": client.is_model_ready("other"),
        "server": client.get_server_metadata(as_json=True)["name"],
        "inputs": metadata["inputs"],
        "index": client.get_model_repository_index(as_json=True)["models"],
        "id": answer.get_response().id,
        "prediction": answer.get_response().parameters["prediction_id"].string_param,
        "probabilities": answer.as_numpy("probabilities").tolist(),
        "chosen": [output.name for output in chosen.get_response().outputs],
        "typed": np.frombuffer(said.raw_output_contents[place], "<f4").tolist(),
    }


def wrong(client: triton.InferenceServerClient) -> dict:
    """What is refused, and as what."""
    both = messages.ModelInferRequest(model_name=NAME, raw_input_contents=[PIXELS[0].tobytes()])
    tensor = both.inputs.add(name="images", datatype="UINT8", shape=[1, 16, 16, 1])
    tensor.contents.uint_contents.append(1)
    more = messages.ModelInferRequest(model_name=NAME, raw_input_contents=[b"", b""])
    more.inputs.add(name="images", datatype="UINT8", shape=[1, 16, 16, 1])
    high = messages.ModelInferRequest(model_name=NAME)
    high.inputs.add(name="images", datatype="UINT8", shape=[1]).contents.uint_contents.append(256)
    half = messages.ModelInferRequest(model_name=NAME)
    half.inputs.add(name="images", datatype="FP16", shape=[1])
    return {
        "model": refused(client.infer, "other", given(PIXELS)),
        "slash": refused(client.infer, f"{NAME}/ready", given(PIXELS)),
        "shape": refused(client.infer, NAME, given(PIXELS[:, :8])),
        "name": refused(client.infer, NAME, given(PIXELS, name="pixels")),
        "both": refused(client._client_stub.ModelInfer, both),
        "more": refused(client._client_stub.ModelInfer, more),
        "high": refused(client._client_stub.ModelInfer, high),
        "half": refused(client._client_stub.ModelInfer, half),
        "large": refused(client.infer, NAME, given(np.zeros((20_000, 16, 16, 1), np.uint8))),
        "load": refused(client.load_model, NAME),
        "unknown": refused(client.get_model_config, NAME),
    }


def late(client: triton.InferenceServerClient) -> dict:
    """A deadline that is too short, then calls that are cancelled."""
    found = refused(client.infer, NAME, given(PIXELS), client_timeout=0.01)
    for _ in range(20):
        client.async_infer(NAME, given(PIXELS), lambda result, error: None).cancel()
    return {"late": found, "after": len(client.infer(NAME, given(PIXELS)).as_numpy("logits"))}


def stopped(client: triton.InferenceServerClient) -> dict:
    """Calls that are open while the server is asked to stop."""
    done, arrived = [], threading.Event()

    def keep(result: object, error: object) -> None:
        done.append(str(error) if error else "answered")
        arrived.set()

    calls = [client.async_infer(NAME, given(PIXELS), keep) for _ in range(8)]
    time.sleep(0.2)
    print("asked", flush=True)
    while len(done) < len(calls):
        time.sleep(0.02)
    return {"done": done}


def with_key(client: triton.InferenceServerClient, key: str) -> dict:
    headers = {"authorization": f"Bearer {key}"}
    return {
        "live": client.is_server_live(),
        "without": refused(client.infer, NAME, given(PIXELS)),
        "with": len(client.infer(NAME, given(PIXELS), headers=headers).as_numpy("logits")),
    }


def main(command: str, address: str, *words: str) -> None:
    secure = {"ssl": True, "root_certificates": words[1]} if len(words) > 1 else {}
    client = triton.InferenceServerClient(address, **secure)
    found = with_key(client, words[0]) if words else globals()[command](client)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
