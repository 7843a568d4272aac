"""Logs the size of gradients."""

from collections.abc import Iterable

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from sciml.tasks.refined_schedule import NORM


class GradientNorm(Callback):
    """The sum of absolute values of the gradient, before it is clipped, on every step that is
    logged, where the step begins: what `sciml.tasks.RefinedSchedule` makes a schedule of. Complex
    numbers count by their parts.
    """

    def __init__(self):
        self._step: int | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, task: LightningModule, optimizer: Optimizer
    ) -> None:
        again = trainer.global_step == self._step  # a line search
        if again or (trainer.global_step + 1) % trainer.log_every_n_steps:
            return
        self._step = trainer.global_step
        task.log(NORM, gradient_l1(task.parameters()), on_step=True)


def gradient_l1(parameters: Iterable[Parameter]) -> Tensor:
    """Sum of absolute values over all gradients that there are."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
    return torch.stack(torch._foreach_norm(parts, 1)).sum()
