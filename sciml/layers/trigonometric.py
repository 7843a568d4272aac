"""Products of fields with sampled waves, as a matrix or by FFT.

Each class maps x -> W x (`sums`) and y -> W^T y (`field`), W = diag(rows) T diag(points) with the
waves T: `WaveMatrix.real` and `WaveFFT` those of a real field, `WaveMatrix.complex` and `ModeFFT`
those of a complex one. `rows` holds a factor for each wave, `points` one for each of the n points;
waves beyond the Nyquist frequency (2 |k| > samples) are zero.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad


class WaveMatrix:
    """W as one matrix: O(n m) operations per line. `samples` need not be an integer."""

    def __init__(self, matrix: Tensor):
        self.matrix = matrix

    @classmethod
    def real(
        cls, k: Tensor, rows: Tensor, points: Tensor, samples: float, like: Tensor
    ) -> "WaveMatrix":
        """T[k, j] = exp(-i a) with a = 2 pi k j / samples for the modes k = 0 .. m, as real and
        imaginary parts: a matrix [(2, m + 1), n].
        """
        cosine, sine = _waves(k, rows, points, samples)
        return cls(torch.cat((cosine, -sine)).to(like.device, like.dtype))

    @classmethod
    def complex(
        cls, k: Tensor, rows: Tensor, points: Tensor, samples: float, like: Tensor
    ) -> "WaveMatrix":
        """The same for modes of both signs and complex fields, whose parts are neighbours: a real
        matrix [(2, modes), (n, 2)].
        """
        cosine, sine = _waves(k, rows, points, samples)
        to_real = torch.stack((cosine, sine), dim=-1)
        to_imaginary = torch.stack((-sine, cosine), dim=-1)
        matrix = torch.cat((to_real, to_imaginary)).flatten(1)
        return cls(matrix.to(like.device, like.dtype))

    def part(self, points: slice) -> "WaveMatrix":
        """The same at some of the points."""
        return WaveMatrix(self.matrix[:, points])

    def sums(self, x: Tensor) -> Tensor:
        """W x of a real [done, points, rest]: [done, waves, rest]."""
        return torch.matmul(self.matrix, x)

    def add_sums(self, y: Tensor, x: Tensor) -> None:
        """y += W x in place and in one pass."""
        y.baddbmm_(self.matrix.expand(len(y), -1, -1), x)

    def field(self, y: Tensor) -> Tensor:
        """W^T y of a real [done, waves, rest]: [done, points, rest]."""
        return torch.matmul(self.matrix.T, y)

    def add_field(self, x: Tensor, y: Tensor) -> None:
        """x += W^T y in place and in one pass."""
        x.baddbmm_(self.matrix.T.expand(len(x), -1, -1), y)


class WaveFFT:
    """The waves of a real field by FFT: O(n log n) operations per line; `samples` is an integer,
    at least n.

    Lines are gathered first, for an FFT over an axis that is not the last is slower than the copy.
    """

    def __init__(self, k: Tensor, rows: Tensor, points: Tensor, samples: int, like: Tensor):
        self.samples, self.waves = samples, len(k)
        held = min(self.waves, samples // 2 + 1)
        once = (k == 0) | (2 * k == samples)  # irfft counts the other waves twice
        self.rows = rows[:held].to(like.device, like.dtype)
        self.halves = (rows / (2.0 - once.to(rows)))[:held].to(like.device, like.dtype)
        self.points = points.to(like.device, like.dtype)

    def part(self, points: slice) -> "WaveFFT":
        if points.indices(len(self.points)) != (0, len(self.points), 1):
            raise ValueError("WaveFFT: an FFT needs all points of a line.")
        return self

    def sums(self, x: Tensor) -> Tensor:
        lines = (x * self.points[:, None]).transpose(1, 2).contiguous()
        z = torch.fft.rfft(lines, n=self.samples)[..., : len(self.rows)] * self.rows
        parts = torch.stack((z.real, z.imag), dim=1)  # [done, 2, rest, held]
        return pad(parts.transpose(2, 3), (0, 0, 0, self.waves - len(self.rows))).flatten(1, 2)

    def add_sums(self, y: Tensor, x: Tensor) -> None:
        y += self.sums(x)

    def field(self, y: Tensor) -> Tensor:
        parts = y.unflatten(1, (2, self.waves))[:, :, : len(self.rows)].transpose(2, 3)
        z = torch.complex(parts[:, 0] * self.halves, parts[:, 1] * self.halves)
        lines = torch.fft.irfft(z, n=self.samples, norm="forward")[..., : len(self.points)]
        return (lines * self.points).transpose(1, 2)

    def add_field(self, x: Tensor, y: Tensor) -> None:
        x += self.field(y)


class ModeFFT:
    """The modes k of a complex field by FFT, in the format of `WaveMatrix.complex`."""

    def __init__(self, k: Tensor, rows: Tensor, points: Tensor, samples: int, like: Tensor):
        self.samples = samples
        self.rows = (rows * (2 * k.abs() <= samples)).to(like.device, like.dtype)
        self.places = torch.remainder(k, samples).to(like.device)  # in the order of the FFT
        self.points = points.to(like.device, like.dtype)

    def sums(self, x: Tensor) -> Tensor:
        re, im = x.unflatten(1, (-1, 2)).unbind(2)  # [done, n, rest]
        lines = (torch.complex(re, im) * self.points[:, None]).transpose(1, 2).contiguous()
        z = torch.fft.fft(lines, n=self.samples)[..., self.places] * self.rows
        return torch.cat((z.real, z.imag), dim=2).transpose(1, 2)

    def field(self, y: Tensor) -> Tensor:
        re, im = y.transpose(1, 2).chunk(2, dim=2)
        z = torch.complex(re, im) * self.rows
        full = z.new_zeros(*z.shape[:2], self.samples).index_add(2, self.places, z)
        lines = torch.fft.ifft(full, norm="forward")[..., : len(self.points)] * self.points
        return torch.view_as_real(lines.transpose(1, 2)).movedim(-1, 2).flatten(1, 2)


def _waves(k: Tensor, rows: Tensor, points: Tensor, samples: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines [k, points] with their factors, in float64."""
    k, j = k.double(), torch.arange(len(points), dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(k, j) / samples
    factor = torch.outer(rows * (2 * k.abs() <= samples), points)
    return angle.cos() * factor, angle.sin() * factor
