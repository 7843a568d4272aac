"""Shallow water over a bottom."""

import torch
from torch import Tensor

from solvers.finite_volume import ConservationLaw, Numerics
from solvers.grid import Grid


class ShallowWater(ConservationLaw):
    """Depth h and discharge q = h v of shallow water in one or two dimensions over a bottom B:

        h_t + div q = 0,    q_t + div(q q / h + g h^2 / 2) = -g h grad B

    Fluxes are HLLC with Einfeldt's speeds [Toro 2001, Shock-Capturing Methods for Free-Surface
    Shallow Flows, 10.5]. Slopes are limited in the depth, the velocity and the surface h + B, and
    the bottom enters by hydrostatic reconstruction [Audusse et al. 2004, SIAM J. Sci. Comput. 25,
    section 3], so that water at rest stays at rest to rounding. `bottom` is None for a flat one
    or B [*space] at the cell centres; beyond a side it goes on as it ends. Dry ground is not
    treated: a depth that is not positive raises `Unstable` through its wave speed.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        gravity: float = 1.0,
        bottom: Tensor | None = None,
        numerics: Numerics | None = None,
    ):
        if grid.ndim > 2:
            raise ValueError("ShallowWater has one or two dimensions, the depth is the third.")
        if not gravity > 0:
            raise ValueError(f"gravity={gravity} must be positive.")
        if bottom is not None and tuple(bottom.shape) != grid.shape:
            raise ValueError(f"bottom has shape {tuple(bottom.shape)}, the grid {grid.shape}.")
        self.gravity, self.bottom = gravity, bottom
        self.fields = ("depth", *(f"discharge_{axis.name}" for axis in grid.axes))
        super().__init__(grid, dt=dt, numerics=numerics)

    def to_primitive(self, u: Tensor) -> Tensor:
        """Depth, velocity, surface."""
        h = u[:, :1]
        surface = h if self.bottom is None else h + self.bottom.to(u)
        return torch.cat((h, u[:, 1:] / h, surface), dim=1)

    def to_conserved(self, w: Tensor) -> Tensor:
        return torch.cat((w[:, :1], w[:, :1] * w[:, 1:-1]), dim=1)

    def flux(self, w: Tensor, axis: int) -> Tensor:
        h, normal = w[:, 0], w[:, 1 + axis]
        parts = list((self.to_conserved(w) * normal.unsqueeze(1)).unbind(dim=1))
        parts[1 + axis] = parts[1 + axis] + 0.5 * self.gravity * h.square()
        return torch.stack(parts, dim=1)

    def speed(self, w: Tensor, axis: int) -> Tensor:
        return w[:, 1 + axis].abs() + (self.gravity * w[:, 0]).sqrt()

    def numerical_flux(self, left: Tensor, right: Tensor, axis: int) -> Tensor:
        """HLLC, [b, c, ...]."""
        h_l, h_r = left[:, 0], right[:, 0]
        v_l, v_r = left[:, 1 + axis], right[:, 1 + axis]
        c_l, c_r = (self.gravity * h_l).sqrt(), (self.gravity * h_r).sqrt()
        share = 1 / (1 + (h_r / h_l).sqrt())
        v, c = share * v_l + (1 - share) * v_r, (0.5 * self.gravity * (h_l + h_r)).sqrt()
        slow, fast = torch.minimum(v_l - c_l, v - c), torch.maximum(v_r + c_r, v + c)
        m_l, m_r = h_l * (slow - v_l), h_r * (fast - v_r)
        push = 0.5 * self.gravity * (h_r.square() - h_l.square())
        middle = (push + v_l * m_l - v_r * m_r) / (m_l - m_r)
        f_l, f_r = self.flux(left, axis), self.flux(right, axis)
        star_l = f_l + self._jump(left, slow, middle, axis)
        star_r = f_r + self._jump(right, fast, middle, axis)
        slow, fast, middle = (s.unsqueeze(1) for s in (slow, fast, middle))
        inner = torch.where(middle >= 0, star_l, star_r)
        return torch.where(slow >= 0, f_l, torch.where(fast <= 0, f_r, inner))

    def _jump(self, w: Tensor, outer: Tensor, middle: Tensor, axis: int) -> Tensor:
        """outer (u* - u), u* between an outer wave and the contact."""
        h = w[:, 0] * (outer - w[:, 1 + axis]) / (outer - middle)
        velocity = list(w[:, 1:-1].unbind(dim=1))
        velocity[axis] = middle
        star = torch.stack((h, *(h * v for v in velocity)), dim=1)
        return outer.unsqueeze(1) * (star - self.to_conserved(w))

    def face_fluxes(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Over the higher of the two bottoms, with the pressure on the step given to its side."""
        if self.bottom is None:
            return super().face_fluxes(left, right, axis)
        step = torch.maximum(left[:, -1] - left[:, 0], right[:, -1] - right[:, 0])
        lowered = []
        for w in (left, right):
            h = (w[:, -1] - step).clamp_min(torch.finfo(w.dtype).tiny)
            lowered.append(torch.cat((h.unsqueeze(1), w[:, 1:]), dim=1))
        flux = self.numerical_flux(*lowered, axis)
        sides = []
        for w, low in zip((left, right), lowered, strict=True):
            parts = list(flux.unbind(dim=1))
            pressure = 0.5 * self.gravity * (w[:, 0].square() - low[:, 0].square())
            parts[1 + axis] = parts[1 + axis] + pressure
            sides.append(torch.stack(parts, dim=1))
        return sides[0], sides[1]

    def inner_source(self, lower: Tensor, upper: Tensor, axis: int) -> Tensor | None:
        """-g h dB/dx between the ends of a cell."""
        if self.bottom is None:
            return None
        rise = (upper[:, -1] - upper[:, 0]) - (lower[:, -1] - lower[:, 0])
        force = -0.5 * self.gravity * (upper[:, 0] + lower[:, 0]) * rise
        parts = [torch.zeros_like(force) for _ in self.fields]
        parts[1 + axis] = force / self.grid.axes[axis].spacing
        return torch.stack(parts, dim=1)
