"""What `mlstack run` makes of a dvc.yaml that somebody else writes in too."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from mlstack.config import load
from mlstack.errors import ConfigError
from mlstack.pipeline import pipefile
from mlstack.pipeline.splice import Edit, spliced
from mlstack.pipeline.stages import stages

MINE = """\
# my pipeline
vars:
- rate: 3   # of the camera

stages:
    download:   # keep me
        cmd:   echo "a    b"    # odd   spaces

    # what comes after
    after:
        cmd: >-
          echo long
          text
        deps: [models]

# the end
plots:
- camera.csv
"""


def keep(project) -> None:
    pipefile.keep(project, stages(load(project / "mlstack.yaml")))


def test_every_byte_that_is_not_ours_stays(project) -> None:
    (project / "dvc.yaml").write_text(MINE)

    keep(project)

    text = (project / "dvc.yaml").read_text()
    ours = ("prepare", "train", "evaluate", "export")
    assert list(YAML(typ="safe").load(text)["stages"]) == ["download", "after", *ours]
    head, tail = MINE.split("\n# the end")
    assert text.startswith(head)
    assert text.endswith(f"\n# the end{tail}")


def test_a_stage_of_ours_that_changed_is_replaced_where_it_stands(project) -> None:
    keep(project)
    first = (project / "dvc.yaml").read_text()
    edited = first.replace("  train:\n", "  # before train\n  mine:\n    cmd: x\n  train:\n")
    (project / "dvc.yaml").write_text(edited)
    model = project / "my_project" / "model.py"
    model.write_text(f"import blocks\n{model.read_text()}")
    (project / "blocks.py").write_text("")

    keep(project)

    expected = edited.replace(
        "      - my_project/__init__.py\n", "      - blocks.py\n      - my_project/__init__.py\n"
    )
    assert (project / "dvc.yaml").read_text() == expected


def test_what_a_person_adds_to_a_stage_of_ours_stays(project) -> None:
    keep(project)
    path = project / "dvc.yaml"
    marked = path.read_text().replace(
        "    cmd: mlstack run train --only\n",
        "    cmd: mlstack run train --only\n    meta: {owner: anna}\n",
    )
    path.write_text(marked)
    text = (project / "mlstack.yaml").read_text()
    (project / "mlstack.yaml").write_text(text.replace("train:\n", "track: {}\ntrain:\n"))

    keep(project)

    assert path.read_text() == marked


def test_nothing_is_written_when_nothing_changes(project) -> None:
    keep(project)
    before = (project / "dvc.yaml").stat()

    keep(project)

    assert (project / "dvc.yaml").stat().st_mtime_ns == before.st_mtime_ns


def test_a_stage_that_is_not_ours_any_more_goes(project) -> None:
    keep(project)
    path = project / "dvc.yaml"
    before = path.read_text()
    path.write_text(f"{before}  labels:\n    cmd: mlstack run labels --only\n  mine:\n    cmd: x\n")

    keep(project)

    assert path.read_text() == f"{before}  mine:\n    cmd: x\n"


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("stages: [", "is not YAML", ":1"),
        ("stages:\n  a: {cmd: x}\n  a: {cmd: y}\n", "duplicate key", ":3"),
        ("a\n", "holds no stages", ""),
        ("- a\n", "holds no stages", ""),
        ("stages: [a]\n", "`stages` must be names", ""),
        ("stages:\n\ta: 1\n", "is not YAML", ":2"),
        ("stages:\n  train:\n    cmd: echo hello\n", "the stage `train` is not mlstack's", ""),
        ("stages:\n  export: null\n", "the stage `export` is not mlstack's", ""),
    ],
)
def test_a_file_that_is_broken_is_refused_with_its_line_and_left_alone(
    project, text, problem, line
) -> None:
    (project / "dvc.yaml").write_text(text)

    with pytest.raises(ConfigError, match=problem) as refused:
        keep(project)

    assert refused.value.where == f"{project / 'dvc.yaml'}{line}"
    assert (project / "dvc.yaml").read_text() == text


STAGE = st.fixed_dictionaries({"cmd": st.sampled_from(["a", "b c", "d: e", "# f"])})
NAMES = ("prepare", "train", "export", "mine", "yours")
LAYOUTS = st.sampled_from(["stages:\n", "# top\nstages:   # x\n\n", "vars: [{a: 1}]\nstages:\n"])


@given(
    head=LAYOUTS,
    there=st.dictionaries(st.sampled_from(NAMES), STAGE),
    wanted=st.dictionaries(st.sampled_from(NAMES[:3]), STAGE, min_size=1),
    width=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=150, deadline=None)
def test_any_mixture_of_stages_says_what_it_should_afterwards(head, there, wanted, width) -> None:
    lines = []
    for name, stage in there.items():
        lines += [f"{' ' * width}# of {name}", f"{' ' * width}{name}:"]
        lines += [f"{' ' * 2 * width}cmd: '{stage['cmd']}'", ""]
    text = head + "\n".join(lines)
    document = YAML().load(text)
    changed = {name for name in wanted if there.get(name) != wanted[name]}
    gone = {name for name in NAMES[:3] if name in there and name not in wanted}

    made = spliced(text, document, Edit(wanted, changed, gone))

    kept = {name: stage for name, stage in there.items() if name not in gone}
    assert YAML(typ="safe").load(made)["stages"] == kept | wanted
    for name in there:
        assert f"# of {name}" in made
    assert isinstance(document, CommentedMap)
