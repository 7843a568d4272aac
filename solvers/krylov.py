"""Conjugate directions for batches of symmetric positive definite systems."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]

REASONS = (
    "iteration limit",
    "converged",
    "stagnated",
    "not positive definite",
    "not finite",
    "inconsistent",
    "little progress",
)
RUNNING, CONVERGED, STAGNATED, INDEFINITE, NOT_FINITE, INCONSISTENT, LITTLE = range(7)


class NotConverged(RuntimeError):
    """A linear solve stopped above its tolerance."""


class Info(NamedTuple):
    """How a solve ended, per sample [b].

    `residual` is ||b - A x|| / ||b||, computed from the x that is returned (0 where b = 0);
    `reason` indexes `REASONS`.
    """

    iterations: Tensor
    residual: Tensor
    reason: Tensor
    tolerance: float

    @property
    def converged(self) -> Tensor:
        return self.reason == CONVERGED

    def require(self, advice: str = "") -> None:
        """Raise `NotConverged` about the worst sample unless all have converged."""
        failed = ~self.converged
        if not failed.any():
            return
        worst = int(torch.where(failed, self.residual.nan_to_num(torch.inf), -1.0).argmax())
        raise NotConverged(
            f"{int(failed.sum())} of {len(failed)} systems did not converge. The worst, sample "
            f"{worst}, reached a relative residual of {float(self.residual[worst]):.2e} in "
            f"{int(self.iterations[worst])} iterations ({REASONS[int(self.reason[worst])]}); "
            f"the tolerance is {self.tolerance:.1e}. {advice}".rstrip()
        )


@torch.no_grad()
def conjugate_gradients(
    A: Operator,
    b: Tensor,
    M: Operator | None = None,
    *,
    x0: Tensor | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    num_directions: int = 1,
    patience: int = 200,
    progress: float | None = None,
    project: Operator | None = None,
) -> tuple[Tensor, Info]:
    """Solve A x = b for every sample of a batch, A symmetric positive definite.

        d = M(r);  d -= (d.Aq / q.Aq) q  for each of the last `num_directions` directions q
        x += (d.r / d.Ad) d;  r -= (d.r / d.Ad) A d

    With one stored direction this is the flexible method, the Polak-Ribiere coefficient in another
    form: plain preconditioned conjugate gradients when M is a symmetric positive definite matrix,
    and still sound when M varies from step to step because it is rounded to float32, nonlinear or
    learned. Such an M may want more directions (2 to 20), two vectors of memory each.

    A sample has converged when its true residual b - A x, not the recurrence, is at most
    `tolerance * ||b||`; from then on its x is left alone, however long others take. It is given
    up

        stagnated               when a recomputed residual has not halved since it was last
                                recomputed (the attainable accuracy is reached), or `patience`
                                iterations in a row set no new lowest residual
        not positive definite   when d.Ad < 0
        not finite              when A, M or b brought NaN or infinity
        little progress         with `progress`, when phi(x) = x.Ax / 2 - b.x is negative and fell
                                by less than that share of itself per iteration in the last
                                k = max(10, i / 10) [Martens 2010, ICML, section 4.4]

    Nothing is raised for that: read the `Info` or call its `require`. Gradients do not flow
    through the iterations (see `LinearSystem`).

    A singular A has a solution where b is in its range. `project` is then the orthogonal projection
    onto that range: it takes b, the answers of M and x, so that x has no part in the null space.
    What it takes from b is lost without a word; check before that there is nothing to take.

    A, M: callables on tensors [b, ...] that treat samples independently. M sees residuals of b
    scaled so that its largest entry is of order one (by a power of two, which rounds nothing), so
    it may work in float32; its answer is cast to the dtype of b. M = None is the identity. Where M
    gives an empty direction, d.Ad = 0, r is taken.

    Source: Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22 (2000), truncated at
    `num_directions`.
    """
    check_system(b, x0, tolerance, max_iterations)
    if num_directions < 1:
        raise ValueError(f"num_directions={num_directions} must be 1 or more.")
    if b.is_complex():
        raise ValueError(f"b is {b.dtype}; conjugate_gradients is for real systems, see fgmres.")
    if project is not None:
        b, x0 = project(b), None if x0 is None else project(x0)
    scale = power_of_two(b)
    b = b / scale
    norm_b = norm(b)
    target = tolerance * norm_b
    x = torch.zeros_like(b) if x0 is None else torch.where(norm_b == 0, 0.0, x0 / scale)
    r = b if x0 is None else b - A(x)
    norm_r = lowest = norm(r)
    reason = torch.where(norm_r <= target, CONVERGED, RUNNING)
    reason = torch.where(norm_r.isfinite(), reason, NOT_FINITE)
    iterations, since_lowest = torch.zeros_like(reason), torch.zeros_like(reason)
    recomputed = torch.full_like(norm_r, torch.inf)
    directions: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=num_directions)
    energies = [-dot(x, b + r) / 2]

    for _ in range(max_iterations):
        running = reason == RUNNING
        if not running.any():
            break
        d = r if M is None else M(r).to(b.dtype)
        if project is not None:
            d = project(d)
        for q, Aq, qAq in directions:
            d = torch.addcmul(d, dot(d, Aq) / qAq, q, value=-1.0)
        if not running.all():
            d = torch.where(running, d, 0.0)
        Ad = A(d)
        dAd = dot(d, Ad)
        if (empty := running & (dAd == 0)).any():
            d = torch.where(empty, r, d)
            Ad = A(d)
            dAd = dot(d, Ad)
        reason = torch.where(running & (dAd <= 0), INDEFINITE, reason)
        reason = torch.where(running & ~dAd.isfinite(), NOT_FINITE, reason)
        running = reason == RUNNING
        if not running.all():
            d, Ad = torch.where(running, d, 0.0), torch.where(running, Ad, 0.0)
            dAd = torch.where(running, dAd, 1.0)
        directions.append((d, Ad, dAd))

        dr = dot(d, r)
        step = dr / dAd
        x = torch.addcmul(x, step, d)
        r = torch.addcmul(r, step, Ad, value=-1.0)
        norm_r = norm(r)
        iterations += running
        if (claims := running & (norm_r <= target)).any():
            r = torch.where(claims, b - A(x), r)
            norm_r = norm(r)
            done = claims & (norm_r <= target)
            stuck = claims & ~done & (norm_r > 0.5 * recomputed)
            recomputed = torch.where(claims, norm_r, recomputed)
            reason = torch.where(done, CONVERGED, torch.where(stuck, STAGNATED, reason))
        since_lowest = torch.where(norm_r < lowest, 0, since_lowest + 1)
        lowest = torch.minimum(lowest, norm_r)
        reason = torch.where((reason == RUNNING) & (since_lowest >= patience), STAGNATED, reason)
        if progress is not None:
            energies.append(energies[-1] - step * dr / 2)
            little = (reason == RUNNING) & _is_little(energies, progress)
            reason = torch.where(little, LITTLE, reason)

    if project is not None:
        x = project(x)
    if (reason != CONVERGED).any():
        norm_r = torch.where(reason == CONVERGED, norm_r, norm(b - A(x)))
        reason = torch.where(norm_r <= target, CONVERGED, reason)
    residual = torch.where(norm_b == 0, 0.0, norm_r / norm_b)
    info = Info(iterations.flatten(), residual.flatten(), reason.flatten(), tolerance)
    return x * scale, info


def _is_little(energies: list[Tensor], progress: float) -> Tensor:
    """Whether the energy, one number per iteration, has all but stopped falling."""
    last, k = energies[-1], max(10, (len(energies) - 1) // 10)
    if len(energies) <= k:
        return torch.zeros_like(last, dtype=torch.bool)
    return (last < 0) & (energies[-1 - k] - last < k * progress * last.abs())


def power_of_two(b: Tensor) -> Tensor:
    """Just above the largest entry of every sample, [b, 1, ...]; dividing by it rounds nothing."""
    largest = b.abs().flatten(1).amax(dim=1).view(-1, *[1] * (b.dim() - 1))
    return torch.exp2(torch.frexp(largest).exponent.to(largest.dtype))


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner products x^H y per sample, kept as [b, 1, ...].

    Summed row by row, so that rounding does not depend on the number of samples or threads.
    """
    total = (x.conj() * y).sum(dim=-1, keepdim=True).flatten(1).sum(dim=1)
    return total.view(-1, *[1] * (x.dim() - 1))


def norm(x: Tensor) -> Tensor:
    """Euclidean norms per sample, real, kept as [b, 1, ...]."""
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj()).flatten(-2)
    return dot(x, x).sqrt()


def check_system(b: Tensor, x0: Tensor | None, tolerance: float, max_iterations: int) -> None:
    """What every iteration here asks of its arguments."""
    if b.dim() < 2 or not (b.is_floating_point() or b.is_complex()):
        raise ValueError(
            f"b must be a batch of real or complex vectors or fields [b, ...], got shape "
            f"{tuple(b.shape)} of {b.dtype}; add a batch axis with b[None]."
        )
    if x0 is not None and x0.shape != b.shape:
        raise ValueError(f"x0 has shape {tuple(x0.shape)} and b {tuple(b.shape)}; make them agree.")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} must be positive; it is relative to ||b||.")
    if max_iterations < 1:
        raise ValueError(f"max_iterations={max_iterations} must be 1 or more.")
