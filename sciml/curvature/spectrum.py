"""What the eigenvalues of a large symmetric operator look like, from products with vectors.

Operators are those of curvlinops, or SciPy's where it says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from curvlinops.papyan2020traces.spectrum import (
    fast_lanczos,
    lanczos_approximate_spectrum_from_iter,
)
from curvlinops.sampling import random_vector
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from sciml.curvature.estimate import Estimate, jackknife, mean

POINTS, RESTARTS = 201, 30


class Eigenpairs(NamedTuple):
    """Eigenvalues [k] from the largest on, unit vectors [n, k], and ||A v - value v|| [k]."""

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def largest(
    operator: LinearOperator, count: int, *, tolerance: float = 1e-3, seed: int = 0
) -> Eigenpairs:
    """The `count` largest eigenvalues (not moduli), by ARPACK's restarted Lanczos method to
    residuals of `tolerance` times the eigenvalue. Those that do not get there are left out.
    """
    count = min(count, operator.shape[0] - 1)
    start = np.random.default_rng(seed).standard_normal(operator.shape[0])
    try:
        values, vectors = eigsh(
            operator, count, which="LA", v0=start, tol=tolerance, maxiter=RESTARTS
        )
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    products = [operator @ v - value * v for value, v in zip(values, vectors.T, strict=True)]
    return Eigenpairs(values, vectors, np.array([np.linalg.norm(r) for r in products]))


@dataclass(frozen=True)
class Quadrature:
    """Stochastic Lanczos quadrature of the spectrum [Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal.
    Appl. 38; Papyan 2020, JMLR 21, algorithm 2]:

        tr f(A) / n ~ 1/v sum_l sum_k weights[l, k] f(nodes[l, k])

    for v random vectors l and as many nodes as steps of Lanczos; the weights of a vector add up to
    one. Exact for polynomials of degree 2 m - 1 of the eigenvalues that this vector sees. Its
    `density` over `grid` has bumps of a width of the range over the number of steps: eigenvalues
    closer than that are one.
    """

    nodes: Tensor
    weights: Tensor
    grid: Tensor
    density: Tensor

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """tr f(A) / n."""
        return mean((self.weights * function(self.nodes)).sum(dim=1))

    def ratio(
        self,
        above: Callable[[Tensor], Tensor],
        below: Callable[[Tensor], Tensor],
        power: int = 1,
    ) -> Estimate:
        """(tr f(A) / n)^power / (tr g(A) / n)."""
        columns = ((self.weights * f(self.nodes)).sum(dim=1) for f in (above, below))
        return jackknife(lambda f, g: f.mean() ** power / g.mean(), *columns)

    def negative(self, beyond: float) -> tuple[Estimate, Estimate]:
        """Share of eigenvalues below -beyond, and of the negative ones in the sum of moduli."""
        number = self.mean(lambda x: (x < -beyond).to(x.dtype))
        return number, self.ratio(lambda x: (-x).clamp_min(0), torch.abs)

    def participation(self) -> Estimate:
        """(sum |lambda|)^2 / sum lambda^2 over n: the share of directions that would have all the
        curvature if it were spread evenly over them.
        """
        return self.ratio(torch.abs, torch.square, power=2)


def quadrature(
    operator, steps: int, vectors: int, *, floor: float = 0.0, seed: int = 0
) -> Quadrature:
    """`steps` products for each of the `vectors`. What is smaller than `floor` counts as zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        runs = [fast_lanczos(operator, steps) for _ in range(vectors)]
    nodes = torch.stack([values for values, _ in runs]).cpu()
    nodes[nodes.abs() < floor] = 0
    ends = (float(nodes.min()), float(nodes.max()))
    curves = [lanczos_approximate_spectrum_from_iter(run, ends, POINTS, 3.0, 0.05) for run in runs]
    return Quadrature(
        nodes,
        torch.stack([first[0].square() for _, first in runs]).cpu(),
        curves[0][0].cpu(),
        torch.stack([density for _, density in curves]).mean(0).cpu(),
    )


def traces(
    operator, sizes: Sequence[int], vectors: int, *, known: Eigenpairs, seed: int = 0
) -> tuple[Estimate, list[Estimate]]:
    """Trace of A, and of its diagonal blocks of these `sizes`, by Hutchinson's estimator

        tr A_b = sum_k values_k |v_k,b|^2 + E g_b . (A g - V diag(values) V^T g)_b,    g = +-1

    [Hutchinson 1990, Comm. Statist. 19]. Taking out what is `known` leaves its mean and most of its
    scatter alone [Meyer et al. 2021, arXiv:2010.09649]. One product for each of the `vectors`.
    """
    V, values = (torch.from_numpy(np.ascontiguousarray(x)) for x in (known.vectors, known.values))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = []
        for _ in range(vectors):
            g = random_vector(sum(sizes), "rademacher", operator.device, operator.dtype)
            product, g = (operator @ g).cpu(), g.cpu()
            drawn.append(g * (product - V @ (values * (V.T @ g))))
    blocks = torch.stack([_sums(d, sizes) for d in drawn])
    found = _sums(V.square() @ values, sizes)
    each = [mean(column + offset) for column, offset in zip(blocks.T, found, strict=True)]
    return mean(blocks.sum(dim=1) + found.sum()), each


def _sums(vector: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([part.sum() for part in vector.split(list(sizes))])
