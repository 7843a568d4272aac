"""What the weights of a checkpoint come from, so that a run does not go on as another one."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from solvers.grid import Axis, Grid

SECTIONS = ("model", "task", "optimizer", "curvature", "online", "trainer", "seed", "batch_size")
READ_BY = ("window", "without")
MAY_CHANGE = {  # where and how long a run computes; the schedule checks its length itself
    *("trainer.accelerator", "trainer.devices", "trainer.max_time"),
    *("trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps"),
}
WHO_COMPUTES = ("online.engine.", "online.faults.")  # not what
KEY, FILES = "origin", "data.train_files"
ADAMW = "torch.optim.AdamW"


class Origin(Callback):
    """Writes the settings and the data of a run into each of its checkpoints, as plain values."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)

    def on_save_checkpoint(
        self, trainer: Trainer, task: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = self.settings


def origin(config: DictConfig, facts: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    """Settings that decide what a training computes, flat: {"optimizer.lr": 0.004, ...}.

    `facts` and `grid` are those of the data set. Its hash and its split stand for the data, whose
    path may change, beside the frames and fields that it is read by; of the grid counts what a
    model takes from it.
    """
    settings = {f"data.{key}": facts[key] for key in ("hash", "split", "train_files")}
    settings |= {f"data.{axis.name}": _sides(axis) for axis in grid.axes}
    return settings | chosen_settings(config)


def chosen_settings(config: DictConfig) -> dict[str, Any]:
    """Those of `origin` that are known before the data are."""
    settings: dict[str, Any] = {}
    chosen = {section: config[section] for section in SECTIONS if section in config}
    chosen |= {f"data.{part}": config.data[part] for part in READ_BY if part in config.data}
    for section, value in chosen.items():
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        settings |= _flat(section, plain)
    return settings


def require_same_run(
    settings: Mapping[str, Any], checkpoint: Mapping[str, Any], path: str, *, data: bool = True
) -> None:
    """ValueError naming what differs between a run and the one that wrote `checkpoint`, `data`
    included. Of a section with another `_target_` that one alone is named.
    """
    if KEY not in checkpoint:
        raise ValueError(f"{path}: does not say what it was trained with, a run cannot go on.")
    then = checkpoint[KEY]
    changed = [
        key
        for key in [*then, *sorted(settings.keys() - then.keys())]
        if key not in (*MAY_CHANGE, FILES)
        and not key.startswith(WHO_COMPUTES)
        and (data or not key.startswith("data."))
        and then.get(key) != settings.get(key)
    ]
    others = {key.removesuffix("_target_") for key in changed if key.endswith("._target_")}
    different = [
        f"{key} was {then.get(key, 'not set')}, is {settings.get(key, 'not set')}"
        for key in changed
        if key.endswith("._target_") or not any(key.startswith(other) for other in others)
    ]
    began_with = []
    if "curvature._target_" in changed and "curvature._target_" not in then:
        began_with += ["curvature=none"]
    if "optimizer._target_" in changed and then.get("optimizer._target_") == ADAMW:
        began_with += ["optimizer=adamw"]
    if different:
        raise ValueError(
            f"{path}: a run goes on with the settings and data it began with, but "
            f"{'; '.join(different)}. They stand in its folder's config.yaml"
            f"{', which had ' + ' '.join(began_with) if began_with else ''}."
        )


def require_fair_test(
    facts: Mapping[str, Any], grid: Grid, checkpoint: Mapping[str, Any], path: str
) -> None:
    """ValueError if the test samples are of data that the checkpoint was trained on, split
    otherwise, or the sides of the grid are not those that it knows.
    """
    then = checkpoint.get(KEY)
    if then is None:  # weights from elsewhere
        return
    same = all(then[f"data.{key}"] == facts[key] for key in ("hash", "split"))
    if not same and set(then[FILES]) & set(facts["test_files"]):
        raise ValueError(
            f"{path}: was trained on samples of these files (split {then['data.split']}, here "
            f"{facts['split']}): test samples may be among those it has learnt. Give data.seed "
            "and data.split of its config.yaml, or other test data."
        )
    for axis in grid.axes:
        known = then.get(f"data.{axis.name}", "absent")
        if known != _sides(axis):
            raise ValueError(
                f"{path}: axis {axis.name} was {known} in training, here it is {_sides(axis)}; "
                "the model took its coordinates and its period from that."
            )


def _sides(axis: Axis) -> str:
    return f"{'periodic' if axis.is_periodic else 'not periodic'}, points at {axis.points}"


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    flat = {}
    for key, item in value.items():
        flat |= _flat(f"{name}.{key}", item)
    return flat
