"""Perfectly matched layers: nodes beyond the open sides of a grid, and their complex stretching."""

import math

import torch
from torch import Tensor

from solvers.grid import Axis

_REFLECTION = 1e-8  # R


class AbsorbingLayer:
    """One axis of nodes, `layers` more on each open side, and the stretching s of the coordinate.

        d/dx  ->  (1 / s) d/dx,    s(x) = 1 + (i / k) sigma(x),    sigma = 2 ln(1 / R) t^3 / d^4

    t is the depth in the layer and d its thickness, the spacing times `layers`. Waves exp(i k x)
    that leave the domain, for the time dependence exp(-i omega t), are damped in the layer. Its
    end, where u = 0, sends back R = 1e-8 of a wave that meets it at a right angle, R^cos(angle)
    of others. The difference equations reflect more, and the less the more layers there are:
    about 1e-4 with 8 and 1e-5 with 16 at a right angle and 10 points per wavelength. A quadratic
    profile and the unbounded one of Bermudez et al. (2007) reflected ten times that or more.

    Source: Berenger, J. Comput. Phys. 114 (1994); Collino & Monk, Comput. Methods Appl. Mech. Eng.
    164 (1998), the polynomial profile.
    """

    def __init__(self, axis: Axis, layers: int):
        lower, upper = (layers if side == "open" else 0 for side in axis.boundary)
        self.axis, self.before, self.after = axis, lower, upper
        self.size = axis.size + lower + upper
        position = torch.arange(2 * self.size - 1, dtype=torch.float64) / 2 - lower
        depth = torch.maximum(-position, position - (axis.size - 1)).clamp(min=0) * axis.spacing
        thickness = axis.spacing * layers
        sigma = 2 * math.log(1 / _REFLECTION) * depth**3 / thickness**4
        self._node, self._half = sigma[0::2], sigma[1::2]
        self.source = torch.arange(-lower, axis.size + upper).clamp(0, axis.size - 1)

    @property
    def is_free(self) -> Tensor:
        """Nodes where u is unknown, bool [size]: all but Dirichlet walls and ends of layers."""
        free = torch.ones(self.size, dtype=torch.bool)
        for at, side in zip((0, -1), self.axis.boundary, strict=True):
            free[at] = side == "neumann"
        return free

    def stretching(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """s at the nodes [b, size] and between them [b, size - 1], for wavenumbers k [b, 1]."""
        return tuple(
            torch.complex(torch.ones_like(sigma) + 0 * k, sigma / k)
            for sigma in (self._node.to(k), self._half.to(k))
        )
