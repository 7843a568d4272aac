"""Symmetries of the square: pairs stay pairs, and what has no symmetry is refused."""

import pytest
import torch

from datasets.schema import Batch, Field, Metadata
from sciml.tasks import SquareSymmetry
from solvers import Darcy
from solvers.grid import Axis, Grid


def metadata(grid, components=1):
    return Metadata("darcy", (Field("a"),), (Field("u", components=components),), grid)


def test_a_mapped_pair_still_solves_the_equation():
    """All eight images of (a, u) on cell centres have residual zero, and all eight occur."""
    grid = Grid.box((12, 12))
    solver = Darcy(grid)
    torch.manual_seed(0)
    a = torch.rand(1, 1, 12, 12, dtype=torch.float64) + 0.5
    batch = Batch(a, solver(a), torch.zeros(1, 0), grid.mesh())
    symmetry = SquareSymmetry(reflections=True)
    symmetry.check(metadata(grid))
    images = []
    for _ in range(100):
        image = symmetry(batch)
        assert (solver(image.input) - image.target).abs().max() < 1e-8
        if not any(torch.equal(image.input, other) for other in images):
            images.append(image.input)
    assert len(images) == 8


def test_permutations_alone_without_reflections():
    a = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    batch = Batch(a, 2 * a, torch.zeros(1, 0), torch.zeros(3, 3, 3, 3))
    seen = {tuple(SquareSymmetry()(batch).target.flatten().tolist()) for _ in range(200)}
    assert len(seen) == 6 and all(values[0] == 0 for values in seen)


def test_refusals():
    with pytest.raises(ValueError, match="axes of one size"):
        SquareSymmetry().check(metadata(Grid.box((8, 9))))
    with pytest.raises(ValueError, match="axes of one size"):
        SquareSymmetry().check(metadata(Grid((Axis("x", 8), Axis("y", 8, upper=2.0)))))
    with pytest.raises(ValueError, match=r"vector fields \['u'\]"):
        SquareSymmetry().check(metadata(Grid.box((8, 8)), components=2))
    with pytest.raises(ValueError, match="points='left'"):
        SquareSymmetry(reflections=True).check(metadata(Grid.box((8, 8), points="left")))
