"""Viscous compressible flow: shear, sound, heat, shocks."""

import math

import numpy as np
import pytest
import torch

from solvers import CompressibleNavierStokes, Euler, Fourier, Grid, Numerics, Unstable, rollout
from solvers.grid import Axis

PERIODIC, WALL, OPEN = ("periodic",) * 2, ("neumann",) * 2, ("open",) * 2
TWO_PI = 2 * math.pi
GAMMA = 1.4
FAST = Numerics(cfl=0.9)


def box(*sizes, sides=PERIODIC):
    return Grid(tuple(Axis(a, n, 0.0, 1.0, sides) for a, n in zip("xyz", sizes, strict=False)))


def positive(b, channels, *sizes):
    """Primitive variables that are a gas."""
    w = 1 + 0.3 * torch.rand(b, channels, *sizes, dtype=torch.float64)
    w[:, 1:-1] -= 1.15
    return w


def shear_error(n, viscosity=0.02):
    """v_y = A sin kx decays like exp(-nu k^2 t); A so small that the heat of friction is none."""
    grid = box(n, 3)
    equation = CompressibleNavierStokes(grid, viscosity=viscosity, dt=0.3, numerics=FAST)
    wave = torch.sin(TWO_PI * grid.mesh()[0])
    w = torch.stack((torch.full_like(wave, 2.0), 0 * wave, 1e-4 * wave, 1 + 0 * wave))[None]
    after = equation.to_primitive(equation(equation.to_conserved(w)))[0, 2]
    exact = 1e-4 * math.exp(-viscosity / 2 * TWO_PI**2 * 0.3) * wave
    return float((after - exact).abs().max() / 1e-4)


def test_a_shear_wave_decays():
    errors = [shear_error(n) for n in (16, 32)]
    assert errors[1] < 1e-3
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def linear_modes(k, eta, zeta, prandtl):
    """Eigenvalues and vectors (rho, v, p) of small waves exp(ikx + s t) on rho = p = 1, v = 0."""
    nu = 4 / 3 * eta + zeta
    chi = 0.0 if prandtl is None else GAMMA * eta / prandtl
    matrix = np.array(  # of rho, v, T with p = rho + T
        [
            [0, -1j * k, 0],
            [-1j * k, -nu * k**2, -1j * k],
            [0, -1j * k * (GAMMA - 1), -chi * k**2],
        ]
    )
    values, vectors = np.linalg.eig(matrix)
    return values, np.stack((vectors[0], vectors[1], vectors[0] + vectors[2]))


def mode_error(n, which, eta=0.01, zeta=0.02, prandtl=0.7, time=0.25):
    values, vectors = linear_modes(TWO_PI, eta, zeta, prandtl)
    chosen = np.argmax(values.imag) if which == "sound" else np.argmin(np.abs(values.imag))
    value, vector = complex(values[chosen]), vectors[:, chosen]
    vector = torch.from_numpy(vector / np.abs(vector).max())[:, None]
    grid = box(n)
    x = grid.axes[0].coordinates()
    rest = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)[:, None]
    wave = torch.exp(1j * TWO_PI * x)
    equation = CompressibleNavierStokes(
        grid, viscosity=eta, bulk_viscosity=zeta, prandtl=prandtl, dt=time, numerics=FAST
    )
    u = equation.to_conserved((rest + 1e-5 * (vector * wave).real)[None])
    found = (equation.to_primitive(equation(u))[0] - rest) / 1e-5
    return float((found - (vector * wave * np.exp(value * time)).real).abs().mean())


@pytest.mark.parametrize("which", ["sound", "entropy"])
def test_sound_and_heat_are_attenuated(which):
    """Against the eigenvalues of the linear equations: speed and attenuation in one."""
    errors = [mode_error(n, which) for n in (32, 64)]
    assert errors[1] < 5e-3
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_the_eigenvalues_are_those_of_stokes_and_kirchhoff():
    """s = -k^2 (4/3 eta + zeta + (gamma - 1) eta / Pr) / 2 for sound, -eta k^2 / Pr for heat."""
    eta, zeta, prandtl, k = 1e-4, 2e-4, 0.7, TWO_PI
    values, _ = linear_modes(k, eta, zeta, prandtl)
    decay = 0.5 * k**2 * (4 / 3 * eta + zeta + (GAMMA - 1) * eta / prandtl)
    assert -values.real[np.argmax(values.imag)] == pytest.approx(decay, rel=1e-4)
    assert -values.real[np.argmin(np.abs(values.imag))] == pytest.approx(
        eta * k**2 / prandtl, rel=1e-4
    )
    assert values.imag.max() == pytest.approx(k * math.sqrt(GAMMA), rel=1e-4)


def becker(x, eta, mach=2.0):
    """A steady shock at x = 0 for Pr = 3/4 and zeta = 0, rho = p = 1 before it, flow to the right.

    The enthalpy h + v^2 / 2 is constant, and with a = 2 gamma / (gamma + 1) 4/3 eta / (rho v),

        x = a (v0 log(v0 - v) - v1 log(v - v1)) / (v0 - v1) + const      [Becker 1922]
    """
    v0 = mach * math.sqrt(GAMMA)
    v1 = v0 * (GAMMA - 1 + 2 / mach**2) / (GAMMA + 1)
    scale = 2 * GAMMA / (GAMMA + 1) * 4 / 3 * eta / v0 / (v0 - v1)
    place = lambda v: scale * (v0 * torch.log(v0 - v) - v1 * torch.log(v - v1))  # noqa: E731
    start = place(torch.tensor(0.5 * (v0 + v1), dtype=torch.float64))
    low, high = torch.full_like(x, v1), torch.full_like(x, v0)
    for _ in range(60):
        v = 0.5 * (low + high)
        beyond = place(v) - start > x  # x falls with v
        low, high = torch.where(beyond, v, low), torch.where(beyond, high, v)
    rho = v0 / v
    total = GAMMA / (GAMMA - 1) + 0.5 * v0**2
    return torch.stack((rho, v, rho * (GAMMA - 1) / GAMMA * (total - 0.5 * v.square())))


def shock_error(n):
    grid = Grid((Axis("x", n, -0.8, 0.4, OPEN),))
    x = grid.axes[0].coordinates()
    w = becker(x, eta=0.05)[None]
    equation = CompressibleNavierStokes(grid, viscosity=0.05, prandtl=0.75, dt=0.05, numerics=FAST)
    found = equation.to_primitive(equation(equation.to_conserved(w)))
    return float((found - w).abs().mean())


def test_a_shock_keeps_the_profile_of_becker():
    errors = [shock_error(n) for n in (60, 120)]
    assert errors[1] < 6e-4
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def stress_by_fourier(equation, w):
    """div t and div(t v + k grad T) of periodic fields by spectral derivatives."""
    fourier = Fourier(equation.grid)
    ndim = equation.grid.ndim
    d = lambda q, m: fourier.inverse(fourier.derivative(m) * fourier.transform(q))  # noqa: E731
    v, temperature = w[:, 1:-1], w[:, -1] / w[:, 0]
    eta, zeta = equation.viscosity, equation.bulk_viscosity
    slope = [[d(v[:, j], m) for j in range(ndim)] for m in range(ndim)]
    divergence = sum(slope[m][m] for m in range(ndim))
    total = torch.zeros_like(w)
    for m in range(ndim):
        heat = eta * GAMMA / (GAMMA - 1) / equation.prandtl * d(temperature, m)
        for j in range(ndim):
            stress = eta * (slope[m][j] + slope[j][m])
            stress = stress + (m == j) * (zeta - 2 / 3 * eta) * divergence
            total[:, 1 + j] += d(stress, m)
            heat = heat + stress * v[:, j]
        total[:, -1] += d(heat, m)
    return total


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_viscous_terms_against_spectral_derivatives(ndim):
    """The whole tensor and the heat, on fields that change along every axis."""
    errors, options = [], {"viscosity": 0.3, "bulk_viscosity": 0.1, "dt": 1.0}
    for n in (12, 24) if ndim == 3 else (16, 32):
        grid = box(*[n] * ndim)
        x = TWO_PI * grid.mesh()
        waves = [
            torch.sin(x[c % ndim] + c) * torch.cos(x[(c + 1) % ndim] - 0.3 * c)
            for c in range(ndim + 2)
        ]
        w = torch.stack(waves)[None] * 0.2
        w[:, [0, -1]] += 1
        viscous, ideal = CompressibleNavierStokes(grid, **options), Euler(grid, dt=1.0)
        u = ideal.to_conserved(w)
        found, expected = viscous.rhs(u) - ideal.rhs(u), stress_by_fourier(viscous, w)
        assert found[:, 0].abs().max() < 1e-12
        errors.append((found - expected).abs().mean() / expected.abs().mean())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("sides", [PERIODIC, WALL])
@pytest.mark.parametrize("sizes", [(12,), (8, 6), (5, 4, 3)], ids=str)
def test_mass_and_energy_are_kept_in_a_box(sides, sizes):
    grid = box(*sizes, sides=sides)
    equation = CompressibleNavierStokes(grid, viscosity=0.05, bulk_viscosity=0.02, dt=0.02)
    u = equation.to_conserved(positive(2, len(sizes) + 2, *sizes))
    dims = tuple(range(2, u.dim()))
    kept = slice(None) if sides == PERIODIC else [0, -1]  # walls take momentum
    change = (rollout(equation, u, 3)[:, -1] - u).sum(dims) / u.abs().sum(dims)
    assert change[:, kept].abs().max() < 1e-13


def test_axes_are_alike():
    make = lambda *n: CompressibleNavierStokes(box(*n), viscosity=0.05, dt=0.05)  # noqa: E731
    equation, other = make(8, 6), make(6, 8)
    u = equation.to_conserved(positive(1, 4, 8, 6))
    swapped = u[:, [0, 2, 1, 3]].transpose(2, 3)
    torch.testing.assert_close(other(swapped)[:, [0, 2, 1, 3]].transpose(2, 3), equation(u))


@pytest.mark.parametrize("sides", [PERIODIC, WALL, OPEN])
def test_without_viscosity_it_is_euler(sides):
    grid = box(8, 6, sides=sides)
    u = Euler(grid, dt=0.05).to_conserved(positive(2, 4, 8, 6))
    found = CompressibleNavierStokes(grid, viscosity=0.0, dt=0.05)(u)
    torch.testing.assert_close(found, Euler(grid, dt=0.05)(u), rtol=1e-13, atol=1e-13)


def test_viscous_substeps_are_enough_and_needed(monkeypatch):
    grid = box(8, 8)
    options = {"viscosity": 1.0, "dt": 0.05, "numerics": Numerics(cfl=1.0)}
    equation = CompressibleNavierStokes(grid, **options)
    w = positive(1, 4, 8, 8)
    after = equation.to_primitive(equation(equation.to_conserved(w)))
    assert after[:, 1:3].std() < 2e-2 and after.isfinite().all()
    monkeypatch.setattr(equation, "rate", lambda w: Euler.rate(equation, w))  # the control
    with pytest.raises(Unstable):
        rollout(equation, equation.to_conserved(w), 5)
    few = CompressibleNavierStokes(grid, viscosity=1.0, dt=0.05, numerics=Numerics(substeps=9))
    with pytest.raises(Unstable, match=r"needs \d+ substeps for cfl=0.4, 9 are allowed"):
        few(equation.to_conserved(w))


def test_parameters_by_sample_and_precision():
    grid = box(8, 6)
    values = torch.tensor([0.01, 0.1], dtype=torch.float64)
    equation = CompressibleNavierStokes(grid, viscosity=values, bulk_viscosity=values, dt=0.02)
    u = equation.to_conserved(positive(2, 4, 8, 6))
    together = equation(u)
    for i, value in enumerate(values.tolist()):
        alone = CompressibleNavierStokes(grid, viscosity=value, bulk_viscosity=value, dt=0.02)
        torch.testing.assert_close(alone(u[i : i + 1]), together[i : i + 1])
    assert equation(u.float()).dtype == torch.float32
    torch.testing.assert_close(equation.halved()(u), together, rtol=0, atol=1e-2)


@pytest.mark.parametrize("prandtl", [0.7, None])
def test_gradients_of_a_step(prandtl):
    grid = box(4, 3)
    numerics = Numerics(substeps=3)
    u = Euler(grid, dt=1.0).to_conserved(positive(1, 4, 4, 3)).requires_grad_()
    eta = torch.tensor([0.05], dtype=torch.float64, requires_grad=True)

    def step(u, eta):
        return CompressibleNavierStokes(
            grid, viscosity=eta, bulk_viscosity=eta, prandtl=prandtl, dt=0.02, numerics=numerics
        )(u)

    assert torch.autograd.gradcheck(step, (u, eta), fast_mode=True)


def test_the_residual_of_a_step_is_of_second_order():
    grid, sizes = box(32), []
    x = TWO_PI * grid.axes[0].coordinates()
    for dt in (0.004, 0.002):
        numerics = Numerics(limiter="none", substeps=4)
        equation = CompressibleNavierStokes(grid, viscosity=0.05, dt=dt, numerics=numerics)
        w = torch.stack((1 + 0.1 * torch.sin(x), 0.1 * torch.cos(x), 1 + 0.1 * torch.sin(x)))[None]
        u = equation.to_conserved(w)
        sizes.append(equation.residual(u, equation(u)).norm())
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"viscosity": -1.0}, "viscosity=-1.0 must not be negative"),
        ({"viscosity": 1.0, "bulk_viscosity": torch.tensor([-1.0])}, "bulk_viscosity=.* must not"),
        ({"viscosity": 1.0, "prandtl": 0.0}, "prandtl=0.0 must be positive, or None"),
        ({"viscosity": 1.0, "gamma": 1.0}, "gamma=1.0, the ratio"),
    ],
)
def test_wrong_settings(options, expected):
    with pytest.raises(ValueError, match=expected):
        CompressibleNavierStokes(box(8), dt=0.1, **options)
    with pytest.raises(ValueError, match=r"expected \[b, 3, 8\] with the fields density, mom"):
        CompressibleNavierStokes(box(8), viscosity=0.1, dt=0.1)(torch.ones(1, 4, 8))
