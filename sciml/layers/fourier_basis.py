"""Truncated Fourier transform of real fields by matrix products, on any grid size, odd or even."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Grid


def _trigonometric(k: Tensor, n: int, period: float, points: str) -> tuple[Tensor, Tensor, float]:
    """cos and sin of 2 pi k s[j], stacked [2, k, n], the quadrature weights [n] and N (see
    below).
    """
    intervals = n - 1 if points == "nodes" else n
    samples = intervals * period
    angle = 2 * math.pi * torch.outer(k, torch.arange(n, dtype=torch.float64)) / samples
    weight = torch.full((n,), 1 / samples, dtype=torch.float64)
    if points == "nodes":
        weight[0] = weight[-1] = 0.5 / samples  # trapezoidal rule
    return torch.stack((angle.cos(), angle.sin())), weight, samples


class FourierBasis:
    """The lowest Fourier modes of real fields on one grid: `analyse` finds them, `synthesise`
    sums them.

        X[k] = 1/N sum_j x[j] exp(-2 pi i k.s[j]),    x[j] = Re sum_k w[k] X[k] exp(2 pi i k.s[j])

    with s[j] = j / N per axis and N = period * (number of intervals), which is n for points
    `cells` and `left` and n - 1 for `nodes`. Kept are the modes 0 .. m-1, -1 .. -m (in this
    order) of every axis but the last and 0 .. m of the last: 2m x (m + 1) complex numbers in two
    dimensions. w is 1 for mode 0 and the Nyquist mode of the last axis and 2 otherwise, so that x
    is the field whose full spectrum is Hermitian.

    `period` > 1 continues the field by zero beyond the axis: its period is that many axis lengths.
    Nothing is padded, since zeros add nothing to the sum and no value outside is asked for, and
    the continuation has the same physical length on every grid.

    Modes that the grid does not hold (2 |k| > N) are zero, so an operator learnt on a fine grid
    acts on a coarser one as on a band-limited function. The products run over real matrices [2(m
    + 1), n] axis by axis; sums and differences of the small result give the complex modes. They
    take O(n m) operations per line and beat a full FFT up to about m = 30.

    Fields are real with the points first, [*space, *rest]; spectra are complex, [*modes, *rest].
    """

    def __init__(self, grid: Grid, modes: Sequence[int], period: Sequence[float], like: Tensor):
        self.shape, self.modes = grid.shape, tuple(modes)
        self._analysis, self._synthesis = [], []
        for axis, m, p in zip(grid.axes, self.modes, period, strict=True):
            last = axis is grid.axes[-1]
            k = torch.arange(m + 1, dtype=torch.float64)
            waves, weight, samples = _trigonometric(k, axis.size, p, axis.points)
            waves = waves * (2 * k <= samples)[:, None]
            nyquist = 2 * k == samples
            if last:  # modes -k are the conjugates of k
                multiplicity = torch.where((k == 0) | nyquist, 1.0, 2.0)
            else:  # k and -k are one mode at the Nyquist frequency; -m alone is kept there
                multiplicity = torch.where(nyquist & (k < m), 0.5, 1.0)
            matrices = waves * weight, waves * multiplicity[:, None]
            for matrix, store in zip(matrices, (self._analysis, self._synthesis), strict=True):
                store.append(matrix.reshape(2 * (m + 1), axis.size).to(like.device, like.dtype))

    def analyse(self, x: Tensor) -> Tensor:
        """Spectrum [*modes, *rest] of a field x [*space, *rest]."""
        rest = x.shape[len(self.shape) :]
        done = 1
        for matrix in self._analysis:
            x = torch.matmul(matrix, x.reshape(done, matrix.shape[1], -1))
            done *= matrix.shape[0]
        parts = [size for m in self.modes for size in (2, m + 1)]
        x = x.reshape(*parts, *rest)  # cos and sin parts of every axis
        axis = 2 * (len(self.modes) - 1)
        cosine, sine = x.unbind(axis)
        z = torch.complex(cosine, -sine)
        for m in reversed(self.modes[:-1]):
            axis -= 2
            cosine, sine = z.unbind(axis)
            sine = 1j * sine
            low, high = cosine - sine, cosine + sine
            z = torch.cat((low.narrow(axis, 0, m), high.narrow(axis, 1, m)), dim=axis)
        return z

    def synthesise(self, z: Tensor) -> Tensor:
        """Field [*space, *rest] with the spectrum z [*modes, *rest]."""
        rest = z.shape[len(self.shape) :]
        for axis, m in enumerate(self.modes[:-1]):
            axis *= 2
            low, high = z.split(m, dim=axis)
            edge = torch.zeros_like(low.narrow(axis, 0, 1))
            low, high = torch.cat((low, edge), dim=axis), torch.cat((edge, high), dim=axis)
            z = torch.stack((low + high, 1j * (low - high)), dim=axis)
        x = torch.stack((z.real, -z.imag), dim=2 * (len(self.modes) - 1))
        todo = [matrix.shape[0] for matrix in self._synthesis]
        tail = 1
        for matrix in reversed(self._synthesis):
            todo.pop()
            x = torch.matmul(matrix.T, x.reshape(math.prod(todo), matrix.shape[0], -1))
            tail *= matrix.shape[1]
        return x.reshape(*self.shape, *rest)
