"""Our data sets as Zarr: xarray reads the numbers, with dimensions, coordinates and units."""

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from datasets import ShardedSource, ShardedTrajectories
from datasets.convert import convert
from datasets.export import export, main
from datasets.schema import SPLITS
from tests import foreign_layouts as layouts
from tests.tiny_recipe import make_tiny

EXTRAS = pytest.mark.slow  # only for what it needs: `make test-slow` installs the extras


@EXTRAS
def test_trajectories(tmp_path):
    """A vector in time, a constant vector, an axis with walls."""
    pytest.importorskip("zarr")
    xarray = pytest.importorskip("xarray")
    path = layouts.incompressible(tmp_path / "a.h5", n=10, y=6)
    folder = convert(path, tmp_path, progress=False)
    store = export(folder, tmp_path / "a.zarr")
    for split in SPLITS:
        ours = ShardedTrajectories(folder, split)
        with xarray.open_zarr(store, group=split) as theirs:
            assert theirs.velocity.dims == ("sample", "time", "component", "x", "y")
            assert theirs.particles.dims == ("sample", "time", "x", "y")
            assert theirs.force.dims == ("sample", "component", "x", "y")
            assert theirs.time.values == pytest.approx(ours.times(0))
            x, y = (axis.coordinates().numpy() for axis in ours.metadata.grid.axes)
            assert np.array_equal(theirs.x, x) and np.array_equal(theirs.y, y)
            assert theirs.attrs["boundary"]["x"] == ["dirichlet", "dirichlet"]
            assert theirs.attrs["provenance"]["converted from"] == "a.h5"
            for row in range(len(ours)):
                u = ours.read(row, slice(0, 5))
                assert torch.equal(torch.from_numpy(theirs.velocity[row].values), u[:, :2])
                assert torch.equal(torch.from_numpy(theirs.particles[row].values), u[:, 2])
                force = torch.from_numpy(theirs.force[row].values)
                assert torch.equal(force, ours.constants(row))


@EXTRAS
def test_a_steady_map_with_units_and_parameters(tmp_path):
    pytest.importorskip("zarr")
    xarray = pytest.importorskip("xarray")
    folder = make_tiny(tmp_path)
    with patch("datasets.export.MAX_BATCH_BYTES", 1000):
        store = export(folder, tmp_path / "tiny.zarr")
    ours = ShardedSource(folder, "train").__getitems__(range(11))
    with xarray.open_zarr(store, group="train") as theirs:
        assert theirs.u.dims == ("sample", "x", "y")
        assert (theirs.k.attrs["units"], theirs.u.attrs["units"]) == ("m^2", "Pa")
        assert np.array_equal(theirs.k, ours.input[:, 0])
        assert np.array_equal(theirs.u, ours.target[:, 0])
        assert np.array_equal(theirs.amplitude, ours.parameters[:, 0])


@EXTRAS
def test_what_stands_in_the_way_is_one_line(tmp_path, capsys):
    pytest.importorskip("zarr")
    folder = make_tiny(tmp_path)
    assert main([str(folder), str(tmp_path / "a.nc")]) == 1
    assert "a.nc: expected the name of a new folder that ends in .zarr" in capsys.readouterr().err
    (tmp_path / "b.zarr").mkdir()
    assert main([str(folder), str(tmp_path / "b.zarr")]) == 1
    assert "expected the name of a new folder" in capsys.readouterr().err
    assert main([str(tmp_path / "gone"), str(tmp_path / "c.zarr")]) == 1
    assert "no data set here" in capsys.readouterr().err
    assert main([str(folder), str(tmp_path / "d.zarr")]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "d.zarr"


def test_the_extra_is_named(tmp_path):
    complaint = r"zarr is not installed .*pip install '.\[export\]'"
    with patch.dict(sys.modules, {"zarr": None}), pytest.raises(ValueError, match=complaint):
        export(tmp_path, tmp_path / "a.zarr")
