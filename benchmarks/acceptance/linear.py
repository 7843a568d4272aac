"""Linear equations in time: advection, heat, waves."""

import math

import torch

from benchmarks.acceptance.figure import Figure, Figures, order, slope
from solvers import Advection, Heat, LeapfrogWave, Wave, rollout
from tests import test_advection, test_heat, test_wave
from tests.helpers import periodic


def advection() -> Figures:
    grid = periodic((15, 12), (1.0, 1.0), points="cells")
    start = test_advection.waves(grid.mesh())[None, None]
    u = rollout(Advection(grid, velocity=(0.37, -1.2), dt=0.3), start, 7)[0, -1, 0]
    error = float((u - test_advection.waves(grid.mesh(), (0.777, -2.52))).abs().max())
    yield Figure("Advection", "Fourier, exact", "shift, largest error", error, 1e-13)


def heat() -> Figures:
    grid = test_heat.box(test_heat.D, test_heat.N)
    u, square = test_heat.mode(grid)
    found = rollout(Heat(grid, diffusivity=0.3, dt=0.05), u[None, None], 4)[0, -1, 0]
    error = float((found - math.exp(-0.3 * square * 0.2) * u).abs().max())
    yield Figure("Heat", "exact in eigenfunctions", "decay of a mode", error, 1e-13)
    grid = test_heat.box(test_heat.P, test_heat.P, sizes=(24, 24))
    source = test_heat.circles(grid, 4.0, 0.15)
    equation = Heat(grid, diffusivity=0.05, dt=1.0, source=source, substeps=16)
    u = equation.state(torch.zeros(1, 1, 24, 24, dtype=torch.float64))
    states = [equation(u)]
    for _ in range(2):
        equation = equation.halved()
        states.append(equation(u))
    changes = [float((a - b).norm()) for a, b in zip(states, states[1:], strict=False)]
    yield order("Heat", "exponential Gauss quadrature", "moving source", slope(changes), 4)


def wave() -> Figures:
    grid = test_wave.box(test_wave.D, sizes=(128,))
    x = grid.axes[0].coordinates()
    u = torch.stack((test_wave.bump(x, 0.4), 0 * x))[None]
    found = rollout(Wave(grid, speed=2.0, dt=0.07), u, 10)[0, -1, 0]

    def images(y):
        return sum(
            sign * test_wave.bump(y, sign * 0.4 + 2 * k) for k in range(-3, 4) for sign in (1, -1)
        )

    error = float((found - 0.5 * (images(x - 1.4) + images(x + 1.4))).abs().max())
    yield Figure("Wave", "exact in eigenfunctions", "d'Alembert, walls", error, 1e-12)


def leapfrog() -> Figures:
    """The phase of a standing wave of two periods in a unit of time against 4 pi."""
    lags = []
    for n in (16, 32):
        grid = test_wave.box(test_wave.P, sizes=(n,))
        number = 4 * math.pi
        mode = torch.cos(number * grid.axes[0].coordinates())
        step = LeapfrogWave(grid, speed=1.0, dt=0.1, substeps=n // 4)  # c k / h = 0.4
        u = torch.stack((mode, torch.zeros_like(mode)))[None]
        after = step(u)[0, 0] @ mode / (mode @ mode)
        lags.append(abs(math.acos(float(after)) / (0.1 * number) - 1))
    yield order("Wave", "leapfrog", "dispersion", slope(lags), 2)


MEASUREMENTS = (advection, heat, wave, leapfrog)
