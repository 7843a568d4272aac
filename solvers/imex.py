"""Implicit-explicit methods: Crank-Nicolson for the linear part, low-storage Runge-Kutta for the
rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.fourier import on


@dataclass(frozen=True)
class LowStorage:
    """Coefficients of a 2N Runge-Kutta method [Canuto et al. 1988, Spectral Methods, 4.3.2].

    `nodes` are the times of the stages, the end included; `beta` and `gamma` as in `Imex`.
    """

    nodes: tuple[float, ...]
    beta: tuple[float, ...]
    gamma: tuple[float, ...]


SCHEMES = {
    "euler": LowStorage((0.0, 1.0), (0.0,), (1.0,)),
    # Williamson, J. Comput. Phys. 35 (1980), case 7.
    "rk3": LowStorage(
        (0.0, 1 / 3, 3 / 4, 1.0), (0.0, -5 / 9, -153 / 128), (1 / 3, 15 / 16, 8 / 15)
    ),
    # Carpenter & Kennedy, NASA TM-109112 (1994), solution 3.
    "rk4": LowStorage(
        (0.0, 0.1496590219993, 0.3704009573644, 0.6222557631345, 0.9582821306748, 1.0),
        (0.0, -0.4178904745, -1.192151694643, -1.697784692471, -1.514183444257),
        (0.1496590219993, 0.3792103129999, 0.8229550293869, 0.6994504559488, 0.1530572479681),
    ),
}


class Imex:
    """One step of u_t = L u + N(u), L diagonal; per stage k, with mu = dt (a_k+1 - a_k) / 2,

        h <- beta_k h + N(u),    u <- (u + gamma_k dt h + mu L u) / (1 - mu L)

    The explicit part has the order of the Runge-Kutta method, 1, 3 or 4 for `euler`, `rk3` and
    `rk4`; the implicit part is of second order and stable for any dt. `linear` and `nonlinear` as
    in `Exponential`, which is the better choice where L is stiff and accuracy counts; this one is
    what published vorticity data were made with.
    """

    def __init__(
        self,
        linear: Tensor,
        nonlinear: Callable[[Tensor], Tensor],
        dt: float,
        *,
        scheme: str = "rk4",
    ):
        if scheme not in SCHEMES:
            raise ValueError(f"scheme={scheme!r}: choose one of {', '.join(SCHEMES)}.")
        if not dt > 0:
            raise ValueError(f"dt={dt} must be positive.")
        self.linear, self.nonlinear, self.dt, self.scheme = linear, nonlinear, dt, SCHEMES[scheme]

    def __call__(self, v: Tensor) -> Tensor:
        """The state after one step."""
        linear, slope = on(self.linear, v), torch.zeros_like(v)
        nodes = self.scheme.nodes
        for k, (beta, gamma) in enumerate(zip(self.scheme.beta, self.scheme.gamma, strict=True)):
            mu = 0.5 * self.dt * (nodes[k + 1] - nodes[k]) * linear
            slope = beta * slope + self.nonlinear(v)
            v = (v + gamma * self.dt * slope + mu * v) / (1 - mu)
        return v
