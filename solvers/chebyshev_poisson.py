"""Poisson and Helmholtz equations on a box by Chebyshev collocation: a reference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.chebyshev import Chebyshev
from solvers.collocation import End
from solvers.fourier import on
from solvers.walls import Value, expand


class ChebyshevPoisson:
    """c u - Lap u = f on the tensor product of 1 to 3 Chebyshev axes:  f -> u.

    The second-derivative matrix of every axis, its ends eliminated by their conditions, is
    diagonalised once, after which a solve is two products with a matrix per axis, O(n^(d+1)).
    `shift` is c; a negative one (Helmholtz) must keep away from the eigenvalues. `ends` are two
    conditions per axis, Dirichlet by default; with c = 0 one of them must hold u. Fields [b, 1,
    *sizes] on the points of the axes, in the precision of f; differentiable in f and the data.

    Source: Lynch, Rice & Thomas, Numer. Math. 6 (1964); Haidvogel & Zang, J. Comput. Phys. 30
    (1979).
    """

    def __init__(
        self,
        axes: Sequence[Chebyshev],
        *,
        shift: float = 0.0,
        ends: Sequence[tuple[End, End]] | None = None,
    ):
        if not 1 <= len(axes) <= 3:
            raise ValueError(f"a box has 1 to 3 axes, got {len(axes)}.")
        ends = [(End(), End())] * len(axes) if ends is None else list(ends)
        if len(ends) != len(axes):
            raise ValueError(f"ends must be {len(axes)} pairs, one per axis, got {len(ends)}.")
        self.axes, self.shift, self.ends = tuple(axes), shift, tuple(ends)
        self._lines = [_Line(axis, pair) for axis, pair in zip(axes, ends, strict=True)]
        symbol = torch.tensor(shift, dtype=torch.float64)
        for i, line in enumerate(self._lines):
            symbol = symbol - line.eigenvalues.view(-1, *[1] * (len(axes) - 1 - i))
        slowest = max(abs(shift), 1 / max(axis.upper - axis.lower for axis in axes) ** 2)
        if symbol.abs().min() < 1e-8 * slowest:
            raise ValueError(
                f"shift={shift} is an eigenvalue of the Laplacian with these ends; u is not "
                "unique. Move it, or let one end hold u."
            )
        self._inverse = 1 / symbol

    def __call__(self, f: Tensor, data: Sequence[tuple[Value, Value]] | None = None) -> Tensor:
        """u [b, 1, *sizes]; `data` are the g of the two ends of every axis, each a number or a
        tensor that broadcasts to [b, *face]. Where faces meet, that of the last axis holds.
        """
        sizes = tuple(axis.size for axis in self.axes)
        if f.dim() != len(sizes) + 2 or f.shape[1:] != (1, *sizes):
            space = ", ".join(map(str, sizes))
            raise ValueError(f"f: expected [b, 1, {space}], got {tuple(f.shape)}.")
        pairs = [(0.0, 0.0)] * len(sizes) if data is None else list(data)
        if len(pairs) != len(sizes):
            raise ValueError(f"data must be {len(sizes)} pairs, one per axis, got {len(pairs)}.")
        walls = []
        for i, pair in enumerate(pairs):
            face = (len(f), *sizes[:i], *sizes[i + 1 :])
            walls.append(torch.stack([expand("data", g, face, f) for g in pair], dim=i + 1))
        b = f[:, 0]
        for i in range(len(sizes)):
            b = b.narrow(i + 1, 1, sizes[i] - 2)
        for i, line in enumerate(self._lines):
            g = walls[i]
            for j in range(len(sizes)):
                if j != i:
                    g = g.narrow(j + 1, 1, sizes[j] - 2)
            b = b + _multiply(line.from_data, g, i + 1)
        for i, line in enumerate(self._lines):
            b = _multiply(line.inverse_vectors, b, i + 1)
        b = b * on(self._inverse, b)
        for i, line in enumerate(self._lines):
            b = _multiply(line.vectors, b, i + 1)
        for i, line in enumerate(self._lines):
            g = walls[i]
            for j in range(i + 1, len(sizes)):
                g = g.narrow(j + 1, 1, sizes[j] - 2)
            ends = _multiply(line.ends_from_inside, b, i + 1)
            lower, upper = (ends + _multiply(line.ends_from_data, g, i + 1)).split(1, dim=i + 1)
            b = torch.cat((lower, b, upper), dim=i + 1)
        return b.unsqueeze(1)


class _Line:
    """One axis without its ends: u_ends = E u_inside + G g, and what is left in eigenvectors."""

    def __init__(self, axis: Chebyshev, ends: tuple[End, End]):
        first, second = axis.derivative(1), axis.derivative(2)
        conditions = torch.zeros(2, axis.size, dtype=torch.float64)
        for i, (end, at, outward) in enumerate(zip(ends, (0, -1), (-1, 1), strict=True)):
            conditions[i] = end.slope * outward * first[at]
            conditions[i, at] += end.value
        self.ends_from_data = torch.linalg.inv(conditions[:, [0, -1]])
        self.ends_from_inside = -self.ends_from_data @ conditions[:, 1:-1]
        outer = second[1:-1][:, [0, -1]]
        self.from_data = outer @ self.ends_from_data
        values, vectors = torch.linalg.eig(second[1:-1, 1:-1] + outer @ self.ends_from_inside)
        self.eigenvalues, self.vectors = values.real, vectors.real
        self.inverse_vectors = torch.linalg.inv(self.vectors)


def _multiply(matrix: Tensor, u: Tensor, dim: int) -> Tensor:
    """sum_j matrix[k, j] u[.., j, ..] along a dimension."""
    return torch.tensordot(u, on(matrix, u), ([dim], [1])).movedim(-1, dim)
