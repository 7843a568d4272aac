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

    Inside, every axis is moved to the front in its turn, so that the lines below read as in 1-D.
    """

    def __init__(self, faces: Sequence[Tensor]):
        self.faces = tuple(faces)
        fronts = [t.movedim(axis, 0) for axis, t in enumerate(self.faces, start=1)]
        self.links = [t[1:-1] for t in fronts]
        self.diagonal = sum(
            (t[1:] + t[:-1]).movedim(0, axis) for axis, t in enumerate(fronts, start=1)
        ).contiguous()

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
        stencil = Stencil([t.repeat_interleave(size, dim=0) for t in self.faces])
        return stencil(identity.repeat(b, 1).view(-1, *space)).view(b, size, size)

    def _add_neighbours(self, out: Tensor, u: Tensor, sign: float) -> Tensor:
        for axis, t in enumerate(self.links, start=1):
            o, v = out.movedim(axis, 0), u.movedim(axis, 0)
            o[1:].addcmul_(t, v[:-1], value=sign)
            o[:-1].addcmul_(t, v[1:], value=sign)
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


def pad_axis(field: Tensor, axis: int) -> Tensor:
    """A field [b, *space] with a layer of zeros on both ends of a space axis."""
    return F.pad(field, [0, 0] * (field.dim() - 2 - axis) + [1, 1])
