"""Supervised learning of a map between fields."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.normalize import Normalizer
from datasets.schema import Batch, Metadata
from sciml.tasks.odd_reflection import OddReflection
from sciml.tasks.part import Part
from sciml.tasks.symmetry import SquareSymmetry
from sciml.tasks.task import Task


class Supervised(Task):
    """Fits u = model(a) to pairs (a, u) by minimising the mean of `loss` over samples and fields.

    The task can be called at any resolution that the model takes. All frames of a window come
    from one call. `symmetry` maps training batches by symmetries that the problem has.
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
        symmetry: SquareSymmetry | OddReflection | None = None,
    ):
        super().__init__(
            model,
            metadata,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
            input_normalizer=input_normalizer,
            target_normalizer=target_normalizer,
        )
        self._symmetry = symmetry
        if symmetry is not None:
            symmetry.check(metadata)

    def training_parts(self, batch: Batch) -> list[Part]:
        if self._symmetry is not None:
            batch = self._symmetry(batch)
        return [self.misfit(self(batch.input), batch.target)]
