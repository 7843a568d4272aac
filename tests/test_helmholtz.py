"""Time-harmonic waves: Green's functions, absorbing layers, gradients."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import torch

from solvers import Axis, Grid, Helmholtz

D, N, OPEN = "dirichlet", "neumann", "open"


def box(sizes, sides, lengths=(1.0, 1.0)):
    axes = zip("xy", sizes, lengths, sides, strict=False)
    return Grid(tuple(Axis(a, n, 0.0, length, side, "nodes") for a, n, length, side in axes))


def amplitude(u):
    return torch.complex(u[:, 0], u[:, 1])


def point(grid, *index):
    f = torch.zeros(1, 1, *grid.shape, dtype=torch.float64)
    f[(0, 0, *index)] = 1 / math.prod(grid.spacing)
    return f


def constant(grid, k, b=1):
    return torch.full((b, 1, *grid.shape), k, dtype=torch.float64)


def waves(grid, b=1):
    """Smooth wavenumbers around 6."""
    x = sum((i + 1) * m for i, m in enumerate(grid.mesh()))
    phase = torch.arange(b, dtype=torch.float64).view(-1, 1, *[1] * grid.ndim)
    return 6 + torch.sin(2 * x + 1.5 * phase)


def hankel_error(order, points):
    """Hankel's function a wavelength away from the source, three wavelengths to every side."""
    n, k = 6 * points + 1, 2 * math.pi
    grid = box((n, n), ((OPEN, OPEN), (OPEN, OPEN)), (6.0, 6.0))
    u = amplitude(Helmholtz(grid, order=order)(constant(grid, k), point(grid, n // 2, n // 2)))
    x, y = grid.mesh() - 3
    r = torch.hypot(x, y)
    far = r > 1
    exact = 0.25j * scipy.special.hankel1(0, k * r[far].numpy())
    return float((u[0][far] - torch.from_numpy(exact)).norm() / np.linalg.norm(exact))


@pytest.mark.parametrize("order", [2, 4])
def test_the_point_source_in_the_plane(order):
    errors = [hankel_error(order, points) for points in (10, 20)]
    assert errors[1] < {2: 0.05, 4: 2e-4}[order]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("sides", [(OPEN, OPEN), (D, OPEN), (OPEN, N)], ids=str)
def test_the_point_source_on_a_line(sides):
    """Of a source and its image behind the wall, i exp(i k |x - y|) / 2k."""
    errors = []
    for n in (65, 129, 257):
        grid = box((n,), (sides,))
        x, k, y = grid.axes[0].coordinates(), 12.0, 0.25
        u = amplitude(Helmholtz(grid, layers=24)(constant(grid, k), point(grid, n // 4)))[0]
        image, sign = {D: (-y, -1), N: (2 - y, 1), OPEN: (0.0, 0)}[min(sides)]
        exact = sum(s * torch.exp(1j * k * (x - p).abs()) for p, s in ((y, 1), (image, sign)))
        exact = 0.5j / k * exact
        errors.append(float((u - exact).norm() / exact.norm()))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)
    assert errors[2] < 0.03


def manufactured(order, n, ndim):
    """u = (1 + i) sin(pi x) cos(pi y), a wavenumber even about the Neumann sides."""
    grid = box((n, n + 3), ((D, D), (N, N)), (1.0, 1.0)[:ndim])
    x, *rest = grid.mesh()
    y = torch.cos(math.pi * rest[0]) if rest else torch.ones_like(x)
    k = 4 + x * y
    u = (1 + 1j) * torch.sin(math.pi * x) * y
    f = (ndim * math.pi**2 - k**2) * u
    solver = Helmholtz(grid, order=order)
    found = amplitude(solver(k[None, None], torch.stack((f.real, f.imag))[None]))[0]
    return float((found - u).norm() / u.norm())


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("order", [2, 4])
def test_order_between_walls_with_variable_wavenumber(order, ndim):
    errors = [manufactured(order, n, ndim) for n in (17, 33, 65)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.3)
    assert errors[-1] < {2: 5e-3, 4: 2e-5}[order]


@pytest.mark.parametrize("order", [2, 4])
def test_reflection_is_small_and_falls_with_the_layers(order):
    """The part of a wave on a line that comes back, over the part that arrives."""
    reflections = []
    for layers in (4, 8, 16):
        grid = box((61,), ((OPEN, OPEN),))
        k = 2 * math.pi / 10 * 60  # ten points per wavelength
        u = amplitude(
            Helmholtz(grid, order=order, layers=layers)(constant(grid, k), point(grid, 10))
        )
        kh = k / 60
        cosine = 1 - kh**2 / 2 if order == 2 else (12 - 5 * kh**2) / (12 + kh**2)
        turn = np.exp(1j * np.arccos(cosine))  # of the discrete wave, per node
        there, back = np.linalg.solve([[1, 1], [turn, 1 / turn]], u[0, 40:42].numpy())
        reflections.append(abs(back / there))
    assert reflections[0] < 2e-2 and reflections[2] < 1e-5
    assert reflections[1] < reflections[0] / 10 and reflections[2] < reflections[1] / 10


@pytest.mark.parametrize(
    "order, k", [(2, waves), (4, lambda grid: constant(grid, 6.0))], ids=["2", "4"]
)
def test_reciprocity(order, k):
    """What a source at p causes at q is what it causes at p from q."""
    grid = box((21, 18), ((D, OPEN) if order == 2 else (D, D), (D, D)))
    p, q = (5, 4), (16, 11)
    solver, k = Helmholtz(grid, order=order), k(grid)
    there, back = (
        solver(k, point(grid, *at))[(0, slice(None), *to)] for at, to in ((p, q), (q, p))
    )
    torch.testing.assert_close(there, back, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("order", [2, 4])
def test_iterations_agree_with_factors(order):
    grid = box((41, 37), ((OPEN, OPEN), (D, OPEN)))
    k, f = waves(grid, b=3) * 2, torch.randn(3, 2, *grid.shape, dtype=torch.float64)
    direct, info = Helmholtz(grid, order=order).solve(k, f)
    assert info.converged.all() and (info.residual < 1e-12).all()
    found, info = Helmholtz(grid, order=order, method="iterative", tolerance=1e-10).solve(k, f)
    assert info.converged.all() and info.iterations.max() < 40
    assert (found - direct).norm() < 1e-7 * direct.norm()


@pytest.mark.parametrize("y", [(N, D), (OPEN, OPEN)], ids=str)
@pytest.mark.parametrize("x", [(D, D), (N, OPEN)], ids=str)
@pytest.mark.parametrize("order", [2, 4])
def test_the_residual_of_a_solution_vanishes(x, y, order):
    grid = box((14, 12), (x, y))
    k, f = waves(grid, b=2), torch.randn(2, 1, *grid.shape, dtype=torch.float64)
    solver = Helmholtz(grid, order=order)
    r = solver.residual(k, solver(k, f), f)
    assert r.shape == (2, 2, 14, 12) and r.norm() < 1e-10 * f.norm()
    assert solver.residual(k, torch.zeros_like(r), f).norm() > 0.5 * f.norm()


@pytest.mark.parametrize("method", ["direct", "iterative"])
@pytest.mark.parametrize("order", [2, 4])
def test_gradients(order, method):
    grid = box((5, 4), ((D, OPEN), (N, OPEN)))
    solver = Helmholtz(grid, order=order, layers=4, method=method, tolerance=1e-13)
    k = (waves(grid, b=2) / 3).requires_grad_()
    f = torch.randn(2, 2, *grid.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(solver, (k, f), fast_mode=True)
    assert torch.autograd.gradcheck(solver.residual, (k, f, f), fast_mode=True)


def test_second_derivatives_and_every_entry_of_the_first():
    grid = box((5,), ((N, OPEN),))
    k = (waves(grid) / 3).requires_grad_()
    f = torch.randn(1, 1, 5, dtype=torch.float64, requires_grad=True)
    solver = Helmholtz(grid, order=4, layers=4)
    assert torch.autograd.gradcheck(solver, (k, f))
    assert torch.autograd.gradgradcheck(solver, (k, f), fast_mode=True)


@pytest.mark.parametrize("method", ["direct", "iterative"])
def test_samples_do_not_influence_each_other_bitwise(method):
    grid = box((12, 11), ((OPEN, OPEN), (D, N)))
    k, f = waves(grid, b=3), torch.randn(3, 1, *grid.shape, dtype=torch.float64)
    solver = Helmholtz(grid, method=method)
    assert torch.equal(solver(k, f)[1:2], solver(k[1:2], f[1:2]))


def test_the_source_of_the_constructor():
    grid = box((20, 20), ((OPEN, OPEN), (D, D)))
    k, f = waves(grid, b=2), torch.randn(2, *grid.shape, dtype=torch.float64)
    expected = Helmholtz(grid)(k, f.expand(2, 2, *grid.shape))  # (1 + i) f of both samples
    assert torch.equal(Helmholtz(grid, source=f[None])(k), expected)
    one = Helmholtz(grid)
    assert torch.equal(one(k), one(k, torch.ones_like(k)))
    assert torch.equal(one.residual(k, expected), one.residual(k, expected, torch.ones_like(k)))


def test_single_precision_and_no_source():
    grid = box((20, 20), ((OPEN, OPEN), (D, D)))
    k, f = waves(grid, b=2), torch.randn(2, 1, *grid.shape, dtype=torch.float64)
    f[1] = 0
    u = Helmholtz(grid)(k.float(), f.float())
    assert u.dtype == torch.float32 and (u[1] == 0).all()
    torch.testing.assert_close(u.double(), Helmholtz(grid)(k, f), rtol=1e-4, atol=1e-6)


def test_what_cannot_be_solved_is_refused():
    grid = box((20, 20), ((OPEN, OPEN), (D, D)))
    k, f = constant(grid, 9.0), constant(grid, 1.0)
    for options, message in (
        ({"order": 3}, "order=3 must be 2 or 4"),
        ({"layers": 3}, "layers=3 must be 4 or more"),
        ({"method": "fast"}, "method='fast' must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Helmholtz(grid, **options)
    with pytest.raises(ValueError, match="needs points='nodes', 4 or more per axis"):
        Helmholtz(Grid.box((8, 8)))
    with pytest.raises(ValueError, match="the grid has 3"):
        Helmholtz(Grid.box((8, 8, 8), points="nodes"))
    solver = Helmholtz(grid)
    for arguments, message in (
        ((k + 12, f), r"has 5\.\d points on axis x, fewer than 6; have 10 or more"),
        ((k[:, 0], f), r"k must be real, \[b, 1, 20, 20\], got \(1, 20, 20\)"),
        ((k, f[..., 1:]), r"f must be a number or broadcast to \(1, 1, 20, 20\)"),
        ((-k, f), "k must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            solver(*arguments)
    with pytest.raises(ValueError, match="a real and an imaginary channel"):
        solver.residual(k, f, f)
    with pytest.raises(ValueError, match=r"got \(\('left', 8\), \('left', 8\)\)"):
        Helmholtz(Grid.box((8, 8), boundary="periodic", points="left"))
