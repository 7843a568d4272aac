"""Training by Lightning's trainer with the callbacks of this project."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from omegaconf import DictConfig

from datasets.build import instantiate
from sciml.runtime.checkpoint_io import AtomicCheckpointIO
from sciml.runtime.checkpoints import Checkpoints
from sciml.runtime.feedback import feedback
from sciml.runtime.finite_guard import FiniteGuard
from sciml.runtime.gradient_norm import GradientNorm
from sciml.runtime.method import Method
from sciml.runtime.origin import Origin
from sciml.runtime.progress import progress
from sciml.runtime.random_state import RandomState
from sciml.runtime.signals import SignalWatch
from sciml.runtime.stream_state import stream_state
from sciml.runtime.stream_view import stream_view
from sciml.runtime.training_time import TrainingTime

MONITOR = "val/relative_l2"
LOG_EVERY = 10  # steps between two lines of metrics.csv


@dataclass(frozen=True)
class Fitted:
    """The checkpoint with the lowest `MONITOR`, its epoch counted from 0, the seconds of training
    before the checkpoint that this run continued from, what the optimizer says of itself, and the
    steps of the whole training.
    """

    best: Path
    epoch: int
    earlier_seconds: float
    method: Mapping[str, Any]
    steps: int


def fit(
    config: DictConfig,
    task: LightningModule,
    data: LightningDataModule,
    folder: Path,
    settings: dict[str, Any],
) -> Fitted:
    """Train from the start or from `config.ckpt_path`; `settings` go into every checkpoint."""
    checkpoints = Checkpoints(folder / "checkpoints", MONITOR, config.checkpoint_every)
    if config.ckpt_path is not None:
        checkpoints.take_along(Path(config.ckpt_path))
    view = stream_view(data, folder)
    watch, clock = SignalWatch(checkpoints.last), TrainingTime()
    method, shown = Method(), progress(view.shown if view else dict)
    callbacks = [
        *stream_state(data),
        *([view] if view else []),
        *feedback(data),
        method,
        shown,
        LearningRateMonitor("step"),
        FiniteGuard(),
        GradientNorm(),
    ]
    callbacks += [RandomState(), clock, Origin(settings), checkpoints, watch]
    loggers = [
        CSVLogger(str(folder), name="", version=""),
        TensorBoardLogger(str(folder), name="", version="tensorboard"),
    ]
    try:
        trainer = _trainer(config, loggers, callbacks, folder)
        if config.trainer.precision in ("64", "64-true"):
            task.double()  # Lightning does so after it has restored weights, in float32
        with watch:
            trainer.fit(task, data, ckpt_path=config.ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error}") from error
    if not checkpoints.best.is_file():
        raise ValueError(
            f"{MONITOR} was never finite, or validation never ran, so no weights could be chosen; "
            f"{checkpoints.last} holds the last ones."
        )
    return Fitted(
        checkpoints.best, checkpoints.epoch, clock.earlier, method.facts, trainer.global_step
    )


def device(config: DictConfig) -> torch.device:
    """Where a run with these settings computes; ValueError if the trainer refuses them."""
    try:
        strategy = _trainer(config, [], [], folder=None).strategy
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error}") from error
    if not isinstance(strategy, SingleDeviceStrategy):
        raise ValueError(
            f"trainer: {type(strategy).__name__} is not supported, a run computes on one device; "
            "leave trainer.strategy out and trainer.devices at 1."
        )
    return strategy.root_device


def _trainer(
    config: DictConfig, loggers: list[Logger], callbacks: list[Callback], folder: Path | None
) -> Trainer:
    return instantiate(
        config.trainer,
        logger=loggers,
        callbacks=callbacks,
        default_root_dir=None if folder is None else str(folder),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=LOG_EVERY,
    )
