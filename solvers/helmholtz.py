"""Time-harmonic waves: from the wavenumber and the source to the complex amplitude."""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from solvers.fgmres import fgmres
from solvers.grid import Grid
from solvers.implicit import LinearSystem, Map
from solvers.krylov import CONVERGED, STAGNATED, Info, Operator, norm
from solvers.walls import Value, expand
from solvers.wave_operator import WaveOperator, channels, complex_field, solve_with

_FEWEST = 6  # points per wavelength
_SHIFT = 1 + 0.5j  # of k^2 in the preconditioner


class Helmholtz:
    """Waves of one frequency in 1 or 2 dimensions:  k(x), f(x) -> u.

        -Lap u - k^2 u = f,    the wave is Re(u exp(-i omega t)),  so exp(i k r) leaves

    u = 0 on Dirichlet sides, du/dn = 0 on Neumann sides; beyond `open` sides lie `layers` nodes of
    a perfectly matched layer, where k is that of the side and f = 0 (see `AbsorbingLayer`; its
    stretching takes the mean of k over the sample). A unit source at a point of the plane gives
    (i / 4) H_0^(1)(k r).

    The grid has points='nodes'. `order` 2 is the 3- or 5-point difference; `order` 4 the compact
    one with 3 or 9 points, for smooth k and f:

        -(Dx + Dy + (hx^2 + hy^2) / 12 Dx Dy) u = (1 + hx^2 / 12 Dx + hy^2 / 12 Dy)(k^2 u + f)

    [Singer & Turkel, Comput. Methods Appl. Mech. Eng. 163 (1998)]. It is of order 4 on a Neumann
    side only where the normal derivatives of k and f vanish too, and of order 2 in the layers.
    The phase of a wave with n points per wavelength is wrong by 1.6 / n^2 of itself (order 2), so
    that long ways need more points; have 10 or more, fewer than 6 are refused.

    `method="direct"` factorises the matrix of every sample (SuperLU on the CPU, O(n^1.5) for n
    points of the plane) and uses the factors again for the gradient. `method="iterative"` is
    flexible GMRES, matrix-free but for its preconditioner, -Lap - (1 + 0.5 i) k^2 [Erlangga,
    Oosterlee & Vuik, SIAM J. Sci. Comput. 27 (2006)], factorised in single precision: half the
    memory of the factors, but no faster, since nothing coarsens the shifted problem here.

    Always solved in double precision; u has the dtype of k. Gradients in k and f by one adjoint
    solve, higher ones by more. Samples of a batch do not influence each other. Walls hold no other
    values, and k is real.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        source: Value | Callable[[Grid], Tensor] = 1.0,
        order: int = 2,
        layers: int = 16,
        method: str = "direct",
        tolerance: float = 1e-8,
        max_iterations: int = 500,
    ):
        if grid.ndim > 2:
            raise ValueError(f"Helmholtz is for 1 or 2 dimensions, the grid has {grid.ndim}.")
        points = tuple((axis.points, axis.size) for axis in grid.axes)
        if any(where != "nodes" or size < 4 for where, size in points):
            raise ValueError(f"Helmholtz needs points='nodes', 4 or more per axis, got {points}.")
        if order not in (2, 4):
            raise ValueError(f"order={order} must be 2 or 4.")
        if layers < 4:
            raise ValueError(f"layers={layers} must be 4 or more; 10 to 20 absorb well.")
        if method not in ("direct", "iterative"):
            raise ValueError(f"method={method!r} must be 'direct' or 'iterative'.")
        self.grid, self.method = grid, method
        self.source = source(grid) if callable(source) else source
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self._operator = WaveOperator(grid, order, layers)

    def __call__(self, k: Tensor, f: Value | None = None) -> Tensor:
        return self.solve(k, f)[0]

    def solve(self, k: Tensor, f: Value | None = None) -> tuple[Tensor, Info]:
        """u [b, 2, *space], its real and imaginary part, and the true residual of every sample.

        k [b, 1, *space] is positive; f, if given, replaces the source of the constructor: a number
        or a tensor that broadcasts to the shape of k, or [b, 2, *space] if it is complex. Raises
        `NotConverged`, and ValueError for misshapen fields and waves that the grid does not hold.
        """
        A, b, wavenumber = self._operator, self._right_side(k, f), k[:, 0].double()
        solver = _Direct(A, wavenumber) if self.method == "direct" else self._iterative(wavenumber)
        u = LinearSystem(A.on_free_nodes, solver.solve, solver.solve_adjoint)(b, wavenumber)
        info = self._info(u.detach(), wavenumber.detach(), b.detach(), solver.iterations)
        info.require("Look for a resonance between the walls, or loosen the tolerance.")
        return channels(A.inside(u)).to(k.dtype), info

    def residual(self, k: Tensor, u: Tensor, f: Value | None = None) -> Tensor:
        """-Lap u - k^2 u - f of the same difference equations, [b, 2, *space], for physics losses.

        Zero on Dirichlet sides, where there is no equation, and on the nodes of open sides, whose
        equation has u of the layer in it. Differentiable any number of times.
        """
        b = self._right_side(k, f)
        if u.shape != (len(k), 2, *self.grid.shape):
            raise ValueError(
                f"u must have shape {(len(k), 2, *self.grid.shape)}, a real and an imaginary "
                f"channel, got {tuple(u.shape)}."
            )
        A = self._operator
        r = A.inside(A(A.padded(complex_field(u)), k[:, 0].double()) - b)
        for i, axis in enumerate(self.grid.axes):
            mask = torch.ones(axis.size, dtype=r.dtype, device=r.device)
            for at, side in zip((0, -1), axis.boundary, strict=True):
                mask[at] = side == "neumann"
            r = r * mask.view(-1, *[1] * (self.grid.ndim - 1 - i))
        return channels(r).to(torch.promote_types(k.dtype, u.dtype))

    def _iterative(self, k: Tensor) -> "_Iterative":
        return _Iterative(self._operator, k, self.tolerance, self.max_iterations)

    @torch.no_grad()
    def _info(self, u: Tensor, k: Tensor, b: Tensor, iterations: Tensor | int) -> Info:
        size = norm(b).flatten()
        rest = norm(b - self._operator(u, k)).flatten() / torch.where(size > 0, size, 1.0)
        # A direct solve has no tolerance; what is above 1e-8 had a matrix that is all but singular.
        tolerance = self.tolerance if self.method == "iterative" else 1e-8
        reason = torch.where(rest <= tolerance, CONVERGED, STAGNATED)
        return Info(torch.zeros_like(reason) + iterations, rest, reason, tolerance)

    def _right_side(self, k: Tensor, f: Value | None) -> Tensor:
        """What the source contributes, after a look at the wavenumber."""
        space = self.grid.shape
        if k.shape[1:] != (1, *space) or not k.is_floating_point():
            raise ValueError(
                f"k must be real, [b, 1, {', '.join(map(str, space))}], got {tuple(k.shape)} of "
                f"{k.dtype}."
            )
        if not ((k > 0) & k.isfinite()).all():
            raise ValueError("k must be positive and finite everywhere.")
        for axis in self.grid.axes:
            points = 2 * math.pi / (float(k.detach().max()) * axis.spacing)
            if points < _FEWEST:
                raise ValueError(
                    f"the shortest wave has {points:.1f} points on axis {axis.name}, fewer than "
                    f"{_FEWEST}; have 10 or more: raise the resolution or lower k."
                )
        f = self.source if f is None else f
        is_complex = isinstance(f, Tensor) and f.dim() == len(space) + 2 and f.shape[1] == 2
        f = expand("f", f, (len(k), 2 if is_complex else 1, *space), k.new_empty(0).double())
        return self._operator.source(complex_field(f))


class _Direct:
    """Factors of every sample's matrix, for the system and its adjoint."""

    iterations = 0

    def __init__(
        self, A: WaveOperator, k: Tensor, shift: complex = 1.0, dtype: type = np.complex128
    ):
        self._free, self._dtype = A.free, dtype
        # Symmetric in its pattern: pivots off the diagonal would triple the factors.
        self._factors = [
            scipy.sparse.linalg.splu(
                matrix.astype(dtype),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.01,
                options={"SymmetricMode": True},
            )
            for matrix in A.matrices(k, shift)
        ]

    def solve(self, b: Tensor, *_: Tensor) -> Tensor:
        return solve_with(self._factors, b, self._free, "N", self._dtype)

    def solve_adjoint(self, b: Tensor, *_: Tensor) -> Tensor:
        return solve_with(self._factors, b, self._free, "H", self._dtype)


class _Iterative:
    """Flexible GMRES with factors of the shifted problem."""

    def __init__(self, A: WaveOperator, k: Tensor, tolerance: float, max_iterations: int):
        self._shifted = _Direct(A, k, _SHIFT, np.complex64)
        self._system = LinearSystem(A.on_free_nodes, self.solve, self.solve_adjoint)
        self._free = A.free
        self._options = {"tolerance": tolerance, "max_iterations": max_iterations, "restart": 50}
        self.iterations: Tensor | int = 0

    def solve(self, b: Tensor, k: Tensor) -> Tensor:
        u, info = self._iterate(self._system.operator, b, k, self._shifted.solve)
        self.iterations = info.iterations
        return u

    def solve_adjoint(self, b: Tensor, k: Tensor) -> Tensor:
        A = self._system.adjoint().operator
        u, info = self._iterate(A, b, k, self._shifted.solve_adjoint)
        info.require("This was the adjoint solve of a gradient; raise max_iterations.")
        return u

    def _iterate(self, A: Map, b: Tensor, k: Tensor, M: Operator) -> tuple[Tensor, Info]:
        b = torch.where(self._free.to(b.device), b, 0.0)
        return fgmres(lambda u: A(u, k), b, M, **self._options)
