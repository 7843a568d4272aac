"""Linear advection: the exact shift, and the upwind finite volumes that Rusanov's flux gives."""

import math

import pytest
import torch

from solvers import Advection, FiniteVolumeAdvection, Grid, Numerics, Unstable, rollout
from solvers.grid import Axis
from tests.helpers import periodic

TWO_PI = 2 * math.pi
OPEN = ("open", "open")


def waves(x, shift=(0.0, 0.0, 0.0)):
    """A sum of products of waves on [0, 1]^ndim at x - shift, [*space]."""
    x = [x_k - s for x_k, s in zip(x, shift, strict=False)]
    u = sum(torch.sin(TWO_PI * (k + 1) * x_k + k) for k, x_k in enumerate(x))
    return u + math.prod(torch.cos(2 * TWO_PI * x_k - 0.3) for x_k in x)


@pytest.mark.parametrize("sizes", [(15,), (16,), (15, 12), (12, 15), (8, 9, 10)], ids=str)
def test_a_shift_is_exact(sizes):
    grid = periodic(sizes, (1.0,) * 3, points="cells")
    velocity = (0.37, -1.2, 0.81)[: len(sizes)]
    x = grid.mesh()
    u = rollout(Advection(grid, velocity=velocity, dt=0.3), waves(x)[None, None], 7)[0, -1, 0]
    expected = waves(x, tuple(2.1 * c for c in velocity))
    assert (u - expected).abs().max() < 1e-13


@pytest.mark.parametrize("n", [15, 16])
def test_a_shift_by_whole_cells_moves_any_field(n):
    """On an even axis, all of it but the Nyquist mode, which stands still."""
    grid = periodic((n,), (1.0,))
    u = torch.randn(2, 1, n, dtype=torch.float64)
    nyquist = (-1.0) ** torch.arange(n) * (n % 2 == 0)
    still = (u * nyquist).mean(-1, keepdim=True) * nyquist
    found = Advection(grid, velocity=1.0, dt=3 / n)(u)
    torch.testing.assert_close(found, (u - still).roll(3, -1) + still, rtol=0, atol=1e-13)


def test_steps_form_a_group_and_keep_the_norm():
    grid = periodic((12, 8), (1.0, 2.0))
    u = torch.randn(2, 1, 12, 8, dtype=torch.float64)
    there, back = (Advection(grid, velocity=(s, -0.7 * s), dt=0.21) for s in (1.0, -1.0))
    twice = Advection(grid, velocity=(1.0, -0.7), dt=0.42)
    torch.testing.assert_close(there(there(u)), twice(u), rtol=0, atol=1e-13)
    torch.testing.assert_close(back(there(u)), u, rtol=0, atol=1e-13)
    torch.testing.assert_close(there(u).norm(dim=(2, 3)), u.norm(dim=(2, 3)))
    assert there.halved() is there


@pytest.mark.parametrize("kind", [Advection, FiniteVolumeAdvection])
def test_velocity_by_sample(kind):
    line, plane = periodic((16,), (1.0,), "cells"), periodic((9, 8), (1.0, 2.0), "cells")
    cases = [(line, torch.tensor([0.5, -2.0])), (plane, torch.tensor([[0.5, 1.0], [-2.0, 0.3]]))]
    for grid, values in cases:
        u = torch.randn(2, 1, *grid.shape, dtype=torch.float64)
        together = kind(grid, velocity=values, dt=0.1)(u)
        for i, value in enumerate(values.tolist()):
            alone = kind(grid, velocity=value, dt=0.1)(u[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [Advection, FiniteVolumeAdvection])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_samples(kind, dtype):
    grid = periodic((16,), (1.0,), "cells")
    values = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    u = torch.randn(3, 1, 16, dtype=dtype)
    after = kind(grid, velocity=1.0, dt=0.1)(u)
    assert after.dtype == dtype and kind(grid, velocity=values, dt=0.1)(u).dtype == dtype
    alone = torch.cat([kind(grid, velocity=1.0, dt=0.1)(v) for v in u.split(1)])
    torch.testing.assert_close(after, alone)


def test_gradients_in_field_and_velocity():
    grid = periodic((6, 5), (1.0, 1.0))
    u = torch.randn(2, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, c: Advection(grid, velocity=c, dt=0.1)(u), (u, c))


def test_gradients_of_finite_volumes():
    grid = periodic((6, 5), (1.0, 1.0), "cells")
    u = torch.randn(1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    numerics = Numerics(substeps=2)
    step = FiniteVolumeAdvection(grid, velocity=(1.0, -0.5), dt=0.05, numerics=numerics)
    assert torch.autograd.gradcheck(step, u)


def test_the_residual_of_a_step_is_of_second_order():
    grid = periodic((32,), (1.0,))
    u = waves(grid.mesh())[None, None]
    steps = (Advection(grid, velocity=1.0, dt=dt) for dt in (0.004, 0.002))
    sizes = [step.residual(u, step(u)).norm() for step in steps]
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


def means(grid, shift):
    """Cell means of sin(2 pi (x + y + ..) - shift) by the exact integral, [*space]."""
    angle = TWO_PI * (grid.mesh().sum(0)) - TWO_PI * shift
    return torch.sin(angle) * math.prod(torch.sinc(torch.tensor(h)).item() for h in grid.spacing)


@pytest.mark.parametrize("velocity", [(1.0,), (-1.0,), (0.7, -0.4)], ids=str)
@pytest.mark.parametrize("limiter, order", [("van_leer", 2), ("mc", 2), ("none", 1)])
def test_order_of_finite_volumes(velocity, limiter, order):
    errors = []
    for n in (32, 64) if len(velocity) > 1 else (64, 128, 256):
        grid = Grid.box((n,) * len(velocity), boundary="periodic")
        step = FiniteVolumeAdvection(
            grid, velocity=velocity, dt=0.5, numerics=Numerics(limiter=limiter)
        )
        after = step(means(grid, 0.0)[None, None])[0, 0]
        errors.append((after - means(grid, 0.5 * sum(velocity))).abs().mean())
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("limiter", ["van_leer", "mc", "minmod", "none"])
@pytest.mark.parametrize("velocity", [1.0, -1.0])
def test_total_variation_does_not_grow(limiter, velocity):
    grid = Grid.box((50,), boundary="periodic")
    u = torch.randn(3, 1, 50, dtype=torch.float64)
    step = FiniteVolumeAdvection(
        grid, velocity=velocity, dt=0.02, numerics=Numerics(limiter=limiter)
    )
    states = rollout(step, u, 20)
    variation = (states - states.roll(1, -1)).abs().sum((2, 3))
    assert (variation.diff(dim=1) < 1e-12).all()
    assert (states.amax(-1) <= u.amax(-1)[:, None] + 1e-12).all()
    torch.testing.assert_close(states.sum(-1), states[:, :1].sum(-1).expand(-1, 21, -1))


def test_the_first_order_method_is_upwind():
    """u_i - (c k / h) (u_i - u_i-1) for one Euler step with c > 0."""
    grid = Grid.box((20,), boundary="periodic")
    u = torch.randn(1, 1, 20, dtype=torch.float64)
    numerics = Numerics(limiter="none", scheme="euler", substeps=1)
    found = FiniteVolumeAdvection(grid, velocity=2.0, dt=0.01, numerics=numerics)(u)
    torch.testing.assert_close(found, u - 0.4 * (u - u.roll(1, -1)))


def test_a_pulse_leaves_through_an_open_side():
    grid = Grid((Axis("x", 80, 0.0, 1.0, OPEN),))
    u = torch.exp(-(((grid.mesh() - 0.5) / 0.08) ** 2))[None]
    for velocity in (1.0, -1.0):
        after = FiniteVolumeAdvection(grid, velocity=velocity, dt=1.2)(u)
        assert after.abs().max() < 1e-6
    slope = FiniteVolumeAdvection(grid, velocity=1.0, dt=0.1).rhs(torch.ones_like(u))
    assert slope.abs().max() == 0


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda g: Advection(g, velocity=1.0, dt=0.1), r"velocity has shape \(\); a grid with 2"),
        (lambda g: Advection(g, velocity=(1.0, 0.0), dt=0.0), "dt=0.0 must be positive"),
        (lambda g: Advection(g, velocity=torch.ones(3), dt=0.1), r"velocity has shape \(3,\)"),
        (lambda g: Advection(Grid.box((8,)), velocity=1.0, dt=0.1), "needs a periodic grid"),
        (
            lambda g: FiniteVolumeAdvection(
                Grid.box((8,), boundary="neumann"), velocity=1.0, dt=0.1
            ),
            "periodic and open sides, not neumann",
        ),
        (
            lambda g: Advection(g, velocity=(1.0, 0.0), dt=0.1)(torch.ones(1, 2, 8, 8)),
            r"expected \[b, 1, 8, 8\]",
        ),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make(Grid.box((8, 8), boundary="periodic"))


def test_too_few_substeps_are_stopped():
    grid = Grid.box((64,), boundary="periodic")
    step = FiniteVolumeAdvection(grid, velocity=1.0, dt=1.0, numerics=Numerics(substeps=10))
    with pytest.raises(Unstable, match="needs 160 substeps for cfl=0.4, 10 are allowed"):
        step(torch.ones(1, 1, 64))
