"""The parts that a training loss is the sum of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from sciml.gauss_newton import Term, beside
from sciml.norms import TINY
from solvers.grid import Grid


class Part(Protocol):
    """One summand of a loss."""

    def value(self) -> Tensor:
        """A number."""

    def term(self) -> Term:
        """What second-order methods know of it."""


@dataclass(frozen=True)
class Misfit:
    """factor * mean of loss(prediction, target, grid) over samples and fields whose target is not
    zero everywhere: the others have no relative error, and `FieldErrors` leaves them out of the
    test figures too.
    """

    loss: nn.Module
    prediction: Tensor
    target: Tensor
    grid: Grid
    factor: float = 1.0

    def value(self) -> Tensor:
        errors = self.loss(self.prediction, self.target, self.grid)
        defined, count = self._defined()
        return self.factor * ((errors * defined).sum() / count)

    def term(self) -> Term:
        if not hasattr(self.loss, "term"):
            raise ValueError(
                f"{type(self.loss).__name__}: its curvature is not known. Give the loss a method "
                "term(prediction, target, grid) as those of sciml.losses have, or train with "
                "curvature=none."
            )
        defined, count = self._defined()
        term = self.loss.term(self.prediction, self.target, self.grid)
        return term.scaled(beside(self.factor * defined / count, term.residual))

    def _defined(self) -> tuple[Tensor, Tensor]:
        defined = (self.target != 0).flatten(2).any(dim=2)
        return defined, defined.sum().clamp_min(1)


@dataclass(frozen=True)
class Missed:
    """factor * mean over samples and components of the root mean square of root(r), for what r
    [b, c, *space] an equation leaves over; `norm` computes the same number without the root.
    """

    norm: Callable[[Tensor], Tensor]
    root: Callable[[Tensor], Tensor]
    residual: Tensor
    factor: float = 1.0

    def value(self) -> Tensor:
        return self.factor * self.norm(self.residual).mean()

    def term(self) -> Term:
        """The parabola above the root, as of relative losses."""
        residual = self.root(self.residual)
        points = residual[0, 0].numel()
        norm = residual.detach().square().flatten(2).mean(dim=2).clamp_min(TINY).sqrt()
        weight = self.factor / (norm * points * norm.numel())
        return Term(residual, beside(weight, residual))


def total(parts: list[Part]) -> Tensor:
    """The loss."""
    return torch.stack([part.value() for part in parts]).sum()
