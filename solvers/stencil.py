"""The two-point flux operator on a tensor product of cells."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Stencil:
    """Flux balance of every cell, in 1 to 3 dimensions (three, five or seven points).

        (A u)_i = sum over the faces of cell i of  t_face (u_i - u_neighbour)

    with u = 0 beyond a wall. `faces[k]` holds the transmissibilities t >= 0 of the faces normal to
    axis k, shape [b, *space] with one entry more along that axis; the first and the last are walls.
    A is symmetric, and positive definite if every sample has a wall with t > 0. Widths, areas and
    coefficients are all inside t, so the cells may have any widths.

    `ground` [b, *space], the conductance of every cell to u = 0, adds ground_i u_i. With it an axis
    may be periodic: then it has as many faces as cells, face j below cell j and face 0 between the
    two ends. A cell whose t and ground are all zero has an empty row and column.

    Inside, every axis is moved to the front in its turn, so that the lines below read as in 1-D.
    """

    def __init__(self, faces: Sequence[Tensor], ground: Tensor | None = None):
        self.faces, self.ground = tuple(faces), ground
        fronts = [t.movedim(axis, 0) for axis, t in enumerate(self.faces, start=1)]
        self.links, self.wraps, terms = [], [], []
        for axis, t in enumerate(fronts, start=1):
            wraps = is_periodic(t.movedim(0, axis), axis - 1, ground)
            if wraps and len(t) == 1:  # no cell is its own neighbour
                t = torch.zeros_like(t)
            self.links.append(t[1:] if wraps else t[1:-1])
            self.wraps.append(t[0] if wraps else None)
            upper = t.roll(-1, 0) if wraps else t[1:]
            terms.append((upper + (t if wraps else t[:-1])).movedim(0, axis))
        self.diagonal = sum(terms if ground is None else [*terms, ground]).contiguous()

    def __call__(self, u: Tensor) -> Tensor:
        """A u, shape [b, *space]; differentiable in u and in the transmissibilities."""
        return self._add_neighbours(self.diagonal * u, u, -1.0)

    def subtract_(self, r: Tensor, u: Tensor) -> Tensor:
        """r - A u, written into r."""
        return self._add_neighbours(r.addcmul_(self.diagonal, u, value=-1.0), u, 1.0)

    def dense(self) -> Tensor:
        """A as matrices [b, n, n] over the flattened cells; for small grids."""
        b, *space = self.diagonal.shape
        size = math.prod(space)
        identity = torch.eye(size, dtype=self.diagonal.dtype, device=self.diagonal.device)
        # Every sample meets every unit vector: a batch of b * size fields.
        many = [t.repeat_interleave(size, dim=0) for t in self.faces]
        ground = None if self.ground is None else self.ground.repeat_interleave(size, dim=0)
        stencil = Stencil(many, ground)
        return stencil(identity.repeat(b, 1).view(-1, *space)).view(b, size, size)

    def _add_neighbours(self, out: Tensor, u: Tensor, sign: float) -> Tensor:
        for axis, (t, wrap) in enumerate(zip(self.links, self.wraps, strict=True), start=1):
            o, v = out.movedim(axis, 0), u.movedim(axis, 0)
            o[1:].addcmul_(t, v[:-1], value=sign)
            o[:-1].addcmul_(t, v[1:], value=sign)
            if wrap is not None:
                o[0].addcmul_(wrap, v[-1], value=sign)
                o[-1].addcmul_(wrap, v[0], value=sign)
        return out


def transmissibilities(a: Tensor, spacing: Sequence[float]) -> list[Tensor]:
    """Face area over the resistance between the centres beside it, a [b, *space] (see `Stencil`).

    Half a cell resists by h / (2 a); a face between two cells has two halves, a wall has one.
    """
    half = 0.5 / a
    faces = []
    for axis, (h, size) in enumerate(zip(spacing, a.shape[1:], strict=True)):
        padded = pad_axis(half, axis)
        halves = padded.narrow(axis + 1, 0, size + 1) + padded.narrow(axis + 1, 1, size + 1)
        faces.append(math.prod(spacing) / h**2 / halves)
    return faces


def is_periodic(t: Tensor, axis: int, ground: Tensor | None) -> bool:
    """Whether the faces t normal to an axis are as many as its cells (see `Stencil`)."""
    return ground is not None and t.shape[axis + 1] == ground.shape[axis + 1]


def pad_axis(field: Tensor, axis: int) -> Tensor:
    """A field [b, *space] with a layer of zeros on both ends of a space axis."""
    return F.pad(field, [0, 0] * (field.dim() - 2 - axis) + [1, 1])
