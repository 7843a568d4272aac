import math

import pytest
import scipy.sparse.linalg
import torch

from benchmarks.darcy import assemble, permeability
from solvers import (
    Axis,
    Darcy,
    Grid,
    NotConverged,
    Stencil,
    conjugate_gradients,
    transmissibilities,
)


def rectangle(shape, lower=(0.0, -0.5), upper=(2.0, 0.8)):
    axes = zip("xy", shape, lower, upper, strict=True)
    return Grid(tuple(Axis(name, n, lower=low, upper=up) for name, n, low, up in axes))


def uniform(*shape, low=0.5, high=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def norm(field):
    return field.flatten(1).norm(dim=1)


def smooth_a(x, y):
    return 1.5 + torch.sin(2 * x) * torch.cos(3 * y)


def smooth_u(x, y):
    return torch.sin(1.3 * x + 0.4) * torch.exp(y) + 0.5 * x * y**2


def smooth_f(x, y):
    """-div(a grad u) by automatic differentiation."""
    x, y = (v.clone().requires_grad_() for v in (x, y))

    def gradient(value):
        return torch.autograd.grad(value.sum(), (x, y), create_graph=True)

    fluxes = [smooth_a(x, y) * slope for slope in gradient(smooth_u(x, y))]
    return -(gradient(fluxes[0])[0] + gradient(fluxes[1])[1]).detach()


def smooth_walls(grid):
    (x, y), (ax, ay) = (axis.coordinates() for axis in grid.axes), grid.axes
    return [
        [smooth_u(torch.tensor(end), y) for end in (ax.lower, ax.upper)],
        [smooth_u(x, torch.tensor(end)) for end in (ay.lower, ay.upper)],
    ]


@pytest.mark.parametrize("shapes", [[(16, 24), (32, 48), (64, 96)], [(15, 11), (31, 21), (63, 43)]])
def test_second_order_on_a_smooth_solution(shapes):
    errors, spacings = [], []
    for shape in shapes:
        grid = rectangle(shape)
        x, y = grid.mesh()
        a, f, u = (field(x, y)[None, None] for field in (smooth_a, smooth_f, smooth_u))
        solution, _ = Darcy(grid, tolerance=1e-11).solve(a, f, smooth_walls(grid))
        errors.append((norm(solution - u) / norm(u)).item())
        spacings.append(grid.spacing[0])
    logs = torch.tensor([spacings, errors], dtype=torch.float64).log()
    logs = logs - logs.mean(dim=1, keepdim=True)
    slope = (logs[0] * logs[1]).sum() / (logs[0] ** 2).sum()
    assert abs(slope - 2) < 0.3
    assert errors[-1] < 1e-3


def layered(size):
    """a = 12 up to 3/8 and 0.5 beyond, and the exact u for u(0) = 1, u(1) = 0 without source."""
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    flux = 1 / (0.375 / 12 + 0.625 / 0.5)
    u = torch.where(x < 0.375, 1 - flux * x / 12, flux * (1 - x) / 0.5)
    return torch.where(x < 0.375, 12.0, 0.5).double(), u, flux


def test_flux_across_a_jump_is_exact_in_one_dimension():
    a, exact, flux = layered(24)
    solver = Darcy(Grid.box((24,)), tolerance=1e-13)
    u, _ = solver.solve(a[None, None], 0.0, [(1.0, 0.0)])
    torch.testing.assert_close(u[0, 0], exact, rtol=0, atol=1e-10)
    padded = torch.cat([torch.ones(1), u[0, 0], torch.zeros(1)])
    [faces] = transmissibilities(a[None], solver.grid.spacing)
    torch.testing.assert_close(-faces[0] * padded.diff(), torch.full((25,), flux).double())


@pytest.mark.parametrize("axis", [0, 1])
def test_flux_across_a_jump_is_exact_in_layers(axis):
    """The same layers across the second axis; its walls hold the exact values."""
    a, exact, _ = layered(16)
    shape = (16, 7) if axis == 0 else (7, 16)
    along = [(1.0, 0.0), (exact, exact)]
    a, exact = (v.view(-1, 1) if axis == 0 else v.view(1, -1) for v in (a, exact))
    solver = Darcy(Grid.box(shape), tolerance=1e-13)
    u, _ = solver.solve(a.expand(1, 1, *shape), 0.0, along if axis == 0 else along[::-1])
    # Half a cell from the walls of the second axis u is exact too: the solution is constant there.
    torch.testing.assert_close(u, exact.expand(1, 1, *shape), rtol=0, atol=1e-10)


def direct(a, spacing):
    """SciPy's sparse factorisation of one sample [nx, ny], f = 1."""
    b = torch.full((a.numel(),), spacing[0] * spacing[1], dtype=torch.float64)
    lu = scipy.sparse.linalg.splu(assemble(a.numpy(), spacing), permc_spec="MMD_AT_PLUS_A")
    return torch.from_numpy(lu.solve(b.numpy())).view_as(a)


def test_agrees_with_a_sparse_direct_solve_at_421():
    a = permeability(421, 1)
    u = Darcy(Grid.box((421, 421)), tolerance=1e-10)(a)
    expected = direct(a[0, 0], (1 / 421, 1 / 421))
    assert (u[0, 0] - expected).norm() < 1e-8 * expected.norm()


@pytest.mark.parametrize("shape", [(1, 9), (2, 3), (5, 64), (33, 20), (101, 2)], ids=str)
def test_agrees_with_a_sparse_direct_solve_on_any_rectangle(shape):
    grid = rectangle(shape, lower=(0.0, 0.0), upper=(3.0, 0.1))
    a = uniform(2, 1, *shape).pow(4)
    u = Darcy(grid, tolerance=1e-12)(a)
    for i in range(2):
        torch.testing.assert_close(u[i, 0], direct(a[i, 0], grid.spacing), rtol=1e-8, atol=0)


def test_a_single_cell():
    """Half a cell away from each of its six walls: a u (1 / (h / 2)) times the areas is f h^3."""
    solver = Darcy(Grid.box((1, 1, 1)))
    torch.testing.assert_close(solver(torch.full((1, 1, 1, 1, 1), 4.0)).item(), 1 / 48)


def test_three_dimensions():
    def error(n):
        grid = Grid.box((n, n + 1, n))
        x, y, z = grid.mesh()
        u = (math.pi * x).sin() * (math.pi * y).sin() * (math.pi * z).sin()
        solver = Darcy(grid, source=3 * math.pi**2 * u)
        return (solver(torch.ones(1, 1, *grid.shape).double())[0, 0] - u).abs().max()

    assert error(20) < 0.3 * error(10) < 0.01


@pytest.mark.parametrize("shape", [(4, 3), (2, 5)], ids=str)
def test_gradients_are_those_of_finite_differences(shape):
    grid = rectangle(shape)
    fields = [uniform(2, 1, *shape, seed=i) for i in range(2)]
    walls = [uniform(2, shape[1], seed=2), uniform(shape[0], seed=3)]
    solver = Darcy(grid, tolerance=1e-13, chunk=1)

    def solution(a, f, left, top):
        return solver.solve(a, f, [(left, 0.5), (left.mean(), top)])[0]

    inputs = [v.requires_grad_() for v in (*fields, *walls)]
    assert torch.autograd.gradcheck(solution, inputs)
    assert torch.autograd.gradgradcheck(solution, inputs, fast_mode=True)


def test_gradient_of_large_problems_agrees_with_a_difference_quotient():
    solver = Darcy(Grid.box((40, 33)), tolerance=1e-12)
    a, direction = uniform(3, 1, 40, 33).requires_grad_(), uniform(3, 1, 40, 33, low=-1, seed=1)
    weights = uniform(3, 1, 40, 33, seed=2)
    [gradient] = torch.autograd.grad((weights * solver(a)).sum(), a)
    step = 1e-4 * direction
    difference = (weights * (solver(a + step) - solver(a - step))).sum() / 2e-4
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-6, atol=0)


def test_memory_for_the_gradient_does_not_grow_with_iterations():
    def saved(tolerance):
        """Iterations and the number of values that autograd keeps."""
        sizes = []

        def pack(kept):
            sizes.append(kept.numel())
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
            _, info = Darcy(Grid.box((32, 32)), tolerance=tolerance).solve(a)
        return info.iterations.item(), sum(sizes)

    a = permeability(32, 1).requires_grad_()
    (few, small), (many, large) = saved(1e-2), saved(1e-12)
    assert many > 3 * few
    assert large == small < 12 * a.numel()


def test_float32_is_solved_in_float64():
    a = uniform(2, 1, 50, 50)
    solver = Darcy(Grid.box((50, 50)))
    single = a.float().requires_grad_()
    u = solver(single)
    assert u.dtype == torch.float32
    assert torch.equal(u, solver(a.float().double()).float())
    u.sum().backward()
    assert single.grad.dtype == torch.float32 and (single.grad < 0).all()


def test_residual_is_zero_at_the_solution_and_differentiable():
    grid = rectangle((12, 9))
    a, f, g = uniform(2, 1, 12, 9), uniform(2, 1, 12, 9, seed=1), uniform(2, 9, seed=2)
    solver = Darcy(grid, source=f, boundary=[(g, 1.0), (0.0, 0.3)], tolerance=1e-12)
    u, info = solver.solve(a)
    residual = solver.residual(a, u)
    assert (residual.abs() < 1e-9).all() and (info.residual <= 1e-12).all()
    # One unit more of source is one unit less of residual.
    torch.testing.assert_close(solver.residual(a, u, f + 1), residual - 1)
    assert solver.residual(a.float(), u.float()).dtype == torch.float32
    small = Darcy(rectangle((3, 4)), boundary=0.7)
    inputs = [uniform(1, 1, 3, 4, seed=i).requires_grad_() for i in range(3)]
    assert torch.autograd.gradcheck(small.residual, inputs)
    assert torch.autograd.gradgradcheck(small.residual, inputs, fast_mode=True)


def test_maximum_principle():
    grid = rectangle((30, 41))
    a = permeability(64, 3)[:, :, :30, :41] ** 3
    walls = [(uniform(3, n, low=0, high=1), uniform(3, n, low=0, high=1)) for n in (41, 30)]
    u, _ = Darcy(grid).solve(a, 0.0, walls)
    assert (u > 0).all() and (u < 1).all()
    assert (Darcy(grid)(a) > 0).all()


def test_flips_and_transposes_of_a_give_those_of_u():
    a = permeability(37, 2)[:, :, :, :24]
    solver = Darcy(Grid.box((37, 24)), tolerance=1e-11)
    u = solver(a)
    torch.testing.assert_close(solver(a.flip(2)).flip(2), u, rtol=1e-8, atol=0)
    torch.testing.assert_close(solver(a.flip(3)).flip(3), u, rtol=1e-8, atol=0)
    transposed = Darcy(Grid.box((24, 37)), tolerance=1e-11)(a.mT)
    torch.testing.assert_close(transposed.mT, u, rtol=1e-8, atol=0)


def test_linear_in_the_source_and_inverse_in_a():
    a = permeability(32, 2)
    solver = Darcy(Grid.box((32, 32)), tolerance=1e-11)
    u = solver(a)
    torch.testing.assert_close(solver.solve(a, 1e-30)[0], 1e-30 * u, rtol=1e-8, atol=0)
    torch.testing.assert_close(solver(1e30 * a), 1e-30 * u, rtol=1e-8, atol=0)
    zero, info = solver.solve(a, 0.0)
    assert (zero == 0).all() and (info.iterations == 0).all()


def test_a_sample_does_not_depend_on_its_batch():
    a = permeability(33, 6)
    solver = Darcy(Grid.box((33, 33)))
    u, info = solver.solve(a)
    assert torch.equal(u, solver(a))
    for chunk in (1, 4):
        pieces = Darcy(Grid.box((33, 33)), chunk=chunk)(a)
        torch.testing.assert_close(pieces, u, rtol=1e-12, atol=0)
    alone, alone_info = solver.solve(a[4:5])
    torch.testing.assert_close(alone, u[4:5], rtol=1e-12, atol=0)
    assert alone_info.iterations == info.iterations[4]


def test_a_source_and_walls_in_the_constructor_or_the_call():
    a = uniform(2, 1, 6, 5)
    grid = Grid.box((6, 5))
    f, walls = uniform(6, 5), [(1.0, 0.0), (torch.linspace(0, 1, 6), 2.0)]
    expected = Darcy(grid, source=f, boundary=walls)(a)
    torch.testing.assert_close(Darcy(grid).solve(a, f, walls)[0], expected)
    torch.testing.assert_close(Darcy(grid, boundary=2.0).solve(a, 0.0)[0], torch.full_like(a, 2.0))
    level = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    u, _ = Darcy(grid).solve(a, boundary=level)
    u.sum().backward()
    torch.testing.assert_close(level.grad.item(), float(a.numel()))


def test_a_permeability_that_is_not_positive_is_named():
    a = torch.ones(3, 1, 8, 8)
    a[1, 0, 2, 5] = -0.25
    solver = Darcy(Grid.box((8, 8)))
    with pytest.raises(ValueError, match=r"sample 1 holds -0.25 at index \(0, 2, 5\)"):
        solver(a)
    for value in (torch.nan, torch.inf, 0.0):
        a[1, 0, 2, 5] = value
        with pytest.raises(ValueError, match="a must be positive and finite; sample 1 holds"):
            solver(a)
    # Without the guard the operator is not definite, and conjugate gradients have no ground.
    a[1, 0, 2, 5] = -0.25
    stencil = Stencil(transmissibilities(a[:, 0].double(), solver.grid.spacing))
    assert (torch.linalg.eigvalsh(stencil.dense())[:, 0] > 0).tolist() == [True, False, True]


def test_a_source_that_is_not_finite_is_named():
    f = torch.ones(2, 1, 4, 4)
    f[1, 0, 3, 0] = torch.nan
    solver, a = Darcy(Grid.box((4, 4))), torch.ones(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"f must be finite; sample 1 holds nan at index \(3, 0\)"):
        solver.solve(a, f)
    with pytest.raises(ValueError, match="boundary must be finite; sample 0 holds inf"):
        solver.solve(a, boundary=torch.inf)
    stencil = Stencil(transmissibilities(a[:, 0].double(), solver.grid.spacing))
    assert conjugate_gradients(stencil, f[:, 0].double())[0][1].isnan().all()


def test_non_convergence_is_raised():
    a = permeability(32, 2)
    with pytest.raises(NotConverged, match=r"2 of 2 .* in 3 iterations \(iteration limit\).*Raise"):
        Darcy(Grid.box((32, 32)), max_iterations=3)(a)
    with pytest.raises(NotConverged, match=r"\(stagnated\); the tolerance is 1\.0e-17.*loosen"):
        Darcy(Grid.box((32, 32)), tolerance=1e-17)(a)
    assert Darcy(Grid.box((32, 32)))(a).isfinite().all()


def test_non_convergence_of_the_adjoint_is_raised():
    solver = Darcy(Grid.box((32, 32)), tolerance=1e-6)
    a = permeability(32, 1).requires_grad_()
    u = solver(a)
    solver.max_iterations = 2
    with pytest.raises(NotConverged, match="adjoint solve"):
        u.sum().backward()


@pytest.mark.parametrize(
    "grid, message",
    [
        (Grid.box((4, 4), points="nodes"), "points='cells' on every axis, got"),
        (Grid.box((4, 4), boundary="periodic"), "boundary='dirichlet' on every side, got"),
        (Grid((Axis("x", 4), Axis("y", 4, boundary=("neumann", "dirichlet")))), "neumann"),
    ],
)
def test_grids_that_do_not_fit(grid, message):
    with pytest.raises(ValueError, match=message):
        Darcy(grid)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 2, 4, 5), (1, 1, 5, 4), (1, 1, 4, 5, 1)])
def test_fields_that_do_not_fit(shape):
    solver = Darcy(Grid.box((4, 5)))
    with pytest.raises(ValueError, match=r"a must have shape \[b, 1, 4, 5\]"):
        solver(torch.ones(shape))
    with pytest.raises(ValueError, match=r"u must have shape \[b, 1, 4, 5\]"):
        solver.residual(torch.ones(1, 1, 4, 5), torch.ones(shape))


def test_other_arguments_that_do_not_fit():
    solver, a = Darcy(Grid.box((4, 5))), torch.ones(2, 1, 4, 5)
    with pytest.raises(ValueError, match="a must be a real floating-point field, got torch.int64"):
        solver(a.long())
    with pytest.raises(ValueError, match=r"f must be a number or broadcast to \(2, 1, 4, 5\)"):
        solver.solve(a, torch.ones(3, 1, 4, 5))
    with pytest.raises(ValueError, match=r"boundary of axis y must .* \(2, 4\), got shape \(5,\)"):
        solver.solve(a, boundary=[(0.0, 0.0), (0.0, torch.ones(5))])
    with pytest.raises(ValueError, match=r"boundary must be a number or 2 pairs"):
        solver.solve(a, boundary=[(0.0, 0.0)])
    with pytest.raises(ValueError, match="chunk=0 must be 1 or more"):
        Darcy(Grid.box((4, 5)), chunk=0)
