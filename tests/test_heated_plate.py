"""The plate with given sides against dense matrices and an exact solution."""

import math

import pytest
import torch

from solvers import Grid, HeatedPlate, rollout
from solvers.grid import Axis

BOX = Grid((Axis("x", 6, 0.0, 1.5), Axis("y", 5, -1.0, 0.0)))
SIDES = {"left": 0.3, "right": -1.2, "bottom": 2.0, "top": 0.7}


def five_points(grid, left, right, bottom, top):
    """A and b of u_t = A u + b for u.flatten(), point by point."""
    (n, m), (h, k) = grid.shape, grid.spacing
    A = torch.zeros(n * m, n * m, dtype=torch.float64)
    b = torch.zeros(n * m, dtype=torch.float64)
    for i in range(n):
        for j in range(m):
            here = i * m + j
            for di, dj, step, wall in (
                (-1, 0, h, left),
                (1, 0, h, right),
                (0, -1, k, bottom),
                (0, 1, k, top),
            ):
                A[here, here] -= 1 / step**2
                if 0 <= i + di < n and 0 <= j + dj < m:
                    A[here, (i + di) * m + j + dj] += 1 / step**2
                else:  # 2 T - u beyond the side
                    A[here, here] -= 1 / step**2
                    b[here] += 2 * wall / step**2
    return A, b


def random_state(grid, samples=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 1, *grid.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dt", [1e-3, 0.05, 2.0])
def test_a_step_is_the_matrix_exponential(dt):
    """Of u' = a (A u + b), by the exponential of one matrix more that holds b."""
    A, b = five_points(BOX, **SIDES)
    n = len(b)
    whole = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    whole[:n, :n], whole[:n, n] = 0.4 * A, 0.4 * b
    flow = torch.linalg.matrix_exp(dt * whole)
    u = random_state(BOX)
    expected = u.flatten(1) @ flow[:n, :n].T + flow[:n, n]
    plate = HeatedPlate(BOX, diffusivity=0.4, dt=dt, **SIDES)
    torch.testing.assert_close(plate(u).flatten(1), expected, rtol=0, atol=1e-12)
    slope = 0.4 * (u.flatten(1) @ A.T + b)
    torch.testing.assert_close(plate.rhs(u).flatten(1), slope, rtol=0, atol=1e-11)
    assert plate.halved() is plate and (plate.tail(u) == 0).all()


def test_the_steady_state_satisfies_the_five_point_equations():
    A, b = five_points(BOX, **SIDES)
    plate = HeatedPlate(BOX, diffusivity=0.4, dt=0.1, **SIDES)
    found = A @ plate.steady.flatten() + b
    assert found.abs().max() < 1e-12 * b.abs().max()
    torch.testing.assert_close(plate(plate.steady), plate.steady, rtol=0, atol=1e-13)
    late = rollout(plate, random_state(BOX), 300)[:, -1]
    torch.testing.assert_close(late, plate.steady.expand_as(late), rtol=0, atol=1e-12)


def test_sides_of_one_temperature_heat_the_plate_to_it():
    plate = HeatedPlate(BOX, diffusivity=1.0, dt=0.1, left=0.7, right=0.7, bottom=0.7, top=0.7)
    expected = torch.full_like(plate.steady, 0.7)
    torch.testing.assert_close(plate.steady, expected, rtol=0, atol=1e-14)


def test_second_order_in_the_spacing():
    """u = c + exp(-a k^2 t) sin(pi x / l) sin(2 pi (y - y_0) / m) with all sides at c."""
    errors = []
    for n in (8, 16, 32):
        grid = BOX.resized((n, n))
        x, y = grid.mesh()
        wave = torch.sin(math.pi * x / 1.5) * torch.sin(2 * math.pi * (y + 1))
        rate = 0.4 * ((math.pi / 1.5) ** 2 + (2 * math.pi) ** 2)
        plate = HeatedPlate(grid, diffusivity=0.4, dt=0.03, **dict.fromkeys(SIDES, 0.5))
        found = rollout(plate, (0.5 + wave)[None, None], 2)[0, -1, 0]
        errors.append(float((found - 0.5 - math.exp(-0.06 * rate) * wave).abs().max()))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


def test_the_start_is_two_bumps_on_a_constant():
    first = {"x_1": 0.4, "y_1": -0.2, "height_1": 1.5}
    second = {"x_2": 1.1, "y_2": -0.7, "height_2": -0.8}
    plate = HeatedPlate(BOX, diffusivity=1.0, dt=0.1, initial=0.2, width=0.3, **first, **second)
    u = plate.start()
    assert u.shape == (1, 1, 6, 5) and u.dtype == torch.float64
    for i, x in enumerate(BOX.axes[0].coordinates().tolist()):
        for j, y in enumerate(BOX.axes[1].coordinates().tolist()):
            above = 1.5 * math.exp(-((x - 0.4) ** 2 + (y + 0.2) ** 2) / 0.18)
            below = -0.8 * math.exp(-((x - 1.1) ** 2 + (y + 0.7) ** 2) / 0.18)
            assert float(u[0, 0, i, j]) == pytest.approx(0.2 + above + below, abs=1e-15)


def test_parameters_of_each_sample_are_runs_of_their_own():
    names = [*SIDES, "initial", "x_1", "y_1", "height_1", "x_2", "y_2", "height_2"]
    generator = torch.Generator().manual_seed(1)
    drawn = {name: torch.rand(3, generator=generator, dtype=torch.float64) for name in names}
    drawn |= {"diffusivity": torch.tensor([0.1, 0.5, 2.0]).double(), "width": 0.2}
    plate = HeatedPlate(BOX, dt=0.05, **drawn)
    found = rollout(plate, plate.start(), 3)
    assert found.shape == (3, 4, 1, 6, 5)
    for sample in range(3):
        own = {n: float(v[sample]) if isinstance(v, torch.Tensor) else v for n, v in drawn.items()}
        single = HeatedPlate(BOX, dt=0.05, **own)
        expected = rollout(single, single.start(), 3)
        torch.testing.assert_close(found[sample : sample + 1], expected, rtol=0, atol=1e-14)
        slope = single.rhs(found[sample : sample + 1, 1])
        torch.testing.assert_close(plate.rhs(found[:, 1])[sample : sample + 1], slope)


def test_gradients_by_the_parameters():
    values = torch.tensor([0.3, -0.2, 0.9, 0.4, 0.6, 0.5, 0.8, 0.3]).double().requires_grad_()
    names = ["left", "right", "bottom", "top", "initial", "x_1", "height_1", "diffusivity"]

    def last(v):
        plate = HeatedPlate(BOX, dt=0.1, y_1=-0.5, **dict(zip(names, v, strict=True)))
        return plate(plate.start())

    assert torch.autograd.gradcheck(last, values)


def test_single_precision():
    plate = HeatedPlate(BOX, diffusivity=0.4, dt=0.05, **SIDES)
    u = random_state(BOX)
    found = plate(u.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plate(u), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "grid, settings, expected",
    [
        (Grid.box((6,)), {}, "the grid must have two axes"),
        (Grid.box((6, 6), boundary="neumann"), {}, "boundary=.dirichlet, dirichlet"),
        (Grid.box((6, 6), points="nodes"), {}, "points=cells each; it has .*nodes"),
        (BOX, {"dt": 0.0}, "dt=0.0 must be positive"),
        (BOX, {"diffusivity": -1.0}, "diffusivity=-1.0 must not be negative"),
        (BOX, {"width": 0.0}, "width=0.0 must be positive"),
        (
            *(BOX, {"left": torch.zeros(2), "top": torch.zeros(3)}),
            "parameters of 2 and 3 samples; give each as a number",
        ),
    ],
)
def test_wrong_settings(grid, settings, expected):
    with pytest.raises(ValueError, match=expected):
        HeatedPlate(grid, **{"diffusivity": 1.0, "dt": 0.1, **settings})


def test_a_state_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"expected \[b, 1, 6, 5\] with the fields temperature"):
        HeatedPlate(BOX, diffusivity=1.0, dt=0.1)(torch.zeros(1, 1, 5, 6))
