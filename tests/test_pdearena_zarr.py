"""PDEArena's shallow water in Zarr."""

import json
import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch

from datasets import PDEArenaZarr, ShardedTrajectories, Windows
from datasets.build import instantiate
from datasets.convert import convert
from datasets.formats import recognise
from datasets.schema import SPLITS
from tests.foreign_layouts import smooth
from tests.helpers import compose

zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.slow  # only for what it needs: `make test-slow` installs the extras


def water(path, n=3, t=5, lat=8, lon=16, version=3):
    """Gaussian latitudes from north to south, one level, hours."""
    group = zarr.create_group(str(path), zarr_format=version)
    latitudes = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(lat)[0]))[::-1]
    named = {
        "lat": latitudes.astype("f4"),
        "lon": np.linspace(0, 360, lon, endpoint=False).astype("f4"),
        "time": 6.0 * np.arange(t),
        "pres": smooth(n, t, lat, lon),
        "u": smooth(n, t, 1, lat, lon, seed=1),
        "v": smooth(n, t, 1, lat, lon, seed=2),
    }
    for name, values in named.items():
        group.create_array(name, data=np.ascontiguousarray(values))
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_number_with_latitudes_ascending(tmp_path, version):
    whole = PDEArenaZarr(water(tmp_path / "train.zarr", version=version))
    assert [f.name for f in whole.metadata.target_fields] == ["pres", "u", "v"]
    assert (whole.metadata.dt, len(whole), whole.metadata.grid.shape) == (6.0, 3, (8, 16))
    lat, lon = whole.metadata.grid.axes
    assert lat.coordinates()[0] < -60 and lon.is_periodic and lon.upper == 360
    u = whole.read(2, slice(1, 5, 2))
    assert torch.equal(u[:, 0].flip(1), torch.from_numpy(smooth(3, 5, 8, 16))[2, 1:5:2])
    assert torch.equal(
        u[:, 2].flip(1), torch.from_numpy(smooth(3, 5, 1, 8, 16, seed=2))[2, 1:5:2, 0]
    )
    assert Windows(whole).__getitems__([0, 11]).input.shape == (2, 3, 8, 16)
    assert len(PDEArenaZarr(tmp_path / "train.zarr", without=["u"]).metadata.target_fields) == 2


def spoil(path, name, change):
    group = zarr.open_group(str(path), mode="r+")
    values, attributes = change(group[name][:]), dict(group[name].attrs)
    del group[name]
    group.create_array(name, data=np.ascontiguousarray(values), attributes=attributes)


@pytest.mark.parametrize(
    "name, change, complaint",
    [
        ("u", lambda u: u[:, :, :, :4], r"u has shape \(3, 5, 1, 4, 16\); expected"),
        ("u", lambda u: u[:2], r"fields of \[2, 3\] trajectories"),
        ("lat", lambda x: x**3, "lat: expected equal distances"),
        ("lon", lambda x: x[None], r"lon has shape \(1, 16\)"),
        ("time", lambda t: -t, "time: times must be finite and ascend"),
        ("u", lambda u: u + 0j, "u holds complex64"),
    ],
)
def test_departures_are_named(tmp_path, name, change, complaint):
    path = water(tmp_path / "train.zarr")
    spoil(path, name, change)
    with pytest.raises(ValueError, match=complaint):
        PDEArenaZarr(path)


def test_nan_names_field_row_and_frame(tmp_path):
    path = water(tmp_path / "train.zarr")

    def change(u):
        u[1, 3] = np.nan
        return u

    spoil(path, "v", change)
    with pytest.raises(ValueError, match="v, row 1, frame 3: expected finite"):
        PDEArenaZarr(path).read(1, slice(2, 5))


@pytest.mark.parametrize(
    "codec, complaint",
    [
        ({"id": "pickle", "protocol": 4}, "u is not a readable array .*pickle"),
        ({"id": "delta", "dtype": "<f4"}, "u holds float32 with the codecs .*delta"),
    ],
)
def test_codecs_other_than_the_usual_are_refused(tmp_path, codec, complaint):
    """numcodecs has some that unpickle chunks."""
    path = water(tmp_path / "train.zarr", version=2)
    description = path / "u" / ".zarray"
    record = json.loads(description.read_text())
    description.write_text(json.dumps({**record, "filters": [codec]}))
    with pytest.raises(ValueError, match=complaint):
        PDEArenaZarr(path)


def test_a_folder_of_splits_is_a_data_set_and_is_converted(tmp_path):
    for k, split in enumerate(SPLITS):
        path = water(tmp_path / f"{split}.zarr")
        spoil(path, "pres", lambda u, k=k: u + k)
    data = instantiate(compose(["data=pdearena", f"path={tmp_path}"]).data)
    assert data.facts()["splits"] == dict.fromkeys(SPLITS, 12)
    assert recognise(tmp_path) == "pdearena"
    folder = convert(tmp_path, tmp_path / "out", progress=False)
    ours, theirs = ShardedTrajectories(folder, "valid"), PDEArenaZarr(tmp_path / "valid.zarr")
    frames = slice(0, 5)
    assert torch.equal(ours.read(2, frames), theirs.read(2, frames))


def test_links_packed_numbers_and_absence_are_refused(tmp_path):
    path = water(tmp_path / "train.zarr")
    zarr.open_group(str(path), mode="r+")["u"].attrs["scale_factor"] = 0.1
    with pytest.raises(ValueError, match="u holds packed numbers"):
        PDEArenaZarr(path)
    (path / "w").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="/w: is a link; refused"):
        PDEArenaZarr(path)
    with pytest.raises(ValueError, match="there is no such folder"):
        PDEArenaZarr(tmp_path / "gone.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="not a readable Zarr group"):
        PDEArenaZarr(tmp_path / "empty.zarr")
    with (
        patch.dict(sys.modules, {"zarr": None}),
        pytest.raises(ValueError, match=r"zarr is not installed .*'.\[export\]'"),
    ):
        PDEArenaZarr(path.with_name("other.zarr"))
