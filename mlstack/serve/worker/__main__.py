"""`python -m mlstack.serve.worker serve|predict|bench ...`: see mlstack/serve/api.py."""

import socket
import sys
from pathlib import Path

from mlstack.launch.worker import report
from mlstack.serve.worker.engine import Gpus
from mlstack.serve.worker.offline import bench, predict
from mlstack.serve.worker.server import serve


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    match arguments:
        case ["serve", spec_file, descriptor]:
            return serve(Path(spec_file), socket.socket(fileno=int(descriptor)))
        case ["predict", package, device, *names]:
            return report(predict(Path(package), device, names), sys.stdout.buffer)
        case ["bench", package, largest, device, count, engines]:
            gpus = Gpus(int(count), Path(engines) if engines else None)
            return report(bench(Path(package), int(largest), device, gpus), sys.stdout.buffer)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
