import itertools
import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from solvers import Axis, Cell, Darcy, EmbeddedPoisson, Grid, Inclusions, NotConverged, Poisson
from solvers.components import label

PERIODIC, DIRICHLET, NEUMANN = (2 * (kind,) for kind in ("periodic", "dirichlet", "neumann"))
MIXED = ("neumann", "dirichlet")


def box(shape, *sides, lengths=(1.0, 1.0, 1.0)):
    """A box from the origin; the last sides given hold for the axes that follow."""
    sides = [*sides, *[sides[-1]] * 3]
    axes = zip("xyz", shape, lengths, sides, strict=False)
    return Grid(tuple(Axis(name, n, 0.0, length, side) for name, n, length, side in axes))


def uniform(*shape, low=0.5, high=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def random_cells(*shape, solid=0.3, dirichlet=0.1, seed=0):
    """Kinds drawn per cell: ragged walls, pockets of all sizes, [b, *space]."""
    x = uniform(*shape, low=0.0, high=1.0, seed=seed)
    return (x < solid) * int(Cell.SOLID) + (x > 1 - dirichlet) * int(Cell.DIRICHLET)


def discs(grid, kinds, seed=0):
    """A disc of each kind in this order, at random places; [1, *space]."""
    centres, points = uniform(len(kinds), grid.ndim, low=0.1, high=0.9, seed=seed), grid.mesh()
    cells = torch.zeros(grid.shape, dtype=torch.long)
    for kind, centre in zip(kinds, centres, strict=True):
        distance = (points - centre.view(-1, *[1] * grid.ndim)).norm(dim=0)
        cells[distance < 0.11] = int(kind)
    return cells[None]


def assemble(grid, cells, a, f, g, flux, boundary):
    """Matrix and right-hand side of one sample by a loop over cells and sides, rows of cells that
    are not fluid being the identity; and the connected parts that nothing holds, one per column.
    """
    cells, a, f, g, flux = (v.numpy() for v in (cells, a, f, g, flux))
    number, volume = np.arange(cells.size).reshape(grid.shape), math.prod(grid.spacing)
    entries, b, held = [], np.zeros(cells.size), np.zeros(cells.size, dtype=bool)
    for here in itertools.product(*map(range, grid.shape)):
        i, kind = number[here], cells[here]
        if kind != Cell.FLUID:
            entries.append((i, i, 1.0))
            b[i] = g[here] if kind == Cell.DIRICHLET else 0.0
            continue
        b[i] = f[here] * volume
        for axis, side in itertools.product(range(grid.ndim), (0, 1)):
            h, there = grid.spacing[axis], list(here)
            there[axis] += 2 * side - 1
            condition = grid.boundary[axis][side]
            if there[axis] in (-1, grid.shape[axis]) and condition != "periodic":
                value = boundary[axis][side][tuple(np.delete(here, axis))].item()
                t = volume / h * a[here] / (h / 2) if condition == "dirichlet" else 0.0
                entries.append((i, i, t))
                b[i] += t * value if condition == "dirichlet" else volume / h * value
                held[i] |= t > 0
                continue
            there[axis] %= grid.shape[axis]
            there = tuple(there)
            t = volume / h**2 * 2 * a[here] * a[there] / (a[here] + a[there])
            if cells[there] == Cell.SOLID:
                b[i] += volume / h * flux[there]
            elif cells[there] == Cell.DIRICHLET:
                entries.append((i, i, t))
                b[i], held[i] = b[i] + t * g[there], True
            else:
                entries += [(i, i, t), (i, number[there], -t)]
    rows, columns, values = zip(*entries, strict=True)
    matrix = scipy.sparse.csc_array((values, (rows, columns)), shape=2 * (cells.size,))
    count, part = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    parts = [part == k for k in range(count)]
    fluid = cells.ravel() == Cell.FLUID
    floating = [inside for inside in parts if fluid[inside].all() and not held[inside].any()]
    return matrix, b, np.array(floating, dtype=float).reshape(len(floating), cells.size).T


def problem(grid, cells, seed=0):
    """Random data that balance on every part that nothing holds, and u from sparse elimination."""
    b, shape = len(cells), grid.shape
    a, f, g, flux = (uniform(b, 1, *shape, seed=seed + k) - 0.4 * (k > 0) for k in range(4))
    walls = [
        [uniform(b, *shape[:k], *shape[k + 1 :], seed=seed + 4 + 2 * k + i) for i in (0, 1)]
        for k in range(grid.ndim)
    ]
    solution, num_floating = torch.zeros_like(f), 0
    for i in range(b):
        data = [v[i, 0] for v in (a, f, g, flux)]
        matrix, right, floating = assemble(
            grid, cells[i], *data, [[wall[i] for wall in pair] for pair in walls]
        )
        excess = floating @ ((right @ floating) / floating.sum(axis=0))
        right = right - excess
        f[i, 0] -= torch.from_numpy(excess).view(shape) / math.prod(grid.spacing)
        # A Lagrange multiplier per part sets its mean to zero.
        bordered = scipy.sparse.block_array([[matrix, floating], [floating.T, None]], format="csc")
        if not floating.size:
            bordered = matrix
        right = np.concatenate([right, np.zeros(floating.shape[1])])
        u = scipy.sparse.linalg.splu(bordered).solve(right)[: cells[i].numel()]
        solution[i, 0] = torch.from_numpy(u).view(shape)
        num_floating += floating.shape[1]
    return {"a": a, "f": f, "g": g, "flux": flux, "boundary": walls}, solution, num_floating


def order(errors, sizes):
    return np.polyfit(np.log([1 / n for n in sizes]), np.log(errors), 1)[0]


@pytest.mark.parametrize(
    "grid, parts",
    [
        (box((23, 18), DIRICHLET), 1),
        (box((24, 17), MIXED, PERIODIC, lengths=(1.0, 3.0)), 1),
        (box((19, 20), PERIODIC), 1),
        (box((16, 21), NEUMANN), 1),
        (box((60,), PERIODIC), 1),
        (box((7, 8, 6), NEUMANN, PERIODIC, MIXED), 1),
        (box((1, 9), PERIODIC, NEUMANN), 0),
        (box((2, 30), PERIODIC, MIXED), 0),
    ],
    ids=lambda v: str(getattr(v, "shape", v)),
)
def test_agrees_with_sparse_elimination_on_random_masks(grid, parts):
    """Pockets of all sizes, held by cells, by sides or by nothing; a shape per sample."""
    cells = random_cells(2, *grid.shape, solid=0.42, dirichlet=0.04)
    data, expected, num_floating = problem(grid, cells)
    assert num_floating >= parts
    u, info = EmbeddedPoisson(grid, tolerance=1e-13).solve(cells, **data)
    assert (u - expected).norm() < 1e-10 * expected.norm()
    assert (info.residual <= 1e-13).all()


@pytest.mark.parametrize(
    "sides, kinds",
    [(DIRICHLET, (2, 1, 2, 1)), (MIXED, (2, 1, 2, 1)), (PERIODIC, (1, 2)), (PERIODIC, (2, 2, 2))],
    ids=str,
)
def test_agrees_with_sparse_elimination_on_a_box_with_holes(sides, kinds):
    grid = box((30, 27), sides)
    data, expected, num_floating = problem(grid, discs(grid, kinds))
    assert num_floating == (sides == PERIODIC and 1 not in kinds)
    u, _ = EmbeddedPoisson(grid, tolerance=1e-13).solve(discs(grid, kinds), **data)
    assert (u - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.parametrize("sides", [DIRICHLET, NEUMANN, PERIODIC, MIXED], ids="-".join)
def test_an_empty_box_is_solved_as_by_fast_transforms(sides):
    grid = box((14, 11), sides)
    f, wall = uniform(2, 1, 14, 11), uniform(2, 11, seed=1)
    boundary = [(wall, 0.3), (0.1, -0.2)]
    if sides in (NEUMANN, PERIODIC):
        f, boundary = f - f.mean(dim=(2, 3), keepdim=True), 0.0
    u, _ = EmbeddedPoisson(grid, tolerance=1e-13).solve(
        torch.zeros(2, 14, 11).long(), f=f, boundary=boundary
    )
    torch.testing.assert_close(u, Poisson(grid)(f, boundary), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(33, 20), (7, 6, 9)], ids=str)
def test_a_box_of_fluid_is_that_of_darcy(shape):
    grid, a, f = box(shape, DIRICHLET), uniform(2, 1, *shape).pow(4), uniform(2, 1, *shape, seed=1)
    u, _ = EmbeddedPoisson(grid, tolerance=1e-12).solve(torch.zeros(2, *shape).long(), a, f)
    expected, _ = Darcy(grid, tolerance=1e-12).solve(a, f)
    torch.testing.assert_close(u, expected, rtol=1e-9, atol=1e-12)


def smooth(x, y):
    """No slope across x, y = 0, 1/2, 1."""
    return (2 * math.pi * x).cos() * (2 * math.pi * y).cos() + 0.3 * (4 * math.pi * x).cos()


def coefficient(x, y):
    return 1.5 + (2 * math.pi * x).cos() * (2 * math.pi * y).sin()


def source(x, y, u=smooth):
    """-div(a grad u) by automatic differentiation."""
    x, y = (v.clone().requires_grad_() for v in (x, y))

    def gradient(value):
        return torch.autograd.grad(value.sum(), (x, y), create_graph=True)

    fluxes = [coefficient(x, y) * slope for slope in gradient(u(x, y))]
    return -(gradient(fluxes[0])[0] + gradient(fluxes[1])[1]).detach()


def largest_error(grid, cells, u, **options):
    """Of the solution with g = u, Dirichlet sides holding u and Neumann sides nothing."""
    x, y = grid.mesh()
    ends = torch.tensor([0.0, 1.0]).double()
    exact = [[u(v, y[0]) for v in ends], [u(x[:, 0], v) for v in ends]]
    walls = [
        [value if kind == "dirichlet" else 0.0 for value, kind in zip(*pair, strict=True)]
        for pair in zip(exact, grid.boundary, strict=True)
    ]
    data = {"a": coefficient(x, y), "f": source(x, y, u), "g": u(x, y), "boundary": walls}
    solution, _ = EmbeddedPoisson(grid, tolerance=1e-11).solve(cells[None], **(data | options))
    return ((solution - u(x, y)).abs() * (cells == Cell.FLUID)).max().item()


@pytest.mark.parametrize(
    "sides, kind",
    [
        (DIRICHLET, Cell.SOLID),
        (DIRICHLET, Cell.DIRICHLET),
        (NEUMANN, Cell.DIRICHLET),
        (PERIODIC, Cell.DIRICHLET),
        (MIXED, Cell.SOLID),
    ],
    ids=str,
)
def test_second_order_where_the_boundary_follows_cells(sides, kind):
    """A quarter of the box is cut out: its faces are those of solid cells, u is known at the
    centres of Dirichlet cells.
    """

    def error(n):
        x, y = (grid := box((n, n), sides)).mesh()
        return largest_error(grid, ((x < 0.5) & (y < 0.5)) * int(kind), smooth)

    sizes = (16, 24, 32, 48)
    errors = [error(n) for n in sizes]
    assert abs(order(errors, sizes) - 2) < 0.3, errors
    assert errors[-1] < 0.01


def test_second_order_with_a_flux_from_solid_cells():
    """Solid for x < 1/2, where a du/dx = a; n = -x points out of the fluid."""

    def u(x, y):
        return smooth(x, y) + x**2

    def error(n, sign=-1):
        x, y = (grid := box((n, n), DIRICHLET)).mesh()
        flux = sign * coefficient(torch.tensor(0.5), y)
        return largest_error(grid, (x < 0.5) * int(Cell.SOLID), u, flux=flux)

    sizes = (16, 24, 32, 48)
    errors = [error(n) for n in sizes]
    assert abs(order(errors, sizes) - 2) < 0.3, errors
    assert error(16, sign=1) > 0.1


def disc_errors(sizes, g):
    """u = 1/5 - r^2 in the disc where it is positive, with f = 4 and Dirichlet cells around it."""
    errors = []
    for n in sizes:
        grid = box((n, n), DIRICHLET)
        x, y = grid.mesh() - 0.5
        exact = 0.2 - x**2 - y**2
        cells = (exact <= 0) * int(Cell.DIRICHLET)
        u, _ = EmbeddedPoisson(grid, tolerance=1e-11).solve(cells[None], 1.0, 4.0, g(exact))
        errors.append(((u - exact).abs() * (cells == 0)).max().item())
    return errors


def test_a_curved_dirichlet_boundary_is_first_order_unless_g_continues_u():
    sizes = (18, 25, 34, 49, 66)
    staircase = disc_errors(sizes, torch.zeros_like)
    assert abs(order(staircase, sizes) - 1) < 0.3, staircase
    # This u is a polynomial of second degree, so that its differences are exact.
    assert max(disc_errors(sizes, lambda exact: exact)) < 1e-9 < 1e-3 < staircase[-1]


def test_a_curved_solid_without_flux_is_first_order():
    """Potential flow past cylinders at several places: u = x (1 + R^2 / r^2)."""
    centres = uniform(4, 2, low=-0.1, high=0.1)

    def flow(x, y, radius=0.2):
        x, y = torch.broadcast_tensors(x, y)
        x, y = (v - c.view(-1, *[1] * v.dim()) for v, c in zip((x, y), centres.T, strict=True))
        r2 = x**2 + y**2
        return x * (1 + radius**2 / r2), r2 < radius**2

    def error(n):
        grid = box((n, n), DIRICHLET)
        x, y = grid.mesh() - 0.5
        ends = torch.tensor([-0.5, 0.5]).double()
        walls = [[flow(v, y[0])[0] for v in ends], [flow(x[:, 0], v)[0] for v in ends]]
        exact, solid = flow(x, y)
        u, _ = EmbeddedPoisson(grid).solve(solid * int(Cell.SOLID), f=0.0, boundary=walls)
        return torch.where(solid, 0.0, u[:, 0] - exact).square().mean().sqrt().item()

    sizes = (16, 24, 32, 48, 64, 96)
    errors = [error(n) for n in sizes]
    assert abs(order(errors, sizes) - 1) < 0.3, errors


@pytest.mark.parametrize("sides", [DIRICHLET, MIXED, PERIODIC], ids="-".join)
def test_iterations_do_not_grow_with_the_grid(sides):
    """Two samples with five holes each."""
    counts = {}
    for shape in [(32, 32), (45, 63), (128, 128), (16, 16, 16), (24, 31, 24)]:
        grid = box(shape, sides)
        cells = torch.cat([discs(grid, (2, 1, 2, 1, 2)), discs(grid, (2, 2, 1, 2, 2), seed=1)])
        _, info = EmbeddedPoisson(grid, tolerance=1e-10).solve(cells)
        counts[shape] = info.iterations.max().item()
    assert max(counts.values()) <= 12, counts


def labyrinth(n, corridor, gap):
    """Walls one cell thick, open in turn at one end and the other; [1, n, n]."""
    cells, step = torch.zeros(1, n, n, dtype=torch.long), corridor + 1
    cells[:, corridor::step] = int(Cell.SOLID)
    cells[:, corridor :: 2 * step, -gap:] = cells[:, corridor + step :: 2 * step, :gap] = 0
    return cells


@pytest.mark.parametrize(
    "cells, most",
    [
        (labyrinth(64, 20, 3), 40),
        (labyrinth(64, 3, 3), 60),
        (labyrinth(48, 1, 1), 90),
        (random_cells(1, 64, 64, solid=0.35, dirichlet=0.0), 110),
    ],
    ids=["three walls", "labyrinth", "one cell wide", "porous"],
)
def test_thin_walls_cost_iterations_and_no_failure(cells, most):
    """Labyrinths held by one side; u grows with the square of the way to it."""
    grid = box(cells.shape[1:], NEUMANN, MIXED)
    lone = label(cells == Cell.FLUID, [False, False])
    cells = torch.where(lone == lone[..., -1][lone[..., -1] > 0].mode().values, cells, Cell.SOLID)
    solver = EmbeddedPoisson(grid, tolerance=1e-10)
    u, info = solver.solve(cells, f=torch.ones(1, 1, 1, 1).double())
    assert info.converged.all() and info.iterations.item() <= most, info
    assert (u.masked_select((cells == 0)[:, None]) > 0).all()


def test_samples_do_not_influence_each_other():
    grid = box((12, 15), PERIODIC, MIXED)
    cells = random_cells(3, 12, 15)
    data, _, _ = problem(grid, cells)
    solver = EmbeddedPoisson(grid)
    together, info = solver.solve(cells, **data)
    for i in range(3):
        alone = {k: v[i : i + 1] for k, v in data.items() if k != "boundary"}
        walls = [[wall[i : i + 1] for wall in pair] for pair in data["boundary"]]
        u, one = solver.solve(cells[i : i + 1], **alone, boundary=walls)
        assert torch.equal(u[0], together[i]) and one.iterations[0] == info.iterations[i]


@pytest.mark.parametrize(
    "grid, seed",
    [(box((3, 2), MIXED, PERIODIC), 31), (box((5,), MIXED, lengths=(2.0,)), 24)],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(grid, seed):
    cells = random_cells(1, *grid.shape, solid=0.2, dirichlet=0.3, seed=seed)
    data, _, num_floating = problem(grid, cells)
    assert num_floating == 0 and all((cells == kind).any() for kind in Cell)
    solver = EmbeddedPoisson(grid, tolerance=1e-13)
    names = ("a", "f", "g", "flux")

    def solution(*values):
        *fields, lower, upper = values
        named = dict(zip(names, fields, strict=True))
        walls = [(lower, upper), *data["boundary"][1:]]
        return solver.solve(cells, **named, boundary=walls)[0]

    inputs = [*(data[name] for name in names), *data["boundary"][0]]
    inputs = [v.detach().requires_grad_() for v in inputs]
    assert torch.autograd.gradcheck(solution, inputs)
    assert torch.autograd.gradgradcheck(solution, inputs, fast_mode=True)


@pytest.mark.parametrize("sides", [NEUMANN, PERIODIC], ids="-".join)
def test_gradients_of_singular_systems_are_those_along_balanced_data(sides):
    grid, cells = box((3, 3), sides), torch.zeros(1, 3, 3).long()
    cells[0, 1, 2] = int(Cell.SOLID)
    fluid = (cells == 0)[:, None]
    solver = EmbeddedPoisson(grid, tolerance=1e-13)

    def solution(a, f):
        f = torch.where(fluid, f, 0.0)
        return solver(cells, a, f - f.sum() / fluid.sum())

    inputs = [uniform(1, 1, 3, 3, seed=k).requires_grad_() for k in range(2)]
    u = solution(*inputs)
    assert abs(u.sum()) < 1e-12 < u.abs().max()
    assert torch.autograd.gradcheck(solution, inputs)
    assert torch.autograd.gradgradcheck(solution, inputs, fast_mode=True)


def test_gradients_of_large_problems_agree_with_difference_quotients():
    """Two samples, one of them held by nothing; a and g change together."""
    grid = box((40, 33), PERIODIC, NEUMANN)
    cells = torch.cat([discs(grid, (1, 2, 2)), discs(grid, (2, 2))])
    data, _, num_floating = problem(grid, cells)
    assert num_floating == 1
    solver, weights = EmbeddedPoisson(grid, tolerance=1e-12), uniform(2, 1, 40, 33, seed=9)
    inputs = {name: data[name].requires_grad_() for name in ("a", "g")}
    directions = [uniform(2, 1, 40, 33, low=-0.1, high=0.1, seed=10 + k) for k in range(2)]

    def value(step):
        moved = zip(inputs.items(), directions, strict=True)
        changed = {name: field + step * direction for (name, field), direction in moved}
        return (weights * solver.solve(cells, **(data | changed))[0]).sum()

    gradients = torch.autograd.grad(value(0.0), list(inputs.values()))
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    difference = (value(1e-3) - value(-1e-3)) / 2e-3
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=0)


def test_residual_is_zero_at_the_solution_and_differentiable():
    grid = box((12, 9), MIXED, PERIODIC)
    cells = random_cells(2, 12, 9)
    data, _, _ = problem(grid, cells)
    solver = EmbeddedPoisson(grid, tolerance=1e-13)
    u, _ = solver.solve(cells, **data)
    residual = solver.residual(cells, u, **data)
    assert (residual.abs() < 1e-9).all()
    # One unit more of source is one unit less of residual, in fluid.
    fluid = (cells == Cell.FLUID)[:, None].double()
    more = solver.residual(cells, u, **(data | {"f": data["f"] + 1}))
    torch.testing.assert_close(more, residual - fluid)
    small = EmbeddedPoisson(grid.resized((3, 4)), boundary=0.7)
    inputs = [uniform(1, 1, 3, 4, seed=k).requires_grad_() for k in range(4)]
    cells = random_cells(1, 3, 4, seed=2)
    assert torch.autograd.gradcheck(lambda *values: small.residual(cells, *values), inputs)


def test_data_elsewhere_have_no_effect_and_no_gradient():
    grid = box((9, 8), DIRICHLET)
    cells = random_cells(1, 9, 8)
    data, expected, _ = problem(grid, cells)
    kinds = {"a": cells != Cell.SOLID, "f": cells == Cell.FLUID, "g": cells == Cell.DIRICHLET}
    kinds["flux"] = cells == Cell.SOLID
    data |= {k: torch.where(kind[:, None], data[k], torch.nan) for k, kind in kinds.items()}
    inputs = {k: data[k].requires_grad_() for k in kinds}
    u, _ = EmbeddedPoisson(grid, tolerance=1e-12).solve(cells, **data)
    torch.testing.assert_close(u, expected)
    u.sum().backward()
    assert all(v.grad.isfinite().all() for v in inputs.values())
    assert all((v.grad[~kinds[k][:, None]] == 0).all() for k, v in inputs.items())


def test_float32_is_solved_in_float64():
    grid = box((24, 24), DIRICHLET)
    cells, f = discs(grid, (1, 2)), uniform(1, 1, 24, 24).float().requires_grad_()
    u = EmbeddedPoisson(grid)(cells, f=f)
    double = EmbeddedPoisson(grid)(cells, f=f.double())
    assert u.dtype == torch.float32 and double.dtype == torch.float64
    assert torch.equal(u, double.float())
    u.sum().backward()
    assert f.grad.dtype == torch.float32
    assert EmbeddedPoisson(grid)(cells).dtype == torch.float32
    wall = torch.ones(24).double()
    u, _ = EmbeddedPoisson(grid).solve(cells, f=f, boundary=[(0.0, 1.0), (wall, 0.0)])
    assert u.dtype == torch.float64


def test_without_fluid_there_is_nothing_to_solve():
    cells = torch.full((2, 40, 3), int(Cell.SOLID))
    cells[1] = int(Cell.DIRICHLET)
    u, info = EmbeddedPoisson(box((40, 3), MIXED)).solve(cells, g=0.5)
    assert (u[0] == 0).all() and (u[1] == 0.5).all() and info.converged.all()


def test_data_that_do_not_balance_are_refused():
    """Two chambers, the second held by nothing; control: its balance is one number."""
    grid, cells = box((16, 8), ("dirichlet", "neumann"), NEUMANN), torch.zeros(2, 16, 8).long()
    cells[1, 5] = int(Cell.SOLID)
    solver, f = EmbeddedPoisson(grid), uniform(2, 1, 16, 8)
    f[1, :, 6:] -= f[1, :, 6:].mean()
    u, info = solver.solve(cells, f=f)
    assert info.converged.all() and abs(u[1, 0, 6:].sum()) < 1e-12
    f[1, 0, 9, 3] += 0.1
    with pytest.raises(ValueError, match=r"sample 1 .* part of 80 cells .* sum to 3\.33e-03 of"):
        solver.solve(cells, f=f)
    # 0.1 / 128 goes out through the eight faces of width 1/8 to the solid.
    flux = -0.1 / 128
    u, _ = solver.solve(cells, f=f, flux=flux)
    assert abs(u[1, 0, 6:].sum()) < 1e-12
    with pytest.raises(ValueError, match="sample 1 has a connected part of 80 cells"):
        solver.solve(cells, f=f, flux=-flux)
    with pytest.raises(ValueError, match=r"part of 64 cells .* sum to 1\.00e\+00 of their sizes"):
        EmbeddedPoisson(box((8, 8), PERIODIC))(torch.zeros(1, 8, 8).long())


def test_non_convergence_is_raised():
    grid = box((32, 32), DIRICHLET)
    cells = discs(grid, (1, 2))
    with pytest.raises(NotConverged, match=r"1 of 1 .*\(iteration limit\).*many thin walls"):
        EmbeddedPoisson(grid, max_iterations=3)(cells)
    f = torch.zeros(1, 1, 32, 32, requires_grad=True)
    u = EmbeddedPoisson(grid, max_iterations=1)(cells, f=f)  # zero, without an iteration
    with pytest.raises(NotConverged, match="adjoint solve"):
        u.sum().backward()


def test_other_arguments_that_do_not_fit():
    grid, cells = box((4, 5), DIRICHLET), torch.zeros(2, 4, 5).long()
    solver = EmbeddedPoisson(grid)
    with pytest.raises(ValueError, match=r"points='cells' on every axis, got \('nodes', 'nodes'\)"):
        EmbeddedPoisson(Grid.box((4, 5), points="nodes"))
    with pytest.raises(ValueError, match="periodic, dirichlet or neumann, got"):
        EmbeddedPoisson(Grid.box((4, 5), boundary="open"))
    for wrong in (cells[0], cells.mT, cells[:, None, None]):
        with pytest.raises(ValueError, match=r"cells must have shape \[b, 4, 5\], with or"):
            solver(wrong)
    with pytest.raises(ValueError, match="cells must be whole numbers .* got torch.float32"):
        solver(cells + 0.5)
    with pytest.raises(ValueError, match=r"cells must hold \[0, 1, 2\] .* got values from 3 to 3"):
        solver(cells + 3)
    with pytest.raises(ValueError, match=r"a must be positive .* sample 0 holds -1 at index"):
        solver(cells, -1.0)
    for name in ("f", "g", "flux", "boundary"):
        values = {name: torch.inf}
        kinds = cells + {"g": 1, "flux": 2}.get(name, 0)
        with pytest.raises(ValueError, match=f"{name}.* must be finite; sample 0 holds inf"):
            solver.solve(kinds, **values)
    with pytest.raises(ValueError, match=r"flux must be a number or broadcast to \(2, 1, 4, 5\)"):
        solver.solve(cells, flux=torch.ones(3, 1, 4, 5))
    with pytest.raises(ValueError, match=r"u must have shape \[2, 1, 4, 5\], got \(4, 5\)"):
        solver.residual(cells, torch.ones(4, 5))


def test_inclusions_leave_no_part_of_the_plate_alone():
    psi = torch.zeros(2, 9, 9).double()
    psi[:, 2:7, 2:7] = 2.0  # a solid ring ..
    psi[:, 3:6, 3:6] = 0.0  # .. around plate
    psi[1, 4, 4] = -2.0  # which in one sample has a cold cell in it
    cells = Inclusions(solid=1.0, held=-1.0)(psi)
    assert (cells[0, 3:6, 3:6] == Cell.SOLID).all() and (cells[1, 3:6, 3:6] != Cell.SOLID).all()
    assert (cells[1] == Cell.DIRICHLET).sum() == 1 and (cells[:, 0] == Cell.FLUID).all()
    solver = EmbeddedPoisson(Grid.box((9, 9)))
    u = solver(cells[:, None].double())
    assert (u[0, 0, 2:7, 2:7] == 0).all() and u[1, 0, 3, 3] > 0
    with pytest.raises(ValueError, match="held=1 must be below solid=1"):
        Inclusions(solid=1, held=1)
