"""Errors of the model for what chooses the next simulations."""

from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from datasets.stream import Online
from datasets.stream.stream import Stream


class Feedback(Callback):
    """Tells a stream the loss of every sample of a training batch, [b], before the step.

    They are read where the loss module computes them, [b, c] or [b], between the beginning of a
    batch and its first backward pass: validation, the points that a line search tries and the
    passes that a curvature method makes for itself do not count. Channels whose target is zero
    everywhere do not either, as in the loss; a sample of nothing else is NaN. Several calls for the
    whole batch are averaged.

    Raises ValueError where a batch gives no such errors, for nothing would be learned then.
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

    def on_before_backward(self, trainer: Trainer, task: LightningModule, loss: Tensor) -> None:
        self._listens = False

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._listens = False
        size = len(batch.target)
        found = [errors for errors in self._found if len(errors) == size]
        if not found:
            raise ValueError(
                f"online/sampler: {type(self._stream.intake.sampler).__name__} follows the loss of "
                "each sample, of which the training computed none (task.labels=0 does not); set "
                "online/sampler=as_drawn or sobol."
            )
        self._stream.observe(torch.stack(found).mean(dim=0))

    def _note(self, module: nn.Module, arguments: tuple[Any, ...], errors: Any) -> None:
        if not (self._listens and isinstance(errors, Tensor) and errors.ndim in (1, 2)):
            return
        errors = errors.detach()
        if errors.ndim == 2:
            defined = (arguments[1] != 0).flatten(2).any(dim=2)
            errors = errors.where(defined, torch.nan).nanmean(dim=1)
        self._found.append(errors)


def feedback(data: LightningDataModule) -> list[Feedback]:
    """For streams whose sampler learns."""
    dataset = getattr(data, "dataset", None)
    wanted = isinstance(dataset, Online) and dataset.stream.intake.sampler.learns
    return [Feedback(dataset.stream)] if wanted else []
