"""Geometric multigrid for the two-point flux operator, as a preconditioner."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.stencil import Stencil


class Multigrid:
    """One V-cycle: M r, a symmetric positive definite stand-in for A^-1 r, A = Stencil(faces).

    Cells are joined in pairs along an axis (`Pairs`); any number of cells will do, an odd one out
    is carried over as it is. All axes whose cells are at most 1.5 times the smallest spacing are
    coarsened together while the others wait, so that cells become square before they become
    large. The smoother is the Chebyshev polynomial of the fourth kind in D^-1 A, the same before
    and after the coarse correction, which makes M symmetric. It needs one bound on the spectrum
    of D^-1 A, and 2 is one for every flux balance (Gershgorin). A grid of up to `coarsest` cells
    is solved by its inverse matrix.

    Transmissibilities must be positive; those of a wall may be zero. They are divided by their
    largest value per sample, so that float32, the fast `dtype`, is safe in any units as long as
    the entries of r are of order one or a little less (`conjugate_gradients` sees to that).
    Building it costs about as much as applying it twice. Nothing here is differentiable.

    Shapes: faces as in `Stencil`; r [b, *space] of any dtype, which the answer shares.

    Smoother: Lottes, Optimal polynomial smoothers for multigrid V-cycles, Numer. Linear Algebra
    Appl. 30 (2023): the fourth-kind Chebyshev iteration, without the optimised weights.
    """

    @torch.no_grad()
    def __init__(
        self,
        faces: Sequence[Tensor],
        spacing: Sequence[float],
        *,
        degree: int = 3,
        coarsest: int = 32,
        dtype: torch.dtype = torch.float32,
    ):
        if degree < 1:
            raise ValueError(f"degree={degree} must be 1 or more smoothing steps.")
        self.degree, self.dtype = degree, dtype
        spacing = list(spacing)
        largest = torch.stack([t.flatten(1).amax(dim=1) for t in faces]).amax(dim=0)
        self.scale = largest.view(-1, *[1] * len(spacing))
        faces = [t / self.scale for t in faces]
        self.levels: list[_Level] = []
        while (stencil := Stencil(faces)).diagonal[0].numel() > coarsest:
            pairs = []
            for axis in _axes_to_coarsen(stencil.diagonal.shape[1:], spacing):
                pairs.append(Pairs(faces, axis, dtype))
                faces = pairs[-1].coarse_faces
                spacing[axis] *= 2
            fine = Stencil([t.to(dtype) for t in stencil.faces])
            self.levels.append(_Level(fine, 0.5 / fine.diagonal, pairs))
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


class Pairs:
    """Joins cells 2i and 2i + 1 along one axis; the last of an odd number stays alone.

    Read a face as a resistor 1/t between two cell centres, and a pair as a node in the middle of
    its inner resistor. Then

        along the axis   resistances add: 1/t plus half the inner resistance on either side
        across it        the transmissibilities of the two cells add
        prolongation     constant flux between coarse nodes: values are linear in resistance
        restriction      its transpose

    For constant coefficients these are the weights 3/4 and 1/4 of linear interpolation, 1/2 next
    to a wall. Where a jumps they follow the kink of the solution, which keeps the number of
    iterations low at high contrast. No width or distance is needed, so uneven cells are no
    special case. In one dimension the energy of a prolonged function is at most that of the
    coarse one, so that coarse corrections never overshoot.
    """

    def __init__(self, faces: Sequence[Tensor], axis: int, dtype: torch.dtype):
        self.axis = axis + 1
        fronts = [t.movedim(self.axis, 0) for t in faces]
        t = fronts[axis]
        self.size = len(t) - 1
        num_pairs, num_coarse = self.size // 2, (self.size + 1) // 2
        half_inner = torch.zeros_like(t[:num_coarse])
        half_inner[:num_pairs] = 0.5 / t[1 : 2 * num_pairs : 2]
        resistance = 1.0 / t[[*range(0, self.size, 2), self.size]]
        resistance[:-1] += half_inner
        resistance[1:] += half_inner
        along = 1.0 / resistance
        lower = half_inner * along[:-1]  # share of the node below in cell 2i
        upper = (half_inner * along[1:])[:num_pairs]  # share of the node above in cell 2i + 1
        self.lower_own, self.lower_other = (1 - lower).to(dtype), lower[1:].to(dtype)
        self.upper_own, self.upper_other = (1 - upper).to(dtype), upper[: num_coarse - 1].to(dtype)

        fronts[axis] = along
        for other in set(range(len(faces))) - {axis}:
            across = fronts[other][0::2].clone()
            across[:num_pairs] += fronts[other][1::2]
            fronts[other] = across
        self.coarse_faces = [front.movedim(0, self.axis).contiguous() for front in fronts]

    def prolong(self, coarse: Tensor) -> Tensor:
        shape = list(coarse.shape)
        shape[self.axis] = self.size
        fine = coarse.new_empty(shape)
        c, f = coarse.movedim(self.axis, 0), fine.movedim(self.axis, 0)
        lower, upper = f[0::2], f[1::2]
        torch.mul(self.lower_own, c, out=lower)
        torch.mul(self.upper_own, c[: len(upper)], out=upper)
        lower[1:].addcmul_(self.lower_other, c[:-1])
        upper[: len(c) - 1].addcmul_(self.upper_other, c[1:])
        return fine

    def restrict(self, fine: Tensor) -> Tensor:
        f = fine.movedim(self.axis, 0)
        lower, upper = f[0::2], f[1::2]
        c = self.lower_own * lower
        c[: len(upper)].addcmul_(self.upper_own, upper)
        c[:-1].addcmul_(self.lower_other, lower[1:])
        c[1:].addcmul_(self.upper_other, upper[: len(c) - 1])
        return c.movedim(0, self.axis)


class _Level(NamedTuple):
    stencil: Stencil
    half_inverse_diagonal: Tensor
    pairs: list[Pairs]


def _axes_to_coarsen(shape: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Axes with more than one cell and cells at most 1.5 times the smallest of them."""
    candidates = [axis for axis, size in enumerate(shape) if size > 1]
    smallest = min(spacing[axis] for axis in candidates)
    return [axis for axis in candidates if spacing[axis] <= 1.5 * smallest]
