"""Flexible generalised minimal residuals for batches of any square systems, real or complex."""

import torch
from torch import Tensor

from solvers.krylov import (
    CONVERGED,
    INCONSISTENT,
    NOT_FINITE,
    RUNNING,
    STAGNATED,
    Info,
    Operator,
    check_system,
    dot,
    norm,
    power_of_two,
)


@torch.no_grad()
def fgmres(
    A: Operator,
    b: Tensor,
    M: Operator | None = None,
    *,
    project: Operator | None = None,
    x0: Tensor | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    restart: int = 30,
) -> tuple[Tensor, Info]:
    """Solve A x = b for every sample of a batch, A any square matrix, real or complex as b is.

        z_j = M(v_j),    h_j+1,j v_j+1 = A z_j - sum_i h_ij v_i,    x += sum_j y_j z_j

    with the y that makes the residual least. M stands on the right and may differ from step to
    step: an iteration, rounded to float32, nonlinear or learned. After `restart` steps, or when
    the recurrence claims the tolerance, x is updated and the true residual b - A x computed;
    2 `restart` + 2 vectors are stored. A sample has converged when its true residual is at most
    `tolerance * ||b||`; from then on its x is left alone, however long others take. It is given up

        stagnated       when a cycle lowers the true residual by less than a thousandth, or a
                        claim by less than half since the claim before. A singular A with a b out
                        of its range ends so
        inconsistent    when the residual is small but for what `project` removes; x is then a
                        solution in the sense of least squares
        not finite      when A, M or b brought NaN or infinity

    Nothing is raised for that: read the `Info` or call its `require`. Gradients do not flow
    through the iterations (see `LinearSystem`).

    A, M: callables on tensors [b, ...] that treat samples independently; M sees vectors of norm
    one. `project` is the orthogonal projection onto the range of a singular A whose adjoint has
    the same null space.

    Source: Saad, A flexible inner-outer preconditioned GMRES algorithm, SIAM J. Sci. Comput. 14
    (1993), algorithm 2.2, with modified Gram-Schmidt and Givens rotations.
    """
    check_system(b, x0, tolerance, max_iterations)
    if restart < 1:
        raise ValueError(f"restart={restart} must be 1 or more steps.")

    def P(v: Tensor) -> Tensor:
        return v if project is None else project(v)

    def precondition(v: Tensor) -> Tensor:
        return v if M is None else P(M(v).to(b.dtype))

    scale = power_of_two(b)
    b = b / scale
    norm_b = norm(b)
    target = tolerance * norm_b
    x = torch.zeros_like(b) if x0 is None else torch.where(norm_b == 0, 0.0, P(x0 / scale))
    r = b if x0 is None else b - A(x)
    norm_true = norm(r)
    r = P(r)
    norm_r = norm(r)
    reason = torch.where(norm_true <= target, CONVERGED, RUNNING)
    reason = torch.where(norm_true.isfinite(), reason, NOT_FINITE)
    reason = torch.where((reason == RUNNING) & (norm_r <= target), INCONSISTENT, reason)
    iterations = torch.zeros_like(reason)
    recomputed = torch.full_like(norm_true, torch.inf)

    while (running := (reason == RUNNING) & (iterations < max_iterations)).any():
        length = min(restart, int((max_iterations - iterations)[running].max()))
        left = max_iterations - iterations
        step, used, claims = _cycle(A, precondition, r, target, running, length, left)
        iterations = iterations + used
        x_new = torch.where(running, x + step, x)
        true = b - A(x_new)
        r_new = P(true)
        norm_new = norm(r_new)
        broken = running & ~norm_new.isfinite()
        better = running & (norm_new < norm_r)
        done = better & (norm(true) <= target)
        outside = better & ~done & (norm_new <= target)
        least = torch.where(claims, 0.5 * recomputed, 0.999 * norm_r)
        full = claims | (used == restart) | (used < left)
        stuck = running & full & ~(norm_new <= least)
        recomputed = torch.where(claims, norm_new, recomputed)
        x, r = torch.where(better, x_new, x), torch.where(better, r_new, r)
        norm_r = torch.where(better, norm_new, norm_r)
        norm_true = torch.where(better, norm(true), norm_true)
        reason = torch.where(stuck, STAGNATED, torch.where(outside, INCONSISTENT, reason))
        reason = torch.where(broken, NOT_FINITE, torch.where(done, CONVERGED, reason))

    residual = torch.where(norm_b == 0, 0.0, norm_true / norm_b)
    info = Info(iterations.flatten(), residual.flatten(), reason.flatten(), tolerance)
    return x * scale, info


def _cycle(
    A: Operator,
    precondition: Operator,
    r: Tensor,
    target: Tensor,
    running: Tensor,
    length: int,
    allowed: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The step in x from up to `length` directions, how many each sample used, which claim it.

    Scalars per sample are kept as [b, 1, ...]. Where a sample has stopped, its column of the
    triangular matrix is a unit vector and its coefficient zero.
    """
    beta = torch.where(running, norm(r), 1.0)
    V, Z = [torch.where(running, r / beta, 0.0)], []
    g = [torch.where(running, beta, 0.0).to(r.dtype)]
    columns: list[list[Tensor]] = []
    rotations: list[tuple[Tensor, Tensor]] = []
    used = torch.zeros_like(allowed)
    claims, active = torch.zeros_like(running), running
    rounding = 100 * torch.finfo(r.dtype).eps
    for j in range(length):
        active = active & (used < allowed)
        if not active.any():
            break
        Z.append(torch.where(active, precondition(V[j]), 0.0))
        w = A(Z[j])
        size = norm(w)
        column = []
        for v in V:
            column.append(dot(v, w))
            w = w - column[-1] * v
        below = norm(w)
        for i, (c, s) in enumerate(rotations):
            upper, lower = column[i], column[i + 1]
            column[i], column[i + 1] = c * upper + s * lower, c * lower - s.conj() * upper
        a = column[j]
        length_a = a.abs()
        total = torch.hypot(length_a, below)
        # A direction that A maps into the span of those before adds nothing.
        kept = active & (total > rounding * size)
        absent = torch.where(total.isfinite(), 0.0, torch.nan)  # a NaN must reach x and be seen
        total = torch.where(kept, total, 1.0)
        phase = torch.where(length_a > 0, a / torch.where(length_a > 0, length_a, 1.0), 1.0)
        c = torch.where(kept, length_a / total, 1.0)
        s = torch.where(kept, phase * below / total, 0.0)
        columns.append([torch.where(kept, h, 0.0) for h in column[:j]])
        columns[j].append(torch.where(kept, phase * total, 1.0))
        rotations.append((c, s))
        rest = g[j]
        g[j] = torch.where(kept, c * rest, torch.where(active, absent, 0.0))
        g.append(torch.where(kept, -s.conj() * rest, rest))
        V.append(torch.where(kept & (below > 0), w / torch.where(below > 0, below, 1.0), 0.0))
        used = used + active
        reached = kept & (g[j + 1].abs() <= target)
        claims = claims | reached
        active = kept & ~reached

    step = torch.zeros_like(r)
    y: list[Tensor] = [r] * len(Z)
    for j in reversed(range(len(Z))):
        right = g[j]
        for i in range(j + 1, len(Z)):
            right = right - columns[i][j] * y[i]
        y[j] = right / columns[j][j]
        step = step + y[j] * Z[j]
    return step, used, claims
