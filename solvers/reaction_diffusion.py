"""Reaction and diffusion: Allen-Cahn, Fisher-KPP, Gray-Scott."""

from abc import abstractmethod

import torch
from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear
from solvers.spectral import Basis, eigenfunctions


class ReactionDiffusion(SemiLinear):
    """u_t = D Lap u + R(u), one diffusivity per field, the reaction R pointwise.

    Each axis is periodic or has Neumann sides, u_n = 0, where products of cosines are cosines
    again. `degree` of the polynomial R decides what is cut before it is evaluated: 2/3 of the
    modes are kept for a quadratic one and 1/2 for a cubic one, so that none is aliased. The modes
    above do not react at all, which is right only where they are empty: for states that fill every
    mode, such as noise, `dealias=False` keeps all of them. Each diffusivity in length^2 / time is a
    number or [b].
    """

    degree: int

    def __init__(
        self,
        grid: Grid,
        diffusivities: tuple[float | Tensor, ...],
        *,
        dt: float,
        substeps: int = 1,
        scheme: Scheme | None = None,
        dealias: bool = True,
    ):
        values = [torch.as_tensor(d, dtype=torch.float64).cpu().reshape(-1) for d in diffusivities]
        if len(values) != len(self.fields) or any((value < 0).any() for value in values):
            raise ValueError(
                f"{type(self).__name__}: expected a diffusivity >= 0 for each of {self.fields}, "
                f"got {diffusivities}."
            )
        if any(side in ("dirichlet", "open") for axis in grid.axes for side in axis.boundary):
            raise ValueError(
                f"{type(self).__name__} has periodic and neumann sides, got {grid.boundary}."
            )
        self.diffusivities = torch.stack(torch.broadcast_tensors(*values), dim=1)  # [b or 1, c]
        self.fraction = 2 / (1 + self.degree) if dealias else 1.0
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction)

    @abstractmethod
    def reaction(self, u: Tensor) -> Tensor:
        """R(u), [b, c, *space] -> [b, c, *space]."""

    def make_basis(self, grid: Grid) -> Basis:
        return eigenfunctions(grid)

    def make_linear(self) -> Tensor:
        space = [1] * self.grid.ndim
        return self.diffusivities.view(*self.diffusivities.shape, *space) * self.basis.laplacian

    def nonlinear(self, v: Tensor) -> Tensor:
        kept = on(self._kept, v.real)
        return self.fourier.transform(self.reaction(self.fourier.inverse(v * kept))) * kept


class SingleField(ReactionDiffusion):
    """One field with one diffusivity D and one rate r of reaction in 1 / time, each a number or
    [b].
    """

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        diffusivity: float | Tensor = 1e-3,
        rate: float | Tensor = 1.0,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        self.rate = rate
        super().__init__(grid, (diffusivity,), dt=dt, substeps=substeps, scheme=scheme)


class AllenCahn(SingleField):
    """u_t = D Lap u + r (u - u^3): phases -1 and 1, fronts sqrt(8 D / r) wide.

    Decreases the energy, the integral of D |grad u|^2 / 2 + r (1 - u^2)^2 / 4.
    """

    fields, degree = ("phase",), 3

    def reaction(self, u: Tensor) -> Tensor:
        return self.per_sample(self.rate, u) * (u - u**3)


class FisherKPP(SingleField):
    """u_t = D Lap u + r u (1 - u): u = 1 invades u = 0 at the speed 2 sqrt(r D)."""

    fields, degree = ("density",), 2

    def reaction(self, u: Tensor) -> Tensor:
        return self.per_sample(self.rate, u) * (u - u.square())


class GrayScott(ReactionDiffusion):
    """u_t = Du Lap u - u v^2 + F (1 - u),   v_t = Dv Lap v + u v^2 - (F + k) v.

    [Pearson 1993, Science 261]: `feed` F and `kill` k choose among spots, stripes and waves.
    """

    fields, degree = ("u", "v"), 3

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        feed: float = 0.04,
        kill: float = 0.06,
        diffusivities: tuple[float, float] = (2e-5, 1e-5),
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        self.feed, self.kill = feed, kill
        super().__init__(grid, tuple(diffusivities), dt=dt, substeps=substeps, scheme=scheme)

    def reaction(self, u: Tensor) -> Tensor:
        a, b = u[:, 0], u[:, 1]
        converted = a * b.square()
        return torch.stack(
            (self.feed * (1 - a) - converted, converted - (self.feed + self.kill) * b), dim=1
        )
