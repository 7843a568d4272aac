"""Conservation laws by finite volumes: advection, shallow water, compressible flow."""

import torch

from benchmarks.acceptance.figure import Figure, Figures, order, slope
from solvers import (
    CompressibleNavierStokes,
    Euler,
    FiniteVolumeAdvection,
    Grid,
    ShallowWater,
    rollout,
)
from tests import test_advection, test_compressible, test_finite_volume

METHOD = "MUSCL-HLLC, SSP-RK2"


def advection() -> Figures:
    errors = []
    for n in (64, 128, 256):
        grid = Grid.box((n,), boundary="periodic")
        step = FiniteVolumeAdvection(grid, velocity=1.0, dt=0.5)
        after = step(test_advection.means(grid, 0.0)[None, None])[0, 0]
        errors.append(float((after - test_advection.means(grid, 0.5)).abs().mean()))
    yield order("Advection", "MUSCL upwind, SSP-RK2", "L1, smooth wave", slope(errors), 2)


def shallow_water() -> Figures:
    errors = [test_finite_volume.dam_break_error(n) for n in (100, 400)]
    what = "order, L1, Stoker's dam break, 100 to 400 cells"
    yield Figure("Shallow water", METHOD, what, slope(errors, 4), 0.8, at_least=True)
    grid = test_finite_volume.plane(20, 15)
    bottom = 0.5 * torch.rand(20, 15, dtype=torch.float64)
    u = torch.zeros(1, 3, 20, 15, dtype=torch.float64)
    u[:, 0] = 1 - bottom
    after = rollout(ShallowWater(grid, dt=0.1, gravity=9.81, bottom=bottom), u, 5)[:, -1]
    moved = float((after - u).abs().max())
    yield Figure("Shallow water", METHOD, "lake at rest, largest change", moved, 1e-14)


def euler() -> Figures:
    for name in ("sod", "lax"):
        errors = [float(test_finite_volume.tube(name, n)[0]) for n in (100, 200, 400)]
        what = f"{name.title()}'s tube, L1 of the density, 200 cells"
        yield Figure("Euler", METHOD, what, errors[1], 0.03)
        what = f"order, L1, {name.title()}'s tube, 100 to 400 cells"
        yield Figure("Euler", METHOD, what, slope(errors[::2], 4), 0.6, at_least=True)
    errors = [test_finite_volume.vortex_error(n) for n in (64, 128)]
    yield order("Euler", METHOD, "L1, isentropic vortex", slope(errors), 2)
    yield Figure("Euler", METHOD, "change of mass, momentum, energy", _lost(Euler), 1e-13)


def compressible() -> Figures:
    name, method = "Navier-Stokes, gas", f"{METHOD}, central viscous fluxes"
    errors = [test_compressible.shear_error(n) for n in (16, 32)]
    yield order(name, method, "shear wave", slope(errors), 2)
    errors = [test_compressible.mode_error(n, "sound") for n in (32, 64)]
    yield order(name, method, "sound", slope(errors), 2)
    kind = lambda grid, dt: CompressibleNavierStokes(grid, viscosity=0.05, dt=dt)  # noqa: E731
    yield Figure(name, method, "change of mass, momentum, energy", _lost(kind), 1e-13)


def _lost(kind) -> float:
    """Relative change of the sums in a periodic box after five steps."""
    equation = kind(test_finite_volume.plane(12, 10), dt=0.02)
    u = equation.to_conserved(test_compressible.positive(2, 4, 12, 10))
    change = (rollout(equation, u, 5)[:, -1] - u).sum((2, 3)) / u.abs().sum((2, 3))
    return float(change.abs().max())


MEASUREMENTS = (advection, shallow_water, euler, compressible)
