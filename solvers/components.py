"""Connected parts of a masked domain, and the constants on those that nothing holds."""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import scipy.sparse
import torch
from torch import Tensor


def label(mask: Tensor, periodic: Sequence[bool]) -> Tensor:
    """Number of the connected part of every cell, [b, *space]; 0 where `mask` is False.

    Cells are neighbours across faces, and across the ends of a periodic axis; never between
    samples. Parts are counted 1, 2, .. through the whole batch. Computed on the CPU.
    """
    cells = mask.cpu().numpy()
    structure = scipy.ndimage.generate_binary_structure(cells.ndim, 1)
    structure[0] = structure[2] = False  # samples do not touch
    labels, count = scipy.ndimage.label(cells, structure)
    if not any(periodic):
        return torch.from_numpy(labels.astype(np.int64)).to(mask.device)
    ends = [
        np.stack([labels.take(i, k + 1).ravel() for i in (0, -1)]) for k in np.flatnonzero(periodic)
    ]
    lower, upper = np.concatenate(ends, axis=1)
    both = (lower > 0) & (upper > 0)
    # Label 0 is a node without edges, so that it stays number 0.
    edges = scipy.sparse.coo_array(
        (np.ones(both.sum()), (lower[both], upper[both])), shape=(count + 1, count + 1)
    )
    _, merged = scipy.sparse.csgraph.connected_components(edges, directed=False)
    return torch.from_numpy(merged[labels].astype(np.int64)).to(mask.device)


class FloatingParts:
    """Connected parts of `mask` [b, *space] without a cell that is `held` [b, *space].

    With `held` = ground > 0 the constants on each of these parts, and all that lies outside `mask`,
    are the null space of a `Stencil`. A call projects x [b, *space] onto the orthogonal complement,
    which is its range too: the mean of x over each part becomes zero, and x outside `mask`.
    """

    def __init__(self, mask: Tensor, held: Tensor, periodic: Sequence[bool]):
        self.mask = mask
        labels = label(mask, periodic).flatten()
        is_floating = torch.ones(int(labels.max()) + 1, dtype=torch.bool, device=mask.device)
        is_floating[labels[held.flatten()]] = False
        is_floating[0] = False
        number = is_floating.cumsum(0) - 1
        inside = is_floating[labels].nonzero().flatten()
        part, order = number[labels[inside]].sort(stable=True)
        self.cells, self.part = inside[order], part
        self.sizes = torch.bincount(part, minlength=int(is_floating.sum()))

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.where(self.mask, x, 0.0)
        if len(self.sizes) == 0:
            return x
        means = self.sum(x) / self.sizes
        return x.flatten().index_add(0, self.cells, -means[self.part]).view_as(x)

    def sum(self, x: Tensor) -> Tensor:
        """Of x [b, *space] over every part; its rounding depends on the cells of the part alone."""
        return torch.segment_reduce(x.flatten()[self.cells], "sum", lengths=self.sizes)

    def require_balance(self, b: Tensor, size: Tensor, allowed: float) -> None:
        """ValueError unless b [b, *space] sums to zero on each part, to `allowed` times the sum of
        `size` [b, *space], which bounds |b|.
        """
        if len(self.sizes) == 0:
            return
        excess, size = self.sum(b).abs(), self.sum(size)
        if not (excess > allowed * size).any():
            return
        worst = int(torch.where(excess > 0, excess / size, 0.0).argmax())
        sample = int(self.cells[self.part == worst][0]) // self.mask[0].numel()
        raise ValueError(
            f"sample {sample} has a connected part of {int(self.sizes[worst])} cells where nothing "
            "holds u, so the source and the fluxes into it must balance, but they sum to "
            f"{float(excess[worst] / size[worst]):.2e} of their sizes. Subtract the mean of f over "
            "this part, or give it a Dirichlet cell or side."
        )
