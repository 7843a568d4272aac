"""Our files are The Well's: its own reader gives the numbers that were put in."""

import io
import re
import time

import h5py
import numpy as np
import pytest
import torch
import yaml

from datasets import Field, Metadata, ShardedSource
from datasets.conformance import problems
from datasets.layout import arrange, encode
from solvers.grid import Axis, Grid
from tests.tiny_recipe import make_tiny

GRID = Grid(
    (
        Axis("x", 5, 0.0, 2.0, ("periodic", "periodic"), "left"),
        Axis("y", 4, -1.0, 1.0, ("dirichlet", "neumann"), "nodes"),
        Axis("z", 3, 0.0, 1.0, ("open", "dirichlet")),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("well"))


def moving(num_frames: int = 6) -> tuple[Metadata, dict[str, torch.Tensor]]:
    """Two samples of density and velocity in time, and a coefficient that does not change."""
    generator = torch.Generator().manual_seed(0)
    metadata = Metadata(
        "moving",
        input_fields=(Field("density"), Field("velocity", components=3), Field("porosity")),
        target_fields=(Field("density"), Field("velocity", components=3)),
        grid=GRID,
        parameters=("viscosity",),
        dt=0.25,
    )
    shapes = {
        "density": (2, num_frames, 5, 4, 3),
        "velocity": (2, num_frames, 3, 5, 4, 3),
        "porosity": (2, 5, 4, 3),
    }
    return metadata, {n: torch.randn(s, generator=generator) for n, s in shapes.items()}


@pytest.fixture
def moving_file(tmp_path):
    metadata, fields = moving()
    parameters = {"viscosity": np.array([0.1, 0.2])}
    path = tmp_path / "moving.h5"
    path.write_bytes(encode(metadata, arrange(metadata, fields), parameters))
    return path


def test_the_wells_reader_gives_our_steady_samples(folder):
    well = pytest.importorskip("the_well.data")
    ours = ShardedSource(folder, "train")
    theirs = well.WellDataset(
        path=str(folder), well_split_name="train", n_steps_input=0, n_steps_output=1
    )
    assert len(theirs) == len(ours) == 11
    assert theirs.metadata.dataset_name == "tiny"
    assert theirs.metadata.spatial_resolution == (4, 6)
    assert theirs.metadata.field_names[0] == ["u"]
    assert theirs.metadata.constant_field_names[0] == ["k"]
    for index in range(11):
        batch, sample = ours.__getitems__([index]), theirs[index]
        assert torch.equal(sample["constant_fields"], batch.input[0].movedim(0, -1))
        assert torch.equal(sample["output_fields"][0], batch.target[0].movedim(0, -1))
        assert torch.equal(sample["constant_scalars"], batch.parameters[0])
        assert torch.equal(sample["space_grid"], batch.coordinates.movedim(0, -1))
        assert sample["boundary_conditions"].tolist() == [[0, 0], [0, 0]]


def test_the_wells_normalisation_accepts_our_statistics(folder):
    well = pytest.importorskip("the_well.data")
    normalization = pytest.importorskip("the_well.data.normalization")
    theirs = well.WellDataset(
        path=str(folder),
        well_split_name="train",
        n_steps_input=0,
        n_steps_output=1,
        use_normalization=True,
        normalization_type=normalization.ZScoreNormalization,
    )
    values = torch.stack([theirs[index]["output_fields"] for index in range(11)])
    assert values.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert values.std(unbiased=False).item() == pytest.approx(1.0, abs=1e-6)


def test_statistics_are_those_of_the_training_split(folder):
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    batch = ShardedSource(folder, "train", dtype=torch.float64).__getitems__(range(11))
    for name, u in (("k", batch.input), ("u", batch.target)):
        assert stats["mean"][name] == pytest.approx(u.mean().item(), rel=1e-12)
        assert stats["std"][name] == pytest.approx(u.std(unbiased=False).item(), rel=1e-12)
        assert stats["rms"][name] == pytest.approx(u.square().mean().sqrt().item(), rel=1e-12)
    assert stats["mean_delta"] == stats["std_delta"] == {"u": 0.0}


def test_the_wells_reader_gives_our_trajectories(moving_file):
    """Vectors in time, a constant coefficient, a parameter, and all kinds of sides, in 3-D."""
    well = pytest.importorskip("the_well.data")
    theirs = well.WellDataset(path=str(moving_file.parent), n_steps_input=2, n_steps_output=1)
    assert len(theirs) == 2 * 4
    _, fields = moving()
    for index, sample in enumerate(theirs):
        row, start = divmod(index, 4)
        frames = slice(start, start + 2)
        density = fields["density"][row, frames].unsqueeze(-1)
        velocity = fields["velocity"][row, frames].movedim(1, -1)
        assert torch.equal(sample["input_fields"], torch.cat([density, velocity], dim=-1))
        assert torch.equal(sample["constant_fields"][..., 0], fields["porosity"][row])
        assert sample["constant_scalars"].item() == pytest.approx([0.1, 0.2][row])
        assert sample["output_time_grid"].tolist() == [0.5]
        assert torch.equal(sample["space_grid"], GRID.mesh(torch.float32).movedim(0, -1))
        assert sample["boundary_conditions"].tolist() == [[2, 2], [0, 0], [1, 0]]
        if index == len(theirs) - 1:
            break


def test_the_layout_follows_its_specification(moving_file):
    with h5py.File(moving_file) as file:
        assert list(problems(file)) == []
        velocity = file["t1_fields/velocity"]
        assert velocity.shape == (2, 6, 5, 4, 3, 3) and velocity.dtype == "float32"
        assert velocity.chunks == (1, 1, 5, 4, 3, 3) and velocity.fletcher32
        assert file["t0_fields/porosity"].chunks == (1, 5, 4, 3)
        sides = file["boundary_conditions"]
        assert set(sides) == {
            *("x_periodic_periodic", "y_wall_dirichlet", "y_wall_neumann"),
            *("z_open_open", "z_wall_dirichlet"),
        }
        assert sides["y_wall_neumann/mask"][:].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda f: f.attrs.__delitem__("grid_type"), "root attribute grid_type is missing"),
        (lambda f: f.__delitem__("scalars"), "group scalars is missing"),
        (lambda f: f.__delitem__("dimensions/y"), "dimensions/y is missing"),
        (lambda f: f["dimensions"].attrs.create("spatial_dims", ["x"]), "are not n_spatial_dims"),
        (lambda f: f["t0_fields"].attrs.__delitem__("field_names"), "field_names is missing"),
        (lambda f: f["dimensions/x"].write_direct(np.float32([0, 1, 2, 4, 5])), "x is not uniform"),
        (lambda f: f["dimensions/x"].write_direct(-np.arange(5.0)), "x does not increase"),
        (lambda f: f["dimensions/time"].write_direct(np.arange(6.0) ** 2), "time is not uniform"),
        (
            lambda f: f["t0_fields/density"].attrs.__delitem__("time_varying"),
            "density: the dataset",
        ),
        (lambda f: f["t0_fields/density"].attrs.modify("time_varying", False), "density has shape"),
        (lambda f: f.__delitem__("t1_fields/velocity"), "velocity: the dataset or its"),
        (lambda f: f.attrs.modify("n_trajectories", 3), "density has shape .*expected .3, 6"),
        (lambda f: f["t0_fields"].create_dataset("x", data=0.0), "t0_fields/x is not listed"),
        (
            lambda f: f["boundary_conditions/z_open_open"].attrs.modify("bc_type", "S"),
            "bc_type 'S'",
        ),
        (
            lambda f: f["boundary_conditions/z_open_open"].attrs.modify("associated_dims", ["q"]),
            "axes",
        ),
        (lambda f: f.__delitem__("boundary_conditions/z_open_open/mask"), "mask is missing"),
        (lambda f: _integers(f), "density holds int32"),
    ],
)
def test_every_departure_from_the_layout_is_named(moving_file, damage, complaint):
    with h5py.File(moving_file, "r+") as file:
        damage(file)
    with h5py.File(moving_file) as file:
        found = list(problems(file))
    assert any(re.search(complaint, line) for line in found), found


def _integers(file: h5py.File) -> None:
    attributes = dict(file["t0_fields/density"].attrs)
    del file["t0_fields/density"]
    file["t0_fields/density"] = np.zeros((2, 6, 5, 4, 3), dtype="int32")
    file["t0_fields/density"].attrs.update(attributes)


def test_equal_numbers_give_equal_bytes_at_any_time():
    """HDF5 can store times of modification, in whole seconds."""
    metadata, fields = moving()
    arrays, parameters = arrange(metadata, fields), {"viscosity": np.zeros(2)}
    first = encode(metadata, arrays, parameters)
    time.sleep(1.1)
    assert encode(metadata, arrays, parameters) == first


def test_fields_that_do_not_fit_are_refused():
    metadata, fields = moving()
    with pytest.raises(ValueError, match=r"expected the fields .*got \['density', 'velocity'\]"):
        arrange(metadata, {name: fields[name] for name in ("density", "velocity")})
    with pytest.raises(ValueError, match=r"field 'porosity': expected .*got \(2, 5, 4\)"):
        arrange(metadata, {**fields, "porosity": fields["porosity"][..., 0]})
    pair = Metadata("pair", (Field("two", components=2),), (Field("u"),), GRID)
    with pytest.raises(ValueError, match="has 2 components; in 3 space dimensions"):
        arrange(pair, {"two": torch.zeros(1, 2, 5, 4, 3), "u": torch.zeros(1, 5, 4, 3)})
    with pytest.raises(ValueError, match=r"expected parameters \('viscosity',\), got \(\)"):
        encode(metadata, arrange(metadata, fields), {})


def test_a_checksum_makes_a_flipped_bit_an_error():
    """The control is the same file without one: another number is read, silently."""
    values = np.random.default_rng(0).random((2, 3, 8), dtype=np.float32)
    for protected in (True, False):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_dataset("u", data=values, chunks=(1, 3, 8), fletcher32=protected)
        data = bytearray(buffer.getvalue())
        data[data.index(values[1].tobytes()) + 40] ^= 16
        with h5py.File(io.BytesIO(data)) as file:
            if protected:
                with pytest.raises(OSError, match="fletcher|checksum|filter|read"):
                    file["u"][1]
            else:
                assert (file["u"][1] != values[1]).sum() == 1
