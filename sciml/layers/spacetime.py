"""Fourier layers over space and time, whose output may have other time steps than their input."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.spectral_weight import DenseWeight
from solvers.grid import Axis, Grid

DELTA = 0.1  # strength of the spectral bias


def spacetime(grid: Grid, steps: int, points: str = "left") -> Grid:
    """The grid with `steps` points of time as its last axis."""
    if grid.ndim > 2:
        raise ValueError(f"space and time are at most 3 axes, the grid has {grid.ndim} of space.")
    return Grid((*grid.axes, Axis("t", steps, boundary=("open", "open"), points=points)))


def encoding(grid: Grid, steps: int, width: int, growth: float, like: Tensor) -> Tensor:
    """Where and when: [*space, steps, 1, width].

    The coordinate of each non-periodic axis, scaled to [0, 1]; the time t = 1 / steps, ..., 1; and
    exp(growth t) cos(pi k t), exp(growth t) sin(pi k t) for as many k = 1, 2, ... as fit.
    """
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    shape, channels = (*grid.shape, steps), []
    for i, axis in enumerate(grid.axes):
        if not axis.is_periodic:
            s = (axis.coordinates() - axis.lower) / axis.length
            channels.append(s.reshape(-1, *[1] * (grid.ndim - i)).expand(shape))
    channels.append(time.expand(shape))
    for j in range(width - len(channels)):
        wave = torch.sin if j % 2 else torch.cos
        k = 1 + j // 2
        channels.append(((growth * time).exp() * wave(math.pi * k * time)).expand(shape))
    return torch.stack(channels, dim=-1).unsqueeze(-2).to(like.device, like.dtype)


class SpectralMap(nn.Module):
    """(K v)(x, t) = Re sum_k w[k] exp(2 pi i k.(x, t)) R[k]^T v_hat[k], on the points of `target`.

    Fields have their points first, [*space, time, b, c]; `modes` as in `FourierBasis`. The modes
    are found on the points of `source`, so time may be sampled otherwise before and after.
    """

    def __init__(self, in_channels: int, out_channels: int, modes: Sequence[int]):
        super().__init__()
        self.weight = DenseWeight(_kept(modes), in_channels, out_channels)

    def forward(self, v: Tensor, source: FourierBasis, target: FourierBasis) -> Tensor:
        with torch.autocast(v.device.type, enabled=False):
            v = v.to(self.weight.entries.dtype)
            return target.synthesise(self.weight.contract(source.analyse(v)))


class SpectralOutput(nn.Module):
    """The spectrum R[k]^T z[k] + delta b[k] of a z [*modes, b, c]; delta = 0.1.

    The spectral bias b, zero at first, acts as a source term that depends on place and time.
    """

    def __init__(self, channels: int, modes: Sequence[int]):
        super().__init__()
        self.modes, self.channels = tuple(modes), channels
        self.weight = DenseWeight(_kept(modes), channels, channels)
        self.bias = nn.Parameter(torch.zeros(*_kept(modes), channels, 2))

    def forward(self, z: Tensor) -> Tensor:
        return self.weight.contract(z) + DELTA * torch.view_as_complex(self.bias).unsqueeze(-2)

    def enlarged(self, modes: Sequence[int]) -> "SpectralOutput":
        """The same operator with more modes, whose weights and biases are zero."""
        if any(new < old for new, old in zip(modes, self.modes, strict=True)):
            raise ValueError(f"modes={tuple(modes)} must be at least those that are, {self.modes}.")
        larger = SpectralOutput(self.channels, modes).to(self.bias)
        index = [
            torch.cat((torch.arange(old), torch.arange(old) + new))  # 0 .. m-1, then -1 .. -m
            for old, new in zip(self.modes[:-1], larger.modes[:-1], strict=True)
        ]
        index = torch.meshgrid(*index, torch.arange(self.modes[-1] + 1), indexing="ij")
        with torch.no_grad():
            larger.weight.entries.zero_()[index] = self.weight.entries
            larger.bias[index] = self.bias
        return larger


def _kept(modes: Sequence[int]) -> tuple[int, ...]:
    return (*(2 * m for m in modes[:-1]), modes[-1] + 1)
