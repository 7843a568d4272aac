"""Arrays that users bring: every misunderstanding is one clear message."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from datasets import ArraySource, Subset
from datasets.split import split
from solvers.grid import Axis, Grid

RNG = np.random.default_rng(0)
A = RNG.random((6, 8, 5))
U = RNG.random((6, 2, 8, 5)).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    """Writes arrays and returns their paths."""

    def save(**arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        return [tmp_path / f"{name}.npy" for name in arrays]

    return save


def test_files_arrays_and_tensors_give_the_same_batches(saved):
    a, u = saved(a=A, u=U)
    for pair in ((a, u), (str(a), str(u)), (A, U), (torch.from_numpy(A), torch.from_numpy(U))):
        source = ArraySource(*pair, ndim=2)
        batch = source.__getitems__([4, 0, 4])
        assert len(source) == 6
        assert batch.input.dtype == batch.target.dtype == torch.float32
        assert torch.equal(batch.input, torch.from_numpy(A[[4, 0, 4], None]).float())
        assert torch.equal(batch.target, torch.from_numpy(U[[4, 0, 4]]))
        assert batch.parameters.shape == (3, 0)
        assert torch.equal(batch.coordinates, source.metadata.grid.mesh(torch.float32))
        assert [f.name for f in source.metadata.target_fields] == ["target_0", "target_1"]


@pytest.mark.parametrize("space", [(7,), (7, 5), (3, 4, 5)])
def test_the_number_of_dimensions_decides_about_the_channel_axis(space):
    a, u = RNG.random((4, *space)), RNG.random((4, 3, *space))
    metadata = ArraySource(a, u, ndim=len(space)).metadata
    assert (metadata.in_channels, metadata.out_channels) == (1, 3)
    assert metadata.grid == Grid.box(space)


def test_grid_and_names_are_the_callers():
    source = ArraySource(
        A, U, ndim=2, boundary="periodic", points="left", target_names=("height", "speed")
    )
    assert source.metadata.grid == Grid.box((8, 5), boundary="periodic", points="left")
    assert source.metadata.describe() == "input -> height, speed on 8 x 5"
    grid = Grid((Axis("r", 8, 1.0, 3.0), Axis("z", 5, -2.0, 2.0)))
    source = ArraySource(A, U, ndim=2, grid=grid)
    assert source.metadata.grid is grid
    assert torch.equal(source.__getitems__([0]).coordinates, grid.mesh(torch.float32))
    with pytest.raises(ValueError, match=r"target: 2 channels, but names \['height'\]"):
        ArraySource(A, U, ndim=2, target_names=("height",))


def test_double_precision_on_request():
    batch = ArraySource(A, U, ndim=2, dtype=torch.float64).__getitems__([1])
    assert torch.equal(batch.input[0, 0], torch.from_numpy(A[1]))
    assert batch.coordinates.dtype == torch.float64


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", ">f4", "f8"])
def test_real_numbers_of_any_kind_are_cast(dtype):
    a = (10 * A).astype(dtype)
    batch = ArraySource(a, U, ndim=2).__getitems__([2])
    assert np.array_equal(batch.input[0, 0].numpy(), a[2].astype(np.float32))


def test_files_are_mapped_and_not_carried_to_other_processes(saved):
    source = ArraySource(*saved(a=A, u=U), ndim=2)
    assert isinstance(source._input.array, np.memmap)
    travelled = deepcopy(source)
    assert travelled._input._array is None
    loader = DataLoader(source, batch_size=4, collate_fn=lambda batch: batch, num_workers=1)
    inputs = torch.cat([batch.input for batch in loader])
    assert torch.equal(inputs, source.__getitems__(range(6)).input)


def test_channel_last_is_recognised(saved):
    a, u = saved(a=A, u=np.moveaxis(U, 1, -1))
    expected = r"u.npy: shape \(6, 8, 5, 2\) looks channel-last, expected \[n, c, \*space\]. "
    with pytest.raises(ValueError, match=expected + r".*np.moveaxis\(array, -1, 1\)"):
        ArraySource(a, u, ndim=2)
    ArraySource(A, np.moveaxis(np.load(u), -1, 1), ndim=2)
    both = RNG.random((6, 8, 5, 2))
    with pytest.raises(ValueError, match="looks channel-last"):
        ArraySource(both, both, ndim=2)
    with pytest.raises(ValueError, match="looks channel-last"):
        ArraySource(RNG.random((6, 8, 5, 7)), RNG.random((6, 8, 5, 1)), ndim=2)
    many = RNG.random((6, 8, 5, 7))
    with pytest.raises(ValueError, match="looks channel-last"):
        ArraySource(many, many, ndim=2, grid=Grid.box((8, 5)))
    slim = Grid.box((5, 2))
    assert ArraySource(both, both, ndim=2, grid=slim).metadata.in_channels == 8


def test_arrays_that_do_not_belong_together_are_refused(saved):
    a, u = saved(a=A, u=U[:5])
    with pytest.raises(ValueError, match="a.npy holds 6 samples, .*u.npy holds 5"):
        ArraySource(a, u, ndim=2)
    with pytest.raises(
        ValueError, match=r"target: expected \(8, 5\) points in space, found \(8, 4\)"
    ):
        ArraySource(A, U[..., :4], ndim=2)
    with pytest.raises(
        ValueError, match=r"input: expected \(9, 5\) points in space, found \(8, 5\)"
    ):
        ArraySource(A, U, ndim=2, grid=Grid.box((9, 5)))
    with pytest.raises(
        ValueError, match=r"input: expected .* with 1 space dimensions, found shape"
    ):
        ArraySource(RNG.random((6, 2, 8, 5)), U, ndim=1)
    with pytest.raises(ValueError, match=r"input: shape \(0, 8, 5\) holds no numbers"):
        ArraySource(A[:0], U[:0], ndim=2)
    with pytest.raises(ValueError, match="ndim=4: the number of space dimensions is 1, 2 or 3"):
        ArraySource(A, U, ndim=4)


@pytest.mark.parametrize("convert", [lambda z: z, torch.from_numpy])
def test_complex_numbers_are_refused(convert):
    with pytest.raises(ValueError, match="complex128 is not supported; .*two channels"):
        ArraySource(convert(A + 1j), U, ndim=2)


def test_files_that_hold_something_else_are_refused(saved, tmp_path):
    """Objects would be unpickled, which can run a program."""
    (path,) = saved(objects=np.array([{"a": 1}], dtype=object))
    with pytest.raises(
        ValueError, match=r"objects.npy: not a .npy file of numbers .*Python objects"
    ):
        ArraySource(path, U, ndim=2)
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(ValueError, match="text.npy: not a .npy file of numbers"):
        ArraySource(tmp_path / "text.npy", U, ndim=2)
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.npy: not a .npy file of numbers"):
        ArraySource(tmp_path / "empty.npy", U, ndim=2)
    with pytest.raises(ValueError, match="gone.npy: there is no such file"):
        ArraySource(tmp_path / "gone.npy", U, ndim=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_names_file_and_sample(saved, value):
    spoilt = U.copy()
    spoilt[3, 1, 0, 0] = value
    source = ArraySource(*saved(a=A, u=spoilt), ndim=2)
    source.__getitems__([0, 1, 2, 4, 5])
    with pytest.raises(ValueError, match="u.npy: sample 3, field 'target_1' holds NaN or infinity"):
        source.__getitems__([5, 3])


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(10, 200),
    shares=st.lists(st.floats(0.1, 0.3), min_size=1, max_size=3),
    seed=st.integers(0, 2**40),
)
def test_parts_are_disjoint_and_repeatable(total, shares, seed):
    source = ArraySource(np.zeros((total, 4)), np.zeros((total, 4)), ndim=1)
    sizes = {f"part {i}": share for i, share in enumerate(shares)}
    parts = split(source, sizes, seed=seed)
    again = split(source, sizes, seed=seed)
    drawn = [index for part in parts.values() for index in part.indices]
    assert len(set(drawn)) == len(drawn)
    assert {name: len(part) for name, part in parts.items()} == {
        name: int(share * total + 1e-9) for name, share in sizes.items()
    }
    assert all(parts[name].indices == again[name].indices for name in parts)


def test_sizes_are_fractions_or_counts():
    source = ArraySource(A, U, ndim=2)
    shares = split(source, {"train": 0.8, "valid": 0.1, "test": 0.1})
    assert [len(part) for part in shares.values()] == [4, 1, 1]
    counts = split(source, {"train": 3, "test": 2}, seed=5)
    assert [len(part) for part in counts.values()] == [3, 2]
    other = split(source, {"train": 3, "test": 2}, seed=6)
    assert counts["train"].indices != other["train"].indices
    batch = counts["test"].__getitems__([1])
    assert torch.equal(batch.target, source.__getitems__([counts["test"].indices[1]]).target)
    assert counts["test"].metadata is source.metadata


@pytest.mark.parametrize(
    "sizes, complaint",
    [
        ({"train": 0.8, "test": 0.3}, "sum to 1.100, more than 1"),
        ({"train": 4, "test": 3}, "ask for .* of 6 samples"),
        ({"train": 4, "test": 0.3}, "all as counts .int. or all as fractions"),
        ({"train": 6, "test": 0}, "every part needs at least one"),
        ({}, "every part needs at least one"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, complaint):
    with pytest.raises(ValueError, match=complaint):
        split(ArraySource(A, U, ndim=2), sizes)


def test_a_subset_stays_within_its_source():
    source = ArraySource(A, U, ndim=2)
    with pytest.raises(ValueError, match=r"samples \[6, -1\] are not among the 6 of the source"):
        Subset(source, [0, 6, -1])
