"""Stops a run before a NaN reaches the weights."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from sciml.curvature.finite import NonFiniteError


class FiniteGuard(Callback):
    """Raises `NonFiniteError` before an optimizer step whose loss or gradients are not all finite.

    Without it Lightning goes on to the last step and saves weights that are NaN; with it the
    weights of the step before stay, and so do the checkpoints written until then. A loss may be NaN
    where gradients are not: that of a sample whose norm overflows.
    """

    def on_before_backward(self, trainer: Trainer, task: LightningModule, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            self._stop(trainer, "the loss", str(float(loss)))

    def on_before_optimizer_step(
        self, trainer: Trainer, task: LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in task.parameters() if p.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            return
        names = [
            n
            for n, p in task.named_parameters()
            if p.grad is not None and not p.grad.isfinite().all()
        ]
        where = f"{len(names)} tensors, first {names[0]}" if names else "its norm overflows"
        loss = trainer.callback_metrics.get("train/loss_step", torch.nan)
        self._stop(trainer, "the gradient", f"{where}; loss {float(loss):.4g}")

    def _stop(self, trainer: Trainer, what: str, found: str) -> None:
        raise NonFiniteError(
            f"{what} is not finite at step {trainer.global_step} (epoch "
            f"{trainer.current_epoch + 1}): {found}. "
            "The weights are those of the step before. Lower optimizer.lr, set "
            "trainer.gradient_clip_val, or look for extreme values in the data."
        )
