"""A real S3 server (moto) on loopback, in a process of its own, that can be told to fail."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret"}
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>told to</Message></Error>'


@dataclass
class S3:
    """A server that runs, and how to speak to it."""

    endpoint: str
    process: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        own = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        files = {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
        others = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return {**others, **KEYS, **own, **files, "AWS_EC2_METADATA_DISABLED": "true"}

    def client(self):
        """Open Arrow's client, to make buckets and look into them."""
        from pyarrow import fs

        return fs.S3FileSystem(
            access_key="tester",
            secret_key="secret",
            region="us-east-1",
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Give every object of a bucket by its key."""
        from pyarrow import fs

        client = self.client()
        found = client.get_file_info(fs.FileSelector(bucket, recursive=True))
        names = [one.path for one in found if one.type is fs.FileType.File]
        return {n.partition("/")[2]: client.open_input_file(n).readall() for n in names}

    def tell(self, **order: object) -> dict[str, int]:
        """Give the counts so far, and set a fault: `fail_after=10, code="SlowDown"`, or none."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server for a block."""
    command = [sys.executable, str(Path(__file__))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert select.select([process.stdout], [], [], 60)[0], "the S3 server did not start"
        yield S3(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class Faulty:
    """The server behind a door that counts, and that refuses when it is told to."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.counts = {"requests": 0, "put": 0, "get": 0, "sent_bytes": 0}
        self.order: dict[str, object] = {}
        self.guard = threading.Lock()

    def __call__(self, environ, start):
        method = environ["REQUEST_METHOD"]
        with self.guard:
            self.counts["requests"] += 1
            self.counts["put"] += method == "PUT"
            self.counts["get"] += method == "GET" and not environ.get("QUERY_STRING")
            left = self.order.get("fail_after")
            if left is not None and method == self.order.get("method", method):
                self.order["fail_after"] = left - 1
            if left == 0 and self.order.get("die"):
                os._exit(9)
        if left is not None and left <= 0 and method == self.order.get("method", method):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code = self.order["status"], self.order["code"]
            start(f"{status} {code}", [("Content-Type", "application/xml")])
            return [b"" if method == "HEAD" else ERROR.format(code=code).encode()]
        return self.inner(environ, start)


def main() -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    door = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, door, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.port}", flush=True)
    for line in sys.stdin:
        door.order = json.loads(line)
        print(json.dumps(door.counts), flush=True)


if __name__ == "__main__":
    main()
