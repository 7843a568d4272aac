import pytest
import torch

from solvers import Axis, Grid


def test_cells_lie_half_a_spacing_inside():
    axis = Axis("x", 4, lower=-1.0, upper=1.0)
    assert axis.spacing == 0.5
    assert axis.coordinates().tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_left_has_the_lower_end_only():
    axis = Axis("x", 4, boundary=("periodic", "periodic"), points="left")
    assert axis.coordinates().tolist() == [0.0, 0.25, 0.5, 0.75]
    assert axis.is_periodic


def test_nodes_have_both_ends():
    axis = Axis("x", 5, lower=2.0, upper=3.0, points="nodes")
    assert axis.spacing == 0.25
    assert axis.coordinates().tolist() == [2.0, 2.25, 2.5, 2.75, 3.0]


def test_coordinates_are_rounded_once():
    x = Axis("x", 421).coordinates(torch.float32)
    assert x.dtype == torch.float32
    torch.testing.assert_close(
        x, ((torch.arange(421).double() + 0.5) / 421).float(), rtol=0, atol=0
    )


def test_mesh_is_indexed_by_x_then_y():
    grid = Grid((Axis("x", 2, upper=2.0), Axis("y", 3)))
    x, y = grid.mesh()
    assert grid.shape == (2, 3) and grid.ndim == 2
    assert x.shape == y.shape == (2, 3)
    assert x[:, 0].tolist() == [0.5, 1.5]
    torch.testing.assert_close(y[0], torch.tensor([1, 3, 5], dtype=torch.float64) / 6)


def test_resized_keeps_domain_and_sides():
    grid = Grid((Axis("x", 8, lower=-1.0), Axis("y", 4, boundary=("neumann", "open"))))
    finer = grid.resized((16, 9))
    assert finer.shape == (16, 9)
    assert finer.boundary == grid.boundary
    assert finer.axes[0].lower == -1.0
    assert finer.spacing == (2 / 16, 1 / 9)


def test_box_is_the_unit_cube():
    grid = Grid.box((4, 5, 6), boundary="periodic", points="left")
    assert [axis.name for axis in grid.axes] == ["x", "y", "z"]
    assert all(axis.length == 1.0 and axis.is_periodic for axis in grid.axes)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"points": "faces"}, "points='faces' is not one of"),
        ({"size": 0}, "size=0 is too small"),
        ({"size": 1, "points": "nodes"}, "size=1 is too small"),
        ({"lower": 1.0}, "lower=1.0 must be below upper=1.0"),
        ({"boundary": ("dirichlet", "robin")}, "must be two of"),
        ({"boundary": ("dirichlet",)}, "must be two of"),
        ({"boundary": ("periodic", "dirichlet")}, "periodic on both sides"),
        ({"boundary": ("periodic", "periodic"), "points": "nodes"}, "stores no point twice"),
    ],
)
def test_axis_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Axis(**{"name": "x", "size": 4, **arguments})


def test_grid_errors():
    axis = Axis("x", 4)
    with pytest.raises(ValueError, match="1 to 3 axes, got 4"):
        Grid((axis,) * 4)
    with pytest.raises(ValueError, match="does not fit a grid with 1 axes"):
        Grid((axis,)).resized((2, 2))
