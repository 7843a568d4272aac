"""The heat equation on a plate whose sides are held at given temperatures."""

import torch
from torch import Tensor

from solvers.evolution import Evolution
from solvers.fourier import on
from solvers.grid import Grid
from solvers.trigonometric import Trigonometric


class HeatedPlate(Evolution):
    """u_t = a Lap u on a box in two dimensions, u = `left`, `right` on the lower and upper side of
    the first axis and `bottom`, `top` on those of the second.

    Five-point differences between the cell centres, with 2 T - u beyond a side of temperature T:
    of second order in the spacing. In time what they give is solved exactly: with A the difference
    Laplacian for T = 0, whose eigenvectors are sines, b the part of the sides and L = -A^(-1) b
    the steady state,

        u(t + dt) = L + exp(a A dt) (u(t) - L)        for any dt.

    A state is the temperature alone. `start()` is the one at t = 0 that the parameters describe,

        u_0(x, y) = initial + sum_i height_i exp(-((x - x_i)^2 + (y - y_i)^2) / (2 width^2)),

    which need not agree with the sides; i = 1, 2. `diffusivity` a is in length^2 / time; all
    parameters but `dt` are numbers or [b], and steps are differentiable in them. Set up as in
    Meyer et al. 2023, arXiv:2306.16133, where the initial temperature and those of the sides are
    drawn; the bumps are ours. There are no sources and no other boundary conditions: see `Heat`.
    """

    fields = ("temperature",)

    def __init__(
        self,
        grid: Grid,
        *,
        diffusivity: float | Tensor,
        dt: float,
        left: float | Tensor = 0.0,
        right: float | Tensor = 0.0,
        bottom: float | Tensor = 0.0,
        top: float | Tensor = 0.0,
        initial: float | Tensor = 0.0,
        x_1: float | Tensor = 0.5,
        y_1: float | Tensor = 0.5,
        height_1: float | Tensor = 0.0,
        x_2: float | Tensor = 0.5,
        y_2: float | Tensor = 0.5,
        height_2: float | Tensor = 0.0,
        width: float | Tensor = 0.1,
    ):
        _require_plate(grid)
        if not dt > 0:
            raise ValueError(f"dt={dt} must be positive.")
        if (torch.as_tensor(diffusivity) < 0).any():
            raise ValueError(f"diffusivity={diffusivity} must not be negative.")
        if not (torch.as_tensor(width) > 0).all():
            raise ValueError(f"width={width} must be positive.")
        self.grid, self.dt = grid, dt
        rate, *sides, self._initial, x_1, y_1, height_1, x_2, y_2, height_2, self._width = _alike(
            *(diffusivity, left, right, bottom, top, initial),
            *(x_1, y_1, height_1, x_2, y_2, height_2, width),
        )
        self._bumps = ((x_1, y_1, height_1), (x_2, y_2, height_2))
        self._sines = Trigonometric(grid)
        laplacian = self._sines.laplacian(difference=True)
        self._linear = rate * laplacian
        self._decay = (dt * self._linear).exp()
        warmed = self._sines.synthesise(-self._sines.analyse(_walls(grid)) / laplacian)
        self.steady = sum(side * u for side, u in zip(sides, warmed, strict=True))

    def start(self) -> Tensor:
        """The temperature at t = 0, float64 [b, 1, *space]; b = 1 if all parameters are numbers."""
        x, y = self.grid.mesh()
        u = self._initial + torch.zeros_like(x)
        for x_i, y_i, height in self._bumps:
            square = (x - x_i).square() + (y - y_i).square()
            u = u + height * torch.exp(-square / (2 * self._width.square()))
        return u

    def advance(self, u: Tensor) -> Tensor:
        return on(self.steady, u) + self._multiplied(self._decay, u)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        return self._multiplied(self._linear, u)

    def halved(self) -> "HeatedPlate":
        return self

    def _multiplied(self, symbol: Tensor, u: Tensor) -> Tensor:
        v = self._sines.analyse(u - on(self.steady, u))
        return self._sines.synthesise(on(symbol, v) * v)


def _require_plate(grid: Grid) -> None:
    sides = {(*axis.boundary, axis.points) for axis in grid.axes}
    if grid.ndim != 2 or sides != {("dirichlet", "dirichlet", "cells")}:
        raise ValueError(
            "HeatedPlate: the grid must have two axes, boundary=(dirichlet, dirichlet) and "
            f"points=cells each; it has {[(a.name, a.boundary, a.points) for a in grid.axes]}."
        )


def _alike(*values: float | Tensor) -> list[Tensor]:
    """Numbers or tensors [b] as float64 [b, 1, 1, 1]."""
    tensors = [torch.as_tensor(v, dtype=torch.float64, device="cpu").reshape(-1) for v in values]
    lengths = sorted({len(t) for t in tensors} - {1})
    if len(lengths) > 1:
        raise ValueError(
            f"HeatedPlate: parameters of {' and '.join(map(str, lengths))} samples; give each as a "
            "number, or as one for each sample."
        )
    return [t.view(-1, 1, 1, 1) for t in torch.broadcast_tensors(*tensors)]


def _walls(grid: Grid) -> Tensor:
    """What a side of temperature 1 adds to the difference Laplacian: [4, 1, *space] in the order
    left, right, bottom, top.
    """
    walls = torch.zeros(4, 1, *grid.shape, dtype=torch.float64)
    h_x, h_y = grid.spacing
    walls[0, 0, 0], walls[1, 0, -1] = 2 / h_x**2, 2 / h_x**2
    walls[2, 0, :, 0], walls[3, 0, :, -1] = 2 / h_y**2, 2 / h_y**2
    return walls
