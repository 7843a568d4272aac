"""Errors of the model for what chooses the next simulations."""

from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from datasets.stream import Online
from datasets.stream.stream import Stream


class Feedback(Callback):
    """Tells a stream the loss of every sample of a training batch.

    They are read where the loss module computes them, within training steps alone; where it is
    called several times in a step, as by a roll-out or a line search, their mean over these calls.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._found: list[Tensor] = []
        self._listens = False

    def on_fit_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._handle = task.loss.register_forward_hook(self._note)

    def on_fit_end(self, trainer: Trainer, task: LightningModule) -> None:
        self._handle.remove()

    def on_train_batch_start(
        self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._found, self._listens = [], True

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._listens = False
        size = len(batch.target)
        found = [errors for errors in self._found if len(errors) == size]
        if found:
            self._stream.observe(torch.stack(found).mean(dim=0))

    def _note(self, module: nn.Module, arguments: Any, errors: Any) -> None:
        if self._listens and isinstance(errors, Tensor) and errors.ndim:
            self._found.append(errors.detach().flatten(1).mean(dim=1))


def feedback(data: LightningDataModule) -> list[Feedback]:
    """For streams whose sampler learns."""
    dataset = getattr(data, "dataset", None)
    wanted = isinstance(dataset, Online) and dataset.stream.intake.sampler.learns
    return [Feedback(dataset.stream)] if wanted else []
