"""Supervised learning of a map between fields."""

from collections.abc import Callable, Iterable
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.normalize import Normalizer
from datasets.schema import Batch, Metadata
from sciml.losses import RelativeL2
from sciml.tasks.schedule import total_steps
from sciml.tasks.symmetry import SquareSymmetry


class Supervised(LightningModule):
    """Fits u = model(a) to pairs (a, u) by minimising the mean of `loss` over samples and fields.

    The model sees normalised inputs and its output is brought back to physical units before the
    loss, so losses and metrics are those of the fields themselves:

        u(a) = D( model( N(a) ) ),    N(a) = (a - mean_a) / std_a,    D(v) = std_u v + mean_u

    with one mean and standard deviation per channel from the training data, saved with the
    weights. Calling the task maps a [b, c_in, *space] to u [b, c_out, *space] at any resolution
    the model takes. Validation logs `val/loss` and `val/relative_l2`; `optimizer` is a factory
    called with the parameters, `schedule` one called with (optimizer, number of steps).
    `symmetry` maps training batches by symmetries that the problem has.
    """

    def __init__(
        self,
        model: nn.Module,
        metadata: Metadata,
        *,
        loss: nn.Module,
        optimizer: Callable[[Iterable[Parameter]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        input_normalizer: Normalizer,
        target_normalizer: Normalizer,
        symmetry: SquareSymmetry | None = None,
    ):
        super().__init__()
        self.model, self.metadata = model, metadata
        self.loss, self.metric = loss, RelativeL2()
        self.input_normalizer, self.target_normalizer = input_normalizer, target_normalizer
        self._optimizer, self._schedule, self._symmetry = optimizer, schedule, symmetry
        if symmetry is not None:
            symmetry.check(metadata)

    def forward(self, a: Tensor) -> Tensor:
        return self.target_normalizer.inverse(self.model(self.input_normalizer(a)))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        if self._symmetry is not None:
            batch = self._symmetry(batch)
        errors = self.loss(self(batch.input), batch.target, self._grid(batch))
        loss = _mean(errors, batch.target)
        self._log("train/loss", loss, batch, on_step=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        prediction, grid = self(batch.input), self._grid(batch)
        errors = self.loss(prediction, batch.target, grid)
        self._log("val/loss", _mean(errors, batch.target), batch)
        error = _mean(self.metric(prediction, batch.target, grid), batch.target)
        self._log("val/relative_l2", error, batch, prog_bar=True)

    def configure_optimizers(self):
        optimizer = self._optimizer(self.parameters())
        schedule = self._schedule(optimizer, total_steps(self.trainer))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A schedule has one length; going on for another would end in an error or climb again."""
        steps = total_steps(self.trainer)
        for state in checkpoint["lr_schedulers"]:
            planned = state.get("total_steps", state.get("T_max", steps))
            if planned != steps:
                raise ValueError(
                    f"the learning-rate schedule of the checkpoint spans {planned} steps, this run "
                    f"{steps}; go on with the same data, batch_size and trainer settings."
                )

    def _grid(self, batch: Batch):
        return self.metadata.grid.resized(batch.target.shape[2:])

    def _log(self, name: str, value: Tensor, batch: Batch, *, on_step=False, prog_bar=False):
        self.log(
            name,
            value.detach(),
            on_step=on_step,
            on_epoch=True,
            prog_bar=prog_bar or on_step,
            batch_size=len(batch.input),
            sync_dist=True,
        )


def _mean(errors: Tensor, target: Tensor) -> Tensor:
    """Mean of errors [b, c] over the entries whose target [b, c, *space] is not zero everywhere:
    the others have no relative error, and `FieldErrors` leaves them out of the test figures too.
    """
    defined = (target != 0).flatten(2).any(dim=2)
    return (errors * defined).sum() / defined.sum().clamp_min(1)
