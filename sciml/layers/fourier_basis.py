"""Truncated Fourier transform of real fields on any grid size, odd or even."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sciml.layers.fusion import chunks
from sciml.layers.trigonometric import ModeFFT, WaveFFT, WaveMatrix
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

    Axis by axis, the last one first, where the field is real and 2 (m + 1) cosines and sines give
    its modes, the field is multiplied with a matrix of waves as long as m <= `LARGEST_PRODUCT`,
    where that beats an FFT, and wherever N is no integer; an FFT takes over otherwise. Real and
    imaginary parts lie apart until the end: nothing but the result is complex.

    Fields are real with the points first, [*space, *rest]; spectra are complex, [*modes, *rest].
    """

    def __init__(self, grid: Grid, modes: Sequence[int], period: Sequence[float], like: Tensor):
        self.shape, self.modes = grid.shape, tuple(modes)
        self.samples = tuple(  # points in a period
            (axis.size - 1 if axis.points == "nodes" else axis.size) * p
            for axis, p in zip(grid.axes, period, strict=True)
        )
        pairs = [
            _waves(axis, m, samples, like, last=axis is grid.axes[-1])
            for axis, m, samples in zip(grid.axes, self.modes, self.samples, strict=True)
        ]
        self._analysis, self._synthesis = zip(*pairs, strict=True)

    @property
    def paired(self) -> Tensor:
        """Which modes have their conjugate -k among the kept ones, or are real fields themselves
        (k = 0 and the Nyquist mode of every axis): [*modes], true only where k of the last axis is
        0 or its Nyquist mode. The weights of such a pair act on one and the same wave.
        """
        paired = torch.ones((), dtype=torch.bool)
        for i, (m, samples) in enumerate(zip(self.modes, self.samples, strict=True)):
            k = torch.arange(m + 1)
            nyquist = 2 * k == samples
            if i == len(self.modes) - 1:
                own = (k == 0) | nyquist
            else:  # 0 .. m-1, -1 .. -m: m itself is not kept
                own = torch.cat((k[:-1] < m, (k[1:] < m) | nyquist[1:]))
            paired = paired[..., None] & own
        return paired

    @property
    def adjoint(self) -> "FourierBasis":
        """Its `analyse` is the adjoint of `synthesise`, its `synthesise` that of `analyse`, in the
        real inner product: what they do to gradients.
        """
        other = object.__new__(FourierBasis)
        other.shape, other.modes, other.samples = self.shape, self.modes, self.samples
        other._analysis, other._synthesis = self._synthesis, self._analysis
        return other

    def analyse(self, x: Tensor) -> Tensor:
        """Spectrum [*modes, *rest] of a field x [*space, *rest]."""
        lines = x.reshape(math.prod(self.shape[:-1]), self.shape[-1], -1)
        return self.spectrum(self._analysis[-1].sums(lines), x.shape[len(self.shape) :])

    def spectrum(self, lines: Tensor, rest: Sequence[int]) -> Tensor:
        """The rest of the analysis after its first step, which is along the last axis."""
        x = lines  # [*space, (2, m + 1), *rest] with real and imaginary parts
        for axis in reversed(range(len(self.shape) - 1)):
            x = x.reshape(math.prod(self.shape[:axis]), 2 * self.shape[axis], -1)
            x = self._analysis[axis].sums(x)
        sizes = (*(2 * m for m in self.modes[:-1]), self.modes[-1] + 1)
        re, im = x.reshape(2, *sizes, *rest)
        return torch.complex(re, im)

    def synthesise(self, z: Tensor) -> Tensor:
        """Field [*space, *rest] with the spectrum z [*modes, *rest]."""
        rest = z.shape[len(self.shape) :]
        return self._synthesis[-1].field(self.lines(z)).reshape(*self.shape, *rest)

    def lines(self, z: Tensor) -> Tensor:
        """All of the synthesis but its last step, along the last axis."""
        x = torch.view_as_real(z.resolve_conj()).movedim(-1, 0)  # real and imaginary parts
        done = 1
        for waves, n, m in zip(self._synthesis, self.shape, self.modes[:-1], strict=False):
            x, done = waves.field(x.reshape(done, 4 * m, -1)), done * n
        return x.reshape(done, 2 * (self.modes[-1] + 1), -1)

    def parts(self, numbers: int) -> Iterator[slice]:
        """Slices of the first axis, along which a field of so many numbers is cut for `add_part`
        and `add_sums`. An FFT needs whole lines.
        """
        n = self.shape[0]
        if len(self.shape) == 1 and isinstance(self._synthesis[0], WaveFFT):
            return iter([slice(0, n)])
        return chunks(n, numbers // n)

    def add_part(self, x: Tensor, part: slice, lines: Tensor) -> None:
        """x += that part of `synthesise(z)`, in place, for lines = `lines(z)`; x is contiguous."""
        waves, lines = self._cut(self._synthesis[-1], part, lines)
        waves.add_field(x.view(len(lines), -1, lines.shape[-1]), lines)

    def add_sums(self, lines: Tensor, part: slice, x: Tensor) -> None:
        """What that part x of a field contributes to the `lines` from which `spectrum` goes on."""
        waves, lines = self._cut(self._analysis[-1], part, lines)
        waves.add_sums(lines, x.view(len(lines), -1, lines.shape[-1]))

    def zero_lines(self, x: Tensor) -> Tensor:
        """Room for the sums of a field x [*space, *rest] along the last axis."""
        done, rest = math.prod(self.shape[:-1]), math.prod(x.shape[len(self.shape) :])
        return x.new_zeros(done, 2 * (self.modes[-1] + 1), rest)

    def _cut(self, waves: WaveMatrix | WaveFFT, part: slice, lines: Tensor):
        """The waves and the lines that a part of the first axis takes."""
        if len(self.shape) == 1:
            return waves.part(part), lines
        return waves, lines.unflatten(0, (self.shape[0], -1))[part].flatten(0, 1)


def _waves(
    axis: Axis, m: int, samples: float, like: Tensor, *, last: bool
) -> list[WaveMatrix | WaveFFT | ModeFFT]:
    """Analysis and synthesis along one axis."""
    points = torch.full((axis.size,), 1 / samples, dtype=torch.float64)
    if axis.points == "nodes":
        points[0] = points[-1] = 0.5 / samples  # trapezoidal rule
    k = torch.arange(m + 1)
    if last:  # modes -k are the conjugates of k
        count = torch.where((k == 0) | (2 * k == samples), 1.0, 2.0).double()
    else:  # k and -k are one mode at the Nyquist frequency; -m alone is kept there
        k = torch.cat((k[:-1], -k[1:]))
        count = torch.where((2 * k.abs() == samples) & (k.abs() < m), 0.5, 1.0).double()
    whole = round(samples)
    if m > LARGEST_PRODUCT and abs(samples - whole) < 1e-9 * samples and whole >= axis.size:
        samples, kind = whole, WaveFFT if last else ModeFFT
    else:
        kind = WaveMatrix.real if last else WaveMatrix.complex
    one = torch.ones_like
    return [kind(k, *pair, samples, like) for pair in ((one(count), points), (count, one(points)))]
