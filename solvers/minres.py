"""Minimal residuals for batches of symmetric systems that need not be definite."""

import torch
from torch import Tensor

from solvers.krylov import (
    CONVERGED,
    INCONSISTENT,
    INDEFINITE,
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

_WAIT = 10  # steps from the first vanishing A r to the verdict: a nearly singular A goes on


@torch.no_grad()
def minres(
    A: Operator,
    b: Tensor,
    M: Operator | None = None,
    *,
    project: Operator | None = None,
    x0: Tensor | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    patience: int = 200,
) -> tuple[Tensor, Info]:
    """Solve A x = b for every sample of a batch, A real and symmetric, indefinite or singular too.

    The Lanczos process for M A, and the x in its space with the least residual in the norm of M:

        v' = A q - (delta / gamma) v - (gamma / gamma_old) v_old,    q = M v / gamma
        delta = q.A q,    gamma'^2 = v'.M v'

    A sample has converged when its true residual b - A x, in the Euclidean norm whatever M is, is
    at most `tolerance * ||b||`; from then on its x is left alone. If the recurrence claims so and
    the true residual does not agree, the process starts again from x. A sample is given up

        inconsistent            b is not in the range of A: r is small but for what `project`
                                removes, or ||A r|| < 10 sqrt(eps) ||A|| ||r|| and ten more steps
                                do not lower r. Then x is one of the solutions in the sense of
                                least squares, to about sqrt(eps)
        stagnated               as in `conjugate_gradients`, one percent in `patience` iterations
                                being the least that counts as progress
        not positive definite   v.M v <= 0: M is not
        not finite              A, M or b brought NaN or infinity

    Nothing is raised for that: read the `Info` or call its `require`. Gradients do not flow through
    the iterations (see `LinearSystem`).

    A, M: callables on tensors [b, ...] that treat samples independently. M must be one symmetric
    positive definite matrix; for one that varies take `fgmres`. `project` is the orthogonal
    projection onto the range of A, for a singular A whose null space is known: it keeps
    rounding from growing there, and x has no part in it. Without it x0 = None still gives the
    solution of least norm, if M = None.

    Source: Paige & Saunders, SIAM J. Numer. Anal. 12 (1975); with a preconditioner as in Elman,
    Silvester & Wathen, Finite Elements and Fast Iterative Solvers (2014), algorithm 4.1.
    """
    check_system(b, x0, tolerance, max_iterations)
    if b.is_complex():
        raise ValueError(f"b is {b.dtype}; minres is for real systems, take fgmres.")

    def P(v: Tensor) -> Tensor:
        return v if project is None else project(v)

    def precondition(v: Tensor) -> Tensor:
        return v if M is None else P(M(v).to(b.dtype))

    scale = power_of_two(b)
    b = b / scale
    norm_b = norm(b)
    target = tolerance * norm_b
    x = torch.zeros_like(b) if x0 is None else torch.where(norm_b == 0, 0.0, P(x0 / scale))
    true = b if x0 is None else b - A(x)
    norm_true = norm(true)
    reason = torch.where(norm_true <= target, CONVERGED, RUNNING)
    reason = torch.where(norm_true.isfinite(), reason, NOT_FINITE)
    iterations, since_lowest = torch.zeros_like(reason), torch.zeros_like(reason)
    lowest, recomputed = norm_true, torch.full_like(norm_true, torch.inf)
    eps, tiny = torch.finfo(b.dtype).eps, torch.finfo(b.dtype).tiny
    x_flat, flattest, waiting = x, torch.full_like(norm_b, torch.inf), torch.zeros_like(reason)

    zero, one = torch.zeros_like(norm_b), torch.ones_like(norm_b)
    v = r = P(true)
    z = precondition(v)
    v_old = w = w_old = torch.zeros_like(b)
    gamma = eta = dot(v, z).clamp(min=0).sqrt()
    gamma_old = c = c_old = one
    s = s_old = size = zero
    if project is not None:
        outside = (reason == RUNNING) & (norm(r) <= target)
        reason = torch.where(outside, INCONSISTENT, reason)
    reason = torch.where((reason == RUNNING) & ~(gamma > 0), INDEFINITE, reason)

    for _ in range(max_iterations):
        running = reason == RUNNING
        if not running.any():
            break
        gamma = torch.where(running, gamma, 1.0)
        q = torch.where(running, z / gamma, 0.0)
        Aq = A(q)
        delta = dot(q, Aq)
        v_new = P(Aq - delta / gamma * v - gamma / gamma_old * v_old)
        v_new = torch.where(running, v_new, 0.0)
        z = torch.where(running, precondition(v_new), 0.0)
        square = dot(v_new, z)
        reason = torch.where(running & (square < 0), INDEFINITE, reason)
        reason = torch.where(running & ~(square + delta).isfinite(), NOT_FINITE, reason)
        gamma_new = square.clamp(min=0).sqrt()

        # The new column of the tridiagonal matrix, turned by the last two rotations.
        a0 = c * delta - c_old * s * gamma
        a1 = torch.hypot(a0, gamma_new)
        a2 = s * delta + c_old * c * gamma
        a3 = s_old * gamma
        size = torch.maximum(size, torch.hypot(delta, gamma_new))
        flat = torch.hypot(a0, c * gamma_new) / size.clamp(min=tiny)  # ||A r|| / ||A|| ||r||
        flatter = (flat < flattest) & (flat <= 10 * eps**0.5)
        x_flat, flattest = torch.where(flatter, x, x_flat), torch.where(flatter, flat, flattest)
        waiting = torch.where(flattest.isfinite(), waiting + 1, 0)
        hopeless = (flat <= 10 * eps) | (waiting >= _WAIT)
        reason = torch.where((reason == RUNNING) & hopeless, INCONSISTENT, reason)
        x = torch.where(running & (reason == INCONSISTENT), x_flat, x)
        running = reason == RUNNING
        a1 = torch.where(running, a1, 1.0)
        c_old, c, s_old, s = c, a0 / a1, s, gamma_new / a1
        w_old, w = w, torch.where(running, (q - a3 * w_old - a2 * w) / a1, 0.0)
        x = torch.where(running, x + c * eta * w, x)
        eta = -s * eta
        unit = v_new / torch.where(gamma_new > 0, gamma_new, 1.0)
        r = torch.where(running, s.square() * r + c * eta * unit, r)
        v_old, v, gamma_old, gamma = v, v_new, gamma, gamma_new
        iterations += running

        norm_r = norm(r)
        if (claims := running & ((norm_r <= target) | (gamma == 0))).any():
            true = torch.where(claims, b - A(x), true)
            norm_true = norm(true)
            r = torch.where(claims, P(true), r)
            norm_r = norm(r)
            done = claims & (norm_true <= target)
            stuck = claims & ~done & (norm_r > 0.5 * recomputed)
            outside = claims & ~done & (norm_r <= target)
            recomputed = torch.where(claims, norm_r, recomputed)
            reason = torch.where(stuck, STAGNATED, torch.where(outside, INCONSISTENT, reason))
            reason = torch.where(done, CONVERGED, reason)
            if (again := claims & (reason == RUNNING)).any():
                v = torch.where(again, r, v)
                z = torch.where(again, precondition(v), z)
                gamma = torch.where(again, dot(v, z).clamp(min=0).sqrt(), gamma)
                reason = torch.where(again & ~(gamma > 0), INDEFINITE, reason)
                eta = torch.where(again, gamma, eta)
                v_old, w, w_old = (torch.where(again, 0.0, t) for t in (v_old, w, w_old))
                s, s_old, size = (torch.where(again, 0.0, t) for t in (s, s_old, size))
                c, c_old, gamma_old = (torch.where(again, 1.0, t) for t in (c, c_old, gamma_old))
        progress = norm_r < 0.99 * lowest
        since_lowest = torch.where(progress, 0, since_lowest + 1)
        lowest = torch.where(progress, norm_r, lowest)
        flattest = torch.where(progress, torch.inf, flattest)
        reason = torch.where((reason == RUNNING) & (since_lowest >= patience), STAGNATED, reason)

    if (reason != CONVERGED).any():
        norm_true = torch.where(reason == CONVERGED, norm_true, norm(b - A(x)))
        reason = torch.where(norm_true <= target, CONVERGED, reason)
    residual = torch.where(norm_b == 0, 0.0, norm_true / norm_b)
    info = Info(iterations.flatten(), residual.flatten(), reason.flatten(), tolerance)
    return x * scale, info
