"""Burgers, Korteweg-de Vries, Kuramoto-Sivashinsky and reactions on periodic grids."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.integrate
import torch

from solvers import (
    AllenCahn,
    Burgers,
    Exponential,
    FisherKPP,
    GrayScott,
    Imex,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes,
    Unstable,
    rollout,
)
from solvers.burgers import cole_hopf
from solvers.korteweg_de_vries import soliton
from solvers.navier_stokes import Kolmogorov
from tests.helpers import periodic

TWO_PI = 2 * math.pi


def smooth(grid, channels=1, b=2, modes=3):
    """A few waves with random amplitudes."""
    x = grid.mesh()
    u = torch.zeros(b, channels, *grid.shape, dtype=torch.float64)
    for k in range(1, modes + 1):
        for axis in range(grid.ndim):
            wave = TWO_PI * k * x[axis] / grid.axes[axis].length
            amplitude = torch.randn(2, b, channels, *[1] * grid.ndim, dtype=torch.float64) / k
            u = u + amplitude[0] * torch.sin(wave) + amplitude[1] * torch.cos(wave)
    return u


def equations():
    """One of each, with a field that suits it."""
    line, long = periodic((32,), (TWO_PI,)), periodic((32,), (22.0,))
    plane = periodic((16, 12), (TWO_PI, TWO_PI))
    return {
        "burgers": (Burgers(line, viscosity=0.1, dt=0.05, substeps=4), 1),
        "burgers 2-D": (Burgers(plane, viscosity=0.1, dt=0.05, substeps=4), 2),
        "korteweg-de vries": (KortewegDeVries(line, dt=0.01, substeps=4), 1),
        "kuramoto-sivashinsky": (KuramotoSivashinsky(long, dt=0.05, substeps=4), 1),
        "its derivative": (KuramotoSivashinsky(long, dt=0.05, substeps=4, conservative=True), 1),
        "allen-cahn": (AllenCahn(plane, dt=0.05, substeps=4, diffusivity=0.1), 1),
        "fisher": (FisherKPP(plane, dt=0.05, substeps=4, diffusivity=0.1), 1),
        "gray-scott": (GrayScott(plane, dt=0.05, substeps=4, diffusivities=(0.2, 0.1)), 2),
        "navier-stokes": (NavierStokes(plane, viscosity=0.1, dt=0.05, forcing=Kolmogorov(2)), 1),
    }


NAMES = list(equations())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_against_scipy(name):
    """The same right-hand side by another method: SciPy's DOP853 on the system of all points."""
    equation, channels = equations()[name]
    u = 0.5 * smooth(equation.grid, channels, b=1)

    def rhs(t, y):
        return equation.rhs(torch.from_numpy(y).view_as(u)).flatten().numpy()

    solution = scipy.integrate.solve_ivp(
        rhs, (0, equation.dt), u.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12
    )
    expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
    assert (equation(u) - expected).abs().max() < 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_step(name):
    equation, channels = equations()[name]
    u = (0.5 * smooth(equation.grid, channels, b=1)).requires_grad_()
    v, w = (torch.randn_like(u) for _ in range(2))
    (gradient,) = torch.autograd.grad((equation(u) * w).sum(), u)
    with torch.no_grad():
        ahead, behind = ((equation(u + s * 1e-5 * v) * w).sum() for s in (1, -1))
    assert (gradient * v).sum() == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_influence_each_other(name):
    equation, channels = equations()[name]
    u = 0.5 * smooth(equation.grid, channels, b=3)
    together, alone = equation(u), torch.cat([equation(v) for v in u.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_of_a_step_is_of_second_order(name):
    equation, channels = equations()[name]
    u = 0.5 * smooth(equation.grid, channels, b=1)
    sizes = []
    for dt in (0.004, 0.002):
        equation.dt = dt
        equation._divide(1)
        sizes.append(equation.residual(u, equation(u)).norm())
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


def order_in_time(equation, u):
    """From the changes of u when the substeps are halved three times."""
    states = [equation(u)]
    for _ in range(3):
        equation = equation.halved()
        states.append(equation(u))
    changes = [(a - b).norm() for a, b in zip(states, states[1:], strict=False)]
    return math.log2(changes[1] / changes[2])


# A step and substeps with which the fourth power of the substep rules.
STEPS = {
    "burgers": (0.4, 16),
    "burgers 2-D": (0.4, 16),
    "korteweg-de vries": (0.02, 16),
    "kuramoto-sivashinsky": (1.0, 8),
    "its derivative": (1.0, 8),
    "allen-cahn": (1.0, 16),
    "fisher": (1.0, 16),
    "gray-scott": (1.0, 16),
    "navier-stokes": (0.5, 16),
}


def observed_order(name):
    equation, channels = equations()[name]
    equation.dt, substeps = STEPS[name]
    equation._divide(substeps)
    u = smooth(equation.grid, channels, b=1)
    return order_in_time(equation, 0.5 + 0.1 * u if name == "fisher" else 0.5 * u)


@pytest.mark.parametrize("name", NAMES)
def test_order_in_time(name):
    assert observed_order(name) == pytest.approx(4, abs=0.3)


def cole_hopf_error(viscosity):
    """Largest at t = 0.1, 0.2 .. 0.5, from a sine on 512 points."""
    grid = periodic((512,), (1.0,))
    x = grid.axes[0].coordinates()
    equation = Burgers(grid, viscosity=viscosity, dt=0.1, substeps=100)
    u = rollout(equation, torch.sin(TWO_PI * x)[None, None], 5)[0, :, 0]
    exact = torch.stack([cole_hopf(x, 0.1 * step, viscosity) for step in range(6)])
    assert equation.tail(u[-1:, None]).max() < 1e-8
    return float((u - exact).abs().max())


@pytest.mark.parametrize("viscosity", [0.1, 0.01])
def test_burgers_against_cole_and_hopf(viscosity):
    assert cole_hopf_error(viscosity) < 1e-8


def test_cole_and_hopf_solve_the_equation():
    """By differences in time and spectral derivatives in space."""
    grid = periodic((256,), (1.0,))
    x = grid.axes[0].coordinates()
    equation = Burgers(grid, viscosity=0.02, dt=1.0)
    before, now, after = (cole_hopf(x, t, 0.02) for t in (0.3 - 1e-4, 0.3, 0.3 + 1e-4))
    slope = (after - before) / 2e-4
    torch.testing.assert_close(slope, equation.rhs(now[None, None])[0, 0], rtol=0, atol=1e-5)
    assert (cole_hopf(x, 0.0, 0.02) - torch.sin(TWO_PI * x)).abs().max() < 1e-12


def test_viscosity_by_sample():
    grid = periodic((64,), (1.0,))
    u = smooth(grid, b=1).expand(3, -1, -1)
    values = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)
    together = Burgers(grid, viscosity=values, dt=0.05, substeps=10)(u)
    for i, value in enumerate(values.tolist()):
        alone = Burgers(grid, viscosity=value, dt=0.05, substeps=10)(u[:1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_gradient_in_the_viscosity():
    grid = periodic((16,), (1.0,))
    u = smooth(grid, b=2, modes=2)
    values = torch.tensor([0.05, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda nu: Burgers(grid, viscosity=nu, dt=0.02)(u), values)


def soliton_errors():
    """Of the soliton at t = 1, of the sum of u, and relative of the sum of u^2; the largest."""
    grid = periodic((256,), (40.0,))
    x = grid.axes[0].coordinates()
    equation = KortewegDeVries(grid, dt=0.1, substeps=100)
    u = rollout(equation, soliton(x, 0.0, 4.0, 10.0, 40.0)[None, None], 10)[0, :, 0]
    return (
        float((u[-1] - soliton(x, 1.0, 4.0, 10.0, 40.0)).abs().max()),
        float((u.sum(1) - u[0].sum()).abs().max()),
        float((u.square().sum(1) / u[0].square().sum() - 1).abs().max()),
    )


def test_a_soliton_keeps_its_shape():
    shape, mass, square = soliton_errors()
    assert shape < 1e-7 and mass < 1e-11 and square < 1e-7


def test_the_mean_of_kuramoto_sivashinsky_is_kept_by_the_conservative_form():
    grid = periodic((64,), (22.0,))
    u = smooth(grid) + 0.3
    for conservative, kept in ((True, True), (False, False)):
        equation = KuramotoSivashinsky(grid, dt=1.0, substeps=20, conservative=conservative)
        drift = (rollout(equation, u, 20).mean(-1) - u.mean(-1)[:, None]).abs().max()
        assert (drift < 1e-12) == kept


def test_one_form_is_the_derivative_of_the_other():
    grid = periodic((64,), (22.0,))
    u = smooth(grid)
    integral = KuramotoSivashinsky(grid, dt=0.5, substeps=50)
    derivative = KuramotoSivashinsky(grid, dt=0.5, substeps=50, conservative=True)
    d = integral.fourier.derivative(0)
    slope = lambda u: integral.fourier.inverse(d * integral.fourier.transform(u))  # noqa: E731
    torch.testing.assert_close(derivative(slope(u)), slope(integral(u)), rtol=0, atol=1e-8)


def lyapunov_exponent(steps=2000):
    """The largest of Kuramoto-Sivashinsky for a period of 22, the mean over 8 solutions."""
    grid = periodic((64,), (22.0,))
    equation = KuramotoSivashinsky(grid, dt=1.0, substeps=10, conservative=True)
    u = smooth(grid, b=8) - smooth(grid, b=8).mean()
    u = u - u.mean(-1, keepdim=True)
    for _ in range(200):
        u = equation(u)
    direction, total = torch.randn_like(u), 0.0
    direction -= direction.mean(-1, keepdim=True)
    for step in range(steps):
        direction = 1e-7 * direction / direction.norm(dim=-1, keepdim=True)
        v, u = equation(torch.cat((u + direction, u))).chunk(2)
        direction = v - u
        growth = (direction.norm(dim=-1) / 1e-7).log()
        total += float(growth.mean()) if step >= 100 else 0.0
    return total / (steps - 100)


@pytest.mark.slow
def test_nearby_solutions_part_at_the_known_rate():
    """[Cvitanovic et al. 2010]: 0.048."""
    assert lyapunov_exponent() == pytest.approx(0.045, abs=0.006)


def energies_of_allen_cahn():
    """After each of 40 steps, [41, b]."""
    grid = periodic((64, 64), (1.0, 1.0))
    equation = AllenCahn(grid, dt=0.05, diffusivity=1e-3, rate=1.0)
    gradient = [equation.fourier.derivative(axis) for axis in range(2)]

    def energy(u):
        v = equation.fourier.transform(u)
        slope = sum(equation.fourier.inverse(d * v).square() for d in gradient)
        return (5e-4 * slope + (1 - u**2).square() / 4).mean((1, 2, 3))

    return torch.stack([energy(u) for u in rollout(equation, smooth(grid), 40).unbind(1)])


def test_allen_cahn_loses_energy():
    assert (energies_of_allen_cahn().diff(dim=0) < 0).all()


def front_error():
    """u = (1 + e^(x / sqrt 6 - 5 t / 6))^-2 [Ablowitz & Zeppetella 1979], speed 5 / sqrt 6."""
    grid = periodic((1024,), (200.0,))
    x = grid.axes[0].coordinates()

    def front(t):
        edges = (x - 140, 60 - x)
        parts = [(1 + torch.exp(e / 6**0.5 - 5 * t / 6)) ** -2 for e in edges]
        return parts[0] + parts[1] - 1

    equation = FisherKPP(grid, dt=1.0, substeps=20, diffusivity=1.0)
    u = rollout(equation, front(0.0)[None, None], 8)[0, -1, 0]
    return float((u - front(8.0)).abs().max())


def front_speed():
    """Of what begins as a narrow bump, from t = 20 to 25, over its limit 2 sqrt(D r) = 2.

    It comes from below, like 1 - 3 / (4 r t) [Bramson 1983, Mem. Am. Math. Soc. 285]. Rounding
    ahead of the front grows like exp(r t), so that no much later time can be had.
    """
    grid = periodic((1024,), (160.0,))
    x = grid.axes[0].coordinates()
    equation = FisherKPP(grid, dt=1.0, substeps=10, diffusivity=1.0)
    u = rollout(equation, torch.exp(-((x - 80) ** 2))[None, None], 25)[0, :, 0]
    where = []
    for v in u[[20, 25]]:
        i = int((v > 0.5).nonzero()[-1])
        where.append(x[i] + (v[i] - 0.5) / (v[i] - v[i + 1]) * grid.spacing[0])
    return float(where[1] - where[0]) / 5 / 2


def test_a_front_of_fisher_moves_at_its_speed():
    assert front_error() < 1e-6
    assert front_speed() == pytest.approx(1 - 3 / (4 * 22.5), abs=5e-3)


def test_gray_scott_rests_where_there_is_nothing_to_convert():
    grid = periodic((8, 8), (1.0, 1.0))
    equation = GrayScott(grid, dt=10.0)
    rest = torch.stack((torch.ones(1, 8, 8), torch.zeros(1, 8, 8)), dim=1).double()
    torch.testing.assert_close(equation(rest), rest)


def test_a_step_too_long_is_stopped():
    grid = periodic((64,), (1.0,))
    equation = Burgers(grid, viscosity=1e-4, dt=1.0)
    with pytest.raises(
        Unstable, match=r"Burgers: sample 1 of 2 is not finite .* Take more substeps"
    ):
        u = smooth(grid)
        u[0] = 0
        rollout(equation, 50 * u, 20)


def test_recomputing_saves_nothing_but_memory():
    grid = periodic((32,), (1.0,))
    equation = Burgers(grid, viscosity=0.05, dt=0.05, substeps=5)
    start, gradients = smooth(grid, b=1, modes=2), []
    for recompute in (False, True):
        u = start.clone().requires_grad_()
        rollout(equation, u, 4, recompute=recompute)[:, -1].square().sum().backward()
        gradients.append(u.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("scheme", [partial(Exponential, order=2), partial(Imex, scheme="rk4")])
def test_schemes_converge_to_one_solution(scheme):
    grid = periodic((32,), (TWO_PI,))
    u = 0.5 * smooth(grid)
    reference = Burgers(grid, viscosity=0.1, dt=0.2, substeps=40)(u)
    coarse, fine = (
        (Burgers(grid, viscosity=0.1, dt=0.2, substeps=n, scheme=scheme)(u) - reference).norm()
        for n in (20, 40)
    )
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda g: Burgers(g, viscosity=0.1, dt=0.0), "dt=0.0 must be positive"),
        (lambda g: Burgers(g, viscosity=0.1, dt=0.1, substeps=0), "substeps=0 at least 1"),
        (lambda g: KortewegDeVries(periodic((8, 8), (1.0, 1.0)), dt=1.0), "is one-dimensional"),
        (lambda g: NavierStokes(g, viscosity=0.1, dt=1.0), "is two-dimensional"),
        (lambda g: GrayScott(g, dt=1.0, diffusivities=(1.0,)), "a diffusivity >= 0 for each of"),
        (lambda g: Burgers(g, viscosity=0.1, dt=0.1)(torch.ones(2, 8)), r"expected \[b, 1, 8\]"),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make(periodic((8,), (1.0,)))


def test_half_the_substep_and_a_full_tail():
    equation = Burgers(periodic((32,), (TWO_PI,)), viscosity=0.1, dt=0.5)
    u = torch.sin(equation.grid.mesh())[None]
    half, quarter = equation.halved(), equation.halved().halved()
    assert (half.substeps, quarter.substeps, equation.substeps) == (2, 4, 1)
    far = Burgers(equation.grid, viscosity=0.1, dt=0.5, substeps=32)(u)
    first, second = ((e(u) - far).norm() for e in (equation, half))
    assert first / second == pytest.approx(16, rel=0.5)
    assert equation.tail(u) < 1e-20
    x = equation.grid.mesh()[None]
    for m, share in ((6, 0.0), (8, 0.5), (10, 0.5)):  # kept are the modes up to 10
        found = equation.tail(x.sin() + torch.sin(m * x))
        torch.testing.assert_close(found, torch.full_like(found, share), rtol=1e-12, atol=1e-20)
    thin = Burgers(equation.grid, viscosity=0.01, dt=0.5, substeps=32)
    assert thin.tail(rollout(thin, u, 3)[:, -1]) > 1e-3


def test_coefficients_of_convection_and_of_the_linear_terms():
    line = periodic((32,), (TWO_PI,))
    u = 0.5 * smooth(line, 1, b=1)
    for make in (
        lambda c: Burgers(line, viscosity=0.1, dt=0.05, convection=c),
        lambda c: KuramotoSivashinsky(line, dt=0.05, convection=c),
        lambda c: KuramotoSivashinsky(line, dt=0.05, convection=c, conservative=True),
    ):
        torch.testing.assert_close(-3 * make(-3.0)(u), make(1.0)(-3 * u))
    wave = 1e-7 * torch.cos(2 * line.mesh())[None]
    equation = KuramotoSivashinsky(line, dt=0.1, diffusion=1.5, hyperdiffusion=0.4)
    growth = math.exp(0.1 * (1.5 * 4 - 0.4 * 16))
    torch.testing.assert_close(equation(wave), growth * wave, rtol=1e-6, atol=1e-14)
