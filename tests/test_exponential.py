"""Exponential and implicit-explicit Runge-Kutta methods."""

import math
from functools import partial

import pytest
import torch

from solvers import Exponential, Imex
from solvers.exponential import phi
from solvers.korteweg_de_vries import KortewegDeVries, soliton
from tests.helpers import periodic


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_phi_functions_against_their_series(k):
    radius = torch.tensor([0, 1e-12, 1e-6, 1e-3, 0.1, 0.9, 0.999, 1.0, 1.001, 3.0, 4.0])
    angle = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)
    z = torch.polar(radius.double()[:, None], angle[None]).flatten()
    series = sum(z**j * (1 / math.factorial(j + k)) for j in range(80))
    torch.testing.assert_close(phi(k, z), series, rtol=1e-12, atol=1e-13)


def test_phi_far_from_zero():
    z = torch.tensor([-1e4, -50.0, 40j], dtype=torch.complex128)
    torch.testing.assert_close(phi(1, z), (z.exp() - 1) / z)
    assert phi(3, torch.tensor([-1e8 + 0j]))[0].abs() < 1e-8


def final(method, steps, linear):
    """u_t = l u + u^2 from u = 0.3 to t = 1, one value per l."""
    step = method(linear, lambda u: u * u, 1 / steps)
    u = torch.full_like(linear, 0.3)
    for _ in range(steps):
        u = step(u)
    return u


def exact(linear):
    """Bernoulli's equation: 1 / u = (1 / u0 + 1 / l) e^-l - 1 / l."""
    return 1 / ((1 / 0.3 + 1 / linear) * torch.exp(-linear) - 1 / linear)


METHODS = {
    **{f"exponential {p}": (partial(Exponential, order=p), p) for p in (1, 2, 3, 4)},
    "imex euler": (partial(Imex, scheme="euler"), 1),
    "imex rk3": (partial(Imex, scheme="rk3"), 2),
    "imex rk4": (partial(Imex, scheme="rk4"), 2),
}


@pytest.mark.parametrize("name", METHODS)
def test_observed_order(name):
    method, order = METHODS[name]
    linear = torch.tensor([-2.0 + 0j, 0.5 + 3j, -1 - 5j], dtype=torch.complex128)
    errors = [(final(method, n, linear) - exact(linear)).abs().max() for n in (20, 40, 80)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("scheme, order", [("euler", 1), ("rk3", 3), ("rk4", 4)])
def test_the_explicit_part_alone_has_the_order_of_its_method(scheme, order):
    """u_t = u^2, so that the Crank-Nicolson part is idle."""
    linear = torch.zeros(1, dtype=torch.float64)
    end = 0.3 / (1 - 0.3)
    errors = [abs(float(final(partial(Imex, scheme=scheme), n, linear)) - end) for n in (5, 10, 20)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.3)


def test_the_linear_part_is_exact():
    linear = torch.tensor([-1e6, -3.0, 2.0], dtype=torch.float64)
    for order in (1, 2, 3, 4):
        step = Exponential(linear, torch.zeros_like, 0.7, order=order)
        torch.testing.assert_close(step(torch.ones(3).double()), torch.exp(0.7 * linear))


def kdv(steps, real=False):
    grid = periodic((96,), (40.0,))
    x = grid.axes[0].coordinates()
    equation = KortewegDeVries(grid, dt=1.0, substeps=steps)
    if real:
        for row in equation._step._rows:
            row[1:] = [None if c is None else c.real + 0j for c in row[1:]]
    return equation(soliton(x, 0.0, 1.0, 15.0, 40.0)[None, None])


def test_order_4_on_a_dispersive_equation():
    finest = kdv(640)
    errors = [float((kdv(n) - finest).abs().max()) for n in (20, 40, 80)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(4, abs=0.3)


def test_real_parts_of_the_coefficients_would_lower_the_order():
    """The control: a defect of a popular library."""
    finest = kdv(640)
    errors = [float((kdv(n, real=True) - finest).abs().max()) for n in (40, 80)]
    assert math.log2(errors[0] / errors[1]) < 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_state(dtype):
    step = Exponential(torch.tensor([-1.0]).double(), lambda u: u * u, 0.1)
    assert step(torch.ones(1, dtype=dtype)).dtype == dtype


def test_gradients():
    linear = torch.tensor([-1.0 + 2j, 0.3 - 1j], dtype=torch.complex128)
    for method in (Exponential, Imex):
        step = method(linear, lambda u: u * u.conj(), 0.3)
        u = torch.tensor([0.5 + 1j, -0.2 + 0.1j], dtype=torch.complex128, requires_grad=True)
        assert torch.autograd.gradcheck(step, u)


@pytest.mark.parametrize(
    "method, options, expected",
    [
        (Exponential, {"order": 5}, "order=5: there are methods of order"),
        (Exponential, {"dt": 0.0}, "dt=0.0 must be positive"),
        (Imex, {"scheme": "rk5"}, "scheme='rk5': choose one of euler, rk3, rk4"),
        (Imex, {"dt": -1.0}, "dt=-1.0 must be positive"),
    ],
)
def test_wrong_settings(method, options, expected):
    with pytest.raises(ValueError, match=expected):
        method(torch.zeros(1), torch.zeros_like, **{"dt": 1.0} | options)
