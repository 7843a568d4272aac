"""PDEBench, PDEArena, neuraloperator's HDF5 and arrays of trajectories: every number where it
belongs, every departure named.
"""

import re
from copy import deepcopy
from unittest.mock import patch

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets import (
    NeuralopHDF5Source,
    PDEArenaTrajectories,
    PDEBenchPairs,
    PDEBenchTrajectories,
    TrajectoryArray,
    Windows,
)
from datasets.store import file_sha256, fingerprint
from datasets.uniform import axis, median_step, times
from solvers.grid import Axis, Grid
from tests import foreign_layouts as layouts
from tests.foreign_layouts import damaged, replaced


def stored(path, name, *index) -> torch.Tensor:
    with h5py.File(path, locking=False) as file:
        return torch.from_numpy(file[name][index].astype("f4"))


def test_an_equation_in_one_dimension(tmp_path):
    """The last time coordinate, one too many, is not a frame; attributes that are numbers are
    parameters, others are provenance.
    """
    path = layouts.equation(tmp_path / "a.hdf5", Nu=0.01)
    whole = PDEBenchTrajectories([path])
    meta = whole.metadata
    assert meta.grid == Grid((Axis("x", 16, boundary=("periodic", "periodic")),))
    assert (meta.dt, meta.num_frames, len(whole)) == (0.1, 8, 6)
    assert meta.parameters == ("Nu", "beta") and whole.parameters(5).tolist() == pytest.approx(
        [0.01, 0.4]
    )
    assert meta.provenance["comment"] == "made by hand"
    assert torch.equal(whole.read(4, slice(1, 6, 2))[:, 0], stored(path, "tensor", 4)[1:6:2])
    assert whole.times(0) == pytest.approx(0.1 * np.arange(8), abs=1e-7)
    outflow = PDEBenchTrajectories([path], boundary="open").metadata.grid.axes[0]
    assert outflow.boundary == ("open", "open")


@pytest.mark.parametrize("space", [(16,), (8, 10), (4, 5, 6)])
def test_flow_in_one_to_three_dimensions(tmp_path, space):
    path = layouts.flow(tmp_path / "a.hdf5", space=space)
    whole = PDEBenchTrajectories([path])
    names = ["density", "pressure", *("Vx", "Vy", "Vz")[: len(space)]]
    assert [f.name for f in whole.metadata.target_fields] == names
    assert whole.metadata.parameters == ("M", "eta", "zeta")
    u = whole.read(2, slice(3, 5))
    assert u.shape == (2, len(names), *space)
    for channel, name in enumerate(names):
        assert torch.equal(u[:, channel], stored(path, name, 2)[3:5])


def test_darcy_is_a_steady_map(tmp_path):
    path = layouts.darcy(tmp_path / "a.hdf5", x=8, y=10)
    batch = (source := PDEBenchPairs([path])).__getitems__([4, 0])
    assert source.metadata.describe() == "nu -> u on 8 x 10"
    assert torch.equal(batch.input[:, 0], stored(path, "nu")[[4, 0]])
    assert torch.equal(batch.target, stored(path, "tensor")[[4, 0]])
    assert batch.parameters.tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match="holds a steady map; read it as PDEBenchPairs"):
        PDEBenchTrajectories([path])
    with pytest.raises(ValueError, match="holds trajectories; read it as PDEBenchTraj"):
        PDEBenchPairs([layouts.equation(tmp_path / "b.hdf5")])


@pytest.mark.parametrize("space, c", [((16,), 1), ((8, 10), 2)])
def test_a_group_for_each_seed(tmp_path, space, c):
    """What differs between the configurations is a parameter, but not the seed itself."""
    path = layouts.seeds(tmp_path / "a.h5", space=space, c=c)
    whole = PDEBenchTrajectories([path])
    assert whole.metadata.parameters == ("sim.k",)
    assert whole.parameters(3).item() == pytest.approx(0.008)
    assert whole.metadata.provenance["sim.Du"] == "0.001"
    assert whole.metadata.grid.axes[0] == Axis("x", space[0], -1.0, 1.0, ("neumann", "neumann"))
    expected = stored(path, "0003/data")[1:3].movedim(-1, 1)
    assert torch.equal(whole.read(3, slice(1, 3)), expected)


def test_many_groups_keep_few_datasets_open(tmp_path):
    path = layouts.seeds(tmp_path / "a.h5", t=2, space=(4,), c=1)
    whole = PDEBenchTrajectories([path])
    with patch("datasets.open_files.MAX_DATASETS", 4):
        for index in range(len(whole)):
            whole.read(index, slice(0, 1))
    assert list(whole._files.get(str(path), None)._datasets) == [
        f"{k:04d}/data" for k in range(2, 6)
    ]


def test_incompressible_flow(tmp_path):
    path = layouts.incompressible(tmp_path / "a.h5", y=10)
    whole = PDEBenchTrajectories([path])
    assert [f.components for f in whole.metadata.target_fields] == [2, 1]
    u = whole.read(5, slice(2, 5))
    assert torch.equal(u[:, :2], stored(path, "velocity", 5)[2:5].movedim(-1, 1))
    assert torch.equal(u[:, 2], stored(path, "particles", 5)[2:5, ..., 0])
    assert torch.equal(whole.constants(5), stored(path, "force", 5).movedim(-1, 0))
    assert (whole.metadata.dt, whole.metadata.parameters) == (0.25, ())
    assert whole.metadata.grid == Grid.box((8, 10))


def test_smoke_is_cast_once(tmp_path):
    path = layouts.smoke(tmp_path / "a.h5")
    whole = PDEArenaTrajectories([path], "train")
    assert whole.metadata.grid.axes[1] == Axis("y", 8, 0.0, 32.0)
    assert (whole.metadata.dt, whole.metadata.parameters) == (1.5, ("buo_y",))
    assert whole.times(0).tolist() == [18.0, 19.5, 21.0, 22.5, 24.0]
    u = whole.read(3, slice(0, 5))
    assert u.dtype == torch.float32
    for channel, name in enumerate(("u", "vx", "vy")):
        assert torch.equal(u[:, channel], stored(path, f"train/{name}", 3))
    wide = PDEArenaTrajectories([path], "train", dtype=torch.float64).read(3, slice(0, 5))
    with h5py.File(path, locking=False) as file:
        assert np.array_equal(wide[:, 1].numpy(), file["train/vx"][3])


def test_steps_that_differ_are_told(tmp_path):
    """Kuramoto-Sivashinsky on domains of different lengths: the unit interval, dx a parameter."""
    whole = PDEArenaTrajectories([layouts.series(tmp_path / "a.h5")], "train")
    assert whole.metadata.parameters == ("dx", "v")
    assert whole.metadata.grid.axes[0] == Axis("x", 16, boundary=("periodic",) * 2, points="left")
    assert whole.times(3) == pytest.approx(0.23 * np.arange(7))
    assert Windows(whole).leads
    alike = PDEArenaTrajectories([layouts.series(tmp_path / "b.h5", same=True)], "train")
    assert alike.metadata.parameters == ("v",) and alike.metadata.grid.axes[0].upper == 4.0
    assert not Windows(alike).leads


@pytest.mark.parametrize("c", [None, 2])
def test_pairs_are_read_lazily(tmp_path, c):
    path = layouts.pairs(tmp_path / "a.h5", space=(8, 10), c=c)
    source = NeuralopHDF5Source([path, layouts.pairs(tmp_path / "b.h5", n=2, space=(8, 10), c=c)])
    assert len(source) == 8
    batch = source.__getitems__([5, 7])
    y = torch.stack([stored(path, "y", 5), stored(tmp_path / "b.h5", "y", 1)])
    assert torch.equal(batch.target, y if c else y[:, None])
    assert torch.equal(batch.input[0, 0], stored(path, "x", 5))
    assert source.metadata.grid == Grid.box((8, 10), points="left")


def test_an_array_of_trajectories(tmp_path):
    array = layouts.smooth(4, 6, 2, 8, 5, dtype="f8")
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array[:, :, 0])
    options = {"ndim": 2, "dt": 0.5, "boundary": "periodic", "points": "left"}
    whole = TrajectoryArray(tmp_path / "a.npy", **options)
    assert whole.metadata.grid == Grid.box((8, 5), boundary="periodic", points="left")
    expected = torch.from_numpy(array[3, 1:5:2]).float()
    assert torch.equal(whole.read(3, slice(1, 5, 2)), expected)
    plain = TrajectoryArray(tmp_path / "b.npy", **options)
    assert torch.equal(plain.read(3, slice(1, 5, 2)), expected[:, :1])
    assert whole.times(0).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    whole.array  # noqa: B018
    assert deepcopy(whole)._array is None
    with pytest.raises(IndexError, match="trajectory 4 of 4"):
        whole.read(4, slice(0, 1))


@pytest.mark.parametrize(
    "array, options, complaint",
    [
        (np.ones((2, 3)), {}, r"expected \[n, t, \*space\] .*found shape \(2, 3\)"),
        (np.ones((2, 3, 4, 4, 4, 4)), {}, "found shape"),
        (np.ones((2, 3, 8, 8, 2)), {}, "looks channel-last.*np.moveaxis"),
        (np.ones((2, 3, 8, 8), dtype="c8"), {}, "complex64 is not supported"),
        (np.ones((2, 3, 8, 8)), {"dt": 0.0}, "dt=0.0 must be above 0"),
        (np.ones((2, 3, 8, 8)), {"ndim": 4}, "ndim=4"),
        (np.array([{}]), {}, "not a .npy file of numbers"),
    ],
)
def test_arrays_that_are_no_trajectories_are_refused(tmp_path, array, options, complaint):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    usual = {"ndim": 2, "dt": 1.0, "boundary": "open", "points": "cells"}
    with pytest.raises(ValueError, match=complaint):
        TrajectoryArray(tmp_path / "a.npy", **(usual | options))


def test_nan_in_an_array_names_file_and_frame(tmp_path):
    array = layouts.smooth(3, 6, 8)
    array[1, 4] = np.nan
    np.save(tmp_path / "a.npy", array)
    whole = TrajectoryArray(tmp_path / "a.npy", ndim=1, dt=1.0, boundary="open", points="cells")
    whole.read(1, slice(0, 4))
    with pytest.raises(ValueError, match="a.npy, trajectory 1.*from 2 on: sample 2, field 'u'"):
        whole.read(1, slice(2, 6))


def changed(**attributes):
    return lambda file: file["0002"].attrs.update(attributes)


READERS = {
    "arena": lambda path: PDEArenaTrajectories([path], "train"),
    "pairs": lambda path: NeuralopHDF5Source([path]),
}


@pytest.mark.parametrize(
    "make, damage, complaint",
    [
        ("equation", lambda f: f.__delitem__("tensor"), "none of PDEBench's layouts"),
        ("equation", lambda f: f.__delitem__("x-coordinate"), "x-coordinate is missing; expected"),
        ("equation", lambda f: f.__delitem__("t-coordinate"), "t-coordinate is missing; expected"),
        (
            "equation",
            replaced("t-coordinate", lambda t: t[:-2]),
            "t-coordinate has 7 frames along its axis t; expected 8 as in tensor",
        ),
        ("equation", replaced("tensor", lambda u: u[0]), r"tensor has shape \(8, 16\); expected"),
        ("equation", replaced("tensor", lambda u: u[:0]), "it holds no numbers"),
        ("equation", replaced("tensor", lambda u: u + 0j), "tensor holds complex64; expected real"),
        ("equation", replaced("x-coordinate", lambda x: x**2), "x-coordinate: expected equal dist"),
        ("equation", replaced("x-coordinate", lambda x: x * np.nan), "must be finite and increase"),
        ("equation", replaced("t-coordinate", lambda t: -t), "times must be finite and ascend"),
        ("flow", lambda f: f.__delitem__("Vy"), r"density has shape .*; expected \[trajectory, t"),
        ("flow", lambda f: f.__delitem__("pressure"), "pressure is missing"),
        (
            "flow",
            replaced("Vx", lambda v: v[:, :, :4]),
            "Vx has 4 points along its axis x; expected 8 as in density",
        ),
        ("darcy", replaced("tensor", lambda u: np.tile(u, (1, 2, 1, 1))), "tensor has 2 frames"),
        ("seeds", replaced("0002/data", lambda u: u[:4]), "0002/data has 4 frames along"),
        ("seeds", replaced("0002/grid/x", lambda x: 2 * x), "0002/grid/x runs from -1.75 to 1.75"),
        ("seeds", lambda f: f.__delitem__("0002/grid/t"), "0002/grid/t is missing"),
        ("seeds", changed(config="{"), r"the config of 0002 is not YAML [^\n]*$"),
        ("seeds", changed(config="!!python/name:os.system {}"), "the config of 0002 is not YAML"),
        ("seeds", changed(config="a: &a {b: 1}\nc: *a"), "has aliases or more than 65536"),
        (
            "incompressible",
            replaced("velocity", lambda v: np.tile(v, 2)),
            "velocity has 4 components along its axis i; expected 2",
        ),
        ("incompressible", replaced("t", lambda t: t[0]), r"t has shape \(5,\); expected \[traj"),
        ("smoke", lambda f: f.move("train", "valid"), "no group train with u, vx and vy"),
        ("smoke", lambda f: f.__delitem__("train/vy"), "train/vy is missing"),
        (
            "smoke",
            replaced("train/x", lambda x: x * np.arange(1, 7)[:, None]),
            "train/x differs between trajectories by up to 150; expected one grid",
        ),
        ("series", replaced("train/dx", lambda x: -x), "train/dx must be finite and above 0"),
        ("series", lambda f: f.__delitem__("train/dt"), "train/dt is missing"),
        ("pairs", lambda f: f.__delitem__("y"), "y is missing; expected"),
        ("pairs", replaced("y", lambda y: y[:5]), "y has 5 trajectories along its axis n; exp"),
        ("pairs", replaced("y", lambda y: y[..., None, None]), r"y has shape \(6, 8, 8, 1, 1\)"),
    ],
)
def test_every_departure_from_a_layout_is_named(tmp_path, make, damage, complaint):
    path = damaged(getattr(layouts, make)(tmp_path / "made.h5"), damage)
    kind = {"smoke": "arena", "series": "arena", "pairs": "pairs"}.get(make)
    if kind is not None:
        reader = READERS[kind]
    else:
        reader = PDEBenchPairs if make == "darcy" else PDEBenchTrajectories
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)}.*{complaint}"):
        reader(path) if kind else reader([path])


def test_nan_names_file_dataset_row_and_frame(tmp_path):
    def spoil(u):
        u[3, 4, 2] = np.nan
        return u

    path = damaged(layouts.flow(tmp_path / "a.h5"), replaced("pressure", spoil))
    whole = PDEBenchTrajectories([path])
    whole.read(3, slice(0, 4))
    expected = "a.h5: pressure, row 3, frame 4: expected finite numbers .*found NaN"
    with pytest.raises(ValueError, match=expected):
        whole.read(3, slice(2, 5, 2))


def test_a_truncated_file_is_named(tmp_path):
    path = layouts.flow(tmp_path / "a.h5", t=40)
    whole = PDEBenchTrajectories([path])
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(ValueError, match="a.h5: not a readable HDF5 file .*truncated"):
        PDEBenchTrajectories([path])
    with pytest.raises(ValueError, match="a.h5: not a readable HDF5 file"):
        whole.read(5, slice(30, 40))
    with pytest.raises(ValueError, match="no files to read"):
        PDEBenchTrajectories([])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_read_the_same(tmp_path, start):
    source = Windows(PDEBenchTrajectories([layouts.flow(tmp_path / "a.h5")]))
    source.__getitems__([0])
    options = {"batch_sampler": [[0, 10], [7, 3], [5]], "collate_fn": lambda batch: batch}
    if start == "spawn":
        options["collate_fn"] = tuple
    expected = list(DataLoader(source, **options))
    loader = DataLoader(source, **options, num_workers=1, multiprocessing_context=start)
    for ours, theirs in zip(expected, loader, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_files_are_inspected_once_and_few_stay_open(tmp_path):
    paths = [layouts.equation(tmp_path / f"{k}.h5", n=2) for k in range(4)]
    whole = PDEBenchTrajectories(paths, max_open=2)
    with patch("datasets.hdf5.inspect") as inspected:
        for _ in range(2):
            for index in range(len(whole)):
                whole.read(index, slice(0, 1))
        assert inspected.call_count == 4 and len(whole._files) == 2
    with pytest.raises(IndexError, match="8 of 8"):
        whole.read(8, slice(0, 1))


def test_links_out_of_a_file_are_refused(tmp_path):
    path = layouts.equation(tmp_path / "a.h5")
    layouts.equation(tmp_path / "secret.h5")

    def link(file):
        del file["tensor"]
        file["tensor"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "tensor")

    with pytest.raises(ValueError, match="/tensor is a soft or external link; refused"):
        PDEBenchTrajectories([damaged(path, link)])


@pytest.mark.parametrize(
    "expected",
    [
        Axis("x", 100, 0.0, 1.0, ("open", "open"), "cells"),
        Axis("x", 7, -3.0, 4.0, ("neumann", "open"), "cells"),
        Axis("x", 33, 0.25, 0.5, ("open", "open"), "nodes"),
        Axis("x", 64, 0.0, 6.283185307179586, ("periodic", "periodic"), "left"),
        Axis("x", 64, 10.0, 12.0, ("periodic", "periodic"), "left"),
    ],
)
def test_an_axis_is_known_by_its_points(expected):
    points = expected.coordinates().float().numpy()
    found = axis("x", points, expected.boundary, "a.h5")
    assert (found.size, found.boundary, found.points) == (
        expected.size,
        expected.boundary,
        expected.points,
    )
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), rel=3e-7)


def test_times_are_equidistant_up_to_rounding():
    long = (0.01 * np.arange(5000)).astype("f4")
    assert np.abs(np.diff(long.astype("f8")) - 0.01).max() > 1e-4 * 0.01
    found = times(long, "t")
    assert np.diff(found) == pytest.approx(np.diff(found).mean(), rel=1e-9)
    assert median_step(found) == 0.01
    uneven = np.array([0.0, 1.0, 3.0])
    assert times(uneven, "t").tolist() == uneven.tolist()
    assert times(np.stack([uneven, np.arange(3.0)]), "t").tolist()[1] == [0.0, 1.0, 2.0]
    assert median_step(np.array([1.0])) is None


def test_a_fingerprint_tells_large_files_apart(tmp_path):
    """Small files are hashed as a whole."""
    for name, size in (("small", 1000), ("large", 70 * 2**20)):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        first = fingerprint(path)
        assert fingerprint(path) == first
        with open(path, "r+b") as file:
            file.seek(size - 10)
            file.write(b"changed")
        assert fingerprint(path) != first
    assert fingerprint(tmp_path / "small") == file_sha256(tmp_path / "small")
