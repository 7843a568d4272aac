"""The linear system of a Gauss-Newton step."""

from typing import NamedTuple

import torch
from torch import Tensor

from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.preconditioner import Preconditioner
from sciml.curvature.processes import averaged
from solvers import REASONS, conjugate_gradients


class Limits(NamedTuple):
    """Where conjugate directions end; see `solvers.conjugate_gradients`."""

    tolerance: float
    max_iterations: int
    progress: float | None


class Solution(NamedTuple):
    """d [n], why the iteration ended, and after how many."""

    d: Tensor
    reason: str
    iterations: int


class NewtonSystem:
    """(G + lambda) d = -g, G the mean over the processes of `torch.distributed`."""

    def __init__(
        self, G: GaussNewtonProduct, g: Tensor, preconditioner: Preconditioner, limits: Limits
    ):
        self.G, self.g, self.preconditioner, self.limits = G, g, preconditioner, limits

    def product(self, d: Tensor) -> Tensor:
        """G d."""
        return averaged(self.G(d))

    def predicted(self, slope: Tensor, d: Tensor) -> float:
        """What the quadratic model with that slope loses on the way to d."""
        return -float(torch.dot(slope, d) + torch.dot(d, self.product(d)) / 2)

    def solve(self, damping: float, start: Tensor) -> Solution:
        """Flexible conjugate directions with two stored, from `start` if that points downhill."""
        M = self.preconditioner

        def A(v: Tensor) -> Tensor:
            Av = self.product(v[0]) + damping * v[0]
            M.learn(v[0], Av)
            return Av[None]

        d, info = conjugate_gradients(
            A,
            -self.g[None],
            lambda r: M.apply(r[0], damping)[None],
            x0=start[None] if torch.dot(start, self.g) < 0 else None,
            num_directions=2,
            **self.limits._asdict(),
        )
        M.finish()
        return Solution(d[0], REASONS[int(info.reason)], int(info.iterations))
