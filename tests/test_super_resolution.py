"""Errors on grids finer than that of training: split at what it resolves, for known operators."""

import math

import numpy as np
import pytest
import torch

from datasets.schema import Batch, Field, Metadata
from sciml.evaluation.evaluate import evaluate
from sciml.evaluation.field_errors import SPLIT, FieldErrors
from sciml.evaluation.metrics import relative_l2
from sciml.evaluation.spectrum import resolved_split
from solvers.grid import Axis, Grid
from tests.helpers import periodic

FINE = {
    "periodic": periodic((24,), (1.0,)),
    "walls": Grid.box((24,)),
    "mixed": Grid(
        (
            Axis("x", 15, boundary=("periodic", "periodic"), points="left"),
            Axis("y", 18, upper=2.0, boundary=("neumann", "open")),
        )
    ),
    "3d": periodic((8, 6, 10), (1.0, 2.0, 1.0)),
}
COARSE = {"periodic": (12,), "walls": (12,), "mixed": (9, 8), "3d": (4, 6, 5)}


def fields(grid: Grid, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 2, *grid.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", FINE)
def test_the_squares_of_both_parts_are_the_square_of_the_error(name):
    fine = FINE[name]
    u, v = fields(fine, 6).split(3)
    parts = resolved_split(u, v, fine, fine.resized(COARSE[name]))
    total = parts[..., :2].square().sum(dim=-1).sqrt()
    torch.testing.assert_close(total, relative_l2(u, v))
    assert (parts > 0).all() and (parts[..., 2] < 1).all()


@pytest.mark.parametrize("points", ["left", "cells"])
def test_waves_lie_on_the_side_of_the_grid_that_holds_them(points):
    """Of 24 points, trained on 12: |k| = 5 is held, 6 is not: cos(6 x) and sin(6 x) look alike."""
    fine = periodic((24,), (1.0,), points)
    x = 2 * math.pi * fine.axes[0].coordinates()
    truth = (1 + 2 * torch.cos(3 * x) + 0.5 * torch.sin(7 * x))[None, None]
    size = math.sqrt(1 + 2 + 0.125)
    for k, side in [(0, 0), (5, 0), (6, 1), (11, 1)]:
        wrong = 0.1 * torch.cos(k * x) / torch.cos(k * x).square().mean().sqrt()
        parts = resolved_split(truth + wrong, truth, fine, fine.resized((12,)))[0, 0]
        expected = torch.zeros(3, dtype=torch.float64)
        expected[side], expected[2] = 0.1 / size, math.sqrt(0.125) / size
        torch.testing.assert_close(parts, expected, atol=1e-12, rtol=1e-12)


class Samples:
    """u = a, on any grid (`Source`)."""

    def __init__(self, grid: Grid):
        field = (Field("u"), Field("v"))
        self.metadata = Metadata("copies", field, field, grid)
        self.a = fields(grid)

    def __len__(self):
        return len(self.a)

    def __getitems__(self, indices):
        a = self.a[list(indices)]
        return Batch(a, a, torch.empty(len(a), 0), self.metadata.grid.mesh())


def low_pass(u: torch.Tensor, n: int) -> torch.Tensor:
    """What a model knows that was trained on n points: |k| < n / 2."""
    u_hat = torch.fft.rfft(u)
    u_hat[..., math.ceil(n / 2) :] = 0
    return torch.fft.irfft(u_hat, n=u.shape[-1])


def test_an_operator_that_is_right_on_its_own_grid():
    """It has no resolved error, and beyond it misses just what the truth has there."""
    source, trained = Samples(FINE["periodic"]), FINE["periodic"].resized((12,))
    options = {"prefix": "test@24", "batch_size": 2, "like": torch.zeros((), dtype=torch.float64)}
    figures, _ = evaluate(lambda a: low_pass(a, 12), source, trained=trained, **options)
    missing = (source.a - low_pass(source.a, 12)).norm(dim=2) / source.a.norm(dim=2)
    for c, name in enumerate("uv"):
        expected = missing[:, c].mean().item()
        assert figures[f"test@24/relative_l2_resolved/{name}"] < 1e-12
        for key in ("relative_l2_beyond", "truth_beyond", "relative_l2"):
            assert figures[f"test@24/{key}/{name}"] == pytest.approx(expected, rel=1e-10)
    exact, _ = evaluate(lambda a: a.clone(), source, trained=trained, **options)
    assert exact["test@24/relative_l2_beyond"] == 0 < exact["test@24/truth_beyond"]


@pytest.mark.parametrize("shape", [(24,), (30,)])
def test_grids_that_are_not_finer_have_no_split(shape):
    grid = FINE["periodic"]
    errors = FieldErrors(("u", "v"), grid, grid.resized(shape))
    errors.update(fields(grid), fields(grid) + 1, torch.arange(3))
    figures = errors.summary("test")
    assert not any(f"test/{key}" in figures for key in SPLIT)


def test_a_finer_axis_is_enough():
    grid = FINE["mixed"]
    errors = FieldErrors(("u", "v"), grid, grid.resized((15, 9)))
    errors.update(fields(grid), fields(grid) + 1, torch.arange(3))
    figures = errors.summary("test")
    assert all(np.isfinite(figures[f"test/{key}"]) for key in SPLIT)
