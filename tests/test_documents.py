"""The programs in docs/solvers.md run, and what they define does what the page says."""

import re

import pytest
import torch

from solvers import Axis, Grid, Numerics, rollout
from tests.helpers import ROOT, periodic


@pytest.fixture(scope="module")
def page():
    """The names that the blocks of the page define, in their order."""
    names = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "solvers.md").read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/solvers.md", "exec"), names)
    return names


def test_gradients_of_the_trajectory_are_there(page):
    assert page["trajectory"].shape == (1, 9, 1, 64)
    assert page["viscosity"].grad.abs() > 0 and page["u"].grad.abs().max() > 0


def test_a_cubic_equation_in_ten_lines(page):
    """The mean of Cahn-Hilliard is kept, its energy falls, its order is 4."""
    grid = periodic((48,), (1.0,))
    x = grid.mesh()[0]
    u = (0.1 + 0.4 * torch.cos(2 * torch.pi * x) + 0.1 * torch.sin(6 * torch.pi * x))[None, None]
    equation = page["CahnHilliard"](grid, dt=2e-3, substeps=40)
    states = rollout(equation, u, 10)[0, :, 0]
    assert (states.mean(1) - u.mean()).abs().max() < 1e-14
    fourier = equation.fourier
    slope = fourier.inverse(fourier.derivative(0) * fourier.transform(states))
    energy = (5e-4 * slope.square() + (1 - states.square()).square() / 4).mean(1)
    assert (energy.diff() < 0).all()
    coarse = page["CahnHilliard"](grid, dt=2e-3, substeps=10)
    found = [coarse(u), coarse.halved()(u), coarse.halved().halved()(u)]
    changes = [(a - b).norm() for a, b in zip(found, found[1:], strict=False)]
    assert torch.log2(changes[0] / changes[1]).item() == pytest.approx(4, abs=0.3)


def test_a_conservation_law_in_ten_lines(page):
    """A shock moves at the mean of its states, nothing overshoots, a smooth wave has order 2."""
    grid = Grid((Axis("x", 200, 0.0, 2.0, ("open", "open")),))
    x = grid.axes[0].coordinates()
    u = torch.where(x < 0.5, 1.0, 0.2).double()[None, None]
    after = page["InviscidBurgers"](grid, dt=1.0)(u)[0, 0]
    assert after.max() <= 1 + 1e-12 and after.min() >= 0.2 - 1e-12
    place = float(((after - 0.2) / 0.8).sum() * grid.spacing[0])
    assert place == pytest.approx(0.5 + 0.6, abs=1e-3)

    errors = []
    for n in (64, 128):
        grid = Grid.box((n,), boundary="periodic")
        x = grid.axes[0].coordinates()
        start = 1 + 0.2 * torch.sin(2 * torch.pi * x)
        y = x.clone()
        for _ in range(60):  # u(x, t) = u0(y), y = x - t u0(y)
            y = x - 0.3 * (1 + 0.2 * torch.sin(2 * torch.pi * y))
        exact = 1 + 0.2 * torch.sin(2 * torch.pi * y)
        law = page["InviscidBurgers"](grid, dt=0.3, numerics=Numerics(limiter="mc"))
        errors.append((law(start[None, None])[0, 0] - exact).abs().mean())
    assert torch.log2(errors[0] / errors[1]).item() == pytest.approx(2, abs=0.3)
