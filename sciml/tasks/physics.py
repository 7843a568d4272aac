"""Learning from the equation, with or without solutions of it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.normalize import Normalizer
from datasets.recipe import Recipe
from datasets.schema import Batch, Metadata
from sciml.norms import dual_norm, dual_root, root_mean_square
from sciml.tasks.part import Misfit, Missed, Part
from sciml.tasks.residual import Time, residual_of
from sciml.tasks.task import Task

NORMS = {"l2": lambda r, grid: root_mean_square(r), "h-1": dual_norm}
ROOTS = {"l2": lambda r, grid: r, "h-1": dual_root}  # the root mean square of which is the norm
LARGEST = 0.1  # residual of the true solutions, over that of no change or of zero


class Physics(Task):
    """Minimises labels * loss(u, truth) + weight * mean ||R(a, u)|| [PINO, Li et al. 2021,
    arXiv:2111.03794].

    R is the residual of the discrete equation that the recipe of the data solves, on the grid of
    the data and in physical units: `SteadyResidual` of a map, `EvolutionResidual` between the
    frames of a window, where `time` says how. Its norm, of each sample and component, is

        l2      (mean R^2)^(1/2)
        h-1     (mean R (1 - Lap)^(-1) R)^(1/2)

    The second weighs errors of u alike on all scales that the first leaves to the smallest one,
    where the equation is of second order. `labels=0` learns from the equation alone; two things
    still look at solutions: the normaliser of the targets, which sets the scale of the output, and
    validation, which chooses the weights.

    Solutions of the data must satisfy the equation: the first batch is refused if the residual of
    its truth exceeds a tenth of that of zero, or of no change, as between frames that lie too far
    apart for the trapezoidal rule.
    """

    def __init__(
        self,
        model: nn.Module,
        metadata: Metadata,
        *,
        equation: Recipe | None,
        weight: float,
        labels: float = 1.0,
        norm: Literal["l2", "h-1"] = "h-1",
        time: Time = "trapezoid",
        loss: nn.Module,
        optimizer: Callable[[Iterable[Parameter]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        input_normalizer: Normalizer,
        target_normalizer: Normalizer,
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
        if not (0 < weight < torch.inf and 0 <= labels < torch.inf):
            raise ValueError(
                f"task.weight={weight} must be positive and task.labels={labels} not negative; "
                "without the equation take task=supervised."
            )
        self.residual = residual_of(equation, metadata, time)
        self._checked = False
        self._weight, self._labels, self._norm = weight, labels, norm

    def training_parts(self, batch: Batch) -> list[Part]:
        self._require_solutions(batch)
        u = self(batch.input)
        grid = self.metadata.grid.resized(u.shape[2:])
        r = self.residual(batch.input, u, batch.parameters)
        norm, root = (partial(known[self._norm], grid=grid) for known in (NORMS, ROOTS))
        missed = Missed(norm, root, r, self._weight)
        if not self._labels:
            return [missed]
        return [Misfit(self.loss, u, batch.target, grid, self._labels), missed]

    def training_loss(self, batch: Batch) -> Tensor:
        *labelled, missed = (part.value() for part in self.training_parts(batch))
        self._log("train/physics", missed / self._weight, batch)
        return sum(labelled, missed)

    def missed(self, batch: Batch, u: Tensor) -> Tensor:
        """The norm of R for predictions u, of each sample (and frame) and component."""
        r = self.residual(batch.input, u, batch.parameters)
        return NORMS[self._norm](r, self.metadata.grid.resized(u.shape[2:]))

    def _require_solutions(self, batch: Batch) -> None:
        """ValueError if the truth does not satisfy the equation; once, on the first batch."""
        if self._checked:
            return
        trivial = self.residual.trivial(batch.input, batch.target)
        found, scale = (float(self.missed(batch, u).mean()) for u in (batch.target, trivial))
        if not found <= LARGEST * scale:
            raise ValueError(
                f"{self.metadata.name}: the residual of the true solutions is {found:.2g}, that of "
                f"no change {scale:.2g}: a minimum of it is no solution. Take frames that lie "
                "closer (data.pde.stepper.dt, data.window.stride) or task.time=solver."
            )
        self._checked = True
