"""The check finds what would spoil a training."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datasets import Field, Metadata
from datasets.check import check, main
from datasets.layout import arrange, encode
from datasets.manifest import NAME
from solvers.grid import Grid
from tests.tiny_recipe import TinyRecipe, make_tiny


@pytest.fixture(autouse=True)
def together(monkeypatch):
    """In this process, without the second that a new one takes: see test_quarantine for that."""
    monkeypatch.setattr("datasets.check.apart", lambda work, *arguments: work(*arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("check"))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / folder.name)


@pytest.fixture
def well_file(tmp_path):
    """Writes [b, *space] coefficients and solutions in the layout, with a change to the file."""

    def write(k, u, change=lambda file: None):
        metadata = Metadata("w", (Field("k"),), (Field("u"),), Grid.box(k.shape[1:]))
        path = tmp_path / "well.h5"
        path.write_bytes(encode(metadata, arrange(metadata, {"k": k, "u": u})))
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return write


def failures(path) -> list[str]:
    return [f"{f.subject}: {f.detail}" for f in check(path) if f.level == "failed"]


def fields(n=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 5, 6, generator=generator) for _ in range(2)]


def test_a_sound_data_set_passes(folder, capsys):
    assert {finding.level for finding in check(folder)} == {"ok"}
    assert main([str(folder)]) == 0
    output = capsys.readouterr().out
    assert "5 shards" in output and "valid/shard-00000.h5" in output


def test_a_sound_file_passes(folder, well_file, capsys):
    assert main([str(well_file(*fields()))]) == 0
    assert main([str(folder / "data/test/shard-00000.h5")]) == 0
    assert "3 samples" in capsys.readouterr().out


def test_nothing_there_fails(tmp_path, capsys):
    assert main([str(tmp_path / "gone.h5")]) == 1
    assert main([str(tmp_path)]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "there is no such file" in output and NAME in output


def test_damaged_shards_fail_each(copy, capsys):
    flipped = copy / "data/train/shard-00000.h5"
    data = bytearray(flipped.read_bytes())
    data[4000] ^= 1
    flipped.write_bytes(data)
    (copy / "data/valid/shard-00000.h5").write_bytes(b"short")
    (copy / "data/test/shard-00000.h5").unlink()
    found = failures(copy)
    assert len(found) == 3
    for line, what in zip(found, ("altered", "found 5: truncated", "missing"), strict=True):
        assert what in line and "python -m datasets.generate" in line
    assert main([str(copy)]) == 1


def test_a_damaged_or_short_manifest_fails(copy):
    lines = (copy / NAME).read_text().splitlines(keepends=True)
    (copy / NAME).write_text("".join(lines[:4]))
    assert [line.split(":")[0] for line in failures(copy)] == ["valid", "test"]
    strays = [f.subject for f in check(copy) if f.level == "warning"]
    assert strays == ["data/test/shard-00000.h5", "data/valid/shard-00000.h5"]
    (copy / NAME).write_text(
        "".join(lines).replace("pressure", "p").replace('"seed":3', '"seed":4')
    )
    [only] = failures(copy)
    assert only.startswith("manifest: ") and "line 1 was edited" in only


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", ["t0_fields/k", "t0_fields/u"])
def test_numbers_that_are_none_fail(well_file, name, value):
    path = well_file(*fields())
    with h5py.File(path, "r+") as file:
        file[name][2, ..., 1, 1] = value
    assert failures(path) == [f"well.h5: sample 2, {name}: NaN or infinity"]


def test_constant_solutions_fail_and_constant_coefficients_warn(well_file):
    k, u = fields()
    u[3] = 7.5
    assert failures(well_file(k, u)) == ["well.h5: sample 3, t0_fields/u: constant, 7.5"]
    k, u = fields()
    k[1] = 3
    [finding] = check(well_file(k, u))
    assert finding == ("warning", "well.h5", "sample 1, t0_fields/k: constant, 3")


def test_the_same_input_twice_is_a_duplicate(well_file):
    k, u = fields()
    k[3] = k[1]
    assert failures(well_file(k, u)) == [
        "well.h5: duplicate: sample 3 has the input of well.h5 sample 1"
    ]
    k, u = fields()
    u[3] = u[1]
    assert failures(well_file(k, u)) == []


def test_the_same_input_in_two_splits_is_a_leak(tmp_path, monkeypatch):
    """As a seed of 32 bits would cause: one sample of the test split is drawn like one of
    training.
    """
    real = TinyRecipe.solve

    def leaky(self, generators, shape):
        if len(generators) == 3 and not leaked:
            leaked.append(True)
        elif len(generators) == 3:
            generators = [generators[0], torch.Generator().manual_seed(1), generators[2]]
        elif len(generators) == 1:
            generators = [torch.Generator().manual_seed(1)]
        return real(self, generators, shape)

    leaked = []
    monkeypatch.setattr(TinyRecipe, "solve", leaky)
    assert failures(make_tiny(tmp_path)) == [
        "test: leak: sample 1 has the input of train sample 10"
    ]


def test_trajectories_are_compared_by_their_first_frames(tmp_path):
    metadata = Metadata("t", (Field("u"),), (Field("u"),), Grid.box((6,)), dt=0.1)
    u = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "moving.h5"
    path.write_bytes(encode(metadata, arrange(metadata, {"u": u})))
    assert failures(path) == []
    u[2, 0] = u[0, 0]
    path.write_bytes(encode(metadata, arrange(metadata, {"u": u})))
    assert failures(path) == ["moving.h5: duplicate: sample 2 has the input of moving.h5 sample 0"]


def test_a_grid_that_is_not_uniform_fails(well_file):
    def stretch(file):
        file["dimensions/y"][:] = np.linspace(0, 1, 6) ** 2

    [line] = failures(well_file(*fields(), stretch))
    assert "dimensions/y is not uniform: steps from 0.04 to 0.36" in line


def test_a_file_with_a_link_is_refused(well_file):
    def link(file):
        del file["t0_fields/u"]
        file["t0_fields/u"] = h5py.ExternalLink("/etc/passwd", "/")

    assert "is a soft or external link; refused" in failures(well_file(*fields(), link))[0]


def test_shards_that_are_not_what_the_manifest_says_fail(copy, monkeypatch):
    """Intact by their hash, yet of another shape and on another grid than listed."""
    metadata = TinyRecipe().metadata((4, 7))
    k = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    data = encode(metadata, arrange(metadata, {"k": k, "u": k}), {"amplitude": np.arange(3.0)})
    (copy / "data/test/shard-00000.h5").write_bytes(data)
    monkeypatch.setattr("datasets.manifest.verify", lambda *arguments, remedy: None)
    found = " | ".join(failures(copy))
    assert "holds {'k': [3, 4, 7], 'u': [3, 1, 4, 7]}, listed are {'k': [3, 4, 6]" in found
    assert "axis y is not that of the manifest" in found
