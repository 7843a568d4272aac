"""Chebyshev points of an interval: derivatives, integrals and values anywhere, of polynomials."""

import math

import torch
from torch import Tensor


class Chebyshev:
    """The `size` Chebyshev-Gauss-Lobatto points of [lower, upper], both ends among them, ascending.

        x_j = (lower + upper) / 2 - (upper - lower) / 2 cos(pi j / (size - 1))

    A field on the points is the polynomial of degree size - 1 through its values. What is smooth
    is so represented with exponentially small error, from about pi points per wavelength on.
    Matrices are float64; a product with a field of less precision wants them cast.

    Source: Trefethen, Spectral Methods in MATLAB (2000), chapters 6 and 12; differences of points
    by sines, and diagonals that make rows sum to zero, as in Weideman & Reddy, ACM Trans. Math.
    Softw. 26 (2000).
    """

    def __init__(self, size: int, lower: float = -1.0, upper: float = 1.0):
        if size < 3:
            raise ValueError(f"size={size} must be 3 or more points.")
        if not lower < upper:
            raise ValueError(f"lower={lower} must be below upper={upper}.")
        self.size, self.lower, self.upper = size, lower, upper
        self._half = (upper - lower) / 2
        index = torch.arange(size, dtype=torch.float64)
        # sin about zero keeps the points symmetric to the last bit.
        unit = torch.sin(math.pi / 2 * (2 * index - (size - 1)) / (size - 1))
        self.points = (lower + upper) / 2 + self._half * unit
        self._signs = 1 - 2 * (index % 2)
        self._signs[[0, -1]] *= 0.5

    @property
    def weights(self) -> Tensor:
        """Of Clenshaw and Curtis: their sum over a field is its integral, float64 [size]."""
        n = self.size - 1
        index = torch.arange(self.size, dtype=torch.float64)
        k = torch.arange(1, n // 2 + 1, dtype=torch.float64)
        amplitude = torch.where(2 * k == n, 1.0, 2.0) / (4 * k.square() - 1)
        sums = torch.cos(2 * math.pi / n * (index[:, None] * k % n)) @ amplitude
        weights = 2 / n * (1 - sums)
        weights[[0, -1]] *= 0.5
        return self._half * weights

    def derivative(self, order: int = 1) -> Tensor:
        """The matrix of d/dx or d^2/dx^2 on values at the points, float64 [size, size]."""
        if order not in (1, 2):
            raise ValueError(f"order={order} must be 1 or 2.")
        index = torch.arange(self.size)
        gap = 2 * self._sine(index[:, None] + index) * self._sine(index[:, None] - index)
        gap.fill_diagonal_(1.0)
        first = self._signs / self._signs[:, None] / gap
        first = _zero_row_sums(first)
        if order == 1:
            return first / self._half
        second = 2 * first * (first.diagonal()[:, None] - 1 / gap)
        return _zero_row_sums(second) / self._half**2

    def interpolation(self, x: Tensor) -> Tensor:
        """The matrix [m, size] that gives the polynomial at x [m]; x outside is refused.

        The barycentric formula [Berrut & Trefethen, SIAM Review 46 (2004), eq. 4.2].
        """
        x = x.to(torch.float64)
        if ((x < self.lower) | (x > self.upper)).any():
            raise ValueError(
                f"x must lie in [{self.lower:g}, {self.upper:g}], where the polynomial is, got "
                f"values from {float(x.min()):g} to {float(x.max()):g}."
            )
        points, signs = self.points.to(x.device), self._signs.to(x.device)
        gap = x[:, None] - points
        hit = gap == 0
        share = signs / torch.where(hit, 1.0, gap)
        share = share / share.sum(dim=1, keepdim=True)
        return torch.where(hit.any(dim=1, keepdim=True), hit.double(), share)

    def _sine(self, m: Tensor) -> Tensor:
        """sin(pi m / 2n), |m| <= 2n, accurate next to pi as well."""
        n = self.size - 1
        m = torch.where(m > n, 2 * n - m, m).double()
        return torch.sin(math.pi / 2 / n * m)


def _zero_row_sums(matrix: Tensor) -> Tensor:
    """The diagonal that makes the derivative of a constant vanish."""
    matrix.fill_diagonal_(0.0)
    # Small terms first: the sum loses the least.
    total = matrix.gather(1, matrix.abs().argsort(dim=1)).sum(dim=1)
    matrix.diagonal().copy_(-total)
    return matrix
