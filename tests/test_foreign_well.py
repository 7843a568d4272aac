"""The Well's files: our reader gives the numbers of its own, and names what is not as specified."""

import re

import h5py
import numpy as np
import pytest
import torch

from datasets import WellTrajectories, Windows
from solvers.grid import Axis, Grid
from tests.foreign_layouts import damaged, replaced, well


@pytest.fixture
def path(tmp_path):
    return well(tmp_path / "well.h5")


def test_every_number_is_that_of_the_wells_own_reader(tmp_path):
    """Two files; axes of size 1 are tiled back, tensors come row by row."""
    theirs = pytest.importorskip("the_well.data")
    for name in ("a.h5", "b.hdf5"):
        well(tmp_path / name, kept=(1,))
    reference = theirs.WellDataset(path=str(tmp_path), n_steps_input=2, n_steps_output=1)
    ours = Windows(WellTrajectories(tmp_path), history=2, parameters=False)
    assert len(ours) == len(reference) == 2 * 3 * 4
    batch = ours.__getitems__(range(len(ours)))
    for index, (input, target, parameters) in enumerate(zip(*batch[:3], strict=True)):
        sample = reference[index]
        moving, constant = input[:18].unflatten(0, (2, 9)), input[18:]
        assert torch.equal(moving.movedim(1, -1), sample["input_fields"])
        assert torch.equal(target.movedim(0, -1), sample["output_fields"][0])
        assert torch.equal(constant.movedim(0, -1), sample["constant_fields"])
        assert torch.equal(parameters[:2], sample["constant_scalars"])
    space = batch.coordinates.movedim(0, -1)
    assert torch.allclose(space, sample["space_grid"], atol=1e-6)
    assert sample["boundary_conditions"].tolist() == [[2, 2], [0, 0]]


def test_what_the_file_says_is_what_the_metadata_say(path):
    whole = WellTrajectories(path)
    meta = whole.metadata
    assert meta.grid == Grid(
        (
            Axis("x", 8, 0.0, 1.0, ("periodic", "periodic"), "left"),
            Axis("y", 6, -1.0, 1.0, ("dirichlet", "dirichlet"), "cells"),
        )
    )
    assert [f.name for f in meta.input_fields] == ["floor", "wind"]
    assert [f.components for f in meta.target_fields] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert meta.parameters == ("gravity", "viscosity", "Re")
    assert (meta.dt, meta.num_frames, len(whole)) == (0.1, 6, 3)
    assert whole.times(2) == pytest.approx(0.5 + 0.1 * np.arange(6), abs=1e-7)
    with h5py.File(path) as file:
        density = torch.from_numpy(file["t0_fields/density"][1, 1:6:2])
    assert torch.equal(whole.read(1, slice(1, 6, 2))[:, 1], density)
    slim = WellTrajectories(path, without=["stress", "inflow", "clock", "gravity", "Re"])
    assert [f.name for f in slim.metadata.target_fields] == ["density", "velocity"]
    assert slim.metadata.parameters == ("viscosity",)


def test_axes_that_do_not_vary_may_be_absent(path, tmp_path):
    """As the specification has it; the_well 1.2.0's own reader cannot tile these."""
    absent, single = WellTrajectories(path), WellTrajectories(well(tmp_path / "k.h5", kept=(1,)))
    assert torch.equal(absent.read(2, slice(1, 4)), single.read(2, slice(1, 4)))
    assert torch.equal(absent.constants(2), single.constants(2))
    assert absent.read(0, slice(0, 1))[0, 2].std(dim=0).max() == 0


def test_times_may_differ_between_trajectories(path):
    def by_sample(time):
        return np.stack([time, 2 * time, 3 * time])

    damaged(path, replaced("dimensions/time", by_sample))
    whole = WellTrajectories(path)
    assert whole.times(1) == pytest.approx(2 * (0.5 + 0.1 * np.arange(6)), abs=1e-6)
    assert whole.metadata.dt == pytest.approx(0.2)
    assert Windows(whole).leads


def test_sides(path):
    """A wall on one side alone, a Neumann wall by its name, nothing said: open."""

    def change(file):
        sides = file["boundary_conditions"]
        sides.move("y_wall", "y_wall_neumann")
        sides["y_wall_neumann/mask"][-1] = False
        del sides["x_periodic"]

    x, y = WellTrajectories(damaged(path, change)).metadata.grid.axes
    assert (x.boundary, y.boundary) == (("open", "open"), ("neumann", "open"))
    assert x.points == "nodes"


def flags(name: str, **values):
    return lambda f: f[name].attrs.update(values)


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda f: f.attrs.update(grid_type="spherical"), "grid_type is 'spherical'; only cart"),
        (lambda f: f.__delitem__("scalars"), "group scalars is missing"),
        (lambda f: f.__delitem__("dimensions/y"), "dimensions/y is missing"),
        (lambda f: f["dimensions"].attrs.update(spatial_dims=[]), r"spatial_dims \[\]"),
        (lambda f: f.__delitem__("t0_fields/density"), "t0_fields/density is listed"),
        (lambda f: f.__delitem__("scalars/gravity"), "scalars/gravity is listed"),
        (lambda f: f.attrs.__delitem__("n_trajectories"), "n_trajectories is missing"),
        (
            lambda f: f.attrs.update(n_trajectories=4),
            "density has 3 trajectories along its axis n; expected 4 as in n_trajectories",
        ),
        (flags("t0_fields/density", time_varying=False), r"density has shape \(3, 6, 8, 6\); exp"),
        (flags("t0_fields/inflow", dim_varying=[True]), r"inflow has dim_varying \[True\]"),
        (
            lambda f: f["t1_fields/wind"].attrs.__delitem__("time_varying"),
            "t1_fields/wind has no attribute time_varying",
        ),
        (
            lambda f: (replaced("scalars/gravity", lambda g: np.full(6, g))(f),
                       f["scalars/gravity"].attrs.update(time_varying=True)),
            r"scalars/gravity varies in time; .*without=\[gravity\]",
        ),
        (replaced("dimensions/x", lambda x: x**2), "dimensions/x: expected equal distances"),
        (replaced("dimensions/y", lambda y: y[::-1]), "dimensions/y: coordinates must be finite"),
        (replaced("dimensions/time", lambda t: t[::-1]), "dimensions/time: times must be finite"),
        (replaced("dimensions/time", lambda t: t[:5]), "has 6 frames along its axis t; expected 5"),
        (replaced("t0_fields/density", lambda u: u.astype("c8")), "density holds complex64; exp"),
        (
            flags("boundary_conditions/x_periodic", bc_type="MIRROR"),
            "x_periodic has bc_type 'MIRROR'; expected PERIODIC, WALL, OPEN",
        ),
        (replaced("boundary_conditions/y_wall/mask", lambda m: m[:, None]), "one axis for each of"),
        (
            replaced("boundary_conditions/x_periodic/mask", lambda m: np.arange(8) == 0),
            "periodic on both sides",
        ),
        (
            lambda f: [f[g].attrs.update(field_names=[]) for g in ("t1_fields", "t2_fields")]
            + [f["t0_fields"].attrs.update(field_names=["floor"])],
            "no field varies in time",
        ),
        (flags("dimensions/x", time_varying=True), "dimensions/x varies in time"),
    ],
)  # fmt: skip
def test_what_is_not_as_specified_is_named(path, damage, complaint):
    with pytest.raises(ValueError, match=re.escape(path.name) + ".*" + complaint):
        WellTrajectories(damaged(path, damage))


def test_folders_without_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="data/train: no .h5 or .hdf5 file here"):
        WellTrajectories(tmp_path, "train")
    with pytest.raises(ValueError, match="split='dev' is not one of"):
        WellTrajectories(tmp_path, "dev")


def test_files_that_differ_are_not_mixed(tmp_path):
    well(tmp_path / "a.h5")
    well(tmp_path / "b.h5", x=10)
    with pytest.raises(ValueError, match=r"b.h5: expected the points of a.h5, \(8, 6\), found"):
        WellTrajectories(tmp_path)
    damaged(well(tmp_path / "b.h5"), replaced("dimensions/y", lambda y: 2 * y))
    with pytest.raises(ValueError, match="axis y runs from -2 to 2, in a.h5 from -1 to 1"):
        WellTrajectories(tmp_path)
