"""Compressible flow of a viscous ideal gas."""

import torch
from torch import Tensor

from solvers.euler import Euler
from solvers.finite_volume import Numerics
from solvers.grid import Grid


class CompressibleNavierStokes(Euler):
    """`Euler` with viscous stress and heat conduction, in 1 to 3 dimensions:

        m_t + div(m m / rho + p) = div t,    E_t + div((E + p) v) = div(t v + k grad T)
        t = eta (grad v + grad v^T - 2/3 div v I) + zeta div v I
        T = p / rho,    k = eta gamma / ((gamma - 1) Pr)

    `viscosity` eta and `bulk_viscosity` zeta in density length^2 / time, numbers or [b], constant
    in space; `prandtl` Pr, None for a gas that conducts no heat. The 2/3 stays in every dimension:
    a plane flow is one that does not change along z. PDEBench's data have eta = zeta, no
    conduction and gamma = 5/3.

    Viscous fluxes are differences across a face and, along it, means of central differences of the
    two cells: second order. They are explicit, so 2 nu sum 1 / h^2 is added to the rate that limits
    a substep, with nu the largest diffusivity, (4/3 eta + zeta) / rho or gamma eta / (Pr rho). The
    numerical dissipation of HLLC with limited slopes comes on top of the viscosity.
    Walls (`neumann`) let the gas slip and conduct no heat; there are no walls that hold it fast
    and none with a temperature. Sutherland's law is not here. Density and pressure must be
    positive, as for `Euler`.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float | Tensor,
        dt: float,
        bulk_viscosity: float | Tensor = 0.0,
        prandtl: float | None = 0.72,
        gamma: float = 1.4,
        numerics: Numerics | None = None,
    ):
        for name, value in (("viscosity", viscosity), ("bulk_viscosity", bulk_viscosity)):
            if (torch.as_tensor(value) < 0).any():
                raise ValueError(f"{name}={value} must not be negative.")
        if prandtl is not None and not prandtl > 0:
            raise ValueError(f"prandtl={prandtl} must be positive, or None for no conduction.")
        super().__init__(grid, dt=dt, gamma=gamma, numerics=numerics)
        self.viscosity, self.bulk_viscosity, self.prandtl = viscosity, bulk_viscosity, prandtl

    def rate(self, w: Tensor) -> Tensor:
        eta, zeta = self._coefficients(w)
        largest = 4 / 3 * eta + zeta
        if self.prandtl is not None:
            largest = torch.maximum(largest, self.gamma / self.prandtl * eta)
        diffusivity = (largest / w[:, :1]).flatten(1).amax(dim=1)
        return super().rate(w) + 2 * diffusivity * sum(h**-2 for h in self.grid.spacing)

    def rhs(self, u: Tensor) -> Tensor:
        slope = super().rhs(u)
        w = self.to_primitive(u)
        for axis, a in enumerate(self.grid.axes):
            w = self._padded(w, axis).narrow(axis + 2, 1, a.size + 2)
        for axis, a in enumerate(self.grid.axes):
            slope = slope + self.viscous_flux(w, axis).diff(dim=axis + 2) / a.spacing
        return slope

    def viscous_flux(self, w: Tensor, axis: int) -> Tensor:
        """Stress and heat that pass the faces normal to an axis, [b, c, .., n + 1, ..], from
        primitive variables with one cell more on every side.
        """
        eta, zeta = self._coefficients(w)
        velocity, temperature = w[:, 1:-1], w[:, -1:] / w[:, :1]
        # slopes[m][:, j] is dv_j / dx_m
        slopes = [self._slope_at_faces(velocity, m, axis) for m in range(self.grid.ndim)]
        divergence = sum(slope[:, m, None] for m, slope in enumerate(slopes))
        turned = torch.stack([slope[:, axis] for slope in slopes], dim=1)
        stress = list((eta * (slopes[axis] + turned)).split(1, dim=1))
        stress[axis] = stress[axis] + (zeta - 2 / 3 * eta) * divergence
        stress = torch.cat(stress, dim=1)
        heat = (self._mean_at_faces(velocity, axis) * stress).sum(dim=1, keepdim=True)
        if self.prandtl is not None:
            conductivity = eta * self.gamma / ((self.gamma - 1) * self.prandtl)
            heat = heat + conductivity * self._slope_at_faces(temperature, axis, axis)
        return torch.cat((torch.zeros_like(heat), stress, heat), dim=1)

    def _coefficients(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """eta and zeta, broadcastable to a field."""
        values = (self.per_sample(v, like) for v in (self.viscosity, self.bulk_viscosity))
        eta, zeta = (torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in values)
        return eta, zeta

    def _slope_at_faces(self, q: Tensor, along: int, axis: int) -> Tensor:
        """dq / dx_along at the faces normal to `axis`."""
        a = self.grid.axes[along]
        dim, n, h = along + 2, a.size, a.spacing
        if along == axis:
            return self._inside(q, axis).diff(dim=dim) / h
        ahead, behind = (q.narrow(dim, start, n) for start in (2, 0))
        return self._mean_at_faces((ahead - behind) / (2 * h), axis)

    def _mean_at_faces(self, q: Tensor, axis: int) -> Tensor:
        q, dim, n = self._inside(q, axis), axis + 2, self.grid.axes[axis].size
        return 0.5 * (q.narrow(dim, 0, n + 1) + q.narrow(dim, 1, n + 1))

    def _inside(self, q: Tensor, axis: int) -> Tensor:
        """Without the outer cells of the axes other than `axis`, where they are still there."""
        for k, a in enumerate(self.grid.axes):
            if k != axis and q.shape[k + 2] == a.size + 2:
                q = q.narrow(k + 2, 1, a.size)
        return q
