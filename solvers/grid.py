"""Uniform grids: where the points of a field lie and what holds on each side of the domain."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

BOUNDARIES = ("periodic", "dirichlet", "neumann", "open")
POINTS = ("cells", "left", "nodes")


@dataclass(frozen=True)
class Axis:
    """One axis of a uniform grid on `[lower, upper]` with `size` points.

    `points` says where they lie (h is `spacing`, i = 0 .. size - 1):

        cells   lower + (i + 1/2) h,  h = (upper - lower) / size      cell centres
        left    lower + i h,          h = (upper - lower) / size      lower end a point, upper not
        nodes   lower + i h,          h = (upper - lower) / (size - 1)    both ends are points

    `boundary` names the condition on the lower and the upper side, each one of
    `periodic`, `dirichlet`, `neumann`, `open`. Lengths are in the units of the equation.
    """

    name: str
    size: int
    lower: float = 0.0
    upper: float = 1.0
    boundary: tuple[str, str] = ("dirichlet", "dirichlet")
    points: str = "cells"

    def __post_init__(self):
        if self.points not in POINTS:
            raise ValueError(f"axis {self.name}: points={self.points!r} is not one of {POINTS}.")
        if self.size < (2 if self.points == "nodes" else 1):
            raise ValueError(f"axis {self.name}: size={self.size} is too small.")
        if not self.lower < self.upper:
            raise ValueError(
                f"axis {self.name}: lower={self.lower} must be below upper={self.upper}."
            )
        object.__setattr__(self, "boundary", tuple(self.boundary))
        unknown = [side for side in self.boundary if side not in BOUNDARIES]
        if len(self.boundary) != 2 or unknown:
            raise ValueError(
                f"axis {self.name}: boundary={self.boundary} must be two of {BOUNDARIES}, "
                "the lower side first."
            )
        if ("periodic" in self.boundary) and not self.is_periodic:
            raise ValueError(f"axis {self.name}: a periodic axis is periodic on both sides.")
        if self.is_periodic and self.points == "nodes":
            raise ValueError(
                f"axis {self.name}: a periodic axis stores no point twice; "
                "use points='left' or points='cells'."
            )

    @property
    def is_periodic(self) -> bool:
        return self.boundary == ("periodic", "periodic")

    @property
    def length(self) -> float:
        return self.upper - self.lower

    @property
    def spacing(self) -> float:
        return self.length / (self.size - 1 if self.points == "nodes" else self.size)

    def coordinates(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Positions of the points, shape [size]."""
        first = 0.5 if self.points == "cells" else 0.0
        index = torch.arange(self.size, dtype=torch.float64) + first
        return (self.lower + index * self.spacing).to(dtype)


@dataclass(frozen=True)
class Grid:
    """A tensor product of 1 to 3 axes; fields on it have shape [..., *shape]."""

    axes: tuple[Axis, ...]

    def __post_init__(self):
        object.__setattr__(self, "axes", tuple(self.axes))
        if not 1 <= len(self.axes) <= 3:
            raise ValueError(f"a grid has 1 to 3 axes, got {len(self.axes)}.")

    @classmethod
    def box(cls, shape, *, boundary: str = "dirichlet", points: str = "cells") -> "Grid":
        """The unit interval, square or cube, the same condition on every side."""
        names = "xyz"[: len(shape)]
        sides = (boundary, boundary)
        return cls(
            tuple(
                Axis(n, int(s), boundary=sides, points=points)
                for n, s in zip(names, shape, strict=True)
            )
        )

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(axis.spacing for axis in self.axes)

    @property
    def boundary(self) -> tuple[tuple[str, str], ...]:
        return tuple(axis.boundary for axis in self.axes)

    def resized(self, shape) -> "Grid":
        """The same domain, boundary conditions and position of points, other sizes."""
        if len(shape) != self.ndim:
            raise ValueError(f"shape {tuple(shape)} does not fit a grid with {self.ndim} axes.")
        axes = (replace(a, size=int(s)) for a, s in zip(self.axes, shape, strict=True))
        return Grid(tuple(axes))

    def mesh(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Coordinates of every point, shape [ndim, *shape]."""
        axes = [axis.coordinates(dtype) for axis in self.axes]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))
