"""What all tasks share: a model in physical units, optimisation, validation."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.normalize import Normalizer
from datasets.schema import Batch, Metadata, Source
from sciml.gauss_newton import Expansion
from sciml.losses import RelativeL2
from sciml.tasks.part import Misfit, Part, total
from sciml.tasks.schedule import total_steps


class Task(LightningModule):
    """A model that is trained: calling it maps a [b, c_in, *space] to u [b, c_out, *space].

    The model sees normalised inputs and its output is brought back to physical units before the
    loss, so losses and metrics are those of the fields themselves:

        D( model( N(a) ) ),    N(a) = (a - mean_a) / std_a,    D(v) = std_u v + mean_u

    with one mean and standard deviation per channel, saved with the weights. Model and normalisers
    are made for `pairs` of the training data; `metadata` are those of the data. `bundle` frames
    come from one `step` where the data are windows of solutions over time: all of them, in one
    call, unless a task says otherwise.

    Validation logs `val/loss` and `val/relative_l2`; `optimizer` is a factory called with the
    parameters, `schedule` one called with (optimizer, number of steps). An optimizer with a method
    `attach` is given the model and `expansion`, from which it learns the curvature of the loss.
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
    ):
        super().__init__()
        self.model, self.metadata, self.bundle = model, metadata, metadata.frames.horizon
        self.loss, self.metric = loss, RelativeL2()
        self.input_normalizer, self.target_normalizer = input_normalizer, target_normalizer
        self._optimizer, self._schedule = optimizer, schedule
        self._batch: Batch | None = None  # the last one that was trained on
        self._logged: tuple[int, int] | None = None  # its epoch and number

    @classmethod
    def pairs(cls, source: Source, settings: Mapping[str, Any]) -> Source:
        """What one application of the model is fitted to, of the data in `source`, by the settings
        of the task.
        """
        return source

    def step(self, a: Tensor) -> Tensor:
        """One application of the model, in physical units."""
        return self.in_units(a)

    def forward(self, a: Tensor) -> Tensor:
        return self.step(a)

    @abstractmethod
    def training_parts(self, batch: Batch) -> list[Part]:
        """What the loss is the sum of."""

    def training_loss(self, batch: Batch) -> Tensor:
        """The number whose gradient is descended."""
        return total(self.training_parts(batch))

    def in_units(self, a: Tensor) -> Tensor:
        """D( model( N(a) ) )."""
        return self.target_normalizer.inverse(self.model(self.input_normalizer(a)))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        self._batch = batch
        loss = self.training_loss(batch)
        now = self.current_epoch, batch_index
        if now != self._logged:  # a line search evaluates the batch again, where it may not stay
            self._logged = now
            self._log("train/loss", loss, batch, on_step=True)
        return loss

    def expansion(self, samples: int | None = None, *, terms: bool = True) -> Expansion:
        """The loss on the first `samples` samples, or all, of the last training batch; without
        `terms` its value alone, which any loss has.
        """
        if self._batch is None:
            raise ValueError("no batch has been trained on yet, so the loss has no curvature.")
        batch = self._batch if samples is None else _first(self._batch, samples)
        return self.expand(batch) if terms else Expansion(self.training_loss(batch), [])

    def expand(self, batch: Batch) -> Expansion:
        """The loss on a batch."""
        parts = self.training_parts(batch)
        return Expansion(total(parts), [part.term() for part in parts])

    def on_train_end(self) -> None:
        self._batch = None

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        prediction = self(batch.input)
        self._log("val/loss", self.mean_loss(prediction, batch.target), batch)
        error = self._misfit(self.metric, prediction, batch.target).value()
        self._log("val/relative_l2", error, batch, prog_bar=True)

    def misfit(self, prediction: Tensor, target: Tensor) -> Misfit:
        """The mean of `loss` over samples and channels."""
        return self._misfit(self.loss, prediction, target)

    def mean_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.misfit(prediction, target).value()

    def make_optimizer(self) -> Optimizer:
        """One that knows the model and its loss, if it asks for them."""
        optimizer = self._optimizer(self.parameters())
        if hasattr(optimizer, "attach"):
            terms = getattr(optimizer, "needs_terms", True)
            optimizer.attach(self.model, partial(self.expansion, terms=terms))
        return optimizer

    def configure_optimizers(self):
        optimizer = self.make_optimizer()
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

    def _misfit(self, measure: nn.Module, prediction: Tensor, target: Tensor) -> Misfit:
        return Misfit(measure, prediction, target, self.metadata.grid.resized(target.shape[2:]))

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


def _first(batch: Batch, samples: int) -> Batch:
    *parts, coordinates = batch
    return Batch(*(part[:samples] for part in parts), coordinates)
