"""The wave equation: exact in eigenfunctions, and leapfrog with sponges."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from solvers import Grid, LeapfrogWave, Unstable, Wave, rollout
from solvers.grid import Axis

P, D, N, OPEN = ("periodic",) * 2, ("dirichlet",) * 2, ("neumann",) * 2, ("open",) * 2
TWO_PI = 2 * math.pi


def box(*kinds, sizes=(12, 10, 8), points="cells", length=1.0):
    axes = zip("xyz", sizes, kinds, strict=False)
    return Grid(tuple(Axis(a, n, 0.0, length, kind, points) for a, n, kind in axes))


def bump(x, center, width=0.05):
    return torch.exp(-(((x - center) / width) ** 2))


def travelling(grid, profile, speed=1.0):
    """f(x) with u_t = -c f', which moves to the right; f and f' as one function of x."""
    x = grid.mesh()[0].requires_grad_()
    f = profile(x)
    (slope,) = torch.autograd.grad(f.sum(), x)
    return torch.stack((f.detach(), -speed * slope))[None]


def energy(step, u):
    """Integral of (v^2 - c^2 u Lap u) / 2, [b], for a constant speed on cells."""
    force = step.rhs(u)[:, 1]
    return 0.5 * (u[:, 1].square() - u[:, 0] * force).flatten(1).sum(1)


@pytest.mark.parametrize("kind, sign", [(P, 1), (D, -1), (N, 1)])
def test_waves_travel_and_return_as_dalembert_says(kind, sign):
    """From rest f(x) becomes (f(x - ct) + f(x + ct)) / 2, f continued with its mirror images."""
    grid = box(kind, sizes=(128,))
    x = grid.axes[0].coordinates()
    u = torch.stack((bump(x, 0.4), 0 * x))[None]
    found = rollout(Wave(grid, speed=2.0, dt=0.07), u, 10)[0, -1, 0]
    if kind == P:
        whole = lambda y: sum(bump(y, 0.4 + k) for k in range(-3, 4))  # noqa: E731
    else:
        whole = lambda y: sum(  # noqa: E731
            bump(y, 0.4 + 2 * k) + sign * bump(y, -0.4 + 2 * k) for k in range(-3, 4)
        )
    expected = 0.5 * (whole(x - 1.4) + whole(x + 1.4))
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("kinds", [(P, P), (D, N), (P, D, N)], ids=str)
def test_energy_is_kept_to_rounding(kinds):
    grid = box(*kinds)
    u = torch.randn(2, 2, *grid.shape, dtype=torch.float64)
    step = Wave(grid, speed=torch.tensor([1.0, 3.0], dtype=torch.float64), dt=0.3)
    energies = torch.stack([energy(step, v) for v in rollout(step, u, 20).unbind(1)])
    assert (energies / energies[0] - 1).abs().max() < 1e-12


@pytest.mark.parametrize("kinds", [(P,), (P, N), (D, D)], ids=str)
@pytest.mark.parametrize("kind", [Wave, LeapfrogWave])
def test_a_step_against_scipy(kind, kinds):
    grid = box(*kinds, sizes=(8, 7))
    options = {"substeps": 400} if kind is LeapfrogWave else {}
    step = kind(grid, speed=0.7, dt=0.2, **options)
    u = torch.randn(1, 2, *grid.shape, dtype=torch.float64)

    def rhs(t, y):
        return step.rhs(torch.from_numpy(y).view_as(u)).flatten().numpy()

    solution = scipy.integrate.solve_ivp(
        rhs, (0, 0.2), u.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12
    )
    expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
    assert (step(u) - expected).abs().max() < (1e-9 if kind is Wave else 2e-4)


def test_two_steps_are_one_and_back_again():
    grid = box(P, D)
    u = torch.randn(1, 2, 12, 10, dtype=torch.float64)
    once, twice = (Wave(grid, speed=1.3, dt=dt) for dt in (0.2, 0.4))
    torch.testing.assert_close(once(once(u)), twice(u), rtol=0, atol=1e-11)
    mirror = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1)
    torch.testing.assert_close(once(once(u) * mirror) * mirror, u, rtol=0, atol=1e-11)
    assert once.halved() is once
    assert once.tail(torch.zeros_like(u)).max() == 0


def test_a_mean_velocity_carries_the_field_along():
    grid = box(P, N)
    u = torch.ones(1, 2, 12, 10, dtype=torch.float64)
    expected = u * torch.tensor([1.4, 1.0]).double().view(1, 2, 1, 1)
    torch.testing.assert_close(Wave(grid, speed=1.0, dt=0.4)(u), expected)


@pytest.mark.parametrize("kind", [P, D, N])
def test_order_of_leapfrog(kind):
    """Against the exact solution, with dt / h fixed."""
    errors = []
    for n in (32, 64, 128):
        grid = box(kind, sizes=(n,))
        x = grid.axes[0].coordinates()
        u = torch.stack((bump(x, 0.5, 0.1), bump(x, 0.4, 0.1)))[None]
        exact = Wave(grid, speed=1.0, dt=1.3)(u)
        errors.append((LeapfrogWave(grid, speed=1.0, dt=1.3, substeps=2 * n)(u) - exact).norm())
        errors[-1] /= n**0.5
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)


def test_dispersion():
    """A standing wave turns at w, sin(w k / 2) = (k c / h) sin(K h / 2): slow by (K h)^2 / 24."""
    n, substeps = 16, 40
    grid = box(P, sizes=(n,))
    x, number = grid.axes[0].coordinates(), TWO_PI * 2
    u = torch.stack((torch.cos(number * x), 0 * x))[None]
    step = LeapfrogWave(grid, speed=1.0, dt=1.0, substeps=substeps)
    k, h = 1 / substeps, 1 / n
    turning = 2 / k * math.asin(k / h * math.sin(number * h / 2))
    torch.testing.assert_close(step(u)[0, 0], math.cos(turning) * u[0, 0], rtol=0, atol=1e-12)
    slow = 2 / h * math.sin(number * h / 2)  # the limit of small k
    assert 1 - slow / number == pytest.approx((number * h) ** 2 / 24, rel=0.02)


@pytest.mark.parametrize("kinds", [(P, D), (N, N)], ids=str)
def test_leapfrog_keeps_its_energy_with_a_variable_speed(kinds):
    """Sum of v^2 / c^2 + u (-Lap u) - k^2 v (-Lap v) / 4."""
    grid = box(*kinds)
    c = 1 + torch.rand(2, 1, 12, 10, dtype=torch.float64)
    step = LeapfrogWave(grid, speed=c, dt=0.2, substeps=8)

    def kept(u):
        a, b = u[:, :1], u[:, 1:]
        k = step.dt / step.substeps
        stretch = -a * step.laplacian(a) + 0.25 * k**2 * b * step.laplacian(b)
        return ((b / c).square() + stretch).flatten(1).sum(1)

    u = torch.randn(2, 2, 12, 10, dtype=torch.float64)
    energies = torch.stack([kept(v) for v in rollout(step, u, 20).unbind(1)])
    assert (energies / energies[0] - 1).abs().max() < 1e-12


def test_a_wave_passes_from_one_medium_to_another():
    """Transmission 2 c2 / (c1 + c2) and reflection (c2 - c1) / (c1 + c2) of the amplitude."""
    grid = box(P, sizes=(2000,))
    x = grid.axes[0].coordinates()
    c = torch.where(x > 0.5, 2.0, 1.0).double()[None, None]
    u = travelling(grid, lambda x: bump(x, 0.35, 0.02))
    after = LeapfrogWave(grid, speed=c, dt=0.25, substeps=1200)(u)[0, 0]
    right, left = after[x > 0.5], after[x < 0.5]
    assert float(right.max()) == pytest.approx(4 / 3, rel=2e-3)
    assert float(left.max()) == pytest.approx(1 / 3, rel=2e-3)


def reflection(thickness=0.0, n=400, length=0.1, side=OPEN):
    """Largest |u| after a packet of waves ran into a side, from amplitude 1."""
    grid = Grid((Axis("x", n, 0.0, 2.0, side),))
    packet = lambda x: bump(x, 1.0, length) * torch.cos(TWO_PI * (x - 1) / length)  # noqa: E731
    step = LeapfrogWave(grid, speed=1.0, dt=2.0, substeps=2 * n, sponge=thickness)
    return float(step(travelling(grid, packet)).abs()[:, 0].max())


@pytest.mark.parametrize("n, length", [(200, 0.1), (200, 0.2), (100, 0.2)])
def test_an_open_side_reflects_as_theory_says(n, length):
    """pi h / (2 l) at a right angle; the control is a wall."""
    expected = math.pi / 2 * (2 / n) / length
    assert reflection(n=n, length=length) == pytest.approx(expected, rel=0.1)
    assert reflection(n=n, length=length, side=N) > 0.9


def test_a_sponge_reflects_less():
    assert reflection(0.4) < 2e-4
    assert reflection(0.2) < 3e-3
    assert 0.01 < reflection(0.1) < 0.06  # as thick as the wave is long


def test_a_bump_with_a_mean_leaves():
    """What a sponge cannot do."""
    grid = Grid((Axis("x", 400, 0.0, 2.0, OPEN),))
    u = travelling(grid, lambda x: bump(x, 1.0, 0.1))
    left = [
        LeapfrogWave(grid, speed=1.0, dt=1.6, substeps=640, sponge=s)(u)[:, 0].abs().max()
        for s in (0.0, 0.4)
    ]
    assert left[0] < 0.03 and left[1] > 0.1


def test_a_ring_leaves_a_square():
    """Compared in the middle with a domain so large that nothing comes back."""
    found = []
    for half, side, n in ((1.0, OPEN, 80), (1.0, N, 80), (3.0, P, 240)):
        grid = Grid(tuple(Axis(a, n, -half, half, side) for a in "xy"))
        square = grid.mesh().square().sum(0) / 0.1**2
        ring = (1 - square) * torch.exp(-square)  # its integral is zero
        u = torch.stack((ring, torch.zeros_like(ring)))[None]
        u = LeapfrogWave(grid, speed=1.0, dt=2.0, substeps=160, sponge=0.5)(u)
        found.append(u[0, 0, n // 2 - 20 : n // 2 + 20, n // 2 - 20 : n // 2 + 20])
    absorbed, reflected = ((u - found[2]).abs().max() for u in found[:2])
    assert absorbed < 4e-3 and absorbed < 0.05 * reflected


def test_sponges_only_take_energy():
    grid = box(OPEN, ("open", "dirichlet"))
    step = LeapfrogWave(grid, speed=1.0, dt=0.2, substeps=8, sponge=0.3)
    u = torch.randn(1, 2, 12, 10, dtype=torch.float64)
    sizes = torch.stack([energy(step, v) for v in rollout(step, u, 30).unbind(1)])
    assert sizes[-1] < 0.05 * sizes[0]


@pytest.mark.parametrize("kind", [Wave, LeapfrogWave])
def test_speed_by_sample_and_precision(kind):
    grid = box(P, D)
    values = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    options = {"substeps": 6} if kind is LeapfrogWave else {}
    u = torch.randn(3, 2, 12, 10, dtype=torch.float64)
    together = kind(grid, speed=values, dt=0.1, **options)(u)
    for i, value in enumerate(values.tolist()):
        alone = kind(grid, speed=value, dt=0.1, **options)(u[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)
    assert kind(grid, speed=values, dt=0.1, **options)(u.float()).dtype == torch.float32


@pytest.mark.parametrize("kind", [Wave, LeapfrogWave])
def test_the_residual_of_a_step_is_of_second_order(kind):
    grid, sizes = box(P, N), []
    u = torch.stack((mode := torch.cos(TWO_PI * grid.mesh()[0]), -0.3 * mode))[None]
    for dt in (0.02, 0.01):
        step = kind(grid, speed=0.7, dt=dt)
        sizes.append(step.residual(u, step(u)).norm())
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


def test_gradients_in_state_and_speed():
    grid = box(P, N, sizes=(4, 3))
    u = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    speed = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    step = lambda u, c: Wave(grid, speed=c, dt=0.2)(u)  # noqa: E731
    assert torch.autograd.gradcheck(step, (u, speed), fast_mode=True)


def test_gradients_of_leapfrog_with_sponges():
    grid = box(OPEN, D, sizes=(4, 3))
    u = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    speed = (1 + torch.rand(1, 1, 4, 3, dtype=torch.float64)).requires_grad_()
    step = lambda u, c: LeapfrogWave(grid, speed=c, dt=0.1, substeps=3, sponge=0.4)(u)  # noqa: E731
    assert torch.autograd.gradcheck(step, (u, speed), fast_mode=True)


def test_substeps_beyond_the_limit_are_refused():
    grid = box(P, P, sizes=(20, 20))
    limit = 1 / (2.0 * math.sqrt(2) * 20)
    LeapfrogWave(grid, speed=2.0, dt=0.99 * limit)
    message = r"a step of dt=.* at speeds up to 2 needs 2 substeps on this grid, 1 are taken"
    with pytest.raises(Unstable, match=message):
        LeapfrogWave(grid, speed=2.0, dt=1.01 * limit)


def test_the_limit_is_where_it_blows_up():
    """The control."""
    grid = box(P, P, sizes=(20, 20))
    u = torch.randn(1, 2, 20, 20, dtype=torch.float64)
    step, sizes = LeapfrogWave(grid, speed=2.0, dt=0.01), []
    for factor in (0.99, 1.01):
        step.dt = factor / (2.0 * math.sqrt(2) * 20)
        sizes.append(rollout(step, u, 400)[:, -1].abs().max())
    assert sizes[0] < 1e3 and sizes[1] > 1e6


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda g: Wave(g, speed=0.0, dt=0.1), "dt=0.1 and speed=0.0 must be positive"),
        (lambda g: Wave(g, speed=1.0, dt=0.0), "dt=0.0 and speed=1.0 must be positive"),
        (lambda g: Wave(box(OPEN), speed=1.0, dt=0.1), "has no fast transform"),
        (lambda g: Wave(g, speed=1.0, dt=0.1)(torch.ones(1, 1, 12, 10)), r"\[b, 2, 12, 10\]"),
        (lambda g: LeapfrogWave(g, speed=-1.0, dt=0.1), "the speed must be positive"),
        (lambda g: LeapfrogWave(g, speed=1.0, dt=0.1, substeps=0), "substeps=0 >= 1"),
        (lambda g: LeapfrogWave(g, speed=torch.ones(1, 1, 5, 5), dt=1e-3), "give a number, "),
        (lambda g: LeapfrogWave(box(OPEN), speed=1.0, dt=1e-3, sponge=-0.1), "sponge=-0.1 is the"),
        (lambda g: LeapfrogWave(box(OPEN), speed=1.0, dt=1e-3, sponge=2.0), "less than the domain"),
        (lambda g: LeapfrogWave(box(D, points="nodes"), speed=1.0, dt=1e-3), "points='cells'"),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make(box(P, N))
