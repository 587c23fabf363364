"""Open a session anew when it has broken, and tell that from an input that no session answers."""

import threading
import time
from collections.abc import Callable

import numpy as np

from mlstack.errors import MlstackError
from mlstack.serve.worker.answers import busy
from mlstack.serve.worker.engine import Engine
from mlstack.serve.worker.said import first_line, log

AGAIN_S = 1.0  # between two tries to open what does not open

Arrays = list[np.ndarray]


class Mending:
    """The calls of an engine that is replaced when it breaks. May be called from any thread."""

    def __init__(
        self, engine: Engine, reopen: Callable[[], Engine], again_s: float = AGAIN_S
    ) -> None:
        self.engine = engine
        self._again_s = again_s
        self._reopen = reopen
        self._turn = threading.Lock()
        self._tried = -again_s

    def run(self, arrays: Arrays) -> Arrays:
        """Run as one of several calls at the same time.

        Raises:
            Refused: 503, the session had broken and is opened anew.
            Exception: the graph cannot answer this input.
        """
        engine = self.engine
        try:
            return engine.run(arrays)
        except Exception as error:  # the runtime's errors have no base class of their own
            self._mend(engine, error)
            raise

    def run_alone(self, arrays: Arrays) -> Arrays:
        """Run with all cores, when there is no other call.

        Raises:
            Refused: as `run`.
            Exception: as `run`.
        """
        engine = self.engine
        try:
            return engine.run_alone(arrays)
        except Exception as error:
            self._mend(engine, error)
            raise

    def _mend(self, engine: Engine, error: Exception) -> None:
        """Do nothing where the input was at fault: then an input of zeros is answered."""
        if not _is_broken(engine):
            return
        with self._turn:
            if self.engine is engine and time.monotonic() - self._tried >= self._again_s:
                self._tried = time.monotonic()
                self._open_anew(error)
        raise busy(503, "the model had broken and is restarted") from error

    def _open_anew(self, error: Exception) -> None:
        problem = first_line(error)
        try:
            self.engine = self._reopen()
        except MlstackError as failed:
            log.error("the model is broken and does not open: %s (%s)", failed.problem, problem)
            return
        log.warning("the model had broken and was opened anew: %s", problem)


def _is_broken(engine: Engine) -> bool:
    zeros = engine.runner.zeros(1)
    if zeros is None:
        return False  # no input is known that must be answered
    try:
        for _ in range(engine.plan.runners):  # of several GPUs each is asked
            engine.run(zeros)
        engine.run_alone(zeros)
    except Exception:  # as above
        return True
    return False
