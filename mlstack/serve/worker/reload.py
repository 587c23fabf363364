"""Follow `live.json`: load what it names beside what answers, then change over in one step."""

import asyncio
import dataclasses
import functools
from pathlib import Path

from msgspec import structs

from mlstack.errors import BusyError, MlstackError
from mlstack.inputs import preprocess, texts
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.package import SIDE, Live, Signature, live_package
from mlstack.records.server import ServerSpec
from mlstack.serve import live as live_file
from mlstack.serve import proof
from mlstack.serve.worker.app import App
from mlstack.serve.worker.batcher import Batcher, Run
from mlstack.serve.worker.engine import Engine, Gpus, open_engine
from mlstack.serve.worker.guard import Verdict
from mlstack.serve.worker.lookup import open_lookup
from mlstack.serve.worker.memory import give_back_memory
from mlstack.serve.worker.mending import Mending
from mlstack.serve.worker.model import Model, load, load_bare, package_of
from mlstack.serve.worker.said import log
from mlstack.serve.worker.shadow import Shadow
from mlstack.serve.worker.traffic import Deployed, Traffic
from mlstack.serve.worker.trial import Trial

POLL_S = 0.2


class Deployment:
    """Keeps an app's traffic equal to what live.json says."""

    def __init__(self, spec: ServerSpec, app: App) -> None:
        self._spec = spec
        self._app = app
        self._folder = Path(spec.root) / "models" / spec.model
        self._seen: tuple[int, int, int] | None = None
        self._unwritten: tuple[int, str] | None = None  # an end that live.json does not tell yet
        self._is_failing = False

    def features(self) -> list[str]:
        """Name the monitored features: those of images, or the columns of a table.

        Raises:
            DataError: the package cannot be read.
        """
        package = package_of(Path(self._spec.fixed)) if self._spec.fixed else self._live()
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
            self._take_up(Traffic(self._deployed(model), name=self._spec.model))
            await asyncio.to_thread(give_back_memory)
            return model
        self._seen = self._stamp()
        self._take_up(await self._follow(read(self._folder / "live.json", Live)))
        assert self._app.traffic.live is not None
        await asyncio.to_thread(give_back_memory)
        return self._app.traffic.live.model

    async def watch(self) -> None:
        """Follow changes for ever; what cannot be loaded leaves the old model answering."""
        while self._spec.fixed is None:
            await asyncio.sleep(POLL_S)
            await self._judge()
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                await self.load()
            except Exception as error:  # a full disk, the runtime: the next change is followed, too
                log.warning("the old model goes on answering: %s", error, extra={"event": "reload"})

    async def load(self) -> None:
        """Change over to what live.json says, or to the fixed package again.

        Raises:
            MlstackError: it cannot be loaded; what answered goes on.
        """
        try:
            if self._spec.fixed is not None:
                await self.start()
            else:
                self._take_up(await self._follow(read(self._folder / "live.json", Live)))
        except Exception:  # whatever it was, it is counted
            self._app.metrics.reloads["failed"] += 1
            raise
        self._app.metrics.reloads["done"] += 1
        await asyncio.to_thread(give_back_memory)
        log.info("%s", _says(self._app.traffic), extra={"event": "reload"})

    def unload(self) -> None:
        """Let the model go; requests get 503 until it is loaded again."""
        self._take_up(Traffic(name=self._spec.model))

    def _take_up(self, traffic: Traffic) -> None:
        """Change over between two requests; what is no longer named goes after its last one."""
        app = self._app
        old, app.traffic = app.traffic, traffic
        app.metrics.note_loaded(traffic.roles())
        if traffic.canary is None:
            app.trial = None
        elif app.trial is None or app.trial.canary is not traffic.canary:
            app.trial = Trial(traffic.canary, self._spec.rollback, app.metrics)
        if old.shadow is not None and old.shadow is not traffic.shadow:
            old.shadow.close()

    async def _judge(self) -> None:
        """End a canary that has left its bounds: for callers at once, then in live.json."""
        trial = self._app.trial
        if trial is not None and (verdict := trial.guard.verdict()) is not None:
            self._take_up(dataclasses.replace(self._app.traffic, canary=None, canary_percent=0.0))
            self._app.metrics.rollbacks[verdict.reason] += 1
            self._unwritten = (trial.number, f"canary {trial.number} was ended: {verdict.text}")
            log.warning("%s", self._unwritten[1], extra=_rolled_back(trial.number, verdict))
        if self._unwritten is not None:
            await self._write_down(*self._unwritten)

    async def _write_down(self, number: int, why: str) -> None:
        try:
            await asyncio.to_thread(live_file.give_up_canary, self._folder, number, why)
        except BusyError:
            return  # somebody changes the file; tried again at the next look
        except (MlstackError, OSError) as error:
            if not self._is_failing:
                log.warning("live.json still names canary %d: %s", number, error)
            self._is_failing = True
            return
        self._is_failing = False
        self._unwritten = None

    async def _follow(self, live: Live) -> Traffic:
        if self._unwritten is not None and live.canary == self._unwritten[0]:
            live = structs.replace(live, canary=None)
        loaded = {d.model.number: d for d in self._app.traffic.loaded()}
        if live.live is not None and live.live not in loaded:
            loaded[live.live] = await self._loaded(live.live)
        if live.canary is not None and live.canary not in loaded:
            try:
                loaded[live.canary] = await self._loaded(live.canary)
            except MlstackError as error:
                self._warn("it answers without the canary", error)
        canary = loaded.get(live.canary) if live.canary is not None else None
        return Traffic(
            live=loaded[live.live] if live.live is not None else self._app.traffic.live,
            canary=canary,
            canary_percent=live.canary_percent if canary is not None else 0.0,
            shadow=await self._shadow(live.shadow),
            shadow_percent=live.shadow_percent,
            name=self._spec.model,
        )

    async def _loaded(self, number: int) -> Deployed:
        package = live_package(self._folder, number)
        return self._deployed(await asyncio.to_thread(load_packed, package, self._spec))

    async def _shadow(self, number: int | None) -> Shadow | None:
        """Open the shadow, or keep the one that is open; one that cannot be loaded is left out."""
        app = self._app
        if number is None:
            return None
        if app.traffic.shadow is not None and app.traffic.shadow.number == number:
            return app.traffic.shadow
        load = functools.partial(load_packed, self._folder / str(number), self._spec)
        shadow = Shadow(number, load, app.metrics, app.is_busy)
        try:
            await asyncio.to_thread(shadow.open)
        except MlstackError as error:
            self._warn("it answers without the shadow", error)
            return None
        return shadow

    def _warn(self, what: str, error: MlstackError) -> None:
        self._app.metrics.reloads["failed"] += 1
        log.warning("%s: %s", what, error.problem, extra={"event": "reload"})

    def _deployed(self, model: Model) -> Deployed:
        metrics = self._app.metrics

        def reopen() -> Engine:
            model.engine = open_engine(
                model.runner.model, self._spec.device, self._spec.batching, model.engine.gpus
            )
            metrics.add("mlstack_model_restarts_total", model.number)
            return model.engine

        mending = Mending(model.engine, reopen)
        run, alone = (
            _shortening(call) if model.shortens else call
            for call in (mending.run, mending.run_alone)
        )
        engine = model.engine
        return Deployed(model, Batcher(run, engine.plan, metrics.note_call, alone, engine.buffers))

    def _live(self) -> Path:
        return live_package(self._folder, read(self._folder / "live.json", Live).live or 0)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = (self._folder / "live.json").stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size


def _load_fixed(path: Path, spec: ServerSpec) -> Model:
    package = package_of(path)
    if package is None:
        proof.check(Path(spec.root), path)
        return load_bare(path, spec.model, spec.device, spec.batching, _gpus(spec))
    return load_packed(package, spec)


def _gpus(spec: ServerSpec) -> Gpus:
    engines = Layout(Path(spec.root)).tensorrt if spec.tensorrt else None
    return Gpus(spec.gpus, engines)


def load_packed(package: Path, spec: ServerSpec) -> Model:
    """Load a package with the feature files that its rows are looked up in.

    One that nobody has opened here is opened by a process that may die, before this one does.

    Raises:
        MlstackError: it cannot be loaded.
    """
    proof.check(Path(spec.root), package)
    model = load(package, spec.model, spec.device, spec.batching, _gpus(spec))
    model.lookup = open_lookup(Path(spec.root), model.signature)
    return model


def _shortening(run: Run) -> Run:
    """Call a model of texts without what only fills them up."""
    return lambda arrays: run([texts.shortened(arrays[0])])


def _rolled_back(number: int, verdict: Verdict) -> dict[str, object]:
    return {"event": "rollback", "version": number, "reason": verdict.reason}


def _says(traffic: Traffic) -> str:
    if traffic.live is None:
        return "nothing is live"
    text = f"version {traffic.live.model.number} answers"
    if traffic.canary is not None:
        text += f"; version {traffic.canary.model.number} gets {traffic.canary_percent:g} %"
    if traffic.shadow is not None:
        text += f"; version {traffic.shadow.number} is asked {traffic.shadow_percent:g} % too"
    return text
