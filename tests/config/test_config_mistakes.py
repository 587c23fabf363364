"""A corpus of planted mistakes: each is found, pointed at, and answered with what to type."""

from pathlib import Path

import pytest

from mlstack.config import load
from mlstack.errors import ConfigError, Mistake

HEAD = """\
version: 1
project: {name: digits-demo, task: image-classification}
data: {source: data/digits}
model: {class: digits_demo.model:Net}
"""

# (text after HEAD, which therefore starts on line 5; where; what the message says)
PLANTED = [
    (
        "train:\n  epoch: 10\n",
        "6:3",
        'train.epoch: "epoch" is not a setting; did you mean "epochs"?',
    ),
    ("trian: {epochs: 1}\n", "5:1", '"trian" is not a setting; did you mean "train"?'),
    (
        "serve:\n  batch_size: 64\n",
        "6:3",
        '"batch_size" belongs to "train.batch_size", or did you mean "batching"?',
    ),
    ("patiense: 3\n", "5:1", '"patiense" is not a setting; did you mean "train.patience"?'),
    ("noeds: 3\n", "5:1", '"noeds" is not a setting; did you mean "train.slurm.nodes"?'),
    ("batchsize: 3\n", "5:1", '"batchsize" is not a setting; did you mean "train.batch_size"?'),
    ("epochs: 3\n", "5:1", '"epochs" belongs to "train.epochs"'),
    ("train.epochs: 3\n", "5:1", 'write "epochs:" under "train:"'),
    ("train:\n  learning_rate: 0.1\n", "6:3", 'train.learning_rate: "learning_rate" is not'),
    ("train:\n  max_epochs: 3\n", "6:3", 'did you mean "epochs"?'),
    ("train:\n  devices: 2\n", "6:3", 'did you mean "gpus"?'),
    ("train:\n  trials: 2\n", "6:3", '"trials" belongs to "tune.trials"'),
    ("label:\n  colour: red\n", "6:3", "there is queue, overlap, min_agreement"),
    ("tune:\n  sampler: tpo\n", "6:12", "'grid', 'random', 'tpe' or 'gp'; did you mean \"tpe\"?"),
    ("tune: {sampler: bayesian}\n", "5:17", 'did you mean "tpe"?'),
    ("export: {formats: [onnx, tflite]}\n", "5:26", 'did you mean "litert"?'),
    ("export: {formats: onnx}\n", "5:19", "export.formats: 'onnx' is not a list; write [onnx]"),
    ("export: {quantize: int8}\n", "5:20", 'did you mean "int8-static"?'),
    ("train: {precision: bf16-mixed}\n", "5:20", 'did you mean "bf16"?'),
    ("train: {mode: maximize}\n", "5:15", 'did you mean "max"?'),
    ("serve: {device: cuda}\n", "5:17", 'did you mean "gpu"?'),
    ("train: {gpus: atuo}\n", "5:15", 'a list of GPU indices; did you mean "auto"?'),
    ("train: {gpus: -1}\n", "5:15", "train.gpus: -1 is not auto, a number, or a list"),
    ("train: {gpus: [0, x]}\n", "5:15", "train.gpus: a list is not auto, a number, or a list"),
    ('train: {epochs: "10"}\n', "5:17", "'10' is not a whole number; take the quotes away"),
    ("train: {epochs: ten}\n", "5:17", "train.epochs: 'ten' is not a whole number"),
    ("train: {epochs: 2026-02-30}\n", "5:17", "'2026-02-30' is not a whole number"),
    ("train: {epochs: 0x_}\n", "5:17", "'0x_' is not a whole number"),
    ("monitor: {drift: {since: 2026-02-30}}\n", "5:26", "'2026-02-30' is no day such as"),
    ('monitor: {drift: {since: ""}}\n', "5:26", "'' is no day such as 2026-02-20"),
    ("train: {epochs: 1.5}\n", "5:17", "train.epochs: 1.5 is not a whole number"),
    ("train: {epochs: true}\n", "5:17", "train.epochs: true is not a whole number"),
    ("train: {max_time: 9999999999d}\n", "5:19", "is longer than a hundred years"),
    ("train: {ema: .nan}\n", "5:14", "nan is not a finite number"),
    (
        "tune: {space: {model.args.lr: {uniform: [0, .inf]}}}\n",
        "5:45",
        "inf is not a finite number",
    ),
    ("train: {epochs: 0}\n", "5:17", "0 is out of range; it must be at least 1"),
    ("train: {epochs: }\n", "5:16", "train.epochs: nothing is not a whole number"),
    ("serve: {port: 70000}\n", "5:15", "70000 is out of range; it must be at most 65535"),
    ("export: {max_diff: 0}\n", "5:20", "0 is out of range; it must be above 0"),
    ("label: {overlap: lots}\n", "5:18", "label.overlap: 'lots' is not a number"),
    ("train: {monitor: 3}\n", "5:18", "3 is not text; put it in quotes"),
    ("serve: {log: {inputs: yes}}\n", "5:23", "'yes' is not true or false; did you mean \"true\"?"),
    ("train: {max_time: 3}\n", "5:19", "3 is not text; put it in quotes"),
    ("train: {max_time: soon}\n", "5:19", "'soon' is not a time such as \"2h30m\""),
    ("serve: {batching: 8}\n", "5:19", "8 is not a group of settings with max_size"),
    ("train: fast\n", "5:8", "train: 'fast' is not a group of settings with gpus"),
    ("train: {trainer_args: 3}\n", "5:23", 'a group of settings such as "name: value"'),
    ("monitor: {on_alert: [exce:ls]}\n", "5:22", '"log", "exec:COMMAND"'),
    (
        "tune:\n  space:\n    model.arg.lr: {uniform: [0, 1]}\n",
        "7:5",
        'did you mean "model.args.lr"?',
    ),
    ("tune: {space: {lr: {uniform: [0, 1]}}}\n", "5:16", 'did you mean "model.args.lr"?'),
    ("tune: {space: {batch_size: {choice: [1]}}}\n", "5:16", 'did you mean "train.batch_size"?'),
    ("tune: {space: {model.args.a: {unifrom: [0, 1]}}}\n", "5:30", 'did you mean "uniform"?'),
    ("tune: {space: {model.args.a: 3}}\n", "5:30", "write for example {uniform: [0, 1]}"),
    ("tune: {space: {model.args.a: {uniform: [2, 1]}}}\n", "5:30", "2 is not below 1"),
    ("tune: {space: {model.args.a: {uniform: [0, b]}}}\n", "5:44", "'b' is not a number"),
    ("tune: {space: {model.args.a: {log_uniform: [0, 1]}}}\n", "5:30", "must be above 0"),
    ("tune: {space: {model.args.a: {choice: []}}}\n", "5:39", "write at least one value"),
    ("gates: {slices: [{column: class}]}\n", "5:18", 'gates.slices[0].min: "min" is missing'),
    ("gates: {slices: [{colum: class, min: 1}]}\n", "5:19", 'did you mean "column"?'),
    ("gates: {validation: {test/acc: {mni: 1}}}\n", "5:33", 'did you mean "min"?'),
    ("gates: {latency: {batch: 1}}\n", "5:9", 'gates.latency.p99_ms: "p99_ms" is missing'),
    ("train:\n  epochs: 1\n  epochs: 2\n", "7:3", '"epochs" is here twice; the first is at'),
    ("train:\n\tepochs: 1\n", "6:1", "indent with spaces"),
    ("train: {epochs: 1\n", "6:1", "YAML: "),
    ("train: epochs: 1\n", "5:14", "YAML: mapping values are not allowed"),
    ("train: !secret x\n", "5:8", "YAML: "),
]


def mistakes_of(path: Path, *sets: str, places: str = "") -> tuple[Mistake, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, sets=sets)
    assert caught.value.exit_code == 2
    assert caught.value.problem.endswith(f" in {places or path}. Nothing was run.")
    return caught.value.mistakes


def write(folder: Path, text: str, name: str = "mlstack.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "position", "words"), PLANTED, ids=[p[0] for p in PLANTED])
def test_a_planted_mistake_is_pointed_at_once(
    tmp_path: Path, text: str, position: str, words: str
) -> None:
    path = write(tmp_path, HEAD + text)

    (mistake,) = mistakes_of(path)

    assert words in mistake.problem
    assert mistake.where == f"{path}:{position}"


def test_all_mistakes_come_at_once_in_file_order(tmp_path: Path) -> None:
    text = HEAD.replace("task: image", "task: imag") + (
        "serve: {batch_size: 1}\ndata.split: {}\ntrain:\n  epoch: 10\n  mode: mni\n"
    )
    path = write(tmp_path, text)

    found = mistakes_of(path, "train.epoks=3", places=f"{path} and `--set`")

    assert [m.key for m in found] == [
        "project.task",
        "serve.batch_size",
        "data.split",
        "train.epoch",
        "train.mode",
        "train.epoks",
    ]


def test_the_excerpt_shows_the_line_and_carets_under_the_word(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "# more\n" * 4 + "train:\n  epoch: 10\n")

    (mistake,) = mistakes_of(path)

    assert mistake.excerpt == "  10 |   epoch: 10\n     |   ^^^^^"


@pytest.mark.parametrize("key", ["nope", "foo", "noise"])
def test_a_key_of_another_section_is_suggested_only_for_a_slip_of_the_hand(
    tmp_path: Path, key: str
) -> None:
    path = write(tmp_path, HEAD + f"{key}: 3\n")

    (mistake,) = mistakes_of(path)

    assert mistake.problem == f'{key}: "{key}" is not a setting'


def test_a_flag_is_named_as_the_culprit(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD)

    (mistake,) = mistakes_of(path, "train.epoks=3", places="`--set`")

    assert mistake.problem == 'train.epoks: "epoks" is not a setting; did you mean "epochs"?'
    assert mistake.where == "--set train.epoks=3"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("train.epochs", "write --set train.epochs=3"),
        ("=3", "write --set train.epochs=3"),
        ("train.epochs=[", "YAML: "),
        ("train.epochs=ten", "'ten' is not a whole number"),
        ("train.epo=3", 'did you mean "epochs"?'),
        ("project.seed=99999999999999999999", "it must be at most 4294967295"),
    ],
)
def test_a_bad_flag_is_refused(tmp_path: Path, item: str, words: str) -> None:
    path = write(tmp_path, HEAD)

    (mistake,) = mistakes_of(path, item, places="`--set`")

    assert words in mistake.problem
    assert mistake.where == f"--set {item}"


def test_an_environment_variable_is_named_as_the_culprit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTACK_TRAIN__EPOKS", "3")
    path = write(tmp_path, HEAD)

    (mistake,) = mistakes_of(path, places="the environment")

    assert 'did you mean "epochs"?' in mistake.problem
    assert mistake.where == "MLSTACK_TRAIN__EPOKS"


def test_the_local_file_is_named_as_the_culprit(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD)
    local = write(tmp_path, "train: {epoks: 1}\n", "mlstack.local.yaml")

    (mistake,) = mistakes_of(path, places=str(local))

    assert mistake.where == f"{local}:1:9"


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("version", 'version: "version" is missing; write "version: 1"'),
        ("data", 'data: "data" is missing; write "data:" and under it "source:"'),
        ("model", 'model: "model" is missing; write "model:" and under it "class:"'),
    ],
)
def test_a_missing_line_is_spelled_out(tmp_path: Path, missing: str, words: str) -> None:
    kept = [line for line in HEAD.splitlines() if not line.startswith(missing)]
    path = write(tmp_path, "\n".join(kept) + "\n")

    (mistake,) = mistakes_of(path)

    assert mistake.problem == words
    assert mistake.where == str(path)


def test_a_missing_setting_points_at_its_section(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("{source: data/digits}", ""))

    (mistake,) = mistakes_of(path)

    assert mistake.problem == (
        'data.source: "source" is missing; write "source: data/digits" under "data:"'
    )
    assert mistake.where == f"{path}:3:1"


def test_a_window_below_what_a_check_needs_is_pointed_at(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "monitor: {window: 20}\n")

    (mistake,) = mistakes_of(path)

    assert mistake.where == f"{path}:5:10"
    assert mistake.problem.startswith("monitor: min_window (50) is above window (20)")


def test_a_split_that_does_not_add_up_is_pointed_at(tmp_path: Path) -> None:
    split = "{source: d, split: {train: 0.8, val: 0.1, test: 0}}"
    path = write(tmp_path, HEAD.replace("{source: data/digits}", split))

    (mistake,) = mistakes_of(path)

    assert mistake.problem == "data.split: train + val + test is 0.9; it must be 1"
    assert mistake.where == f"{path}:3:26"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("compile: true", "privacy and compile do not go together; remove one of them"),
        ("accumulate: 4", "privacy and accumulate do not go together; remove one of them"),
        ("precision: bf16", "privacy and precision do not go together; remove one of them"),
        ("batch_size: 8", "privacy draws batches by chance, so batch_size must be at least 32"),
    ],
)
def test_what_privacy_does_not_go_together_with_is_named(
    tmp_path: Path, other: str, words: str
) -> None:
    path = write(tmp_path, f"{HEAD}train: {{privacy: {{epsilon: 8}}, {other}}}\n")

    (mistake,) = mistakes_of(path)

    assert mistake.problem == f"train: {words}"


def test_a_class_without_a_colon_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("model:Net", "model.Net"))

    (mistake,) = mistakes_of(path)

    assert mistake.problem.endswith('is not a class as "package.module:Class"')


def test_a_file_of_a_newer_program_is_refused_before_anything_else(tmp_path: Path) -> None:
    path = write(tmp_path, "version: 3\nunheard_of: 1\n")

    (mistake,) = mistakes_of(path)

    assert mistake.problem == "this file is version 3; installed mlstack reads up to 1"
    assert mistake.hint == "pip install -U mlstack"
    assert mistake.where == f"{path}:1:10"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "there are no settings"),
        (b"# only words\n", "there are no settings"),
        (b"- a\n- b\n", "not a group of settings"),
        (b"just words\n", "not a group of settings"),
        (b"version: 1\nproject: \xff\n", "byte 0xff is not UTF-8"),
        (b"version: 1\n---\nversion: 1\n", "YAML: "),
        (b"version: \x00\n", "YAML: "),
        (b"[" * 5000, "YAML: "),
    ],
)
def test_a_file_that_is_no_settings_is_one_mistake(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "mlstack.yaml"
    path.write_bytes(content)

    (mistake,) = mistakes_of(path)

    assert words in mistake.problem
    assert mistake.where.startswith(str(path))


def test_a_folder_without_a_project_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "mlstack.yaml")

    assert "mlstack init NAME" in caught.value.hint
