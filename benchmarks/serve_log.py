"""Kill a server at a high rate of rows, again and again: how much of the request log is lost.

    python benchmarks/serve_log.py [KILLS [FLUSH_MS]]

Two connections send requests of 64 rows (V2, binary). What a client was answered and the log does
not have is lost; the figure is how long before the kill the oldest lost answer had arrived.
"""

import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))

import serving

from mlstack.records import requests

ROWS = 64
CONNECTIONS = 2
RUN_S = 2.0
RATE = 20_000  # rows a second, all connections together


def request(rows: int) -> bytes:
    """Write a whole V2 request of zeros."""
    size = rows * 16 * 16
    tensor = {"name": "images", "datatype": "UINT8", "shape": [rows, 16, 16, 1]}
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    inputs = [{**tensor, "parameters": {"binary_data_size": size}}]
    head = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
    lines = [
        f"POST /v2/models/{serving.NAME}/infer HTTP/1.1",
        "host: x",
        f"inference-header-content-length: {len(head)}",
        f"content-length: {len(head) + size}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + bytes(size)


def ask(address: tuple[str, int], seen: list[tuple[float, str]]) -> None:
    """Ask until the server is gone; note when each prediction id came back."""
    sent = request(ROWS)
    turn_s = ROWS * CONNECTIONS / RATE
    turn = time.perf_counter()
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while True:
            time.sleep(max(0.0, turn - time.perf_counter()))
            turn += turn_s
            try:
                connection.sendall(sent)
                while b"\r\n\r\n" not in received or len(received) < whole(received):
                    piece = connection.recv(1 << 16)
                    if not piece:
                        return
                    received += piece
            except OSError:
                return
            head, received = received[: whole(received)], received[whole(received) :]
            assert head.startswith(b"HTTP/1.1 200"), head[:80]
            seen.append((time.perf_counter(), field(head, b"x-prediction-id").decode()))


def field(answer: bytes, name: bytes) -> bytes:
    return answer.lower().partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]


def whole(answer: bytes) -> int:
    head = answer.partition(b"\r\n\r\n")[0]
    return len(head) + 4 + int(field(answer, b"content-length"))


def lost_ms(root: Path) -> tuple[float, float]:
    """Run, kill, look: milliseconds lost, and rows a second."""
    server = serving.start(root)
    host, port = server.url.removeprefix("http://").split(":")
    seen: list[tuple[float, str]] = []
    asking = [
        threading.Thread(target=ask, args=((host, int(port)), seen)) for _ in range(CONNECTIONS)
    ]
    begun = time.perf_counter()
    for one in asking:
        one.start()
    time.sleep(RUN_S)
    killed = time.perf_counter()
    server.process.kill()
    server.process.wait()
    for one in asking:
        one.join()
    serving.end(server)
    kept: set[str] = set()
    for path in (root / ".mlstack" / "requests").rglob("*.arrows"):
        table = requests.read_wal(path)
        names = table.column("prediction_id").to_pylist() if table is not None else []
        kept |= {name.rpartition("-")[0] for name in names}
    for path in requests.parts(root / ".mlstack" / "requests", serving.NAME):
        names = requests.read_part(path).column("prediction_id").to_pylist()
        kept |= {name.rpartition("-")[0] for name in names}
    lost = [at for at, name in seen if name not in kept]
    oldest = (killed - min(lost)) * 1000 if lost else 0.0
    return oldest, len(seen) * ROWS / (killed - begun)


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    setting = f"serve: {{log: {{flush_ms: {sys.argv[2]}}}}}\n" if len(sys.argv) > 2 else ""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "mlstack.yaml").write_text(serving.CONFIG + setting)
        serving.make_package(root)
        measured = [lost_ms(root) for _ in range(kills)]
    lost = sorted(ms for ms, _ in measured)
    rate = statistics.median(rate for _, rate in measured)
    print(
        f"{kills} kills at {rate:,.0f} rows/s: lost median {statistics.median(lost):.1f} ms, ",
        end="",
    )
    print(f"most {lost[-1]:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
