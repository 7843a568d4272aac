"""A run again, from its folder and one of its checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from datasets.build import instantiate
from datasets.schema import DataSet
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.runtime.origin import KEY
from sciml.tasks.build import build_task
from sciml.tasks.task import Task
from sciml.tasks.weights import load_weights, require_fit


@dataclass(frozen=True)
class TrainedRun:
    """`task` has the weights of `checkpoint`, normalisers included, and is in evaluation mode."""

    folder: Path
    config: DictConfig
    checkpoint: Mapping[str, Any]
    dataset: DataSet
    task: Task

    @classmethod
    def open(
        cls, ckpt_path: str, *, data_dir: str | None = None, data: Mapping[str, Any] | None = None
    ) -> "TrainedRun":
        """Of `runs/.../checkpoints/best.ckpt` and the config.yaml in `runs/...`.

        `data_dir` says where data sets lie now, `data` changes single settings of the data. They
        must be the data of the training: ValueError if their hash or their split is another one.
        """
        path = Path(ckpt_path)
        checkpoint = load_checkpoint(path)
        folder = path.absolute().parent.parent
        if not (folder / "config.yaml").is_file():
            raise ValueError(
                f"{path}: there is no config.yaml in {folder}; give a checkpoint in the folder of "
                "its run, runs/.../checkpoints/best.ckpt."
            )
        config = OmegaConf.load(folder / "config.yaml")
        if not OmegaConf.is_dict(config) or {"model", "data", "task", "optimizer"} - config.keys():
            raise ValueError(f"{folder / 'config.yaml'}: not the configuration of a run.")
        config.data = OmegaConf.merge(config.data, _place(config, data_dir), data or {})
        dataset = instantiate(config.data)
        _require_same_data(dataset.facts(), checkpoint.get(KEY), ckpt_path)
        task = build_task(config, dataset, prepare=False)
        require_fit(task, checkpoint, ckpt_path)
        weights = [checkpoint["state_dict"][name] for name, _ in task.named_parameters()]
        if any(weight.real.dtype == torch.float64 for weight in weights):
            task = task.double()  # trained with trainer.precision=64-true
        load_weights(task, checkpoint)
        return cls(folder, config, checkpoint, dataset, task.eval())


def _place(config: DictConfig, data_dir: str | None) -> dict[str, str]:
    if data_dir is None:
        return {}
    if "root" not in config.data:
        raise ValueError(
            f"data_dir={data_dir}: the data of this run were not computed below a folder; say "
            "where they are as data=... has it, such as +data.path=... or +data.input=..."
        )
    if not Path(data_dir).is_dir():
        raise ValueError(f"data_dir={data_dir}: no such folder.")
    return {"root": data_dir}


def _require_same_data(facts: Mapping[str, Any], then: Mapping[str, Any] | None, path: str) -> None:
    for key in ("hash", "split"):
        was, found = (then or {}).get(f"data.{key}", facts[key]), facts[key]
        if was != found:
            raise ValueError(
                f"{path}: was trained on other data than {facts['path']}, whose {key} is {found} "
                f"instead of {was}; say where they lie with data_dir=... or +data.path=..."
            )
