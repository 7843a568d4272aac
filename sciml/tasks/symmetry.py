"""Training data multiplied by the symmetries of their domain."""

import torch

from datasets.schema import Batch, Metadata


class SquareSymmetry:
    """Maps each batch by a random symmetry of the square or cube: a permutation of its axes.

    If (a, u) solves an equation that has no preferred direction, on a domain and with boundary
    conditions and sources that the permutation leaves alone, then so does the permuted pair. That
    is for the user to know; what can be checked is: the axes agree in all but name, and all
    fields are scalars. With `reflections` the axes are also reversed at random, which grids with
    points `left` do not allow. Draws from torch's global random state, which checkpoints keep.
    """

    def __init__(self, reflections: bool = False):
        self.reflections = reflections

    def check(self, metadata: Metadata) -> None:
        """ValueError if the data cannot have these symmetries."""
        first, *others = metadata.grid.axes
        alike = all(
            (a.size, a.length, a.boundary, a.points)
            == (first.size, first.length, first.boundary, first.points)
            for a in others
        )
        same_sides = all(a.boundary[0] == a.boundary[1] for a in metadata.grid.axes)
        vectors = [
            f.name for f in (*metadata.input_fields, *metadata.target_fields) if f.components > 1
        ]
        if not alike or vectors:
            raise ValueError(
                "task.symmetry: SquareSymmetry needs axes of one size, length, boundary condition "
                f"and position of points, and scalar fields; got {metadata.describe()}"
                + (f" with vector fields {vectors}." if vectors else ".")
            )
        if self.reflections and (first.points == "left" or not same_sides):
            raise ValueError(
                "task.symmetry: reflections need points that lie symmetrically (cells or "
                f"nodes) and the same condition on both sides; got points={first.points!r}, "
                f"boundary={first.boundary}."
            )

    def __call__(self, batch: Batch) -> Batch:
        ndim = batch.input.ndim - 2
        order = torch.randperm(ndim).tolist()
        flipped = torch.randint(2, (ndim,)).nonzero().flatten().tolist() if self.reflections else []
        moved = [
            u.permute(0, 1, *(2 + i for i in order)).flip([2 + i for i in flipped]).contiguous()
            for u in (batch.input, batch.target)
        ]
        return batch._replace(input=moved[0], target=moved[1])
