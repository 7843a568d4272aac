"""The difference equations of time-harmonic waves on nodes, with absorbing layers."""

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.absorbing_layer import AbsorbingLayer
from solvers.grid import Grid


class WaveOperator:
    """A(k) u, the stretched -Lap u - k^2 u in 1 or 2 dimensions on the grid and its layers.

        A u = -sum_i T_i d_i( (prod_j!=i s_j / s_i) d_i u ) - M (s k^2 u),    s = prod_i s_i
        T_i = 1 + c sum_j!=i D_j,    M = 1 + c sum_j D_j,    c = 0 (order 2) or 1/12 (order 4)

    D_j v is the second difference v_-1 - 2 v + v_+1. Neumann sides mirror the nodes; on Dirichlet
    sides and at the ends of layers u = 0 and A u is left zero. u [b, *padded] is complex, k
    [b, *space] real, in double precision; differentiable in both.
    """

    def __init__(self, grid: Grid, order: int, layers: int):
        self.grid, self.axes = grid, [AbsorbingLayer(axis, layers) for axis in grid.axes]
        self.average = {2: 0.0, 4: 1 / 12}[order]
        self.shape = tuple(axis.size for axis in self.axes)
        mesh = torch.meshgrid(*(axis.is_free for axis in self.axes), indexing="ij")
        self.free = torch.stack(mesh).all(dim=0)

    def __call__(self, u: Tensor, k: Tensor, shift: complex = 1.0) -> Tensor:
        """A(k) u; `shift` multiplies k^2 outside the stretching, for preconditioners."""
        stretch = [axis.stretching(k.flatten(1).mean(dim=1, keepdim=True)) for axis in self.axes]
        nodes = [self._along(i, node) for i, (node, _) in enumerate(stretch)]
        out = self.mean(shift * self._extended(k).square() * u, nodes)
        for i, (_, half) in enumerate(stretch):
            flux = u.diff(dim=i + 1) / self._along(i, half) / self.axes[i].axis.spacing ** 2
            w = self._divergence(flux, i)
            for j in range(len(stretch)):
                if j != i:
                    w = nodes[j] * w
                    w = w + self.average * self._second(w, j)
            out = out + w
        return torch.where(self.free.to(u.device), -out, 0.0)

    def on_free_nodes(self, u: Tensor, k: Tensor) -> Tensor:
        """A(k) u for u = 0 on the other nodes, whatever it holds there."""
        return self(torch.where(self.free.to(u.device), u, 0.0), k)

    def mean(self, g: Tensor, nodes: list[Tensor] | None = None) -> Tensor:
        """M (s g); without `nodes` s is 1, which it is wherever there is a source."""
        for s in nodes or []:
            g = s * g
        return g + self.average * sum(self._second(g, i) for i in range(len(self.axes)))

    def source(self, f: Tensor) -> Tensor:
        """The right-hand side M f [b, *padded] of a complex f [b, *space], zero in the layers."""
        return torch.where(self.free.to(f.device), self.mean(self.padded(f)), 0.0)

    def padded(self, u: Tensor) -> Tensor:
        """A field [b, *space] with zeros in the layers."""
        return F.pad(u, [n for axis in reversed(self.axes) for n in (axis.before, axis.after)])

    def inside(self, u: Tensor) -> Tensor:
        """A field [b, *padded] without its layers."""
        for i, axis in enumerate(self.axes):
            u = u.narrow(i + 1, axis.before, axis.axis.size)
        return u

    def matrices(self, k: Tensor, shift: complex = 1.0) -> Iterator[scipy.sparse.csc_matrix]:
        """A(k) of one sample after the other, on the free nodes, complex128.

        Unit vectors three nodes apart meet in no equation, so 3 or 9 products give all entries.
        """
        index = torch.full(self.shape, -1)
        index[self.free] = torch.arange(int(self.free.sum()))
        positions = torch.meshgrid(*(torch.arange(n) for n in self.shape), indexing="ij")
        rows, columns, combs = [], [], []
        for colour in itertools.product(range(3), repeat=len(self.shape)):
            near = [p + (c - p + 1) % 3 - 1 for p, c in zip(positions, colour, strict=True)]
            held = [(p >= 0) & (p < n) for p, n in zip(near, self.shape, strict=True)]
            held = torch.stack(held).all(dim=0) & self.free
            near = [torch.where(held, p, 0) for p in near]
            column = torch.where(held, index[tuple(near)], -1)
            rows.append(torch.where(column >= 0, index, -1))
            columns.append(column)
            match = [p % 3 == c for p, c in zip(positions, colour, strict=True)]
            combs.append(torch.stack(match).all(dim=0) & self.free)
        row, column = torch.stack(rows), torch.stack(columns)
        valid = row >= 0
        where = row[valid].numpy(), column[valid].numpy()
        comb = torch.stack(combs).to(torch.complex128)
        size = int(self.free.sum())
        for sample in k.detach().cpu():
            with torch.no_grad():
                values = self(comb, sample.expand(len(comb), *sample.shape), shift)[valid]
            matrix = scipy.sparse.csc_matrix((values.numpy(), where), shape=(size, size))
            matrix.eliminate_zeros()
            yield matrix

    def _extended(self, k: Tensor) -> Tensor:
        for i, axis in enumerate(self.axes):
            k = k.index_select(i + 1, axis.source.to(k.device))
        return k

    def _along(self, i: int, values: Tensor) -> Tensor:
        return values.view(len(values), *(-1 if j == i else 1 for j in range(len(self.axes))))

    def _divergence(self, flux: Tensor, i: int) -> Tensor:
        """Differences of a flux between the nodes; at the ends it is that of a mirror."""
        ends = flux.narrow(i + 1, 0, 1), flux.narrow(i + 1, flux.shape[i + 1] - 1, 1)
        return torch.cat((-ends[0], flux, -ends[1]), dim=i + 1).diff(dim=i + 1)

    def _second(self, v: Tensor, i: int) -> Tensor:
        return self._divergence(v.diff(dim=i + 1), i)


def complex_field(u: Tensor) -> Tensor:
    """[b, *space] from one real channel or from real and imaginary part, in double precision."""
    u = u.double()
    return torch.complex(u[:, 0], u[:, 1] if u.shape[1] == 2 else torch.zeros_like(u[:, 0]))


def channels(u: Tensor) -> Tensor:
    """[b, 2, *space], the real and the imaginary part."""
    return torch.stack((u.real, u.imag), dim=1)


def solve_with(factors: list, b: Tensor, free: Tensor, how: str, dtype: type) -> Tensor:
    """Back substitution per sample with factors of A on the free nodes; how: "N" or "H"."""
    numbers = b.detach().cpu()[:, free].numpy().astype(dtype)
    found = np.stack([lu.solve(x, how) for lu, x in zip(factors, numbers, strict=True)])
    out = torch.zeros_like(b)
    out[:, free.to(b.device)] = torch.from_numpy(found).to(b)
    return out
