"""Follow `live.json`: load what it names beside what answers, then change over in one step."""

import asyncio
import sys
import time
from pathlib import Path

from mlstack.errors import MlstackError
from mlstack.inputs import preprocess
from mlstack.records.base import read
from mlstack.records.package import MANIFEST, SIDE, Live, Signature
from mlstack.records.server import ServerSpec
from mlstack.serve.worker.app import App
from mlstack.serve.worker.batcher import Batcher
from mlstack.serve.worker.lookup import open_lookup
from mlstack.serve.worker.model import Model, load, load_bare
from mlstack.serve.worker.runner import give_back_memory
from mlstack.serve.worker.traffic import Deployed, Traffic

POLL_S = 0.2


class Deployment:
    """Keeps an app's traffic equal to what live.json says."""

    def __init__(self, spec: ServerSpec, app: App) -> None:
        self._spec = spec
        self._app = app
        self._folder = Path(spec.root) / "models" / spec.model
        self._seen: tuple[int, int, int] | None = None

    def features(self) -> list[str]:
        """Name the monitored features: those of images, or the columns of a table.

        Raises:
            DataError: the package cannot be read.
        """
        package = _package(Path(self._spec.fixed)) if self._spec.fixed else self._live()
        if package is None:
            return []
        signature = read(package / SIDE / "signature.json", Signature)
        given = signature.preprocess
        return preprocess.features(preprocess.from_json(given)) if given else []

    async def start(self) -> Model:
        """Load what shall answer now.

        Raises:
            MlstackError: it cannot be loaded.
        """
        if self._spec.fixed is not None:
            model = await asyncio.to_thread(_load_fixed, Path(self._spec.fixed), self._spec)
            self._app.traffic = Traffic(self._deployed(model), name=self._spec.model)
            await asyncio.to_thread(give_back_memory)
            return model
        self._seen = self._stamp()
        self._app.traffic = await self._follow(read(self._folder / "live.json", Live))
        assert self._app.traffic.live is not None
        await asyncio.to_thread(give_back_memory)
        return self._app.traffic.live.model

    async def watch(self) -> None:
        """Follow changes for ever; what cannot be loaded leaves the old model answering."""
        while self._spec.fixed is None:
            await asyncio.sleep(POLL_S)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                await self.load()
            except MlstackError as error:
                sys.stderr.write(f"warning: the old model goes on answering: {error.problem}\n")

    async def load(self) -> None:
        """Change over to what live.json says, or to the fixed package again.

        Raises:
            MlstackError: it cannot be loaded; what answered goes on.
        """
        try:
            if self._spec.fixed is not None:
                await self.start()
            else:
                self._app.traffic = await self._follow(read(self._folder / "live.json", Live))
        except MlstackError:
            self._app.metrics.reloads["failed"] += 1
            raise
        self._app.metrics.reloads["done"] += 1
        await asyncio.to_thread(give_back_memory)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {_says(self._app.traffic)}\n")

    def unload(self) -> None:
        """Let the model go; requests get 503 until it is loaded again."""
        self._app.traffic = Traffic(name=self._spec.model)

    async def _follow(self, live: Live) -> Traffic:
        loaded = {d.model.number: d for d in self._app.traffic.loaded()}
        wanted = [number for number in (live.live, live.canary) if number is not None]
        for number in wanted:
            if number not in loaded:
                package = self._folder / str(number)
                model = await asyncio.to_thread(load_packed, package, self._spec)
                loaded[number] = self._deployed(model)
        return Traffic(
            live=loaded[live.live] if live.live is not None else self._app.traffic.live,
            canary=loaded[live.canary] if live.canary is not None else None,
            canary_percent=live.canary_percent,
            name=self._spec.model,
        )

    def _deployed(self, model: Model) -> Deployed:
        engine = model.engine
        on_batch = self._app.metrics.batches.add
        batcher = Batcher(engine.run, engine.plan, on_batch, engine.runner.run)
        return Deployed(model, batcher)

    def _live(self) -> Path:
        return self._folder / str(read(self._folder / "live.json", Live).live)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = (self._folder / "live.json").stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size


def _package(fixed: Path) -> Path | None:
    """Find the package that a path means; None for an .onnx file outside of one."""
    folder = fixed.parent if fixed.suffix == ".onnx" else fixed
    is_packed = (folder / SIDE / MANIFEST).is_file() or fixed.suffix != ".onnx"
    return folder if is_packed else None


def _load_fixed(path: Path, spec: ServerSpec) -> Model:
    package = _package(path)
    if package is None:
        return load_bare(path, spec.model, spec.device, spec.batching)
    return load_packed(package, spec)


def load_packed(package: Path, spec: ServerSpec) -> Model:
    """Load a package with the feature files that its rows are looked up in."""
    model = load(package, spec.model, spec.device, spec.batching)
    model.lookup = open_lookup(Path(spec.root), model.signature)
    return model


def _says(traffic: Traffic) -> str:
    if traffic.live is None:
        return "nothing is live"
    text = f"version {traffic.live.model.number} answers"
    if traffic.canary is not None:
        text += f"; version {traffic.canary.model.number} gets {traffic.canary_percent:g} %"
    return text
