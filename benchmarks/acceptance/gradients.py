"""Gradients of every stepper and steady map against central differences.

The step of the differences is 1e-7 for steppers, so that limiters and upwind switches stay on one
side of their kinks, and 1e-5 for maps, which iterate to 1e-13.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.acceptance.figure import Figure, Figures
from solvers import (
    Advection,
    Axis,
    Chebyshev,
    Collocation,
    CompressibleNavierStokes,
    Darcy,
    EmbeddedPoisson,
    Euler,
    FiniteVolumeAdvection,
    Grid,
    Heat,
    Helmholtz,
    LeapfrogWave,
    Numerics,
    Poisson,
    ShallowWater,
    SwiftHohenberg,
    Wave,
)
from tests import test_compressible, test_embedded, test_fitzhugh_nagumo, test_heat, test_semilinear

OPEN = ("open", "open")


def deviation(step: Callable[[Tensor], Tensor], u: Tensor, size: float) -> float:
    """|g . v - (w . step(u + s v) - w . step(u - s v)) / 2s| over its size, v and w random."""
    u = u.detach().requires_grad_()
    out = step(u)
    v, w = torch.randn_like(u), torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out * w).sum(), u)
    with torch.no_grad():
        ahead, behind = ((step(u + s * size * v) * w).sum() for s in (1, -1))
    difference = (ahead - behind) / (2 * size)
    return float(((gradient * v).sum() - difference).abs() / difference.abs())


def steppers() -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """A step and a field by the name of the equation."""
    found, numerics = {}, Numerics(substeps=3)
    for name, (equation, channels) in test_semilinear.equations().items():
        u = 0.5 * test_semilinear.smooth(equation.grid, channels, b=1)
        found[name] = equation, u
    for name in ("fitzhugh-nagumo", "fitzhugh-nagumo mixed", "fisher"):
        equation = test_fitzhugh_nagumo.equations()[name]
        u = test_fitzhugh_nagumo.cosines(equation.grid, len(equation.fields), b=1)
        found[f"{name}, walls"] = equation, u
    plane = Grid.box((10, 9), boundary="periodic")
    walls = Grid((Axis("x", 10, boundary=OPEN), Axis("y", 9)))
    u, state = torch.randn(1, 1, 10, 9).double(), torch.randn(1, 2, 10, 9).double()
    found["swift-hohenberg"] = SwiftHohenberg(plane, dt=0.1, wavenumber=6.0), u
    found["advection"] = Advection(plane, velocity=(1.0, -0.5), dt=0.1), u
    found["advection, volumes"] = (
        FiniteVolumeAdvection(plane, velocity=(1.0, -0.5), dt=0.05, numerics=numerics),
        u,
    )
    source = test_heat.circles(plane)
    found["heat"] = Heat(plane, diffusivity=0.1, dt=0.1, source=source, substeps=2), state
    found["wave"] = Wave(plane, speed=1.0, dt=0.1), state
    found["leapfrog"] = LeapfrogWave(walls, speed=1.0, dt=0.1, substeps=3, sponge=0.3), state
    gas = Euler(plane, dt=0.02, numerics=numerics)
    conserved = gas.to_conserved(test_compressible.positive(1, 4, 10, 9))
    found["euler"] = gas, conserved
    found["gas"] = (
        CompressibleNavierStokes(plane, viscosity=0.05, dt=0.02, numerics=Numerics(substeps=9)),
        conserved,
    )
    water = ShallowWater(plane, dt=0.02, bottom=0.1 * torch.rand(10, 9), numerics=numerics)
    found["shallow water"] = water, conserved[:, :3]
    return found


def maps() -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """The same for what is solved at once: in f, a, k or both."""
    box, nodes = Grid.box((12, 10)), Grid.box((12, 10), boundary="open", points="nodes")
    a = test_embedded.uniform(1, 1, 12, 10)
    cells = test_embedded.discs(box, (2, 1))
    embedded = EmbeddedPoisson(box, tolerance=1e-13)
    axis, line = Chebyshev(12), test_embedded.uniform(1, 1, 12)
    return {
        "poisson": (Poisson(box), a),
        "darcy": (Darcy(box, tolerance=1e-13), a),
        "embedded": (lambda a: embedded.solve(cells, a)[0], a),
        "helmholtz": (Helmholtz(nodes), 3 * a),
        "chebyshev": (lambda f: Collocation(axis).solve(f, a=1 + f.square()), line),
    }


def all_of_them() -> Figures:
    for what, found, size in (("steppers", steppers(), 1e-7), ("steady maps", maps(), 1e-5)):
        sizes = {name: deviation(*pair, size) for name, pair in found.items()}
        worst = max(sizes, key=sizes.get)
        text = f"largest deviation of {len(sizes)} {what}: {worst}"
        yield Figure("Gradients", "autograd, adjoint solves", text, sizes[worst], 1e-6)


MEASUREMENTS = (all_of_them,)
