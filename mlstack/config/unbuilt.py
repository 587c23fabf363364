"""Settings that the file may hold but no room acts on yet: refused, never ignored."""

from mlstack.config.project import Project
from mlstack.errors import ConfigError

# room -> settings that must keep their default, see docs/roadmap.md
UNBUILT: dict[str, tuple[str, ...]] = {
    "train": (),
    "export": ("export.embed_preprocessing",),
    "monitor": ("monitor.retrain.auto",),
}

BUILT_TASKS = ("image-classification", "text-classification", "tabular")


def refuse_unbuilt(project: Project, room: str) -> None:
    """Refuse a setting that asks for what is not there yet.

    Raises:
        ConfigError: the setting, where it was made, and what to write instead.
    """
    task = project.config.project.task
    if room in ("train", "export") and task not in BUILT_TASKS:
        raise ConfigError(
            f"project.task: `{task}` is not built yet",
            hint=f"what is there: {', '.join(BUILT_TASKS)}; see docs/roadmap.md",
            where=project.origins.get("project.task", ""),
        )
    if room == "train" and "comet" in project.config.track.mirror:
        raise ConfigError(
            "track.mirror: `comet` is not built yet",
            hint="write tensorboard, mlflow or wandb",
            where=project.origins.get("track.mirror", ""),
        )
    for key in UNBUILT[room]:
        *parents, name = key.split(".")
        section = project.config
        for parent in parents:
            section = getattr(section, parent)
        value = getattr(section, name)
        default = type(section).model_fields[name].get_default(call_default_factory=True)
        if value != default:
            raise ConfigError(
                f"{key}: `{value}` is not built yet",
                hint=f"remove it (the default is `{default}`); docs/roadmap.md says what is there",
                where=project.origins.get(key, ""),
            )
