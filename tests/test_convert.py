"""Files of other projects become data sets of ours, bit for bit in float32."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from datasets import ShardedSource, ShardedTrajectories, Stored, WellTrajectories
from datasets.check import check
from datasets.convert import convert, main
from datasets.formats import FORMATS, WHOLE, parts, recognise
from datasets.manifest import NAME, Manifest
from datasets.schema import SPLITS
from datasets.shard_converter import ShardConverter
from datasets.split import draw
from tests import foreign_layouts as layouts
from tests.helpers import ROOT, finish
from tests.test_foreign_data import SETS, N
from tests.tiny_recipe import content

SIZES = {"train": 0.8, "valid": 0.1, "test": 0.1}
WITHOUT_CLOCK = ("series",)  # the time between frames differs


@pytest.fixture(params=[name for name in SETS if name not in WITHOUT_CLOCK])
def made(request, tmp_path) -> tuple[Path, dict]:
    """A file or folder, and what it needs said."""
    _, make, _ = SETS[request.param]
    return make(tmp_path / "made"), {"dt": 0.1} if request.param == "array" else {}


@pytest.mark.parametrize("quiet", [{"progress": False}])
def test_what_is_read_back_is_what_was_read(made, quiet, tmp_path):
    path, options = made
    folder = convert(path, tmp_path / "out", **options, **quiet)
    whole = parts(path, recognise(path), **options)
    rows = draw(N, SIZES)
    for split in SPLITS:
        theirs = whole.get(split, whole.get(WHOLE))
        numbers = range(len(theirs)) if WHOLE not in whole else rows[split]
        if theirs.metadata.num_frames is None:
            ours, reference = ShardedSource(folder, split), theirs.__getitems__(numbers)
            batch = ours.__getitems__(range(len(ours)))
            assert all(torch.equal(a, b) for a, b in zip(batch[:3], reference[:3], strict=True))
            continue
        ours = ShardedTrajectories(folder, split)
        assert len(ours) == len(numbers)
        frames = slice(0, theirs.metadata.num_frames)
        for row, number in enumerate(numbers):
            assert torch.equal(ours.read(row, frames), theirs.read(number, frames))
            assert torch.equal(ours.constants(row), theirs.constants(number))
            assert torch.equal(ours.parameters(row), theirs.parameters(number))
        assert ours.times(0) == pytest.approx(theirs.times(0) - theirs.times(0)[0], abs=1e-5)
    failed = [finding for finding in check(folder) if finding.level != "ok"]
    assert all(finding.level == "warning" for finding in failed), failed


def test_our_shards_are_in_the_wells_layout(tmp_path):
    """Two readers, one layout: with the manifest, and without it."""
    folder = convert(layouts.incompressible(tmp_path / "a.h5", n=N), tmp_path, progress=False)
    for split in SPLITS:
        ours, theirs = ShardedTrajectories(folder, split), WellTrajectories(folder, split)
        assert len(ours) == len(theirs)
        assert ours.metadata.grid.shape == theirs.metadata.grid.shape
        for row in range(len(ours)):
            channels = [2, 0, 1]  # scalars come first without a manifest
            assert torch.equal(
                ours.read(row, slice(1, 4))[:, channels], theirs.read(row, slice(1, 4))
            )
            assert torch.equal(ours.constants(row), theirs.constants(row))


def test_the_manifest_says_where_it_comes_from(tmp_path):
    path = layouts.equation(tmp_path / "1D Advection.hdf5", n=N)
    folder = convert(path, tmp_path, seed=3, split="train=8,valid=1,test=1", progress=False)
    manifest = Manifest(folder)
    header = manifest.header
    assert header.name == "1D_Advection" and folder.name.startswith("1D_Advection-16-")
    (entry,) = header.recipe["converted from"].items()
    assert entry[0] == path.name and len(entry[1]) == 64
    assert header.recipe["reader"] == "pdebench"
    assert "python -m datasets.convert '1D Advection.hdf5' DESTINATION" in manifest.remedy
    assert header.command.endswith("--split=train=8,valid=1,test=1 --seed=3")
    assert str(tmp_path) not in (folder / NAME).read_text()
    assert header.counts == {"train": 8, "valid": 1, "test": 1}


def test_an_interrupted_conversion_goes_on(tmp_path, capsys):
    """Also after a shard is lost; what is there is not written again."""
    path = layouts.equation(tmp_path / "a.hdf5", n=N)
    options = {"progress": False}
    with patch("datasets.shards.MAX_SAMPLES", 2):
        whole = convert(path, tmp_path / "whole", **options)
        write, calls = ShardConverter.__call__, []

        def interrupted(self, task):
            calls.append(task)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return write(self, task)

        with patch.object(ShardConverter, "__call__", interrupted):
            with pytest.raises(KeyboardInterrupt):
                convert(path, tmp_path / "parts", **options)
            again = convert(path, tmp_path / "parts", **options)
        assert "2 of 6 shards are committed" in capsys.readouterr().err
        assert len(calls) == 3 + 4
        assert content(again) == content(whole)
        (again / "data/train/shard-00001.h5").unlink()
        with pytest.raises(ValueError, match="missing. Convert it again"):
            ShardedTrajectories(again, "train").read(2, slice(0, 1))
        assert content(convert(path, tmp_path / "parts", **options)) == content(whole)


@pytest.mark.parametrize(
    "name, options, complaint",
    [
        ("series", {}, r"trajectory \d has 7 frames, .*one time step; train on the file itself"),
        ("smoke", {"split": "train=1"}, "says how it is split, train, valid, test; leave --split"),
        ("equation", {"split": "train=1"}, "--split train=1: expected train, valid and test"),
        ("equation", {"split": "train=x,valid=1,test=1"}, "expected train, valid and test"),
        ("array", {}, "give dt, the time between frames"),
        ("equation", {"format": "zip"}, "format='zip' is not one of"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, complaint, tmp_path):
    path = SETS[name][1](tmp_path / "made")
    with pytest.raises(ValueError, match=complaint):
        convert(path, tmp_path / "out", progress=False, **options)


def test_numbers_too_large_for_single_precision_are_refused(tmp_path):
    path = layouts.equation(tmp_path / "a.hdf5")
    layouts.damaged(path, layouts.replaced("tensor", lambda u: 1e300 * u.astype("f8")))
    with pytest.raises(
        ValueError, match=r"tensor, row \d, frame 0: expected finite numbers in torch"
    ):
        convert(path, tmp_path, progress=False)


def test_the_command(tmp_path, capsys):
    path = layouts.darcy(tmp_path / "darcy.hdf5", n=N)
    assert main([str(path), str(tmp_path / "out")]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert ShardedSource(folder, "train").metadata.describe() == "nu -> u on 8 x 8"
    assert main([str(folder), str(tmp_path)]) == 1
    assert "is a data set of this project already" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.h5"), str(tmp_path)]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err
    (tmp_path / "text.h5").write_text("no")
    assert main([str(tmp_path / "text.h5"), str(tmp_path)]) == 1
    assert "not a readable HDF5 file" in capsys.readouterr().err


def test_every_format_is_recognised_by_its_content(made):
    path, _ = made
    assert recognise(path) in FORMATS
    if path.is_file() and path.suffix != ".npy":
        other = shutil.move(path, path.with_name("other.h5"))
        assert recognise(other) in FORMATS


def test_an_unknown_content_is_named(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperature"] = np.ones(3)
    with pytest.raises(ValueError, match=r"no format that is read here .*found \['temperature'\]"):
        recognise(tmp_path / "a.h5")


def test_a_converted_data_set_trains(tmp_path, no_report):
    folder = convert(layouts.flow(tmp_path / "a.h5", n=N), tmp_path, progress=False)
    figures = finish(tmp_path / "run", "data=stored", f"path={folder}", "trainer.max_epochs=1")
    assert np.isfinite(figures["test/relative_l2"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """64 MiB in shards of 1 MiB are converted with less than that."""
    path = layouts.equation(tmp_path / "a.hdf5", n=64, t=64, x=4096)
    program = (
        "import datasets.shards\ndatasets.shards.MAX_BYTES = 2**20\n"
        "from pathlib import Path\nfrom datasets.convert import convert\n"
        "def mark():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return int(next(x for x in lines if x.startswith('VmHWM')).split()[1]) // 1024\n"
        f"before = mark()\nconvert({str(path)!r}, {str(tmp_path)!r}, progress=False)\n"
        "print(mark() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 48


def test_a_stored_data_set_says_what_it_is_not(tmp_path):
    moving = convert(layouts.flow(tmp_path / "a.h5", n=N), tmp_path, progress=False)
    steady = convert(layouts.darcy(tmp_path / "b.h5", n=N), tmp_path, progress=False)
    window = {"history": 1, "horizon": 1}
    with pytest.raises(ValueError, match="holds solutions over time; set data.window={history"):
        Stored(str(moving), window=None)
    with pytest.raises(ValueError, match="holds a steady map; set data.window=null"):
        Stored(str(steady), window=window)
    data = Stored(str(moving), window=window)
    assert data.facts()["splits"] == {"train": 32, "valid": 4, "test": 4}
    assert "datasets.convert a.h5 DESTINATION" in data.facts()["provenance"]["repeat"]
    assert data.source("test", [8, 10]) is data.source("test")
    assert data.recipe() is None
    with pytest.raises(ValueError, match="resolution=16: the folder holds the grid"):
        data.source("test", 16)
    (tmp_path / "part").mkdir()
    layouts.smoke(tmp_path / "part" / "train.h5")
    part = convert(tmp_path / "part", tmp_path, progress=False)
    with pytest.raises(ValueError, match="no valid and no test samples; training needs"):
        Stored(str(part), window=window)
