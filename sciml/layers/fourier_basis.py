"""Truncated Fourier transform of real fields on any grid size, odd or even."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.layers.trigonometric import WaveFFT, WaveMatrix
from solvers.grid import Axis, Grid

LARGEST_PRODUCT = 64  # modes up to which matrix products are as fast as FFTs, measured


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
    The continuation has the same physical length on every grid.

    Modes that the grid does not hold (2 |k| > N) are zero, so an operator learnt on a fine grid
    acts on a coarser one as on a band-limited function.

    Axis by axis, a real field is multiplied with 2 (m + 1) cosines and sines; sums and differences
    of the small result give the complex modes. The products are matrix products up to
    m = `LARGEST_PRODUCT`, where they beat an FFT, and wherever N is no integer; FFTs otherwise.

    Fields are real with the points first, [*space, *rest]; spectra are complex, [*modes, *rest].
    """

    def __init__(self, grid: Grid, modes: Sequence[int], period: Sequence[float], like: Tensor):
        self.shape, self.modes = grid.shape, tuple(modes)
        pairs = [
            _waves(axis, m, p, like, last=axis is grid.axes[-1])
            for axis, m, p in zip(grid.axes, self.modes, period, strict=True)
        ]
        self._analysis, self._synthesis = zip(*pairs, strict=True)

    @property
    def adjoint(self) -> "FourierBasis":
        """Its `analyse` is the adjoint of `synthesise`, its `synthesise` that of `analyse`, in the
        real inner product: what they do to gradients.
        """
        other = object.__new__(FourierBasis)
        other.shape, other.modes = self.shape, self.modes
        other._analysis, other._synthesis = self._synthesis, self._analysis
        return other

    def analyse(self, x: Tensor) -> Tensor:
        """Spectrum [*modes, *rest] of a field x [*space, *rest]."""
        rest, axes = x.shape[len(self.shape) :], range(len(self.shape))
        for axis in reversed(axes):  # the last first: small matrices that stay in the cache
            lines = x.reshape(math.prod(self.shape[:axis]), self.shape[axis], -1)
            x = self._analysis[axis].sums(lines)
        parts = [size for m in self.modes for size in (2, m + 1)]
        x = x.reshape(*parts, *rest)  # sums with the two kinds of waves, axis by axis
        re, im = x.unbind(2 * (len(self.modes) - 1))  # e^(-ia) = cos a - i sin a on the last axis
        for axis in reversed(range(len(self.modes) - 1)):
            m, dim = self.modes[axis], 2 * axis
            (c, s), (d, t) = re.unbind(dim), im.unbind(dim)  # C = c + i d, S = s + i t
            low = [part.narrow(dim, 0, m) for part in (c, s, d, t)]
            high = [part.narrow(dim, 1, m) for part in (c, s, d, t)]
            re = torch.cat((low[0] + low[3], high[0] - high[3]), dim)  # C - i S and C + i S
            im = torch.cat((low[2] - low[1], high[2] + high[1]), dim)
        return torch.view_as_complex(torch.stack((re, im), dim=-1))

    def synthesise(self, z: Tensor) -> Tensor:
        """Field [*space, *rest] with the spectrum z [*modes, *rest]."""
        rest = z.shape[len(self.shape) :]
        return self._synthesis[-1].field(self._partial(z)).reshape(*self.shape, *rest)

    def add_synthesis(self, x: Tensor, z: Tensor) -> None:
        """x += synthesise(z), in place; x is contiguous."""
        y = self._partial(z)
        self._synthesis[-1].add_field(x.view(len(y), self.shape[-1], -1), y)

    def _partial(self, z: Tensor) -> Tensor:
        """All of the synthesis but its last step, along the last axis."""
        x = torch.view_as_real(z.resolve_conj()).movedim(-1, 0)  # real and imaginary parts
        for axis, m in enumerate(self.modes[:-1]):
            dim = 2 * axis + 1
            low, high = x.split(m, dim)
            ends = low.narrow(dim, 0, 1), high.narrow(dim, m - 1, 1)  # 0 and -m stand alone
            low, high = low.narrow(dim, 1, m - 1), high.narrow(dim, 0, m - 1)
            cosine = torch.cat((ends[0], low + high, ends[1]), dim)
            re, im = torch.cat((ends[0], low - high, -ends[1]), dim)
            x = torch.stack((cosine, torch.stack((-im, re))), dim)  # of i (low - high)
        x = x.movedim(0, 2 * (len(self.modes) - 1))
        done = 1
        for waves, n, m in zip(self._synthesis, self.shape, self.modes, strict=True):
            x = x.reshape(done, 2 * (m + 1), -1)
            if waves is not self._synthesis[-1]:
                x, done = waves.field(x), done * n
        return x


def _waves(
    axis: Axis, m: int, period: float, like: Tensor, *, last: bool
) -> tuple[WaveMatrix | WaveFFT, WaveMatrix | WaveFFT]:
    """Analysis and synthesis along one axis."""
    intervals = axis.size - 1 if axis.points == "nodes" else axis.size
    samples = intervals * period
    points = torch.full((axis.size,), 1 / samples, dtype=torch.float64)
    if axis.points == "nodes":
        points[0] = points[-1] = 0.5 / samples  # trapezoidal rule
    k = torch.arange(m + 1, dtype=torch.float64)
    nyquist = 2 * k == samples
    if last:  # modes -k are the conjugates of k
        count = torch.where((k == 0) | nyquist, 1.0, 2.0).double()
    else:  # k and -k are one mode at the Nyquist frequency; -m alone is kept there
        count = torch.where(nyquist & (k < m), 0.5, 1.0).double()
    one = torch.ones_like
    whole, sine = round(samples), -1.0 if last else 1.0
    if m > LARGEST_PRODUCT and abs(samples - whole) < 1e-9 * samples and whole >= axis.size:
        return (
            WaveFFT(one(k), points, whole, like, sine),
            WaveFFT(count, one(points), whole, like, sine),
        )
    return (
        WaveMatrix(one(k), points, samples, like, sine),
        WaveMatrix(count, one(points), samples, like, sine),
    )
