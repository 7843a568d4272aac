"""Patterns: the growth rate of a small wave, the energy that falls, and a step against SciPy."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from solvers import SwiftHohenberg, rollout
from solvers.grid import Grid
from tests.helpers import periodic

GRID = periodic((24, 20), (6 * math.pi, 4 * math.pi))


def test_a_small_wave_grows_at_its_rate():
    x, y = GRID.mesh()
    k = (1 / 3 * 2, 1 / 2)
    u = 1e-6 * torch.cos(k[0] * x + k[1] * y)[None, None]
    equation = SwiftHohenberg(GRID, dt=0.5, rate=0.7, quadratic=0.0)
    growth = 0.7 - (1 - k[0] ** 2 - k[1] ** 2) ** 2
    torch.testing.assert_close(equation(u), math.exp(0.5 * growth) * u, rtol=1e-9, atol=1e-16)


def test_the_energy_falls():
    equation = SwiftHohenberg(GRID, dt=0.2, substeps=4)
    u = 0.5 * torch.randn(1, 1, 24, 20, generator=torch.Generator().manual_seed(0)).double()
    u = rollout(equation, u, 30)[0]
    band = equation.basis.inverse((1 + equation.basis.laplacian) * equation.basis.transform(u))
    energy = band.square() / 2 - 0.7 * u.square() / 2 - u**3 / 3 + u**4 / 4
    assert (energy.sum(dim=(1, 2, 3)).diff()[1:] < 0).all()


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_a_step_against_scipy(boundary):
    grid = Grid.box((24,), boundary=boundary)
    equation = SwiftHohenberg(grid, dt=0.05, wavenumber=6.0, substeps=40)
    u = torch.cos(4 * math.pi * grid.mesh())[None] + 0.3
    kept = equation.basis.kept(0.5)
    flat = lambda t, v: equation.rhs(torch.as_tensor(v).view(1, 1, 24)).flatten().numpy()  # noqa: E731
    found = solve_ivp(flat, (0, 0.05), u.flatten().numpy(), "Radau", rtol=1e-10, atol=1e-12)
    after = torch.as_tensor(found.y[:, -1])
    torch.testing.assert_close(equation(u).flatten(), after, rtol=0, atol=1e-7)
    assert kept.sum() < len(kept)


def test_gradient_and_refusal():
    grid = periodic((12,), (6.0,))
    equation = SwiftHohenberg(grid, dt=0.1)
    u = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(1)).double()
    assert torch.autograd.gradcheck(equation, u.requires_grad_())
    with pytest.raises(ValueError, match="periodic and neumann sides"):
        SwiftHohenberg(Grid.box((8,)), dt=0.1)
