"""Parameters as stacks of matrices."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sciml.curvature.pairs import Layout


class Matrices(NamedTuple):
    """K matrices [m, n] that the numbers of a parameter are, complex for complex parameters, by its
    layout:

        kernel     [groups, out / groups, rest]: all weights of an output in a row
        modes      [modes, in, out]
        channels   [modes, in, out], of [in, out, *modes]
        train      [1, r, n r'] or [1, r n, r'] of a core [r, n, r'], the one nearer to a square
    """

    sizes: tuple[int, ...]  # of the parameter, without the axis of pairs
    shape: tuple[int, int, int]
    is_pair: bool
    modes_last: bool

    @classmethod
    def of(cls, p: nn.Parameter, layout: Layout) -> "Matrices | None":
        """None for vectors: one axis, or matrices with a side of one."""
        sizes = tuple(p.shape[:-1] if layout.is_pair and not p.is_complex() else p.shape)
        if len(sizes) < 2 or layout.kind == "elements":
            return None
        if layout.kind == "modes":
            shape = (math.prod(sizes[:-2]), *sizes[-2:])
        elif layout.kind == "channels":
            shape = (math.prod(sizes[2:]), *sizes[:2])
        elif layout.kind == "train":
            r, n, s = sizes
            shape = (1, r, n * s) if max(r, n * s) <= max(r * n, s) else (1, r * n, s)
        else:
            shape = (layout.groups, sizes[0] // layout.groups, math.prod(sizes[1:]))
        if min(shape[1:]) == 1:
            return None
        return cls(sizes, shape, layout.is_pair, modes_last=layout.kind == "channels")

    def join(self, x: Tensor) -> Tensor:
        """[K, m, n] of the real numbers of a tensor like the parameter."""
        if self.is_pair:
            x = torch.view_as_complex(x.contiguous())
        if self.modes_last:
            x = x.movedim((0, 1), (-2, -1))
        return x.reshape(self.shape)

    def split(self, matrices: Tensor) -> Tensor:
        """The inverse of `join`."""
        if self.modes_last:
            x = matrices.view(*self.sizes[2:], *self.sizes[:2]).movedim((-2, -1), (0, 1))
        else:
            x = matrices.reshape(self.sizes)
        return torch.view_as_real(x.resolve_conj()) if self.is_pair else x
