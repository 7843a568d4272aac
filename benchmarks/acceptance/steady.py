"""Boundary value problems: Poisson, Darcy, Helmholtz, Chebyshev collocation."""

import statistics
import time

import torch

from benchmarks.acceptance.figure import Figure, Figures, order, slope
from benchmarks.darcy import permeability
from solvers import (
    Cell,
    Chebyshev,
    ChebyshevPoisson,
    Collocation,
    Darcy,
    EmbeddedPoisson,
    Grid,
    Poisson,
)
from tests import (
    test_chebyshev,
    test_darcy,
    test_embedded,
    test_helmholtz,
    test_trigonometric,
)


def poisson() -> Figures:
    name, method, n = "Poisson, box", "sines, 64^3", 64
    grid = Grid.box((n, n, n), points="nodes")
    f = torch.randn(1, 1, n, n, n, dtype=torch.float64)
    solver = Poisson(grid)
    u = solver(f)[0, 0]
    residual = f[0, 0, 1:-1, 1:-1, 1:-1].clone()
    for i, h in enumerate(grid.spacing):
        inner = u.narrow((i + 1) % 3, 1, n - 2).narrow((i + 2) % 3, 1, n - 2)
        residual += inner.diff(n=2, dim=i) / h**2
    yield Figure(name, method, "relative residual", float(residual.norm() / f.norm()), 1e-14)
    seconds = []
    for _ in range(30):
        begin = time.perf_counter()
        solver(f)
        seconds.append(time.perf_counter() - begin)
    what = "ms on one thread, median of 30"
    yield Figure(name, method, what, 1000 * statistics.median(seconds), 20.0)
    for sides in (test_trigonometric.KINDS[2], test_trigonometric.KINDS[4]):
        errors = [test_trigonometric.manufactured(sides, n) for n in (64, 128)]
        yield order(name, f"differences, {'-'.join(sides[0])}", "exact solution", slope(errors), 2)


def embedded() -> Figures:
    name, method = "Poisson, embedded", "multigrid, conjugate gradients"
    grid = test_embedded.box((23, 18), test_embedded.DIRICHLET)
    cells = test_embedded.random_cells(2, *grid.shape, solid=0.42, dirichlet=0.04)
    data, expected, _ = test_embedded.problem(grid, cells)
    u, _ = EmbeddedPoisson(grid, tolerance=1e-13).solve(cells, **data)
    distance = float((u - expected).norm() / expected.norm())
    yield Figure(name, method, "against SciPy's splu, random masks", distance, 1e-10)
    sizes, errors = (16, 24, 32, 48), []
    for n in sizes:
        x, y = (grid := test_embedded.box((n, n), test_embedded.DIRICHLET)).mesh()
        cells = ((x < 0.5) & (y < 0.5)) * int(Cell.DIRICHLET)
        errors.append(test_embedded.largest_error(grid, cells, test_embedded.smooth))
    yield order(name, method, "exact solution", test_embedded.order(errors, sizes), 2)


def darcy() -> Figures:
    name, method = "Darcy", "multigrid, conjugate gradients"
    a = permeability(421, 1)
    u = Darcy(Grid.box((421, 421)), tolerance=1e-10)(a)[0, 0]
    expected = test_darcy.direct(a[0, 0], (1 / 421, 1 / 421))
    distance = float((u - expected).norm() / expected.norm())
    yield Figure(name, method, "against SciPy's splu, 421^2", distance, 1e-8)
    a, exact, _ = test_darcy.layered(24)
    u, _ = Darcy(Grid.box((24,)), tolerance=1e-13).solve(a[None, None], 0.0, [(1.0, 0.0)])
    yield Figure(name, method, "exact solution with a jump, 1-D", _largest(u[0, 0], exact), 1e-10)


def helmholtz() -> Figures:
    for p in (2, 4):
        method = f"differences of order {p}, layers"
        errors = [test_helmholtz.hankel_error(p, points) for points in (10, 20)]
        what = "Green's function, 20 points per wavelength"
        yield Figure("Helmholtz", method, what, errors[1], {2: 0.05, 4: 2e-4}[p])
        yield order("Helmholtz", method, "Green's function", slope(errors), p)
        errors = [test_helmholtz.manufactured(p, n, 2) for n in (33, 65)]
        yield order("Helmholtz", method, "walls, variable wavenumber", slope(errors), p)


def chebyshev() -> Figures:
    wave, size, length, _ = test_chebyshev.WAVES["sin100x"]
    axis = Chebyshev(size, 0.0, length)
    f = test_chebyshev.second(wave, axis.points)[None, None]
    ends = (float(wave(axis.points[0])), float(wave(axis.points[-1])))
    u, x = test_chebyshev.between(axis, Collocation(axis).solve(f, data=ends))
    error = test_chebyshev.relative(u[0, 0], wave(x))
    name, what = "a u'' + b u' + c u = f", "sin 100x, relative error"
    yield Figure(name, "Chebyshev, 400 points", what, error, 3e-10)
    line = torch.sin(100 * axis.points)
    u = ChebyshevPoisson((axis, axis))(20000 * (line[:, None] * line)[None, None])
    error = test_chebyshev.relative(u[0, 0], line[:, None] * line)
    what = "sin 100x sin 100y, relative error"
    yield Figure("Poisson, box", "Chebyshev, 400^2", what, error, 3.5e-13)


def _largest(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).abs().max())


MEASUREMENTS = (poisson, embedded, darcy, helmholtz, chebyshev)
