"""Exponential Runge-Kutta methods: the linear part of an equation exactly, the rest explicitly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.fourier import on

Phi = Callable[[int, float], Tensor]  # (k, c) -> phi_k(c z)


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an exponential Runge-Kutta method as combinations of phi functions.

        u_i = e^(c_i z) u + dt sum_j a_ij(z) N(u_j),    u_next = e^z u + dt sum_j b_j(z) N(u_j)

    with z = dt L. `stages` has a row (c_i, (a_i1, a_i2, ...)) for each stage after the first,
    `weights` the b_j; an entry is a function of `phi`, or None for zero.
    """

    order: int
    stages: Sequence[tuple[float, Sequence[Callable[[Phi], Tensor] | None]]]
    weights: Sequence[Callable[[Phi], Tensor] | None]


# Cox & Matthews, J. Comput. Phys. 176 (2002), equations 4, 20-21, 23-25 and 26-29.
TABLEAUS = {
    1: Tableau(1, (), (lambda p: p(1, 1),)),
    2: Tableau(
        2,
        ((1.0, (lambda p: p(1, 1),)),),
        (lambda p: p(1, 1) - p(2, 1), lambda p: p(2, 1)),
    ),
    3: Tableau(
        3,
        (
            (0.5, (lambda p: p(1, 0.5) / 2,)),
            (1.0, (lambda p: -p(1, 1), lambda p: 2 * p(1, 1))),
        ),
        (
            lambda p: p(1, 1) - 3 * p(2, 1) + 4 * p(3, 1),
            lambda p: 4 * p(2, 1) - 8 * p(3, 1),
            lambda p: 4 * p(3, 1) - p(2, 1),
        ),
    ),
    4: Tableau(
        4,
        (
            (0.5, (lambda p: p(1, 0.5) / 2,)),
            (0.5, (None, lambda p: p(1, 0.5) / 2)),
            (1.0, (lambda p: p(1, 0.5) * (p(0, 0.5) - 1) / 2, None, lambda p: p(1, 0.5))),
        ),
        (
            lambda p: p(1, 1) - 3 * p(2, 1) + 4 * p(3, 1),
            lambda p: 2 * p(2, 1) - 4 * p(3, 1),
            lambda p: 2 * p(2, 1) - 4 * p(3, 1),
            lambda p: 4 * p(3, 1) - p(2, 1),
        ),
    ),
}


class Exponential:
    """One step of u_t = L u + N(u), L diagonal, by an exponential Runge-Kutta method.

    `linear` is L in the space where it is diagonal (a symbol of `Fourier`), real or complex,
    broadcastable to a state; `nonlinear` maps states to states. The coefficients are means over a
    circle in the complex plane where z is small [Kassam & Trefethen 2005, SIAM J. Sci. Comput.
    26], and stay complex where L is: taking their real parts lowers the order to one for
    dispersive equations. They are computed once in complex128 and cast to a state's precision.

    The linear part is exact and sets no limit on dt; the explicit part does.
    """

    def __init__(
        self, linear: Tensor, nonlinear: Callable[[Tensor], Tensor], dt: float, *, order: int = 4
    ):
        if order not in TABLEAUS:
            raise ValueError(f"order={order}: there are methods of order {sorted(TABLEAUS)}.")
        if not dt > 0:
            raise ValueError(f"dt={dt} must be positive.")
        self.nonlinear, self.dt, self.order = nonlinear, dt, order
        self.is_complex = linear.is_complex()
        z = dt * linear.to(torch.complex128)
        known: dict[tuple[int, float], Tensor] = {}

        def evaluate(k: int, c: float) -> Tensor:
            if (k, c) not in known:
                known[k, c] = phi(k, c * z)
            return known[k, c]

        def coefficient(entry: Callable[[Phi], Tensor] | None, scale: float) -> Tensor | None:
            if entry is None:
                return None
            value = scale * entry(evaluate)
            return value if self.is_complex else value.real

        tableau = TABLEAUS[order]
        rows = [*tableau.stages, (1.0, tableau.weights)]
        self._nodes = [c for c, _ in rows]
        self._rows = [
            [coefficient(lambda p, c=c: p(0, c), 1.0), *(coefficient(a, dt) for a in entries)]
            for c, entries in rows
        ]
        self._cast: dict[tuple[torch.dtype, torch.device], list[list[Tensor | None]]] = {}

    def __call__(self, v: Tensor) -> Tensor:
        """The state after one step."""
        # Real coefficients act on real and imaginary parts alike, at half the cost of complex ones.
        pairs = v.is_complex() and not self.is_complex
        split, join = (_as_pairs, torch.view_as_complex) if pairs else (_same, _same)
        start = state = split(v)
        slopes, carried = [], {}  # N of the stages; e^(c z) v, once for each c
        for c, (decay, *entries) in zip(self._nodes, self._on(v, pairs), strict=True):
            slopes.append(split(self.nonlinear(join(state))))
            if c not in carried:
                carried[c] = decay * start
            terms = [pair for pair in zip(entries, slopes, strict=True) if pair[0] is not None]
            state = torch.addcmul(carried[c], *terms[0])
            for entry, slope in terms[1:]:
                state.addcmul_(entry, slope)  # neither operand of a product is overwritten
        return join(state)

    def _on(self, v: Tensor, pairs: bool) -> list[list[Tensor | None]]:
        key = v.dtype, v.device
        if key not in self._cast:
            rows = [[None if c is None else on(c, v) for c in row] for row in self._rows]
            if pairs:
                rows = [
                    [None if c is None else torch.stack((c, c), dim=-1) for c in r] for r in rows
                ]
            self._cast[key] = rows
        return self._cast[key]


def _as_pairs(v: Tensor) -> Tensor:
    return torch.view_as_real(v.resolve_conj())


def _same(v: Tensor) -> Tensor:
    return v


def phi(k: int, z: Tensor, points: int = 32) -> Tensor:
    """phi_0 = e^z, phi_k = (phi_{k-1} - 1/(k-1)!) / z, complex128, accurate also near z = 0.

    For |z| < 1, where the quotient cancels, the mean over a circle of radius 2 around z: phi_k is
    entire, so this is exact up to an error of order 2^points / points!.
    """
    z = z.to(torch.complex128)
    if k == 0:
        return z.exp()
    small = z.abs() < 1
    angle = 2 * torch.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    circle = 2 * torch.exp(1j * angle).to(z.device)
    near = _quotient(k, z[small].unsqueeze(-1) + circle).mean(dim=-1)
    far = _quotient(k, torch.where(small, 1.0, z))
    return far.masked_scatter(small, near)


def _quotient(k: int, z: Tensor) -> Tensor:
    value, factorial = z.exp(), 1.0
    for j in range(1, k + 1):
        value = (value - 1 / factorial) / z
        factorial *= j
    return value
