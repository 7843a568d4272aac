"""Strong-stability-preserving Runge-Kutta methods [Gottlieb, Shu & Tadmor 2001, SIAM Review 43]."""

from collections.abc import Callable, Sequence

from torch import Tensor

Rhs = Callable[[Tensor], Tensor]


class ShuOsher:
    """Convex combinations of Euler steps: stage i is a_i u + (1 - a_i) (v + dt F(v)), v the one
    before.

    The total variation and the positivity that one Euler step keeps are kept by the method.
    """

    def __init__(self, order: int, shares: Sequence[float]):
        self.order, self.shares = order, tuple(shares)

    def __call__(self, rhs: Rhs, u: Tensor, dt: float | Tensor) -> Tensor:
        v = u
        for share in self.shares:
            v = share * u + (1 - share) * (v + dt * rhs(v))
        return v


SCHEMES = {
    "euler": ShuOsher(1, (0.0,)),
    "ssp_rk2": ShuOsher(2, (0.0, 1 / 2)),
    "ssp_rk3": ShuOsher(3, (0.0, 3 / 4, 1 / 3)),
}
