"""What a loss tells second-order methods about itself."""

from typing import NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """A part of a loss as seen from a residual r(theta) that it is a convex function of.

        G = J^T diag(weight) J,    J = dr / dtheta

    is its generalised Gauss-Newton matrix [Schraudolph 2002, Neural Computation 14, eq. 14], or
    that of a quadratic function that touches the loss at r and lies above it. `residual` [b, ...]
    carries a graph; `weight`, not negative, has a shape that expands to it, and carries none.
    """

    residual: Tensor
    weight: Tensor

    def scaled(self, factor: float | Tensor) -> "Term":
        """The same part of a loss, `factor` times it."""
        return Term(self.residual, self.weight * factor)


class Expansion(NamedTuple):
    """A loss near the present parameters: its `value`, a scalar with a graph, and its terms."""

    value: Tensor
    terms: list[Term]


def beside(factor: Tensor, residual: Tensor) -> Tensor:
    """`factor` [b, c] with as many axes as `residual` [b, c, ...]."""
    return factor.detach().reshape(*factor.shape, *[1] * (residual.ndim - factor.ndim))
