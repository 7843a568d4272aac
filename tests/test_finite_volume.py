"""Compressible flow and shallow water by finite volumes."""

import math

import pytest
import torch
from scipy.optimize import brentq

from solvers import Euler, Grid, Numerics, ShallowWater, Unstable, rollout
from solvers.grid import Axis
from solvers.limiters import LIMITERS
from solvers.runge_kutta import SCHEMES

OPEN, WALL, PERIODIC = ("open", "open"), ("neumann", "neumann"), ("periodic", "periodic")


def line(n, sides=OPEN, lower=0.0, upper=1.0):
    return Grid((Axis("x", n, lower, upper, sides),))


def plane(n, m, sides=PERIODIC):
    return Grid((Axis("x", n, 0, 1, sides), Axis("y", m, 0, 1, sides)))


def fan(side, p, gamma=1.4):
    """Velocity change across a wave to the pressure p [Toro 2009, equations 4.6 and 4.7]."""
    rho, _, q = side
    if p > q:
        return (p - q) * math.sqrt(2 / (gamma + 1) / rho / (p + (gamma - 1) / (gamma + 1) * q))
    c = math.sqrt(gamma * q / rho)
    return 2 * c / (gamma - 1) * ((p / q) ** ((gamma - 1) / (2 * gamma)) - 1)


def riemann(xi, left, right, gamma=1.4):
    """The exact solution at x / t of two states (rho, v, p) [Toro 2009, chapter 4]."""
    p = brentq(lambda p: fan(left, p) + fan(right, p) + right[1] - left[1], 1e-8, 50, xtol=1e-14)
    v = 0.5 * (left[1] + right[1] + fan(right, p) - fan(left, p))
    if xi > v:
        rho, u, q = riemann(-xi, (right[0], -right[1], right[2]), (left[0], -left[1], left[2]))
        return rho, -u, q
    rho, u, q = left
    c, ratio = math.sqrt(gamma * q / rho), (gamma - 1) / (gamma + 1)
    if p > q:
        speed = u - c * math.sqrt((gamma + 1) / (2 * gamma) * p / q + (gamma - 1) / (2 * gamma))
        return left if xi < speed else (rho * (p / q + ratio) / (ratio * p / q + 1), v, p)
    if xi < u - c:
        return left
    end = rho * (p / q) ** (1 / gamma)
    if xi > v - math.sqrt(gamma * p / end):
        return end, v, p
    u_fan = 2 / (gamma + 1) * (c + (gamma - 1) / 2 * u + xi)
    part = 2 / (gamma + 1) + ratio / c * (u - xi)
    return rho * part ** (2 / (gamma - 1)), u_fan, q * part ** (2 * gamma / (gamma - 1))


TUBES = {  # rho, v, p left and right, and the time [Toro 2009, table 4.1, and Lax]
    "sod": ((1.0, 0.0, 1.0), (0.125, 0.0, 0.1), 0.2),
    "lax": ((0.445, 0.698, 3.528), (0.5, 0.0, 0.571), 0.14),
    "two shocks": ((1.0, 1.0, 0.4), (1.0, -1.0, 0.4), 0.3),
}


def tube(name, n):
    left, right, end = TUBES[name]
    grid = line(n)
    x = grid.axes[0].coordinates()
    equation = Euler(grid, dt=end)
    sides = [torch.tensor(side, dtype=torch.float64)[:, None] for side in (left, right)]
    w = torch.where(x < 0.5, *sides)[None]
    found = equation.to_primitive(equation(equation.to_conserved(w)))[0]
    exact = torch.tensor([riemann(xi, left, right) for xi in ((x - 0.5) / end).tolist()]).T
    return (found - exact).abs().mean(dim=1)


@pytest.mark.parametrize("name", TUBES)
def test_shock_tubes_converge_to_the_exact_solution(name):
    coarse, fine = tube(name, 100), tube(name, 200)
    assert (fine < 0.03).all()
    assert torch.log2(coarse[0] / fine[0]) > 0.6  # contacts smear: less than first order in L1


def test_the_exact_solver_has_the_published_star_values():
    assert riemann(0.5, *TUBES["sod"][:2]) == pytest.approx((0.42632, 0.92745, 0.30313), abs=1e-5)
    assert riemann(1.2, *TUBES["sod"][:2])[0] == pytest.approx(0.26557, abs=1e-5)


def wave_error(n, numerics):
    """Density 2 + sin, velocity and pressure 1: the cell means move along unchanged."""
    grid = line(n, PERIODIC)
    x, h = grid.axes[0].coordinates(), 1 / n
    mean = 2 + torch.sin(2 * math.pi * x) * math.sin(math.pi * h) / (math.pi * h)
    equation = Euler(grid, dt=0.1, numerics=numerics)
    u = equation.to_conserved(torch.stack((mean, 1 + 0 * x, 1 + 0 * x))[None])
    return float((rollout(equation, u, 10)[0, -1, 0] - mean).abs().mean())


@pytest.mark.parametrize(
    "limiter, order", [("van_leer", 2), ("mc", 2), ("minmod", 1.75), ("none", 1)]
)
def test_order_on_a_smooth_wave(limiter, order):
    errors = [wave_error(n, Numerics(limiter=limiter)) for n in (64, 128, 256)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.3)


def vortex_error(n, strength=5.0, gamma=1.4, time=1.0):
    """L1 error of the density of an isentropic vortex that moves along the diagonal.

    v = (1, 1) + strength / (2 pi) e^((1 - r^2) / 2) (-y, x) and p = rho^gamma [Yee, Sandham &
    Djomehri 1999, J. Comput. Phys. 150]; sides so far away that a period is none.
    """
    sides = (PERIODIC, PERIODIC)
    axes = zip("xy", sides, strict=True)
    grid = Grid(tuple(Axis(name, n, -5.0, 5.0, side) for name, side in axes))

    def state(shift):
        x, y = (grid.mesh() - shift + 5) % 10 - 5
        swirl = strength / (2 * math.pi) * torch.exp((1 - x**2 - y**2) / 2)
        rho = (1 - (gamma - 1) / (2 * gamma) * swirl**2) ** (1 / (gamma - 1))
        return torch.stack((rho, 1 - swirl * y, 1 + swirl * x, rho**gamma))[None]

    equation = Euler(grid, dt=time, gamma=gamma)
    after = equation(equation.to_conserved(state(0.0)))
    return float((after - state(time))[0, 0].abs().mean())


def test_an_isentropic_vortex_moves_along():
    errors = [vortex_error(n, time=0.5) for n in (40, 80)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("scheme, order", [("euler", 1), ("ssp_rk2", 2), ("ssp_rk3", 3)])
def test_order_in_time(scheme, order):
    exact = math.exp(-1) * torch.ones(1).double()
    errors = []
    for n in (20, 40):
        u = torch.ones(1).double()
        for _ in range(n):
            u = SCHEMES[scheme](lambda u: -u, u, 1 / n)
        errors.append(float((u - exact).abs()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("name", LIMITERS)
def test_limited_slopes_bring_no_new_extrema(name):
    """Total variation of an advected box does not grow [Harten 1983]."""
    a, b = torch.randn(2, 1000, dtype=torch.float64)
    slope = LIMITERS[name](a, b)
    assert (slope[a * b <= 0] == 0).all()
    assert (slope.abs() <= 2 * torch.minimum(a.abs(), b.abs()) + 1e-15).all()
    torch.testing.assert_close(LIMITERS[name](-b, -a), -slope)


@pytest.mark.parametrize("sides", [PERIODIC, WALL])
def test_mass_and_energy_are_kept_in_a_box(sides):
    grid = plane(12, 10, sides)
    equation = Euler(grid, dt=0.02)
    w = 1 + 0.3 * torch.rand(2, 4, 12, 10, dtype=torch.float64)
    w[:, 1:3] -= 1.15
    u = equation.to_conserved(w)
    after = rollout(equation, u, 5)[:, -1]
    kept = slice(None) if sides == PERIODIC else [0, 3]  # walls take momentum
    change = (after - u).sum((2, 3))[:, kept] / u.abs().sum((2, 3))[:, kept]
    assert change.abs().max() < 1e-13


def test_axes_are_alike():
    """The transposed problem has the transposed solution, bit for bit apart from rounding."""
    equation, other = (Euler(plane(*shape), dt=0.05) for shape in ((12, 9), (9, 12)))
    w = 1 + 0.3 * torch.rand(1, 4, 12, 9, dtype=torch.float64)
    u = equation.to_conserved(w)
    swapped = u[:, [0, 2, 1, 3]].transpose(2, 3)
    torch.testing.assert_close(other(swapped)[:, [0, 2, 1, 3]].transpose(2, 3), equation(u))


def test_a_contact_at_rest_stays():
    equation = Euler(line(20), dt=0.1)
    x = equation.grid.axes[0].coordinates()
    u = equation.to_conserved(
        torch.stack((torch.where(x < 0.5, 1.0, 5.0).double(), 0 * x, 1 + 0 * x))[None]
    )
    torch.testing.assert_close(equation(u), u, rtol=1e-14, atol=1e-14)


def stoker(xi, high, low):
    """Depth of a dam break on wet ground at x / t, g = 1 [Stoker 1957, section 10.8]."""
    c = math.sqrt(high)

    def balance(h):
        return 2 * (c - math.sqrt(h)) - (h - low) * math.sqrt((h + low) / (2 * h * low))

    middle = brentq(balance, low * 1.0001, high)
    v = 2 * (c - math.sqrt(middle))
    shock = v * middle / (middle - low)
    inner = torch.where(xi < shock, middle, low)
    fan = (2 * c - xi).square() / 9
    return torch.where(xi < -c, high, torch.where(xi < v - math.sqrt(middle), fan, inner))


def dam_break_error(n):
    grid = line(n, lower=-1.0)
    x = grid.axes[0].coordinates()
    u = torch.stack((torch.where(x < 0, 1.0, 0.1).double(), 0 * x))[None]
    after = ShallowWater(grid, dt=0.5)(u)[0, 0]
    return float((after - stoker(x / 0.5, 1.0, 0.1)).abs().mean())


def test_a_dam_break_converges():
    errors = [dam_break_error(n) for n in (100, 200, 400)]
    assert math.log2(errors[0] / errors[2]) / 2 > 0.8


@pytest.mark.parametrize("sides", [PERIODIC, WALL, OPEN])
def test_a_lake_at_rest_stays_over_any_bottom(sides):
    grid = plane(20, 15, sides)
    bottom = 0.5 * torch.rand(20, 15, dtype=torch.float64)
    equation = ShallowWater(grid, dt=0.1, gravity=9.81, bottom=bottom)
    u = torch.zeros(1, 3, 20, 15, dtype=torch.float64)
    u[:, 0] = 1 - bottom
    assert (rollout(equation, u, 5)[:, -1] - u).abs().max() < 1e-14


def test_without_balanced_faces_it_would_move(monkeypatch):
    """The control."""
    grid = plane(20, 15)
    bottom = 0.5 * torch.rand(20, 15, dtype=torch.float64)
    equation = ShallowWater(grid, dt=0.1, bottom=bottom)
    plain = lambda left, right, axis: (equation.numerical_flux(left, right, axis),) * 2  # noqa: E731
    monkeypatch.setattr(equation, "face_fluxes", plain)
    u = torch.zeros(1, 3, 20, 15, dtype=torch.float64)
    u[:, 0] = 1 - bottom
    assert (equation(u) - u).abs().max() > 1e-3


@pytest.mark.parametrize("bottom", [None, 0.2 * torch.sin(torch.arange(8.0))])
def test_gradients_of_steps(bottom):
    numerics = Numerics(substeps=3)
    cases = [(ShallowWater(line(8, PERIODIC), dt=0.02, bottom=bottom, numerics=numerics), 2)]
    cases.append((Euler(line(8, PERIODIC), dt=0.02, numerics=numerics), 3))
    for equation, channels in cases:
        u = 0.1 * torch.rand(1, channels, 8, dtype=torch.float64) + 0.5
        u[:, [0, -1] if channels == 3 else [0]] += 2
        assert torch.autograd.gradcheck(equation, u.requires_grad_())


@pytest.mark.parametrize("substeps", [None, 8])
def test_samples_do_not_influence_each_other(substeps):
    equation = Euler(line(16, PERIODIC), dt=0.05, numerics=Numerics(substeps=substeps))
    w = 1 + torch.rand(3, 3, 16, dtype=torch.float64)
    w[1, 2] *= 20  # its sound is faster
    u = equation.to_conserved(w)
    if substeps is None:
        assert len(set(equation._needed(u).tolist())) > 1
    else:
        u = u[[0, 2]]
    torch.testing.assert_close(
        equation(u), torch.cat([equation(v) for v in u.split(1)]), rtol=0, atol=1e-14
    )


def test_half_the_substep_has_a_quarter_of_the_error():
    equation = Euler(line(64, PERIODIC), dt=0.2, numerics=Numerics(limiter="none"))
    x = torch.linspace(0, 2 * torch.pi, 65, dtype=torch.float64)[:-1]
    w = torch.stack((1 + 0.1 * x.sin(), 0.1 * x.cos(), 1 + 0.1 * x.cos()))[None]
    u = equation.to_conserved(w)
    values = [equation(u)]
    for _ in range(3):
        equation = equation.halved()
        values.append(equation(u))
    changes = [float((a - b).norm()) for a, b in zip(values, values[1:], strict=False)]
    assert changes[0] / changes[1] == pytest.approx(4, rel=0.3)
    assert changes[1] / changes[2] == pytest.approx(4, rel=0.3)


def test_too_few_substeps_and_negative_pressure_are_stopped():
    u = 1 + torch.rand(2, 3, 64, dtype=torch.float64)
    u[:, 1] = 0
    for numerics in (Numerics(substeps=1), Numerics(max_substeps=2)):
        with pytest.raises(
            Unstable, match=r"needs \d+ substeps for cfl=0.4, \d are allowed. Lower"
        ):
            Euler(line(64), dt=1.0, numerics=numerics)(u)
    u[1, 2] = -5.0
    with pytest.raises(Unstable, match="a wave speed is not finite"):
        Euler(line(64), dt=0.1)(u)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: Euler(Grid.box((8,)), dt=1.0), "periodic, open and neumann"),
        (lambda: Euler(Grid.box((8,), points="nodes"), dt=1.0), "points='cells' on every axis"),
        (lambda: Euler(line(8), dt=0.0), "dt=0.0 must be positive|and dt=0.0"),
        (lambda: Euler(line(8), dt=1.0, gamma=1.0), "gamma=1.0, the ratio"),
        (lambda: Numerics(limiter="x"), "limiter='x': choose one of minmod"),
        (lambda: Numerics(scheme="x"), "scheme='x': choose one of euler"),
        (lambda: Numerics(cfl=2.0), "cfl=2.0 must lie in"),
        (lambda: Numerics(substeps=0), "substeps=0 and max_substeps=10000 must be at least 1"),
        (lambda: ShallowWater(line(8), dt=1.0, gravity=0.0), "gravity=0.0 must be positive"),
        (lambda: ShallowWater(line(8), dt=1.0, bottom=torch.ones(9)), r"bottom has shape \(9,\)"),
        (lambda: ShallowWater(Grid.box((4, 4, 4), boundary="open"), dt=1.0), "one or two"),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
