"""Proper orthogonal decomposition."""

from typing import NamedTuple

import torch
from torch import Tensor


class POD(NamedTuple):
    """Mean [n], modes [p, n] and the standard deviations [p] of their coefficients."""

    mean: Tensor
    modes: Tensor
    deviations: Tensor


def decompose(u: Tensor, weights: Tensor, modes: int) -> POD:
    """The `modes` orthonormal functions that hold most of the variance of the samples u [N, n].

        u_i = mean + sum_k c_ik phi_k + rest,    <phi_k, phi_l> = sum_j w_j phi_k(j) phi_l(j) = 1
        if k = l, else 0,    deviation_k^2 = 1/N sum_i c_ik^2,    largest first

    By the singular value decomposition of (u - mean) root(w), so that the mean over samples of
    ||rest||^2 is the sum of the squared deviations left out. It takes O(N n min(N, n)) operations.
    N samples have at most N - 1 directions: modes beyond those that they have, up to rounding,
    are zero and so are their deviations.
    """
    mean = u.mean(dim=0)
    root = weights.sqrt()
    _, values, rows = torch.linalg.svd((u - mean) * root, full_matrices=False)
    rounding = max(u.shape) * torch.finfo(u.dtype).eps * (u * root).norm()
    found = values > rounding
    kept = min(modes, int(found.sum()))
    phi, deviations = u.new_zeros(modes, u.shape[1]), u.new_zeros(modes)
    phi[:kept] = rows[:kept] / root
    deviations[:kept] = values[:kept] / len(u) ** 0.5
    return POD(mean, phi, deviations)
