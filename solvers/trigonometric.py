"""Sines and cosines of a box: the transforms that make its Laplacian diagonal."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.fourier import on
from solvers.grid import Axis, Grid

Transform = Callable[[Tensor], Tensor]  # along the last axis

# Up to here a product with the matrix is faster than the transform of a line twice as long.
_LARGEST_MATRIX = 128


class Mode(NamedTuple):
    """One axis: field -> coefficients, back, and the wavenumbers of the coefficients [m].

    The first two take a tensor and a negative axis.
    """

    analyse: Callable[[Tensor, int], Tensor]
    synthesise: Callable[[Tensor, int], Tensor]
    wavenumbers: Tensor


class Trigonometric:
    """Expansion of fields on a box in the eigenfunctions of its Laplacian, one kind per axis.

        sides                   points          functions               transform
        dirichlet, dirichlet    cells           sin(pi k (x - a) / L)   DST-II, k = 1 .. n
        neumann, neumann        cells           cos(pi k (x - a) / L)   DCT-II, k = 0 .. n - 1
        neumann, neumann        nodes           the same                DCT-I,  k = 0 .. n - 1
        dirichlet, dirichlet    nodes           sin, the points inside  DST-I,  k = 1 .. n - 2
        dirichlet, neumann      cells           sin, k = 1/2, 3/2 ..    quarter waves
        neumann, dirichlet      cells           cos, k = 1/2, 3/2 ..    quarter waves
        periodic                left, cells     exp(2 pi i k x / L)     FFT

    Sines and cosines of up to 128 points are products with a matrix, of more the FFT of the even
    or odd continuation, O(n log n); all in the precision of the field and differentiable.
    Periodic axes come last, so coefficients [..., *modes] are complex if there is one. On `nodes`
    between Dirichlet sides the first and the last point hold the boundary value zero and are left
    out of the coefficients.
    """

    def __init__(self, grid: Grid):
        self.grid = grid
        self._modes = [_mode(axis) for axis in grid.axes]
        real = [i for i, axis in enumerate(grid.axes) if not axis.is_periodic]
        periodic = [i for i, axis in enumerate(grid.axes) if axis.is_periodic]
        # The first periodic axis takes the real transform, those after it complex ones.
        self._order = real + periodic
        self._first = periodic[0] if periodic else None
        self._sizes = []
        for i, (axis, mode) in enumerate(zip(grid.axes, self._modes, strict=True)):
            half = axis.size // 2 + 1 if i == self._first else axis.size
            self._sizes.append(half if axis.is_periodic else len(mode.wavenumbers))

    def analyse(self, u: Tensor) -> Tensor:
        """Coefficients [..., *modes] of u [..., *space]."""
        for i in self._order:
            dim = i - self.grid.ndim
            if i == self._first:
                u = torch.fft.rfft(u, dim=dim)
            elif self.grid.axes[i].is_periodic:
                u = torch.fft.fft(u, dim=dim)
            else:
                u = self._modes[i].analyse(u, dim)
        return u

    def synthesise(self, v: Tensor) -> Tensor:
        """u [..., *space] from coefficients [..., *modes]."""
        for i in reversed(self._order):
            dim = i - self.grid.ndim
            if i == self._first:
                v = torch.fft.irfft(v, n=self.grid.shape[i], dim=dim)
            elif self.grid.axes[i].is_periodic:
                v = torch.fft.ifft(v, dim=dim)
            else:
                v = self._modes[i].synthesise(v, dim)
        return v

    def wavenumbers(self, axis: int) -> Tensor:
        """k >= 0 of the coefficients along an axis in 1 / length, float64 [m]."""
        return self._modes[axis].wavenumbers[: self._sizes[axis]]

    def laplacian(self, *, difference: bool = False) -> Tensor:
        """Eigenvalues of the Laplacian, float64 [*modes]: -k^2, or -(2/h sin(k h / 2))^2 for the
        three-point difference on each axis.
        """
        total = torch.zeros(())
        for i, axis in enumerate(self.grid.axes):
            k = self.wavenumbers(i)
            if difference:
                k = 2 / axis.spacing * torch.sin(k * axis.spacing / 2)
            total = total - k.square().view(-1, *[1] * (self.grid.ndim - 1 - i))
        return total


def _mode(axis: Axis) -> Mode:
    kind = (*axis.boundary, axis.points)
    if axis.is_periodic:
        numbers = torch.fft.fftfreq(axis.size, 1 / axis.size, dtype=torch.float64)
        return Mode(lambda u, _: u, lambda v, _: v, 2 * math.pi / axis.length * numbers.abs())
    if kind not in _KINDS:
        raise ValueError(
            f"axis {axis.name}: boundary={axis.boundary} with points={axis.points!r} has no fast "
            f"transform; there are {', '.join(' '.join(k) for k in _KINDS)}, and periodic axes."
        )
    analyse, synthesise, first = _KINDS[kind]
    count = axis.size - 2 if kind == ("dirichlet", "dirichlet", "nodes") else axis.size
    if count < 1:
        raise ValueError(f"axis {axis.name}: {axis.size} points leave none inside.")
    numbers = torch.arange(count, dtype=torch.float64) + first
    if axis.size > _LARGEST_MATRIX:
        along = partial(_along, analyse), partial(_along, synthesise)
    else:
        along = (
            partial(_multiply, analyse(torch.eye(axis.size, dtype=torch.float64)).mT.contiguous()),
            partial(_multiply, synthesise(torch.eye(count, dtype=torch.float64)).mT.contiguous()),
        )
    return Mode(*along, math.pi / axis.length * numbers)


def _along(transform: Transform, u: Tensor, dim: int) -> Tensor:
    return transform(u.movedim(dim, -1)).movedim(-1, dim)


def _multiply(matrix: Tensor, u: Tensor, dim: int) -> Tensor:
    """sum_j matrix[k, j] u[.., j, ..] along `dim`, without moving axes."""
    matrix, shape = on(matrix, u), u.shape
    if dim == -1:
        return u @ matrix.mT
    u = u.reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))
    v = torch.bmm(matrix.expand(len(u), *matrix.shape), u)
    return v.view(*shape[:dim], len(matrix), *shape[dim + 1 :])


def _turn(n: int, sign: int, like: Tensor) -> Tensor:
    """exp(sign i pi k / 2n), k = 0 .. n: the half cell between a wall and the first centre."""
    angle = torch.arange(n + 1, dtype=torch.float64, device=like.device) * (sign * math.pi / 2 / n)
    return torch.polar(torch.ones_like(angle), angle).to(
        torch.promote_types(like.dtype, torch.cfloat)
    )


def cosine_cells(u: Tensor) -> Tensor:
    """DCT-II, sum_j u_j cos(pi k (j + 1/2) / n)."""
    n = u.shape[-1]
    v = torch.fft.rfft(torch.cat((u, u.flip(-1)), dim=-1))
    return 0.5 * (v * _turn(n, -1, u)).real[..., :n]


def cosine_cells_back(v: Tensor) -> Tensor:
    n = v.shape[-1]
    w = 2 * v * _turn(n, 1, v)[:n]
    return torch.fft.irfft(torch.nn.functional.pad(w, (0, 1)), n=2 * n)[..., :n]


def sine_cells(u: Tensor) -> Tensor:
    """DST-II, sum_j u_j sin(pi k (j + 1/2) / n), k = 1 .. n."""
    n = u.shape[-1]
    v = torch.fft.rfft(torch.cat((u, -u.flip(-1)), dim=-1))
    return -0.5 * (v * _turn(n, -1, u)).imag[..., 1:]


def sine_cells_back(v: Tensor) -> Tensor:
    n = v.shape[-1]
    w = -2j * v * _turn(n, 1, v)[1:]
    return torch.fft.irfft(torch.nn.functional.pad(w, (1, 0)), n=2 * n)[..., :n]


def cosine_nodes(u: Tensor) -> Tensor:
    """DCT-I, u_0 + (-1)^k u_n-1 + 2 sum_j u_j cos(pi k j / (n - 1))."""
    return torch.fft.rfft(torch.cat((u, u[..., 1:-1].flip(-1)), dim=-1)).real


def cosine_nodes_back(v: Tensor) -> Tensor:
    n = v.shape[-1]
    return torch.fft.irfft(torch.complex(v, torch.zeros_like(v)), n=2 * (n - 1))[..., :n]


def sine_nodes(u: Tensor) -> Tensor:
    """DST-I of the points inside, 2 sum_j u_j sin(pi k j / (n - 1)), k = 1 .. n - 2."""
    inside = u[..., 1:-1]
    zero = torch.zeros_like(u[..., :1])
    v = torch.fft.rfft(torch.cat((zero, inside, zero, -inside.flip(-1)), dim=-1))
    return -v.imag[..., 1:-1]


def sine_nodes_back(v: Tensor) -> Tensor:
    n = v.shape[-1] + 2
    w = torch.nn.functional.pad(torch.complex(torch.zeros_like(v), -v), (1, 1))
    return torch.fft.irfft(w, n=2 * (n - 1))[..., :n]


def sine_quarter(u: Tensor) -> Tensor:
    """sum_j u_j sin(pi (k + 1/2) (j + 1/2) / n): zero below, even about the upper side."""
    return 0.5 * sine_cells(torch.cat((u, u.flip(-1)), dim=-1))[..., 0::2]


def sine_quarter_back(v: Tensor) -> Tensor:
    n = v.shape[-1]
    spread = torch.stack((2 * v, torch.zeros_like(v)), dim=-1).flatten(-2)
    return sine_cells_back(spread)[..., :n]


def cosine_quarter(u: Tensor) -> Tensor:
    """sum_j u_j cos(pi (k + 1/2) (j + 1/2) / n): even about the lower side, zero above."""
    return 0.5 * cosine_cells(torch.cat((u, -u.flip(-1)), dim=-1))[..., 1::2]


def cosine_quarter_back(v: Tensor) -> Tensor:
    n = v.shape[-1]
    spread = torch.stack((torch.zeros_like(v), 2 * v), dim=-1).flatten(-2)
    return cosine_cells_back(spread)[..., :n]


_KINDS: dict[tuple[str, str, str], tuple[Transform, Transform, float]] = {
    ("dirichlet", "dirichlet", "cells"): (sine_cells, sine_cells_back, 1),
    ("neumann", "neumann", "cells"): (cosine_cells, cosine_cells_back, 0),
    ("neumann", "neumann", "nodes"): (cosine_nodes, cosine_nodes_back, 0),
    ("dirichlet", "dirichlet", "nodes"): (sine_nodes, sine_nodes_back, 1),
    ("dirichlet", "neumann", "cells"): (sine_quarter, sine_quarter_back, 0.5),
    ("neumann", "dirichlet", "cells"): (cosine_quarter, cosine_quarter_back, 0.5),
}
