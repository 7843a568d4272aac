"""Preconditioners of conjugate directions in the space of parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sciml.curvature.batch_loss import BatchLoss, averaged
from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.parameter_vector import ParameterVector

DECAY = 0.95  # of moving averages
SMALLEST, TINY = 1e-10, 1e-30  # what counts as zero, beside the largest and at all


class Preconditioner(ABC):
    """What turns a residual r of (G + lambda) d = -g into a direction, ideally into
    (G + lambda)^(-1) r.

    `attach` comes first; `failed` is to be called with a name and a reason. Once per step of the
    optimizer `observe` sees the curvature of the batch; then `apply` is asked for directions, and
    `learn` is told what they became: d, made conjugate to the last ones, and (G + lambda) d.
    """

    def attach(
        self, model: nn.Module, layout: ParameterVector, failed: Callable[[str, str], None]
    ) -> None:
        self.model, self.layout, self.failed = model, layout, failed
        self.prepare()

    def prepare(self) -> None:  # noqa: B027
        """Make room, once model and layout are known."""

    @abstractmethod
    def observe(self, loss: BatchLoss, G: GaussNewtonProduct) -> None:
        """Take in the curvature at the present parameters."""

    @abstractmethod
    def apply(self, r: Tensor, damping: float) -> Tensor:
        """A direction [n] for the residual [n]."""

    def learn(self, d: Tensor, Ad: Tensor) -> None:  # noqa: B027
        """Nothing, unless there is something to be learned."""

    def state(self) -> dict:
        return {}

    def load(self, state: dict) -> None:  # noqa: B027
        """The inverse of `state`."""


class Identity(Preconditioner):
    """The residual itself."""

    def observe(self, loss: BatchLoss, G: GaussNewtonProduct) -> None:
        pass

    def apply(self, r: Tensor, damping: float) -> Tensor:
        return r


class Jacobi(Preconditioner):
    """r / (diag G + lambda)^exponent.

    x = J^T (w^1/2 eps) with normal eps has E x_j^2 = G_jj; `draws` of them are made per step, one
    backward pass each, and averaged over time. The exponent 0.75 is that of Martens 2010 (ICML,
    section 4.7), 1 the diagonal itself: noise in it does less harm when it is damped.
    """

    def __init__(self, exponent: float = 0.75, draws: int = 4):
        if not 0 <= exponent <= 1 or draws < 1:
            raise ValueError(f"exponent={exponent} must lie in [0, 1], draws={draws} above 0.")
        self.exponent, self.draws, self.passes = exponent, draws, 0

    def prepare(self) -> None:
        self.diagonal = torch.zeros_like(self.layout.values())

    def observe(self, loss: BatchLoss, G: GaussNewtonProduct) -> None:
        square = averaged(sum(G.draw().square() for _ in range(self.draws)) / self.draws)
        if bool(square.isfinite().all()):
            self.passes += 1
            self.diagonal.lerp_(square, max(1 - DECAY, 1 / self.passes))
        else:
            self.failed("diagonal", "a draw is not finite; the diagonal of before stays")

    def apply(self, r: Tensor, damping: float) -> Tensor:
        return r / damped(self.diagonal, damping) ** self.exponent

    def state(self) -> dict:
        return {"diagonal": self.diagonal, "passes": self.passes}

    def load(self, state: dict) -> None:
        self.diagonal.copy_(state["diagonal"])
        self.passes = state["passes"]


def damped(diagonal: Tensor, damping: float) -> Tensor:
    """diagonal + damping, positive even if damping is zero."""
    return diagonal + max(damping, SMALLEST * float(diagonal.max()), TINY)
