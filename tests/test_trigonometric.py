"""Sine and cosine transforms, and direct solves on a box."""

import itertools
import math

import pytest
import scipy.fft
import torch

from solvers import Poisson, Trigonometric, trigonometric
from solvers.grid import Axis, Grid

P, D, N = "periodic", "dirichlet", "neumann"
KINDS = [
    ((P, P), "left"),
    ((P, P), "cells"),
    ((D, D), "cells"),
    ((N, N), "cells"),
    ((D, N), "cells"),
    ((N, D), "cells"),
    ((N, N), "nodes"),
    ((D, D), "nodes"),
]


def box(kinds, sizes=(8, 7, 5)):
    lengths = (1.3, 2.0, 0.7)
    axes = zip("xyz", sizes, lengths, kinds, strict=False)
    return Grid(tuple(Axis(a, n, 0.0, length, *kind) for a, n, length, kind in axes))


def inside(grid):
    """True but on the nodes of a Dirichlet side."""
    mask = torch.ones(grid.shape, dtype=torch.bool)
    for i, axis in enumerate(grid.axes):
        if axis.points == "nodes" and axis.boundary == (D, D):
            mask.movedim(i, 0)[[0, -1]] = False
    return mask


def second_difference(axis):
    """The matrix of u_xx by three points, walls as finite volumes and differences have them."""
    n, matrix = axis.size, torch.zeros(axis.size, axis.size, dtype=torch.float64)
    for i, (side, j) in itertools.product(range(n), ((0, -1), (1, 1))):
        j += i
        matrix[i, i] -= 1
        if 0 <= j < n or axis.is_periodic:
            matrix[i, j % n] += 1
        elif axis.points == "cells":
            matrix[i, i] += 1 if axis.boundary[side] == N else -1
        elif axis.boundary[side] == N:
            matrix[i, 2 * i - j] += 1
    return matrix / axis.spacing**2


@pytest.mark.parametrize("n", [2, 5, 8, 9])
@pytest.mark.parametrize(
    "name, reference, scale",
    [
        ("cosine_cells", lambda u: scipy.fft.dct(u, 2), 2),
        ("sine_cells", lambda u: scipy.fft.dst(u, 2), 2),
        ("cosine_nodes", lambda u: scipy.fft.dct(u, 1), 1),
        ("sine_nodes", lambda u: scipy.fft.dst(u[:, 1:-1], 1), 1),
        ("cosine_quarter", lambda u: scipy.fft.dct(u, 4), 2),
        ("sine_quarter", lambda u: scipy.fft.dst(u, 4), 2),
    ],
)
def test_transforms_are_those_of_scipy(name, reference, scale, n):
    if name == "sine_nodes" and n < 4:
        n = 4
    u = torch.randn(3, n, dtype=torch.float64)
    found = getattr(trigonometric, name)(u)
    torch.testing.assert_close(found, torch.from_numpy(reference(u.numpy())) / scale)


@pytest.mark.parametrize("kinds", itertools.product(KINDS, KINDS), ids=str)
def test_the_laplacian_is_diagonal(kinds):
    grid = box(kinds)
    basis, mask = Trigonometric(grid), inside(grid)
    u = torch.randn(2, *grid.shape, dtype=torch.float64) * mask
    v = basis.analyse(u)
    torch.testing.assert_close(basis.synthesise(v), u, rtol=0, atol=1e-13)
    found = basis.synthesise(v * basis.laplacian(difference=True))
    x, y = (second_difference(axis) for axis in grid.axes)
    expected = torch.einsum("ij,bjk->bik", x, u) + torch.einsum("ij,bkj->bki", y, u)
    torch.testing.assert_close(found * mask, expected * mask, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_derivatives_of_eigenfunctions_are_exact(kind):
    grid = box((kind,), sizes=(12,))
    axis = grid.axes[0]
    lower, upper = axis.boundary
    k = {(P, P): 4, (D, N): 2.5, (N, D): 2.5}.get((lower, upper), 3) * math.pi / axis.length
    wave = torch.cos if lower == N else torch.sin
    u = wave(k * axis.coordinates())[None]
    basis = Trigonometric(grid)
    found = basis.synthesise(basis.analyse(u) * basis.laplacian())
    torch.testing.assert_close(found, -(k**2) * u, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS[2:], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_matrices_and_fast_transforms_are_the_same(kind, dtype, monkeypatch):
    grid = box((kind, KINDS[3], kind), sizes=(8, 6, 7))
    u = torch.randn(2, *grid.shape, dtype=dtype)
    by_matrix = Trigonometric(grid)
    monkeypatch.setattr(trigonometric, "_LARGEST_MATRIX", 0)
    by_transform = Trigonometric(grid)
    v, w = by_matrix.analyse(u), by_transform.analyse(u)
    tolerance = 20 * torch.finfo(dtype).eps
    assert v.dtype == dtype and (v - w).norm() < tolerance * w.norm()
    back = by_matrix.synthesise(v) - by_transform.synthesise(v)
    assert back.norm() < tolerance * u.norm()


@pytest.mark.parametrize("sizes", [(64, 64, 64), (20, 140, 20)], ids=str)
def test_the_residual_on_larger_grids(sizes):
    grid = box((KINDS[7], KINDS[7], KINDS[7]), sizes=sizes)
    f = torch.randn(1, 1, *sizes, dtype=torch.float64)
    u = Poisson(grid)(f)[0, 0]
    total = -f[0, 0]
    for i, h in enumerate(grid.spacing):
        inner = total.narrow(i, 1, sizes[i] - 2)
        inner.sub_((u.diff(n=2, dim=i)) / h**2)
    assert total[1:-1, 1:-1, 1:-1].norm() < 1e-14 * f.norm()


def exact(x, y):
    return torch.exp(x) * torch.sin(2 * y + 0.3)


def manufactured(kind, n, shift=0.0):
    """The largest error for u = e^x sin(2y + 0.3), wall values of u or its outward derivative."""
    grid = Grid((Axis("x", n, 0, 1, *kind), Axis("y", n, 0, 2, (D, D), "cells")))
    x, y = (axis.coordinates() for axis in grid.axes)
    u = exact(*grid.mesh())
    zero, one = torch.zeros_like(y), torch.ones_like(y)
    lower = exact(zero, y) * (1 if kind[0][0] == D else -1)
    walls = [(lower, exact(one, y)), (exact(x, 0 * x), exact(x, 0 * x + 2))]
    found = Poisson(grid, shift=shift)((3 + shift) * u[None, None], walls)
    return float((found[0, 0] - u).abs().max())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] != (P, P)], ids=str)
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_second_order_with_values_on_the_walls(kind, shift):
    errors = [manufactured(kind, n, shift) for n in (32, 64, 128)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("kinds", [KINDS[2:5], [KINDS[0], KINDS[3], KINDS[0]]], ids=str)
def test_the_residual_is_rounding_in_three_dimensions(kinds):
    grid = box(kinds)
    f = torch.randn(2, 1, *grid.shape, dtype=torch.float64)
    if all(D not in axis.boundary for axis in grid.axes):
        f -= f.mean((2, 3, 4), keepdim=True)
    u = Poisson(grid)(f)[:, 0]
    laplacian = sum(
        torch.tensordot(second_difference(axis), u, ([1], [i + 1])).movedim(0, i + 1)
        for i, axis in enumerate(grid.axes)
    )
    assert (laplacian + f[:, 0]).norm() < 1e-13 * f.norm()


def test_spectral_accuracy():
    grid = box((KINDS[0], KINDS[2]), sizes=(16, 12))
    x, y = grid.mesh()
    u = torch.exp(torch.sin(2 * math.pi * x / 1.3)) * torch.sin(math.pi * y / 2)
    k = 2 * math.pi / 1.3
    sine, cosine = torch.sin(k * x), torch.cos(k * x)
    f = -u * (k**2 * (cosine**2 - sine) - (math.pi / 2) ** 2)
    found = Poisson(grid, method="spectral", shift=2.0)((f + 2 * u)[None, None])[0, 0]
    assert (found - u).abs().max() < 1e-8


@pytest.mark.parametrize("kind", [KINDS[3], KINDS[0], KINDS[6]], ids=str)
def test_a_singular_problem_needs_balance(kind):
    grid = box((kind, KINDS[0]))
    poisson = Poisson(grid)
    f = torch.randn(3, 1, *grid.shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"must balance, but in sample \d they sum to .* Subtract"):
        poisson(f)
    weight = torch.ones(grid.shape, dtype=torch.float64)
    if kind[1] == "nodes":
        weight[[0, -1]] = 0.5
    u = poisson(f - (f * weight).sum((2, 3), keepdim=True) / weight.sum())
    assert (u * weight).sum((2, 3)).abs().max() < 1e-12


def test_flux_through_walls_balances_a_source():
    grid = Grid((Axis("x", 40, 0, 1, (N, N), "cells"),))
    x = grid.axes[0].coordinates()
    u = Poisson(grid)(torch.full((1, 1, 40), 2.0).double(), [(-1.0, -1.0)])  # u = x - x^2 + c
    torch.testing.assert_close(u[0, 0], x - x**2 - (x - x**2).mean(), rtol=0, atol=1e-12)


def test_gradients_in_source_and_walls():
    poisson = Poisson(box((KINDS[4], KINDS[7]), sizes=(4, 5)), shift=0.5)
    f = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, g, h: poisson(f, [(g, 1.0), (h, h)]), (f, g, h))


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: Trigonometric(box((((D, N), "nodes"),))), "has no fast transform; there are"),
        (lambda: Trigonometric(box((((D, D), "nodes"),), sizes=(2,))), "2 points leave none"),
        (lambda: Poisson(box(KINDS[:2]), method="exact"), "method='exact' must be"),
        (
            lambda: Poisson(
                box((KINDS[2],)), shift=-float(4 / (1.3 / 8) ** 2) * math.sin(math.pi / 16) ** 2
            ),
            "is an eigenvalue",
        ),
        (lambda: Poisson(box(KINDS[:2]))(torch.ones(1, 8, 7)), r"expected \[b, 1, 8, 7\]"),
        (
            lambda: Poisson(box(KINDS[2:4]), method="spectral")(torch.ones(1, 1, 8, 7), 1.0),
            "has g = 0 only",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
