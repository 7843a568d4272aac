"""Cells joined in pairs: one step of coarsening for the two-point flux operator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.stencil import is_periodic


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
        t, first = fronts[axis], len(faces) + 2 * axis  # of the grounds that belong to the axis
        self.wraps = bool(grounds) and is_periodic(faces[axis], axis, grounds[0])
        self.size = len(t) - (not self.wraps)
        num_pairs, num_coarse = self.size // 2, (self.size + 1) // 2
        half_inner = torch.zeros_like(t[:num_coarse])
        half_inner[:num_pairs] = 0.5 / t[1 : 2 * num_pairs : 2]
        outer = t[[*range(0, self.size, 2), 0 if self.wraps else self.size]]
        below, above = outer[:-1], outer[1:]  # all that leaves a pair on its lower, upper side
        if grounds:
            half_inner.masked_fill_(half_inner == torch.inf, 0.0)
            ground = fronts[first : first + 2]
            upper_cells = [*range(1, self.size, 2), *[self.size - 1] * (self.size % 2)]
            sides = ground[0][0::2], ground[1][upper_cells]
            below, above = below + sides[0], above + sides[1]
        divisor = torch.ones_like(outer)
        divisor[:-1].addcmul_(half_inner, below)
        divisor[1:].addcmul_(half_inner, above)
        if self.wraps:
            divisor[0].addcmul_(half_inner[-1], above[-1])
            divisor[-1].addcmul_(half_inner[0], below[0])
        along = outer / divisor
        lower = half_inner * along[:-1]  # share of the node below in cell 2i
        upper = (half_inner * along[1:])[:num_pairs]  # share of the node above in cell 2i + 1
        lower_own, upper_own = 1 - lower, 1 - upper
        if grounds:
            sides = [g / (1 + half_inner * t) for g, t in zip(sides, (below, above), strict=True)]
            lower_own.addcmul_(half_inner, sides[0], value=-1.0)
            upper_own.addcmul_(half_inner[:num_pairs], sides[1][:num_pairs], value=-1.0)
            sides[0][:num_pairs] += ground[0][1::2]
            sides[1][:num_pairs] += ground[1][0 : 2 * num_pairs : 2]
        self.lower_own, self.lower_other = lower_own.to(dtype), lower[1:].to(dtype)
        self.upper_own, self.upper_other = upper_own.to(dtype), upper[: num_coarse - 1].to(dtype)
        self.first_wrap = lower[0].to(dtype)  # share of the last node in the first cell
        self.last_wrap = upper[-1].to(dtype) if self.size % 2 == 0 else None

        fronts[axis] = along[:-1] if self.wraps else along
        if grounds:
            fronts[first : first + 2] = sides
        for k in set(range(len(fronts))) - {axis, first, first + 1}:
            across = fronts[k][0::2].clone()
            across[:num_pairs] += fronts[k][1::2]
            fronts[k] = across
        coarse = [front.movedim(0, self.axis).contiguous() for front in fronts]
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
