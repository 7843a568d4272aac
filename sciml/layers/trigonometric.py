"""Products of fields with sampled waves: W = diag(rows) T diag(points), where T holds cosines and
sines, as a matrix or by FFT.
"""

import math

import torch
from torch import Tensor


class WaveMatrix:
    """x -> W x and y -> W^T y with T[(0, k), j] = cos a and T[(1, k), j] = `sine` sin a for the
    angle a = 2 pi k j / samples, k = 0 .. m, stored as one matrix [2 (m + 1), n].

    `rows` [m + 1] holds a factor for each wave, `points` [n] one for each point; waves beyond the
    Nyquist frequency (2 k > samples) are zero. `samples` need not be an integer. O(n m) operations
    per line.
    """

    def __init__(self, rows: Tensor, points: Tensor, samples: float, like: Tensor, sine: float):
        k, j = (torch.arange(len(v), dtype=torch.float64) for v in (rows, points))
        angle = 2 * math.pi * torch.outer(k, j) / samples
        factor = torch.outer(rows * (2 * k <= samples), points)
        waves = torch.stack((angle.cos() * factor, sine * angle.sin() * factor))
        self.matrix = waves.flatten(0, 1).to(like.device, like.dtype)

    def sums(self, x: Tensor) -> Tensor:
        """W x of a real [done, n, rest]: [done, 2 (m + 1), rest]."""
        return torch.matmul(self.matrix, x)

    def field(self, y: Tensor) -> Tensor:
        """W^T y of a real [done, 2 (m + 1), rest]: [done, n, rest]."""
        return torch.matmul(self.matrix.T, y)

    def add_field(self, x: Tensor, y: Tensor) -> None:
        """x += W^T y in place and in one pass."""
        x.baddbmm_(self.matrix.T.expand(len(x), -1, -1), y)


class WaveFFT:
    """The same by FFT: O(n log n) operations per line; `samples` is an integer, at least n.

    Lines are gathered first, for an FFT over an axis that is not the last is slower than the copy.
    """

    def __init__(self, rows: Tensor, points: Tensor, samples: int, like: Tensor, sine: float):
        k = torch.arange(len(rows))
        self.samples, self.waves, self.sine = samples, len(rows), sine
        held = min(self.waves, samples // 2 + 1)
        once = (k == 0) | (2 * k == samples)  # irfft counts the other waves twice
        self.rows = rows[:held].to(like.device, like.dtype)
        self.halves = (rows / (2.0 - once.to(rows)))[:held].to(like.device, like.dtype)
        self.points = points.to(like.device, like.dtype)

    def sums(self, x: Tensor) -> Tensor:
        lines = (x * self.points[:, None]).transpose(1, 2).contiguous()
        z = torch.fft.rfft(lines, n=self.samples)[..., : len(self.rows)] * self.rows
        parts = torch.stack((z.real, -self.sine * z.imag), dim=1)  # [done, 2, rest, held]
        parts = parts.transpose(2, 3)
        missing = self.waves - len(self.rows)
        return torch.nn.functional.pad(parts, (0, 0, 0, missing)).flatten(1, 2)

    def field(self, y: Tensor) -> Tensor:
        parts = y.unflatten(1, (2, self.waves))[:, :, : len(self.rows)].transpose(2, 3)
        z = torch.complex(parts[:, 0] * self.halves, parts[:, 1] * (-self.sine * self.halves))
        lines = torch.fft.irfft(z, n=self.samples, norm="forward")[..., : len(self.points)]
        return (lines * self.points).transpose(1, 2)

    def add_field(self, x: Tensor, y: Tensor) -> None:
        x += self.field(y)
