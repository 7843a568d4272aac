"""Geometric multigrid for the two-point flux operator, as a preconditioner."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.stencil import Stencil, is_periodic


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
    so that many thin walls cost iterations. All are divided by their
    largest value per sample, so that float32, the fast `dtype`, is safe in any units as long as
    the entries of r are of order one or a little less (`conjugate_gradients` sees to that).
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
            self.levels.append(_Level(fine, _inverse_or_zero(fine.diagonal).mul_(0.5), pairs))
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


class Pairs:
    """Joins cells 2i and 2i + 1 along one axis; the last of an odd number stays alone.

    Read a face as a resistor 1/t between two cell centres, and a pair as a node in the middle of
    its inner resistor. Then

        along the axis   resistances add: 1/t plus half the inner resistance on either side
        across it        the transmissibilities of the two cells add
        to the ground    as along the axis, on either side of the pair; a face and a ground that
                         leave a cell on the same side share its half of the inner resistor in
                         proportion to their transmissibilities
        prolongation     constant flux between coarse nodes: values are linear in resistance
        restriction      its transpose

    For constant coefficients these are the weights 3/4 and 1/4 of linear interpolation, 1/2 next
    to a wall. Where a jumps they follow the kink of the solution, which keeps the number of
    iterations low at high contrast. No width or distance is needed, so uneven cells are no
    special case. In one dimension the energy of a prolonged function is at most that of the
    coarse one, so that coarse corrections never overshoot. Where the transmissibility inside a
    pair is zero, as beside an empty cell, its two cells count as one.
    """

    def __init__(
        self,
        faces: Sequence[Tensor],
        axis: int,
        dtype: torch.dtype,
        grounds: Sequence[Tensor] = (),
    ):
        self.axis = axis + 1
        fronts = [t.movedim(self.axis, 0) for t in (*faces, *grounds)]
        t = fronts[axis]
        self.wraps = bool(grounds) and is_periodic(faces[axis], axis, grounds[0])
        self.size = len(t) - (not self.wraps)
        num_pairs, num_coarse = self.size // 2, (self.size + 1) // 2
        half_inner = torch.zeros_like(t[:num_coarse])
        half_inner[:num_pairs] = _inverse_or_zero(t[1 : 2 * num_pairs : 2]).mul_(0.5)
        outer = t[[*range(0, self.size, 2), 0 if self.wraps else self.size]]
        # The half resistor times what leaves the pair on its lower and upper side.
        below, above = half_inner * outer[:-1], half_inner * outer[1:]
        if grounds:
            ground, top = fronts[len(faces) + 2 * axis :][:2], [*range(1, self.size, 2)]
            top += [self.size - 1] * (num_coarse - num_pairs)
            sides = ground[0][0::2], ground[1][top]
            below.addcmul_(half_inner, sides[0])
            above.addcmul_(half_inner, sides[1])
        divisor = torch.ones_like(outer)
        divisor[:-1] += below
        divisor[1:] += above
        if self.wraps:
            divisor[0] += above[-1]
            divisor[-1] += below[0]
        along = outer / divisor
        lower = half_inner * along[:-1]  # share of the node below in cell 2i
        upper = (half_inner * along[1:])[:num_pairs]  # share of the node above in cell 2i + 1
        lower_own, upper_own = 1 - lower, 1 - upper
        if grounds:
            sides = sides[0] / (1 + below), sides[1] / (1 + above)
            lower_own.addcmul_(half_inner, sides[0], value=-1.0)
            upper_own.addcmul_(half_inner[:num_pairs], sides[1][:num_pairs], value=-1.0)
            sides[0][:num_pairs] += ground[0][1::2]
            sides[1][:num_pairs] += ground[1][0 : 2 * num_pairs : 2]
        self.lower_own, self.lower_other = lower_own.to(dtype), lower[1:].to(dtype)
        self.upper_own, self.upper_other = upper_own.to(dtype), upper[: num_coarse - 1].to(dtype)
        self.first_wrap = lower[0].to(dtype)  # share of the last node in the first cell
        self.last_wrap = upper[-1].to(dtype) if self.size % 2 == 0 else None

        own = {axis: along[:-1] if self.wraps else along}
        if grounds:
            own |= dict(zip((len(faces) + 2 * axis, len(faces) + 2 * axis + 1), sides, strict=True))
        coarse = []
        for k, front in enumerate(fronts):
            if k not in own:
                own[k] = front[0::2].clone()
                own[k][:num_pairs] += front[1::2]
            coarse.append(own[k].movedim(0, self.axis).contiguous())
        self.coarse_faces, self.coarse_grounds = coarse[: len(faces)], coarse[len(faces) :]

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
        if self.wraps:
            lower[0].addcmul_(self.first_wrap, c[-1])
            if self.last_wrap is not None:
                upper[-1].addcmul_(self.last_wrap, c[0])
        return fine

    def restrict(self, fine: Tensor) -> Tensor:
        f = fine.movedim(self.axis, 0)
        lower, upper = f[0::2], f[1::2]
        c = self.lower_own * lower
        c[: len(upper)].addcmul_(self.upper_own, upper)
        c[:-1].addcmul_(self.lower_other, lower[1:])
        c[1:].addcmul_(self.upper_other, upper[: len(c) - 1])
        if self.wraps:
            c[-1].addcmul_(self.first_wrap, lower[0])
            if self.last_wrap is not None:
                c[0].addcmul_(self.last_wrap, upper[-1])
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


def _stencil(faces: Sequence[Tensor], grounds: Sequence[Tensor]) -> Stencil:
    return Stencil(faces, sum(grounds[1:], start=grounds[0]) if grounds else None)


def _inverse_or_zero(t: Tensor) -> Tensor:
    return torch.where(t > 0, 1.0 / t, 0.0)


def _generalised_inverse(stencil: Stencil) -> Tensor:
    """Symmetric X with A X A = A, [b, n, n]: the pseudo-inverse of A scaled to a unit diagonal."""
    scale = _inverse_or_zero(stencil.diagonal.flatten(1)).sqrt()
    scale = scale.unsqueeze(1) * scale.unsqueeze(2)
    return scale * torch.linalg.pinv(scale * stencil.dense(), rtol=1e-12, hermitian=True)
