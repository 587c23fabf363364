"""What is wrong with the user's classes is told before torch is imported and a run is written."""

import pytest
from faulty import failure, mlstack
from projects import make_project


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("source") / "demo", images=60)


@pytest.mark.parametrize(
    ("setting", "problem", "hint"),
    [
        (
            "model.args.widht=3",
            "model.args.widht: `Net` takes no argument `widht`",
            "did you mean `width`?",
        ),
        (
            "data.args.imag_size=3",
            "data.args.imag_size: `Images` takes no argument `imag_size`",
            "did you mean `image_size`?",
        ),
        (
            "model.class=my_project.model:Nett",
            "model.class: `my_project.model` has no class `Nett`",
            "did you mean `Net`?",
        ),
        (
            "model.class=my_project.modell:Net",
            "model.class: cannot import `my_project.modell`: no module named `my_project.modell`",
            "is there a file my_project/modell.py in ",
        ),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(here, setting, problem, hint):
    done = mlstack(here, "train", "--set", setting, "--json")

    error = failure(done)
    assert (done.returncode, error["problem"]) == (2, problem)
    assert error["hint"].startswith(hint)
    assert not (here / ".mlstack" / "runs").exists()


def test_a_file_that_is_not_python_is_named_with_its_line(here):
    model = here / "my_project" / "model.py"
    before = model.read_text()
    model.write_text("import torch\nclass Net(:\n")

    done = mlstack(here, "train", "--json")
    model.write_text(before)

    assert f"{model}:2: not Python" in failure(done)["problem"]
    assert done.returncode == 2


@pytest.mark.parametrize(
    "source",
    [
        "from elsewhere import *",
        "def __getattr__(name): ...",
        "try:\n    from a import Net\nexcept ImportError:\n    Net = None",
        "class Net(Base):\n    def __init__(self, **args): ...",
        "class Net(Base): ...",
        "Net = make()",
    ],
)
def test_what_source_cannot_tell_is_left_to_the_import(tmp_path, source):
    from mlstack.launch.user_source import Named, _check

    (tmp_path / "mine.py").write_text(source)

    _check(tmp_path, Named("mine:Net", "model.class", {"width": 1}, "model.args"))
