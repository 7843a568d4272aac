"""Preconditioners of conjugate directions in the space of parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.processes import averaged

DECAY = 0.95  # of moving averages
SMALLEST, TINY = 1e-10, 1e-30  # what counts as zero, beside the largest and at all


class Preconditioner(ABC):
    """What turns a residual r of (G + lambda) d = -g into a direction, ideally into
    (G + lambda)^(-1) r.

    `attach` comes first; `failed` is to be called with a name and a reason. Once per step of the
    optimizer `renew` may go through the batch, before the graph of G takes its memory, and
    `observe` sees G; then, in one solve or several, `apply` is asked for directions and `learn`
    told what they became: d, made conjugate to the last ones, and (G + lambda) d. `finish` ends a
    solve.
    """

    def attach(
        self, model: nn.Module, layout: ParameterVector, failed: Callable[[str, str], None]
    ) -> None:
        self.model, self.layout, self.failed = model, layout, failed
        self.prepare()

    def prepare(self) -> None:  # noqa: B027
        """Make room, once model and layout are known."""

    def renew(self, loss: BatchLoss) -> None:  # noqa: B027
        """Nothing, unless a pass of its own is needed."""

    @abstractmethod
    def observe(self, G: GaussNewtonProduct) -> None:
        """Take in the curvature at the present parameters."""

    @abstractmethod
    def apply(self, r: Tensor, damping: float) -> Tensor:
        """A direction [n] for the residual [n]."""

    def learn(self, d: Tensor, Ad: Tensor) -> None:  # noqa: B027
        """Nothing, unless there is something to be learned."""

    def finish(self) -> None:  # noqa: B027
        """Nothing, unless something was learned."""

    def state(self) -> dict:
        return {}

    def load(self, state: dict) -> None:  # noqa: B027
        """The inverse of `state`."""


class Identity(Preconditioner):
    """The residual itself."""

    def observe(self, G: GaussNewtonProduct) -> None:
        pass

    def apply(self, r: Tensor, damping: float) -> Tensor:
        return r


class Diagonalised(Preconditioner):
    """R^T (D + lambda)^(-exponent) R r, D the diagonal of G in an orthonormal basis, R.

    x = J^T (w^1/2 eps) with normal eps has E (R x)_j^2 = D_j; `draws` of them are made per step,
    one backward pass each, and averaged over time.
    """

    def __init__(self, exponent: float, draws: int):
        if not 0 <= exponent <= 1 or draws < 1:
            raise ValueError(
                f"exponent={exponent} must lie in [0, 1], and draws={draws} be at least 1."
            )
        self.exponent, self.draws, self.count = exponent, draws, 0

    @abstractmethod
    def rotate(self, v: Tensor) -> Tensor:
        """R v."""

    @abstractmethod
    def rotate_back(self, v: Tensor) -> Tensor:
        """R^T v."""

    def prepare(self) -> None:
        self.diagonal = torch.zeros_like(self.layout.values())

    def observe(self, G: GaussNewtonProduct) -> None:
        square = sum(self.rotate(G.draw()).square() for _ in range(self.draws)) / self.draws
        if bool(averaged(square).isfinite().all()):
            self.count += 1
            self.diagonal.lerp_(square, max(1 - DECAY, 1 / self.count))
        else:
            self.failed("diagonal", "a draw is not finite; the diagonal of before stays")

    def apply(self, r: Tensor, damping: float) -> Tensor:
        return self.rotate_back(self.rotate(r) * self.scale(damping))

    def scale(self, damping: float) -> Tensor:
        """(D + lambda)^(-exponent)."""
        return self.damped(damping) ** -self.exponent

    def damped(self, damping: float) -> Tensor:
        """D + lambda."""
        return self.diagonal + self.least(damping)

    def least(self, damping: float) -> float:
        """lambda, or a positive number if that is zero."""
        return max(damping, SMALLEST * float(self.diagonal.max()), TINY)

    def state(self) -> dict:
        return {"diagonal": self.diagonal, "count": self.count}

    def load(self, state: dict) -> None:
        self.diagonal.copy_(state["diagonal"])
        self.count = state["count"]


class Jacobi(Diagonalised):
    """r / (diag G + lambda)^exponent.

    The exponent 0.75 is that of Martens 2010 (ICML, section 4.7), 1 the diagonal itself: its noise
    and what it leaves out do less harm when it is damped.
    """

    def __init__(self, exponent: float = 0.75, draws: int = 4):
        super().__init__(exponent, draws)

    def rotate(self, v: Tensor) -> Tensor:
        return v

    def rotate_back(self, v: Tensor) -> Tensor:
        return v
