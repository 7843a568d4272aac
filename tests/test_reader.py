"""Reading shards: what the manifest says, from any process, and nothing that was altered."""

import os
import shutil
from copy import deepcopy
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch.utils.data import DataLoader

from datasets import ShardedSource
from datasets.manifest import NAME, Manifest
from datasets.recipe import sample_generator
from tests.tiny_recipe import TinyRecipe, make_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / folder.name)


def direct(split: str, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The samples straight from the recipe, in float32."""
    solution = TinyRecipe().solve([sample_generator(3, split, i) for i in indices], (4, 6))
    fields = (solution.fields[name].float().unsqueeze(1) for name in ("k", "u"))
    return *fields, solution.parameters["amplitude"].float().unsqueeze(1)


def as_read(batch):
    return batch


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_what_is_read_is_what_was_solved(folder, split):
    source = ShardedSource(folder, split)
    everything = list(range(len(source)))
    shuffled = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()
    for indices in (everything, shuffled, [2, 2, 0], [1], []):
        batch = source.__getitems__(indices)
        for read, solved in zip(batch, direct(split, indices or [0]), strict=False):
            assert torch.equal(read, solved[: len(indices)])
    assert torch.equal(batch.coordinates, source.metadata.grid.mesh(torch.float32))


def test_metadata_survive_the_manifest(folder):
    source = ShardedSource(folder, "train")
    assert source.metadata == TinyRecipe().metadata((4, 6))
    assert source.metadata.describe() == "k -> u on 4 x 6"


def test_double_precision_on_request(folder):
    batch = ShardedSource(folder, "test", dtype=torch.float64).__getitems__([0, 2])
    single = ShardedSource(folder, "test").__getitems__([0, 2])
    for wide, narrow in zip(batch[:3], single[:3], strict=True):
        assert wide.dtype == torch.float64
        assert torch.equal(wide, narrow.double())


def test_indices_outside_are_refused(folder):
    source = ShardedSource(folder, "test")
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"sample {index} of 3 in test"):
            source.__getitems__([0, index])
    with pytest.raises(ValueError, match="split='dev' is not one of"):
        ShardedSource(folder, "dev")
    with patch("datasets.manifest.Metadata.from_dict") as metadata:
        metadata.return_value.num_frames = 3
        with pytest.raises(ValueError, match="holds trajectories; read it as ShardedTrajectories"):
            ShardedSource(folder, "test")
    with pytest.raises(ValueError, match="max_open=0"):
        ShardedSource(folder, "test", max_open=0)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_the_same(folder, start):
    source = ShardedSource(folder, "train")
    source.__getitems__([0, 5])
    batches = [[0, 10], [7, 3], [5], [9, 8, 1]]
    options = {"batch_sampler": batches, "collate_fn": as_read}
    expected = list(DataLoader(source, **options))
    loader = DataLoader(source, **options, num_workers=2, multiprocessing_context=start)
    for ours, theirs in zip(expected, loader, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_handles_stay_in_their_process(folder):
    source = ShardedSource(folder, "train")
    source.__getitems__([0, 5])
    assert len(source._files) == 2
    travelled = deepcopy(source)
    assert len(travelled._files) == 0
    assert torch.equal(travelled.__getitems__([4]).target, source.__getitems__([4]).target)
    with patch("os.getpid", return_value=os.getpid() + 1):
        source.__getitems__([0])
        assert len(source._files) == 1


def test_the_number_of_open_files_is_bounded(folder):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    source = ShardedSource(folder, "train", max_open=2)
    for _ in range(3):
        source.__getitems__(list(range(11)))
        assert len(source._files) == 2
        assert len(list(descriptors.iterdir())) <= before + 2
    shards = [shard.file for shard in source.manifest.of("train")]
    source.__getitems__([10])
    source.__getitems__([0])
    assert list(source._files._open) == [shards[2], shards[0]]


def test_a_shard_is_hashed_and_inspected_once(folder):
    source = ShardedSource(folder, "train", max_open=1)
    with patch("datasets.hdf5.inspect") as inspected:
        for _ in range(3):
            source.__getitems__([0, 10])
    assert inspected.call_count == 2


@pytest.mark.parametrize("position", [100, 2600, 5000, -1])
def test_a_flipped_bit_is_found(copy, position):
    path = copy / "data/train/shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)
    source = ShardedSource(copy, "train")
    expected = r"shard-00000.h5: expected sha256 \w{64}, found \w{64}: altered. .*python -m "
    with pytest.raises(ValueError, match=expected + "datasets.generate pde=tiny num_samples=11"):
        source.__getitems__([7, 0])
    source.__getitems__([7])


def test_a_shard_of_another_seed_is_found_and_would_be_believed(folder, copy):
    """The control: a file that is valid in itself is read as if nothing had happened."""
    path, other = (copy / f"data/{split}/shard-00000.h5" for split in ("test", "valid"))
    path.write_bytes(other.read_bytes())
    source = ShardedSource(copy, "test")
    with pytest.raises(ValueError, match="altered"):
        source.__getitems__([0])
    with patch("datasets.manifest.verify"):
        wrong = source.__getitems__([0])
    right = ShardedSource(folder, "test").__getitems__([0])
    assert not torch.equal(wrong.input, right.input)


def test_a_truncated_or_missing_shard_is_found(copy):
    path = copy / "data/valid/shard-00000.h5"
    os.truncate(path, 5000)
    with pytest.raises(ValueError, match="expected 10212 bytes, found 5000: truncated.*generate"):
        ShardedSource(copy, "valid").__getitems__([0])
    path.unlink()
    with pytest.raises(ValueError, match="shard-00000.h5: listed in the manifest but missing"):
        ShardedSource(copy, "valid").__getitems__([0])
    ShardedSource(copy, "train").__getitems__([0])


def test_only_what_is_listed_is_there(copy):
    extra = copy / "data/train/shard-00003.h5"
    shutil.copy(copy / "data/train/shard-00000.h5", extra)
    assert len(ShardedSource(copy, "train")) == 11
    (copy / NAME).unlink()
    with pytest.raises(ValueError, match="no data set here"):
        ShardedSource(copy, "train")


def test_an_unfinished_split_is_refused(copy):
    lines = (copy / NAME).read_text().splitlines(keepends=True)
    (copy / NAME).write_text("".join(lines[:3]))
    assert len(Manifest(copy).shards) == 2
    with pytest.raises(
        ValueError, match="10 of 11 train samples are there. .*resolution=.4,6. seed=3"
    ):
        ShardedSource(copy, "train")


def test_damage_that_appears_while_a_file_is_open_names_the_file(copy):
    """The checksum of a chunk is the second line of defence, behind the hash of the file."""
    path = copy / "data/train/shard-00000.h5"
    data = bytearray(path.read_bytes())
    [value] = [direct("train", [0])[1][0].numpy().tobytes()]
    data[data.index(value) + 10] ^= 4
    path.write_bytes(data)
    with patch("datasets.manifest.verify"), pytest.raises(ValueError, match="00000.h5.*generate"):
        ShardedSource(copy, "train").__getitems__([0])
