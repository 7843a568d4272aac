"""Initial states made of others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Grid
from solvers.initial_conditions import InitialCondition


class Stacked:
    """The fields of several initial conditions one after another, [b, c, *space]."""

    def __init__(self, parts: Sequence[InitialCondition]):
        if not parts:
            raise ValueError("Stacked needs at least one initial condition.")
        self.parts = tuple(parts)

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        return torch.cat([as_state(part, generators, grid) for part in self.parts], dim=1)


class Affine:
    """offset + scale u, then cut off below `lower` and above `upper` where they are given."""

    def __init__(
        self,
        part: InitialCondition,
        *,
        scale: float = 1.0,
        offset: float = 0.0,
        lower: float | None = None,
        upper: float | None = None,
    ):
        self.part, self.scale, self.offset = part, scale, offset
        self.lower, self.upper = lower, upper

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        u = self.offset + self.scale * as_state(self.part, generators, grid)
        if self.lower is None and self.upper is None:
            return u
        return u.clamp(self.lower, self.upper)


class AtRest:
    """`channels` fields that are `value` everywhere."""

    def __init__(self, channels: int = 1, value: float = 0.0):
        self.channels, self.value = channels, value

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        shape = (len(generators), self.channels, *grid.shape)
        return torch.full(shape, self.value, dtype=torch.float64)


class GasState:
    """A gas of density 1 and speed of sound 1 with random fluctuations: density, momentum and
    energy [b, 2 + ndim, *space] of an ideal gas.

        rho = 1 + a f_0,    v_k = M f_k,    p = (1 + a f_p) / gamma

    f are independent draws of `part`, whose values should lie within [-1, 1]; a is `contrast` and
    M the largest Mach number of a velocity component.
    """

    def __init__(
        self,
        part: InitialCondition,
        *,
        mach: float = 0.1,
        contrast: float = 0.2,
        gamma: float = 5 / 3,
    ):
        if not 0 <= contrast < 1 or mach < 0 or gamma <= 1:
            raise ValueError(
                f"contrast={contrast} must lie in [0, 1), mach={mach} be at least 0 and "
                f"gamma={gamma} above 1."
            )
        self.part, self.mach, self.contrast, self.gamma = part, mach, contrast, gamma

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        draws = [as_state(self.part, generators, grid) for _ in range(2 + grid.ndim)]
        rho, p = 1 + self.contrast * draws[0], (1 + self.contrast * draws[-1]) / self.gamma
        momentum = rho * self.mach * torch.cat(draws[1:-1], dim=1)
        kinetic = 0.5 * momentum.square().sum(dim=1, keepdim=True) / rho
        return torch.cat((rho, momentum, p / (self.gamma - 1) + kinetic), dim=1)


def as_state(
    condition: InitialCondition, generators: Sequence[torch.Generator], grid: Grid
) -> Tensor:
    """[b, c, *space], with the axis c that conditions of one field may leave out."""
    u = condition.sample(generators, grid)
    return u.unsqueeze(1) if u.dim() == 1 + grid.ndim else u
