"""Compressible flow of an ideal gas, with and without viscosity."""

import torch
from torch import Tensor

from solvers.finite_volume import ConservationLaw, Numerics
from solvers.grid import Grid


class Euler(ConservationLaw):
    """Density, momentum and energy of an ideal gas in 1 to 3 dimensions:

        rho_t + div m = 0,    m_t + div(m m / rho + p) = 0,    E_t + div((E + p) m / rho) = 0
        p = (gamma - 1) (E - |m|^2 / (2 rho))

    Fields are density, momentum per axis and energy. Slopes are limited in density, velocity and
    pressure; fluxes are HLLC [Toro 2009, Riemann Solvers, 10.4-10.6] with the wave speeds of
    Einfeldt's bounds of both states and their Roe mean [Batten et al. 1997, SIAM J. Sci. Comput.
    18], exact for contacts at rest. Vacuum is not treated: a density or pressure that is not
    positive raises `Unstable` through its speed of sound.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        gamma: float = 1.4,
        numerics: Numerics | None = None,
    ):
        if not gamma > 1:
            raise ValueError(f"gamma={gamma}, the ratio of specific heats, must be above 1.")
        self.gamma = gamma
        axes = [axis.name for axis in grid.axes]
        self.fields = ("density", *(f"momentum_{a}" for a in axes), "energy")
        super().__init__(grid, dt=dt, numerics=numerics)

    def to_primitive(self, u: Tensor) -> Tensor:
        """Density, velocity and pressure."""
        rho, m, energy = u[:, :1], u[:, 1:-1], u[:, -1:]
        velocity = m / rho
        kinetic = 0.5 * (m * velocity).sum(dim=1, keepdim=True)
        return torch.cat((rho, velocity, (self.gamma - 1) * (energy - kinetic)), dim=1)

    def to_conserved(self, w: Tensor) -> Tensor:
        rho, velocity, p = w[:, :1], w[:, 1:-1], w[:, -1:]
        m = rho * velocity
        kinetic = 0.5 * (m * velocity).sum(dim=1, keepdim=True)
        return torch.cat((rho, m, p / (self.gamma - 1) + kinetic), dim=1)

    def flux(self, w: Tensor, axis: int) -> Tensor:
        return self._flux(w, self.to_conserved(w), axis)

    def _flux(self, w: Tensor, u: Tensor, axis: int) -> Tensor:
        normal, p = w[:, 1 + axis, None], w[:, -1:]
        push = torch.zeros_like(u)
        push[:, 1 + axis] = p[:, 0]
        push[:, -1] = (p * normal)[:, 0]
        return u * normal + push

    def sound(self, w: Tensor) -> Tensor:
        """Speed of sound [b, ...]."""
        return (self.gamma * w[:, -1] / w[:, 0]).sqrt()

    def speed(self, w: Tensor, axis: int) -> Tensor:
        return w[:, 1 + axis].abs() + self.sound(w)

    def numerical_flux(self, left: Tensor, right: Tensor, axis: int) -> Tensor:
        """HLLC, [b, c, ...]."""
        u_l, u_r = self.to_conserved(left), self.to_conserved(right)
        rho_l, rho_r, p_l, p_r = left[:, 0], right[:, 0], left[:, -1], right[:, -1]
        v_l, v_r = left[:, 1 + axis], right[:, 1 + axis]
        slow, fast = self._bounds(left, right, u_l, u_r, axis)
        m_l, m_r = rho_l * (slow - v_l), rho_r * (fast - v_r)
        middle = (p_r - p_l + v_l * m_l - v_r * m_r) / (m_l - m_r)
        star_l = self._star(left, u_l, slow, middle, axis)
        star_r = self._star(right, u_r, fast, middle, axis)
        f_l, f_r = self._flux(left, u_l, axis), self._flux(right, u_r, axis)
        slow, fast, middle = (s.unsqueeze(1) for s in (slow, fast, middle))
        inner_l, inner_r = f_l + slow * (star_l - u_l), f_r + fast * (star_r - u_r)
        inner = torch.where(middle >= 0, inner_l, inner_r)
        return torch.where(slow >= 0, f_l, torch.where(fast <= 0, f_r, inner))

    def _bounds(
        self, left: Tensor, right: Tensor, u_l: Tensor, u_r: Tensor, axis: int
    ) -> tuple[Tensor, Tensor]:
        """Speeds of the slowest and the fastest wave, from both states and their Roe mean."""
        share = 1 / (1 + (right[:, :1] / left[:, :1]).sqrt())
        velocity = share * left[:, 1:-1] + (1 - share) * right[:, 1:-1]
        enthalpy = [(u[:, -1] + w[:, -1]) / w[:, 0] for u, w in ((u_l, left), (u_r, right))]
        mean = share[:, 0] * enthalpy[0] + (1 - share[:, 0]) * enthalpy[1]
        c = ((self.gamma - 1) * (mean - 0.5 * velocity.square().sum(dim=1))).sqrt()
        v = velocity[:, axis]
        slow = torch.minimum(left[:, 1 + axis] - self.sound(left), v - c)
        fast = torch.maximum(right[:, 1 + axis] + self.sound(right), v + c)
        return slow, fast

    def _star(self, w: Tensor, u: Tensor, outer: Tensor, middle: Tensor, axis: int) -> Tensor:
        """Conserved state between an outer wave and the contact."""
        rho, v, p = w[:, 0], w[:, 1 + axis], w[:, -1]
        density = rho * (outer - v) / (outer - middle)
        star = (density / rho).unsqueeze(1) * u
        parts = list(star.unbind(dim=1))
        parts[1 + axis] = density * middle
        parts[-1] = density * (u[:, -1] / rho + (middle - v) * (middle + p / (rho * (outer - v))))
        return torch.stack(parts, dim=1)
