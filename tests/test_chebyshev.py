"""Chebyshev collocation: derivatives, integrals, boundary value problems."""

import math

import pytest
import torch
from torch import cos, sin

from solvers import Chebyshev, ChebyshevPoisson, Collocation, End, NotConverged

TWO_PI = 2 * math.pi
NEUMANN, ROBIN = End(0.0, 1.0), End(2.0, 0.5)


def second(u, x):
    """u'' by automatic differentiation."""
    x = x.detach().requires_grad_()
    (first,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x)[0]


def relative(found, exact):
    return float((found - exact).norm() / exact.norm())


def between(axis, u, count=300):
    """Values of the polynomial u at equal steps, and these steps."""
    x = torch.linspace(axis.lower, axis.upper, count, dtype=torch.float64)
    return u @ axis.interpolation(x).mT, x


@pytest.mark.parametrize("size", [3, 4, 9, 16])
def test_polynomials_of_the_degree_are_exact(size):
    axis = Chebyshev(size, -0.5, 2.0)
    x, n = axis.points, size - 1
    assert x[0] == -0.5 and x[-1] == 2.0 and (x.diff() > 0).all()
    power = x**n
    scale = float(axis.derivative(2).abs().max() * 2.0**n)
    for order, factor in ((1, n * x ** (n - 1)), (2, n * (n - 1) * x ** (n - 2))):
        error = axis.derivative(order) @ power - factor
        assert error.abs().max() < 1e-14 * scale
        assert (axis.derivative(order).sum(dim=1).abs() < 1e-14 * scale).all()
    assert float(axis.weights @ power) == pytest.approx((2.0**size - (-0.5) ** size) / size, 1e-13)
    found, y = between(axis, power, 40)
    torch.testing.assert_close(found, y**n, rtol=0, atol=1e-14 * 2.0**n)


def test_the_matrices_are_those_of_the_book():
    """Trefethen, chapter 6: D for N = 2, and its corner (2 N^2 + 1) / 6."""
    expected = torch.tensor([[-1.5, 2.0, -0.5], [-0.5, 0.0, 0.5], [0.5, -2.0, 1.5]])
    torch.testing.assert_close(Chebyshev(3).derivative(), expected.double())
    for size in (10, 101, 400):
        matrix, n = Chebyshev(size).derivative(), size - 1
        assert float(matrix[-1, -1]) == pytest.approx((2 * n**2 + 1) / 6, rel=1e-12)
        torch.testing.assert_close(matrix, -matrix.flip(0, 1), rtol=1e-9, atol=1e-9)


def test_derivatives_integrals_and_values_converge_exponentially():
    errors = []
    for size in (8, 16, 24):
        axis = Chebyshev(size, 0.0, 2.0)
        u = torch.exp(sin(3 * axis.points))
        found, y = between(axis, u)
        first = 3 * cos(3 * axis.points) * u
        fine = Chebyshev(80, 0.0, 2.0)
        integral = fine.weights @ torch.exp(sin(3 * fine.points))
        errors.append(
            (
                relative(found, torch.exp(sin(3 * y))),
                relative(axis.derivative() @ u, first),
                float((axis.weights @ u - integral).abs()),
            )
        )
    for coarse, middle, fine in zip(*errors, strict=True):
        assert middle < 0.02 * coarse and fine < 0.02 * middle


WAVES = {
    "sin100x": (lambda x: sin(100 * x), 400, TWO_PI, 3e-11),
    "sin6x cos100x": (lambda x: sin(6 * x) * cos(100 * x), 400, TWO_PI, 9e-11),
    "x sin200x": (lambda x: x * sin(200 * x), 900, TWO_PI, 2.8e-10),
    "three scales": (lambda x: sin(x) + 0.1 * sin(20 * x) + 0.05 * sin(100 * x), 900, 1.0, 1e-11),
    "sin500x": (lambda x: sin(500 * x) - 2 * (x - 0.5) ** 2, 400, 1.0, 6.5e-12),
}


@pytest.mark.parametrize("name", WAVES)
def test_fast_oscillations_to_ten_digits(name):
    u, size, length, error = WAVES[name]
    axis = Chebyshev(size, 0.0, length)
    x = axis.points
    data = (float(u(x[0])), float(u(x[-1])))
    found, y = between(axis, Collocation(axis).solve(second(u, x)[None, None], data=data))
    assert relative(found[0, 0], u(y)) < 10 * error


def test_too_few_points_per_wavelength_fail():
    u, _, length, _ = WAVES["x sin200x"]
    axis = Chebyshev(400, 0.0, length)
    found, y = between(axis, Collocation(axis).solve(second(u, axis.points)[None, None]))
    assert relative(found[0, 0], u(y)) > 1


def reaction(u):
    return u * (u.square() - 1)


def test_allen_cahn_by_newton_from_zero():
    axis = Chebyshev(400, 0.0, TWO_PI)
    x = axis.points
    waves = [WAVES[name][0] for name in ("sin100x", "sin6x cos100x")]
    exact = torch.stack([u(x) for u in waves])[:, None]
    f = torch.stack([second(u, x) for u in waves])[:, None] + reaction(exact)
    found, steps = Collocation(axis).newton(f, reaction, data=(exact[..., 0], exact[..., -1]))
    assert relative(found, exact) < 3e-10 and steps.max() <= 5
    alone, _ = Collocation(axis).newton(f[:1], reaction, data=(exact[:1, :, 0], exact[:1, :, -1]))
    torch.testing.assert_close(found[:1], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ends", [(ROBIN, NEUMANN), (NEUMANN, End()), (End(), ROBIN)], ids=str)
def test_ends_and_variable_coefficients(ends):
    """(2 + x) u'' + sin(x) u' - (1 + x^2) u = f for u = e^x sin 3x; exponentially fast."""
    errors = []
    for size in (8, 16, 24):
        axis = Chebyshev(size, -0.5, 1.0)
        x = axis.points
        u, wave = torch.exp(x) * sin(3 * x), torch.exp(x) * cos(3 * x)
        first, curvature = u + 3 * wave, -8 * u + 6 * wave
        a, b, c = 2 + x, sin(x), -(1 + x**2)
        data = [
            float(end.value * u[at] + end.slope * outward * first[at])
            for end, at, outward in zip(ends, (0, -1), (-1, 1), strict=True)
        ]
        f = (a * curvature + b * first + c * u)[None, None]
        found = Collocation(axis, ends).solve(f, a=a, b=b, c=c, data=tuple(data))
        errors.append(relative(found[0, 0], u))
    assert errors[1] < 1e-3 * errors[0] and errors[2] < 1e-10


def test_the_plane():
    """By fast diagonalisation: 6 and 20 waves in each direction."""
    axis = Chebyshev(200, 0.0, TWO_PI)
    x = axis.points
    line = sin(6 * x) * cos(20 * x)
    u = line[:, None] + line
    wave = second(lambda x: sin(6 * x) * cos(20 * x), x)
    f = -(wave[:, None] + wave)
    data = [(u[0], u[-1]), (u[:, 0], u[:, -1])]
    found = ChebyshevPoisson((axis, axis))(f[None, None], data)
    found, y = between(axis, found)
    found, _ = between(axis, found.mT)
    exact = sin(6 * y) * cos(20 * y)
    assert relative(found[0, 0], exact[:, None] + exact) < 1.3e-11


def test_a_hundred_waves_in_the_plane():
    axis = Chebyshev(400, 0.0, TWO_PI)
    u = sin(100 * axis.points)[:, None] * sin(100 * axis.points)
    found = ChebyshevPoisson((axis, axis))(20000 * u[None, None])
    assert relative(found[0, 0], u) < 3.5e-13


@pytest.mark.parametrize("shift", [0.0, 3.0, -30.0])
@pytest.mark.parametrize("pair", [(End(), End()), (NEUMANN, End()), (ROBIN, NEUMANN)], ids=str)
def test_three_dimensions_with_values_on_all_ends(pair, shift):
    axes = (Chebyshev(20, 0.0, 1.0), Chebyshev(18, -1.0, 0.5), Chebyshev(19, 0.0, 2.0))
    ends = (pair, (End(), ROBIN), (End(), End()))
    x, y, z = torch.meshgrid(*(axis.points for axis in axes), indexing="ij")
    u = torch.exp(x) * sin(2 * y + 0.3) * cos(z)
    gradient = (
        u,
        torch.exp(x) * 2 * cos(2 * y + 0.3) * cos(z),
        -torch.exp(x) * sin(2 * y + 0.3) * sin(z),
    )
    data = []
    for i, (both, slope) in enumerate(zip(ends, gradient, strict=True)):
        data.append(
            tuple(
                end.value * u.select(i, at) + end.slope * outward * slope.select(i, at)
                for end, at, outward in zip(both, (0, -1), (-1, 1), strict=True)
            )
        )
    found = ChebyshevPoisson(axes, shift=shift, ends=ends)((4 + shift) * u[None, None], data)
    assert relative(found[0, 0], u) < 1e-10


def test_gradients():
    axis = Chebyshev(6)
    f = torch.randn(2, 1, 6, dtype=torch.float64, requires_grad=True)
    a = (2 + torch.rand(2, 1, 6, dtype=torch.float64)).requires_grad_()
    g = torch.randn(2, 1, dtype=torch.float64, requires_grad=True)
    problem = Collocation(axis, (ROBIN, End()))

    def linear(f, a, g):
        return problem.solve(f, a=a, b=a.square(), c=-a, data=(g, 1.0))

    def nonlinear(f, g):
        return problem.newton(f, lambda u: u - u**3, data=(g, 0.2), tolerance=1e-12)[0]

    assert torch.autograd.gradcheck(linear, (f, a, g))
    assert torch.autograd.gradcheck(nonlinear, (f, g))
    f = torch.randn(1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    h = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    poisson = ChebyshevPoisson((axis, Chebyshev(5)), ends=((NEUMANN, End()), (End(), ROBIN)))
    assert torch.autograd.gradcheck(lambda f, h: poisson(f, [(h, 0.5), (0.0, 1.0)]), (f, h))


def test_single_precision():
    axis = Chebyshev(24, 0.0, 1.0)
    u = sin(3 * axis.points).float()
    data = (float(u[0]), float(u[-1]))
    found = Collocation(axis).solve(-9 * u[None, None], data=data)
    assert found.dtype == torch.float32 and relative(found[0, 0], u) < 1e-3
    plane = ChebyshevPoisson((axis, axis))(torch.ones(1, 1, 24, 24))
    assert plane.dtype == torch.float32


def test_what_cannot_be_solved_is_refused():
    axis, f = Chebyshev(8), torch.ones(1, 1, 8, dtype=torch.float64)
    for make, message in (
        (lambda: Chebyshev(2), "size=2 must be 3 or more"),
        (lambda: Chebyshev(8, 1.0, 1.0), r"lower=1\.0 must be below"),
        (lambda: axis.derivative(3), "order=3 must be 1 or 2"),
        (lambda: axis.interpolation(torch.tensor([1.5])), r"x must lie in \[-1, 1\]"),
        (lambda: Collocation(axis, (End(0.0), End())), "needs a value or a slope"),
        (lambda: Collocation(axis).solve(f[0]), r"expected \[b, 1, 8\], got \(1, 8\)"),
        (lambda: Collocation(axis).solve(f, a=torch.ones(3)), "a must be a number or broadcast"),
        (lambda: ChebyshevPoisson((axis,) * 4), "1 to 3 axes, got 4"),
        (lambda: ChebyshevPoisson((axis,), ends=()), "ends must be 1 pairs"),
        (lambda: ChebyshevPoisson((axis,), ends=((NEUMANN, NEUMANN),)), "is an eigenvalue"),
        (lambda: ChebyshevPoisson((axis,))(f[0]), r"expected \[b, 1, 8\], got \(1, 8\)"),
        (lambda: ChebyshevPoisson((axis,))(f, [(0, 0), (0, 0)]), "data must be 1 pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(NotConverged, match="1 of 1 samples did not converge in 2 Newton steps"):
        Collocation(axis).newton(100 * f, reaction, max_iterations=2)
