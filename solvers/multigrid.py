"""Geometric multigrid for the two-point flux operator, as a preconditioner."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.pairs import Pairs
from solvers.stencil import Stencil


class Multigrid:
    """One V-cycle: M r, a symmetric positive definite stand-in for A^-1 r, A = Stencil(faces).

    With `grounds` it is A = Stencil(faces, sum(grounds)), which may be singular: cells without
    neighbours, periodic axes, parts that nothing holds.

    Cells are joined in pairs along an axis (`Pairs`); any number of cells will do, an odd one out
    is carried over as it is. All axes whose cells are at most 1.5 times the smallest spacing are
    coarsened together while the others wait, so that cells become square before they become
    large. The smoother is the Chebyshev polynomial of the fourth kind in D^-1 A, the same before
    and after the coarse correction, which makes M symmetric. It needs one bound on the spectrum
    of D^-1 A, and 2 is one for every flux balance (Gershgorin). A grid of up to `coarsest` cells
    is solved by its inverse matrix.

    Without grounds, transmissibilities must be positive; those of a wall may be zero. With them
    any may be zero: A may then be singular, M r is good up to its null space, and the caller
    projects (`conjugate_gradients`). What a thin wall parts is one cell on a coarse enough grid,
    so that many thin walls cost iterations. All are divided by their largest value per sample, so
    that float32, the fast `dtype`, is safe in any units as long as the entries of r are of order
    one or a little less (`conjugate_gradients` sees to that).
    Building it costs about as much as applying it twice. Nothing here is differentiable.

    Shapes: faces as in `Stencil`; grounds, the conductances of every cell to u = 0 on its lower x,
    upper x, lower y .. side, [b, *space] each; r [b, *space] of any dtype, which the answer shares.

    Smoother: Lottes, Optimal polynomial smoothers for multigrid V-cycles, Numer. Linear Algebra
    Appl. 30 (2023): the fourth-kind Chebyshev iteration, without the optimised weights.
    """

    @torch.no_grad()
    def __init__(
        self,
        faces: Sequence[Tensor],
        spacing: Sequence[float],
        grounds: Sequence[Tensor] = (),
        *,
        degree: int = 3,
        coarsest: int = 32,
        dtype: torch.dtype = torch.float32,
    ):
        if degree < 1:
            raise ValueError(f"degree={degree} must be 1 or more smoothing steps.")
        self.degree, self.dtype = degree, dtype
        spacing = list(spacing)
        largest = torch.stack([t.flatten(1).amax(dim=1) for t in (*faces, *grounds)]).amax(dim=0)
        largest = torch.where(largest > 0, largest, 1.0)
        self.scale = largest.view(-1, *[1] * len(spacing))
        faces, grounds = ([t / self.scale for t in ts] for ts in (faces, grounds))
        self.levels: list[_Level] = []
        while (stencil := _stencil(faces, grounds)).diagonal[0].numel() > coarsest:
            pairs = []
            for axis in _axes_to_coarsen(stencil.diagonal.shape[1:], spacing):
                pairs.append(Pairs(faces, axis, dtype, grounds))
                faces, grounds = pairs[-1].coarse_faces, pairs[-1].coarse_grounds
                spacing[axis] *= 2
            ground = None if stencil.ground is None else stencil.ground.to(dtype)
            fine = Stencil([t.to(dtype) for t in stencil.faces], ground)
            half_inverse_diagonal = 0.5 / fine.diagonal
            if grounds:
                half_inverse_diagonal.masked_fill_(fine.diagonal == 0, 0.0)
            self.levels.append(_Level(fine, half_inverse_diagonal, pairs))
        if grounds:
            self.inverse = _generalised_inverse(stencil).to(dtype)
        else:
            self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(stencil.dense())).to(dtype)

    @torch.no_grad()
    def __call__(self, r: Tensor) -> Tensor:
        return self._cycle(0, r.to(self.dtype, copy=True)).to(r.dtype).div_(self.scale)

    def _cycle(self, depth: int, r: Tensor) -> Tensor:
        """The correction for the residual r, which is overwritten."""
        if depth == len(self.levels):
            # Not a matrix product, whose rounding may depend on the number of samples.
            return (self.inverse * r.flatten(1).unsqueeze(1)).sum(dim=2).view_as(r)
        level = self.levels[depth]
        x, last_step = self._smooth(level, r)
        coarse = level.stencil.subtract_(r, last_step)
        for pairs in level.pairs:
            coarse = pairs.restrict(coarse)
        correction = self._cycle(depth + 1, coarse)
        for pairs in reversed(level.pairs):
            correction = pairs.prolong(correction)
        level.stencil.subtract_(r, correction)
        return x.add_(correction).add_(self._smooth(level, r)[0])

    def _smooth(self, level: "_Level", r: Tensor) -> tuple[Tensor, Tensor]:
        """Chebyshev steps for A x = r from x = 0, and the last step, which r still lacks."""
        step = r * level.half_inverse_diagonal * (4 / 3)
        x = step.clone()
        for k in range(2, self.degree + 1):
            level.stencil.subtract_(r, step)
            step.mul_((2 * k - 3) / (2 * k + 1))
            step.addcmul_(level.half_inverse_diagonal, r, value=(8 * k - 4) / (2 * k + 1))
            x.add_(step)
        return x, step


class _Level(NamedTuple):
    stencil: Stencil
    half_inverse_diagonal: Tensor
    pairs: list[Pairs]


def _axes_to_coarsen(shape: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Axes with more than one cell and cells at most 1.5 times the smallest of them."""
    candidates = [axis for axis, size in enumerate(shape) if size > 1]
    smallest = min(spacing[axis] for axis in candidates)
    return [axis for axis in candidates if spacing[axis] <= 1.5 * smallest]


def _stencil(faces: Sequence[Tensor], grounds: Sequence[Tensor]) -> Stencil:
    return Stencil(faces, sum(grounds[1:], start=grounds[0]) if grounds else None)


def _generalised_inverse(stencil: Stencil) -> Tensor:
    """Symmetric X with A X A = A, [b, n, n]: the pseudo-inverse of A scaled to a unit diagonal."""
    diagonal = stencil.diagonal.flatten(1)
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 0.0)
    scale = scale.unsqueeze(1) * scale.unsqueeze(2)
    return scale * torch.linalg.pinv(scale * stencil.dense(), rtol=1e-12, hermitian=True)
