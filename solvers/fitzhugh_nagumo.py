"""The FitzHugh-Nagumo equations: an excitable medium."""

import torch
from torch import Tensor

from solvers.grid import Grid
from solvers.reaction_diffusion import ReactionDiffusion
from solvers.semilinear import Scheme


class FitzHughNagumo(ReactionDiffusion):
    """u_t = Du Lap u + u - u^3 - k - v,   v_t = Dv Lap v + u - v.

    The activator u and the inhibitor v as in the diffusion-reaction data of PDEBench [Takamoto et
    al. 2022, arXiv 2210.07182] on [-1, 1]^2 with Neumann sides. Those data hold the errors of a
    solver in time with the relative tolerance 1e-3 and of second-order differences. `offset` k is
    a number or [b]. De-aliased by the 1/2 rule unless `dealias` is False, see `ReactionDiffusion`.
    """

    fields, degree = ("activator", "inhibitor"), 3

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        offset: float | Tensor = 5e-3,
        diffusivities: tuple[float | Tensor, float | Tensor] = (1e-3, 5e-3),
        substeps: int = 1,
        scheme: Scheme | None = None,
        dealias: bool = True,
    ):
        self.offset = offset
        options = {"dt": dt, "substeps": substeps, "scheme": scheme, "dealias": dealias}
        super().__init__(grid, tuple(diffusivities), **options)

    def reaction(self, u: Tensor) -> Tensor:
        a, b = u[:, :1], u[:, 1:]
        return torch.cat((a - a**3 - self.per_sample(self.offset, u) - b, a - b), dim=1)
