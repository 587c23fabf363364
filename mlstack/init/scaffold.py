"""The files of a new project that are text: copied, with a few words replaced."""

import re
from dataclasses import dataclass
from pathlib import Path

import mlstack
from mlstack import files
from mlstack.errors import ConfigError
from mlstack.init import catalog
from mlstack.init.catalog import Template
from mlstack.init.dataset import Columns, Dataset
from mlstack.init.naming import Names
from mlstack.inputs.tables import quoted

CI_FILES = {"github": ".github/workflows/mlstack.yml", "gitlab": ".gitlab-ci.yml"}
DEPLOY_FILES = {
    "docker": ("Dockerfile", "Dockerfile.dockerignore"),
    "systemd": ("mlstack.service", "nginx.conf", "monitor.service", "monitor.timer"),
    "k8s": ("k8s.yaml", "kserve.yaml"),
}
GATE = re.compile(r"(test/acc: \{min: )[0-9.]+\}\}")
SLICES = re.compile(r"^  slices: .*\n", re.M)


@dataclass(frozen=True)
class Words:
    """What is replaced in the texts of a template."""

    names: Names
    source: str

    def put(self, text: str) -> str:
        """Replace them."""
        pairs = {
            "my_project": self.names.package,
            "my-project": self.names.project,
            "DATA_SOURCE": self.source,
            "MLSTACK_VERSION": mlstack.__version__,
        }
        for word, value in pairs.items():
            text = text.replace(word, value)
        return text


def deploy_kinds(text: str) -> list[str]:
    """Split `docker,k8s`.

    Raises:
        ConfigError: one of them is unknown.
    """
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in DEPLOY_FILES:
            raise ConfigError(
                f"--deploy cannot write `{kind}`", hint=f"it writes {', '.join(DEPLOY_FILES)}"
            )
    return kinds


def write_project(folder: Path, template: Template, names: Names, dataset: Dataset) -> None:
    """Write the user's package, the config, the tests and what surrounds them."""
    words = Words(names, dataset.source)
    for path in files.walk(template.folder / "my_project"):
        if path.suffix == ".py":
            _copy(path, folder / names.package / path.name, words)
    shared = catalog.root() / "project"
    for path in files.walk(shared):
        name = path.relative_to(shared).as_posix()
        if "__pycache__" not in name:
            _copy(path, folder / (".gitignore" if name == "gitignore" else name), words)
    text = (template.folder / "mlstack.yaml").read_text()
    text = _replaced(text, "name: my_project", f"name: {names.project}")
    text = words.put(text)
    if dataset.own:
        text = _for_own_data(text, template, dataset)
    files.write_text(folder / "mlstack.yaml", text)


def write_ci(folder: Path, ci: str, names: Names, source: str) -> None:
    """Write the workflow whose lines are the commands a person types."""
    if ci in CI_FILES:
        origin = catalog.root() / "ci" / f"{ci}.yml"
        _copy(origin, folder / CI_FILES[ci], Words(names, source))


def write_deploy(folder: Path, kinds: list[str], names: Names, source: str, task: str) -> None:
    """Write what a container, a systemd host or a cluster needs to serve."""
    for kind in kinds:
        # Kubernetes takes lower-case letters, digits and dashes.
        name = names.project.lower().replace("_", "-").replace(".", "-")
        shown = Names(name, names.package) if kind != "systemd" else names
        for file in DEPLOY_FILES[kind]:
            target = folder / "deploy" / file
            _copy(catalog.root() / "deploy" / file, target, Words(shown, source))
            if file == "Dockerfile" and task == "text-classification":
                text = _replaced(target.read_text(), '"mlstack>=', '"mlstack[text]>=')
                files.write_text(target, text)


def _for_own_data(text: str, template: Template, dataset: Dataset) -> str:
    columns = dataset.columns
    pairs = _of_table(template, columns) if columns else _of_images(dataset)
    text = _replaced(text, f"data/{template.data.name}", dataset.source)
    for old, new in pairs:
        text = _replaced(text, old, new)
    floor = min(round(dataset.largest_share + 0.05, 2), 0.95)
    text, changed = GATE.subn(
        rf"\g<1>{floor}}}}}  # a little over always saying the largest class", text
    )
    text, left_out = SLICES.subn("", text)
    assert (changed, left_out) == (1, 1), "the template's mlstack.yaml lacks its gates"
    return text


def _of_images(dataset: Dataset) -> list[tuple[str, str]]:
    seen = f"{{image_size: {dataset.image_size}, channels: {dataset.channels}}}"
    return [
        ("{image_size: 16, channels: 1}", seen),
        ("lr: 3e-3, channels: 1}", f"lr: 3e-3, channels: {dataset.channels}}}"),
    ]


def _of_table(template: Template, columns: Columns) -> list[tuple[str, str]]:
    assert isinstance(template.data, catalog.SampleTable)
    pairs = [(f"label: {template.data.label} ", f"label: {quoted(columns.label)} ")]
    if columns.text:
        read = f"{{text: {quoted(columns.text)}, vocabulary: 400, length: {columns.length}}}"
        return [*pairs, ("{text: text, vocabulary: 400, length: 96}", read)]
    ignored = ", ".join(map(quoted, columns.ignored))
    return [
        *pairs,
        ("{ignore: []}", f"{{ignore: [{ignored}]}}"),
        ("features: 30", f"features: {columns.features}"),
    ]


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"the template's mlstack.yaml lacks `{old}`"
    return text.replace(old, new)


def _copy(origin: Path, target: Path, words: Words) -> None:
    files.write_text(target, words.put(origin.read_text()))
