"""The FitzHugh-Nagumo equations, and other reactions between Neumann sides."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from solvers import AllenCahn, FisherKPP, FitzHughNagumo, GrayScott, Grid, Imex, rollout
from solvers.grid import Axis
from solvers.spectral import eigenfunctions

WALL, PERIODIC = ("neumann", "neumann"), ("periodic", "periodic")


def box(*sizes, sides=(WALL, WALL), points="cells", lower=-1.0):
    axes = zip("xy", sizes, sides, strict=False)
    return Grid(tuple(Axis(a, n, lower, 1.0, side, points) for a, n, side in axes))


def cosines(grid, channels, b=2, modes=3):
    """A few cosines with random amplitudes and a mean, [b, channels, *space]."""
    u = torch.randn(b, channels, *[1] * grid.ndim, dtype=torch.float64) * 0.3
    for axis, x in zip(grid.axes, grid.mesh(), strict=True):
        for k in range(1, modes + 1):
            amplitude = torch.randn(b, channels, *[1] * grid.ndim, dtype=torch.float64) / k**2
            wave = (2 if axis.is_periodic else 1) * k * math.pi / axis.length
            u = u + 0.3 * amplitude * torch.cos(wave * (x - axis.lower))
    return u


def equations():
    line, plane = box(16), box(10, 9)
    mixed = box(9, 10, sides=(PERIODIC, WALL))
    nodes = box(12, points="nodes")
    fast = {"dt": 0.1, "substeps": 8}
    return {
        "fitzhugh-nagumo": FitzHughNagumo(plane, diffusivities=(0.02, 0.1), **fast),
        "fitzhugh-nagumo mixed": FitzHughNagumo(mixed, diffusivities=(0.02, 0.1), **fast),
        "fitzhugh-nagumo periodic": FitzHughNagumo(box(10, 9, sides=(PERIODIC,) * 2), **fast),
        "allen-cahn": AllenCahn(line, diffusivity=0.1, **fast),
        "fisher": FisherKPP(nodes, diffusivity=0.1, **fast),
        "gray-scott": GrayScott(plane, diffusivities=(0.2, 0.1), **fast),
    }


NAMES = list(equations())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_against_scipy(name):
    """The same right-hand side by another method: SciPy's DOP853 on the system of all points."""
    equation = equations()[name]
    u = cosines(equation.grid, len(equation.fields), b=1)

    def rhs(t, y):
        return equation.rhs(torch.from_numpy(y).view_as(u)).flatten().numpy()

    solution = scipy.integrate.solve_ivp(
        rhs, (0, equation.dt), u.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-12
    )
    expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
    assert (equation(u) - expected).abs().max() < 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_influence_each_other(name):
    equation = equations()[name]
    u = cosines(equation.grid, len(equation.fields), b=3)
    together, alone = equation(u), torch.cat([equation(v) for v in u.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sides", [(WALL, WALL), (PERIODIC, WALL)], ids=str)
def test_between_walls_is_half_of_a_mirrored_period(sides):
    """Cosines on n cells are the even waves of 2n cells, de-aliasing and all."""
    grid = box(10, 9, sides=sides)
    whole = Grid(
        tuple(
            Axis(a.name, (1 if a.is_periodic else 2) * a.size, 0.0, length, PERIODIC)
            for a, length in zip(
                grid.axes, [2.0 if s == PERIODIC else 4.0 for s in sides], strict=True
            )
        )
    )
    u = v = torch.randn(2, 2, *grid.shape, dtype=torch.float64)
    for dim, side in enumerate(sides, start=2):
        v = v if side == PERIODIC else torch.cat((v, v.flip(dim)), dim=dim)
    options = {"dt": 0.5, "substeps": 5}
    expected = FitzHughNagumo(whole, **options)(v)[:, :, :10, :9]
    torch.testing.assert_close(FitzHughNagumo(grid, **options)(u), expected, rtol=0, atol=1e-13)


def difference_rhs(u, h, k=5e-3, diffusivities=(0.02, 0.1)):
    """By three points per axis, walls as in finite volumes; u [2, n, n]."""
    laplacian = np.zeros_like(u)
    for axis in (1, 2):
        padded = np.pad(u, [(0, 0)] + [(1, 1) if i == axis else (0, 0) for i in (1, 2)], "edge")
        laplacian += np.diff(padded, 2, axis=axis) / h**2
    a, b = u
    reaction = np.stack((a - a**3 - k - b, a - b))
    return np.array(diffusivities)[:, None, None] * laplacian + reaction


def test_differences_converge_to_it():
    """An independent method of lines, as in PDEBench, for t = 1."""
    errors = []
    for n in (24, 48):
        grid = box(n, n)
        x, y = grid.mesh()
        a = torch.cos(math.pi * (x + 1)) * torch.cos(math.pi * (y + 1) / 2)
        u = torch.stack((a, 0.5 * a.square()))[None]
        solution = scipy.integrate.solve_ivp(
            lambda t, v, n=n: difference_rhs(v.reshape(2, n, n), 2 / n).ravel(),
            (0, 1),
            u.numpy().ravel(),
            rtol=1e-9,
            atol=1e-10,
        )
        expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
        equation = FitzHughNagumo(grid, dt=1.0, substeps=20, diffusivities=(0.02, 0.1))
        errors.append((equation(u) - expected).abs().mean())
    assert errors[1] < 5e-4
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_uniform_states_follow_the_reaction():
    equation = FitzHughNagumo(box(6, 5), dt=1.0, substeps=50, offset=0.1)
    u = torch.tensor([0.6, -0.2], dtype=torch.float64)[None, :, None, None].expand(1, 2, 6, 5)
    solution = scipy.integrate.solve_ivp(
        lambda t, y: [y[0] - y[0] ** 3 - 0.1 - y[1], y[0] - y[1]],
        (0, 1),
        [0.6, -0.2],
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    )
    expected = torch.tensor(solution.y[:, -1])[None, :, None, None].expand_as(u)
    torch.testing.assert_close(equation(u), expected, rtol=0, atol=1e-8)


def test_order_in_time():
    equation = FitzHughNagumo(box(12, 12), dt=1.0, diffusivities=(0.1, 0.5), substeps=8)
    u = cosines(equation.grid, 2)
    states = [equation(u)]
    for _ in range(3):
        equation = equation.halved()
        states.append(equation(u))
    changes = [(a - b).norm() for a, b in zip(states, states[1:], strict=False)]
    assert math.log2(changes[1] / changes[2]) == pytest.approx(4, abs=0.3)


def test_another_scheme_converges_to_the_same_solution():
    grid = box(12, 12)
    u = cosines(grid, 2)
    options = {"dt": 0.5, "diffusivities": (0.02, 0.1)}
    expected = FitzHughNagumo(grid, substeps=40, **options)(u)
    errors = [
        (FitzHughNagumo(grid, substeps=n, scheme=Imex, **options)(u) - expected).norm()
        for n in (20, 40)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_the_residual_of_a_step_is_of_second_order():
    grid, sizes = box(12, 12), []
    u = cosines(grid, 2)
    for dt in (0.02, 0.01):
        equation = FitzHughNagumo(grid, dt=dt)
        sizes.append(equation.residual(u, equation(u)).norm())
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("rate", [1.0, 10.0])
def test_uniform_fisher_is_logistic(rate):
    """The range of the 1-D data of PDEBench: rates 1 to 10, diffusivities 0.5 to 5, t = 1."""
    grid = box(512, sides=(PERIODIC,), lower=0.0)
    rates = torch.tensor([rate, rate / 2], dtype=torch.float64)
    values = torch.tensor([0.5, 5.0], dtype=torch.float64)
    equation = FisherKPP(grid, dt=0.1, substeps=20, diffusivity=values, rate=rates)
    u = rollout(equation, torch.full((2, 1, 512), 0.1, dtype=torch.float64), 10)[:, -1]
    growth = torch.exp(rates)[:, None, None]
    exact = 0.1 * growth / (1 + 0.1 * (growth - 1))
    torch.testing.assert_close(u, exact.expand_as(u), rtol=1e-6, atol=0)


def test_a_front_of_fisher_between_walls():
    """u = (1 + e^(x / sqrt 6 - 5 t / 6))^-2 [Ablowitz & Zeppetella 1979], speed 5 / sqrt 6."""
    grid = Grid((Axis("x", 512, 0.0, 100.0, WALL),))
    x = grid.axes[0].coordinates()
    front = lambda t: (1 + torch.exp((x - 40) / 6**0.5 - 5 * t / 6)) ** -2  # noqa: E731
    equation = FisherKPP(grid, dt=1.0, substeps=20, diffusivity=1.0)
    u = rollout(equation, front(0.0)[None, None], 5)[:, -1]
    assert (u[0, 0] - front(5.0)).abs().max() < 1e-6
    assert equation.tail(u).max() < 1e-8


def test_parameters_by_sample():
    u = cosines(box(8, 7), 2, b=2)
    values = [torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.2], [0.5, 0.3], [0.0, 0.1])]
    d, e, k = values
    together = FitzHughNagumo(box(8, 7), dt=0.1, diffusivities=(d, e), offset=k)(u)
    for i in range(2):
        options = {"diffusivities": (float(d[i]), float(e[i])), "offset": float(k[i])}
        alone = FitzHughNagumo(box(8, 7), dt=0.1, **options)(u[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)
    short = FitzHughNagumo(box(8, 7), dt=0.1, diffusivities=(d, 0.3), offset=k)(u.float())
    assert short.dtype == torch.float32


@pytest.mark.parametrize("dealias, low, high", [(False, 0, 1e-3), (True, 0.05, 1)])
def test_noise_in_every_mode_reacts(dealias, low, high):
    """Against SciPy on the collocation points; the control: modes that are cut do not react."""
    grid = box(16, 16)
    equation = FitzHughNagumo(grid, dt=0.1, substeps=8, dealias=dealias)
    u = torch.randn(1, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    linear = torch.tensor([1e-3, 5e-3])[:, None, None] * equation.basis.laplacian

    def rhs(t, y):
        v = torch.from_numpy(y).view_as(u)
        a, b = v[:, :1], v[:, 1:]
        diffused = equation.basis.inverse(linear * equation.basis.transform(v))
        reaction = torch.cat((a - a**3 - 5e-3 - b, a - b), dim=1)
        return (diffused + reaction).flatten().numpy()

    solution = scipy.integrate.solve_ivp(rhs, (0, 1), u.flatten().numpy(), rtol=1e-8, atol=1e-9)
    expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
    found = rollout(equation, u, 10)[:, -1]
    assert low <= (found - expected).norm() / expected.norm() < high


@pytest.mark.parametrize("name", ["fitzhugh-nagumo mixed", "fisher"])
def test_gradients_of_a_step(name):
    equation = equations()[name]
    grid = equation.grid.resized([4] * equation.grid.ndim)
    u = cosines(grid, len(equation.fields), b=1, modes=2).requires_grad_()
    d = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)

    def step(u, d):
        if name == "fisher":
            return FisherKPP(grid, dt=0.1, diffusivity=d, rate=2 * d)(u)
        return FitzHughNagumo(grid, dt=0.1, diffusivities=(d, 2 * d), offset=d)(u)

    assert torch.autograd.gradcheck(step, (u, d), fast_mode=True)


@pytest.mark.parametrize("n", [9, 10, 12])
@pytest.mark.parametrize("points", ["cells", "nodes"])
@pytest.mark.parametrize("fraction, power", [(2 / 3, 2), (1 / 2, 3)])
def test_products_of_kept_cosines_alias_into_no_kept_one(n, points, fraction, power):
    grid = box(n, points=points)
    fine = box(6 * (n - 1) + 1 if points == "nodes" else 6 * n, points=points)
    basis, finer = eigenfunctions(grid), eigenfunctions(fine)
    amplitudes = torch.randn(n, dtype=torch.float64) * basis.kept(fraction)
    parts = []
    for g, b in ((grid, basis), (fine, finer)):
        x = g.axes[0].coordinates()
        k = torch.arange(n, dtype=torch.float64)
        u = amplitudes @ torch.cos(math.pi * k[:, None] * (x + 1) / 2)
        v = b.transform(u**power)[:n]
        parts.append(v / b.transform(torch.ones_like(x))[0] * basis.kept(fraction))
    torch.testing.assert_close(*parts, rtol=0, atol=1e-12)


def test_the_tail_tells_a_coarse_grid_from_a_fine_one():
    """Also where half of the modes are cut; in solutions those above are empty on any grid."""
    tails = []
    for n in (16, 96):
        grid = box(n, n)
        x, y = grid.mesh()
        a = torch.cos(math.pi * (x + 1)) * torch.cos(math.pi * (y + 1) / 2)
        equation = FitzHughNagumo(grid, dt=1.0, substeps=20)
        tails.append(equation.tail(equation(torch.stack((a, a))[None])).max())
    assert tails[0] > 1e-4 and tails[1] < 1e-8


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: FitzHughNagumo(Grid.box((8, 8)), dt=0.1), "FitzHughNagumo has periodic and neum"),
        (lambda: AllenCahn(Grid.box((8,), boundary="open"), dt=0.1), "periodic and neumann sides"),
        (
            lambda: FitzHughNagumo(box(8, 8), dt=0.1, diffusivities=(torch.tensor([-1.0]), 1.0)),
            "a diffusivity >= 0 for each",
        ),
        (lambda: FitzHughNagumo(box(8, 8), dt=0.1)(torch.ones(1, 1, 8, 8)), r"\[b, 2, 8, 8\]"),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
