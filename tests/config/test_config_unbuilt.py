"""What is not built yet is refused by the room that would act on it, and stays in the roadmap."""

from pathlib import Path

import pytest

from mlstack.config import load, refuse_unbuilt
from mlstack.config.unbuilt import UNBUILT
from mlstack.errors import ConfigError


@pytest.mark.parametrize(
    ("room", "setting"),
    [
        ("train", "track.mirror=[comet]"),
        ("train", "project.task=object-detection"),
        ("export", "export.embed_preprocessing=false"),
        ("monitor", "monitor.retrain.auto=true"),
    ],
)
def test_a_setting_without_effect_is_refused_by_its_room(room: str, setting: str, project: Path):
    asked = load(project / "mlstack.yaml", sets=(setting,))

    with pytest.raises(ConfigError, match="is not built yet"):
        refuse_unbuilt(asked, room)


@pytest.mark.parametrize("room", sorted(UNBUILT))
def test_the_defaults_are_not_refused(room: str, project: Path):
    refuse_unbuilt(load(project / "mlstack.yaml"), room)
