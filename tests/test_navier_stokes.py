"""Flow on a torus: a vortex that decays, its budgets, and the scheme of the FNO paper's script."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from solvers import DiagonalForcing, GaussianRandomField, Imex, Kolmogorov, NavierStokes, rollout
from tests.helpers import periodic

TWO_PI = 2 * math.pi


def square(n, length=TWO_PI):
    return periodic((n, n), (length, length))


def taylor_green_error(n=32, viscosity=0.05, waves=2, steps=10):
    """Largest error of w = 2 k cos kx cos ky exp(-2 nu k^2 t), at any of the steps, over max |w|.

    The flow is steady but for its decay [Taylor & Green 1937]: u . grad w = 0.
    """
    grid = square(n)
    x, y = waves * grid.mesh()
    start = 2 * waves * torch.cos(x) * torch.cos(y)
    equation = NavierStokes(grid, viscosity=viscosity, dt=0.2, substeps=4)
    w = rollout(equation, start[None, None], steps)[0, :, 0]
    time = 0.2 * torch.arange(steps + 1, dtype=torch.float64).view(-1, 1, 1)
    exact = torch.exp(-2 * viscosity * waves**2 * time) * start
    return float((w - exact).abs().max() / start.abs().max())


def vorticity(grid, b=2):
    """A smooth random field with mean zero, [b, 1, x, y]."""
    field = GaussianRandomField(alpha=4.0, tau=1.0, basis="periodic", num_modes=15)
    generators = [torch.Generator().manual_seed(i) for i in range(b)]
    w = field.sample(generators, grid)[:, None].double()
    return w / w.std() * 3


def budgets(equation, w):
    """Energy |u|^2 / 2 and enstrophy w^2 / 2, and what viscosity, drag and forcing say of their
    rates, dE/dt = -2 nu Z - 2 mu E + <psi f> and dZ/dt = -2 nu P - 2 mu Z + <w f>, all means [b].
    """
    fourier, v = equation.basis, equation.basis.transform(w)
    psi = fourier.inverse(-fourier.inverse_laplacian * v)
    mean = lambda u: u.sum(dim=1).mean(dim=(1, 2))  # noqa: E731
    force = equation.rhs(torch.zeros_like(w))
    energy, enstrophy = mean(equation.velocity(w).square()) / 2, mean(w.square()) / 2
    slopes = torch.cat([fourier.inverse(fourier.derivative(i) * v) for i in range(2)], dim=1)
    nu, mu = equation.viscosity, equation.drag
    return (
        (energy, enstrophy),
        (
            -2 * nu * enstrophy - 2 * mu * energy + mean(psi * force),
            -nu * mean(slopes.square()) - 2 * mu * enstrophy + mean(w * force),
        ),
    )


def forced(n, **options):
    options = {"dt": 0.1, "substeps": 20, "drag": 0.1, "forcing": Kolmogorov(2, 0.5)} | options
    return NavierStokes(square(n), viscosity=0.02, **options)


def budget_error(n=48, **options):
    """Largest deviation of <psi w_t> and <w w_t> from the budgets, over the sum of their parts.

    That the advection of a truncated series gives neither energy nor enstrophy is exact, so
    rounding is left [Kraichnan & Montgomery 1980].
    """
    equation = forced(n, **options)
    w = rollout(equation, vorticity(equation.grid), 5)[:, -1]
    slope, fourier = equation.rhs(w), equation.basis
    psi = fourier.inverse(-fourier.inverse_laplacian * fourier.transform(w))
    (energy, enstrophy), expected = budgets(equation, w)
    found = (psi * slope).mean((1, 2, 3)), (w * slope).mean((1, 2, 3))
    scales = energy, enstrophy
    return max(
        float(((a - b) / scale).abs().max())
        for a, b, scale in zip(found, expected, scales, strict=True)
    )


def budget_over_time(substeps, n=32):
    """Change of the energy over a step of 0.4, less its budget by Gauss's rule, relative."""
    equation = forced(n, dt=0.4, substeps=substeps)
    w = vorticity(equation.grid)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    gained = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        part = forced(n, dt=0.2 * (1 + node), substeps=80)
        gained = gained + 0.2 * weight * budgets(part, part(w))[1][0]
    before, after = (budgets(equation, u)[0][0] for u in (w, equation(w)))
    return float(((after - before - gained) / before).abs().max())


def start_of_the_script(n=64):
    """A vorticity of the FNO paper's script, N(0, 7^3 (-Lap + 49)^-2.5), without Nyquist modes."""
    grid = square(n, 1.0)
    field = GaussianRandomField(alpha=2.5, tau=7.0, basis="periodic", num_modes=47)
    return grid, field.sample([torch.Generator().manual_seed(0)], grid)[:, None].double()


def by_the_script(w, steps, dt, viscosity=1e-3):
    """Its scheme written down anew for complex transforms: Crank-Nicolson for the viscosity,
    explicit Euler for the rest, the mask on the product alone; [n, n] to [n, n].
    """
    n = len(w)
    k = np.fft.fftfreq(n, 1 / n)
    kx, ky = 2j * np.pi * k[:, None], 2j * np.pi * k[None]
    lap = (kx**2 + ky**2).real
    inverse = np.divide(-1, lap, out=np.zeros_like(lap), where=lap < 0)
    kept = (np.abs(k)[:, None] <= n / 3) & (np.abs(k)[None] <= n / 3)
    x = np.arange(n) / n
    angle = 2 * np.pi * (x[:, None] + x)
    force = np.fft.fft2(0.1 * (np.sin(angle) + np.cos(angle)))
    v, back = np.fft.fft2(w), lambda v: np.fft.ifft2(v).real
    for _ in range(steps):
        psi = inverse * v
        product = back(ky * psi) * back(kx * v) - back(kx * psi) * back(ky * v)
        right = force - kept * np.fft.fft2(product) + viscosity / 2 * lap * v
        v = (v + dt * right) / (1 - dt * viscosity / 2 * lap)
    return back(v)


def script_differences(steps):
    """Relative L2 distances at t = 1 of that scheme with so many steps from ours: ETDRK4 with 200
    steps and the factors of the product masked too.
    """
    grid, w = start_of_the_script()
    make = partial(NavierStokes, grid, viscosity=1e-3, dt=1.0, forcing=DiagonalForcing())
    ours, theirs = make(substeps=200)(w), partial(Imex, scheme="euler")
    found = [make(substeps=n, scheme=theirs, mask="product")(w) for n in steps]
    return [float((u - ours).norm() / ours.norm()) for u in found]


def test_a_vortex_decays_exactly():
    assert taylor_green_error() < 1e-12


def test_energy_and_enstrophy_are_balanced_to_rounding():
    assert budget_error() < 1e-13
    assert budget_error(circular=True) < 1e-13
    assert budget_error(drag=0.0, forcing=None) < 1e-13


def test_a_mask_on_the_product_alone_breaks_the_balance():
    """The control, on a grid that the flow fills."""
    assert budget_error(16, mask="product") > 1e-6
    assert budget_error(16) < 1e-13


def test_the_energy_gained_is_that_of_the_budget():
    assert budget_over_time(20) < 1e-8


def test_the_script_is_our_scheme_to_rounding():
    grid, w = start_of_the_script()
    euler = partial(Imex, scheme="euler")
    equation = NavierStokes(
        grid,
        viscosity=1e-3,
        dt=0.01,
        forcing=DiagonalForcing(),
        mask="product",
        substeps=20,
        scheme=euler,
    )
    expected = torch.from_numpy(by_the_script(w[0, 0].numpy(), 20, 0.01 / 20))
    assert (equation(w)[0, 0] - expected).abs().max() < 1e-13 * w.abs().max()
    both = NavierStokes(
        grid, viscosity=1e-3, dt=0.01, forcing=DiagonalForcing(), substeps=20, scheme=euler
    )
    assert (both(w)[0, 0] - expected).abs().max() > 1e-9  # the control


def test_the_script_approaches_the_exponential_method_at_order_1():
    coarse, fine = script_differences((100, 200))
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.3)
    assert fine < 1e-2


@pytest.mark.slow
def test_at_its_own_step_the_script_is_close():
    coarse, fine = script_differences((5000, 10000))
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.3)
    assert fine < 1e-4
