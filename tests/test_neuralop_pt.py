"""neuraloperator's `.pt` pairs."""

from pathlib import Path

import pytest
import torch

from datasets import NeuralopSource
from solvers.grid import Grid

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pairs(n=5, shape=(8, 6)):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, *shape, generator=generator) > 0.5
    return {"x": x, "y": torch.rand(n, *shape, generator=generator)}


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "pairs.pt")
        return tmp_path / "pairs.pt"

    return save


@pytest.mark.parametrize("with_channels", [False, True])
def test_pairs_are_read(saved, with_channels):
    content = pairs()
    stored = {k: v.unsqueeze(1) for k, v in content.items()} if with_channels else content
    source = NeuralopSource(saved(stored))
    assert len(source) == 5
    assert source.metadata.describe() == "x -> y on 8 x 6"
    assert source.metadata.grid == Grid.box((8, 6), points="left")
    batch = source.__getitems__([3, 1])
    assert torch.equal(batch.input[:, 0], content["x"][[3, 1]].float())
    assert torch.equal(batch.target[:, 0], content["y"][[3, 1]])
    assert torch.equal(batch.coordinates, source.metadata.grid.mesh(torch.float32))


def test_the_grid_is_the_callers(saved):
    content = {"x": torch.rand(3, 8), "y": torch.rand(3, 2, 8)}
    source = NeuralopSource(
        saved(content),
        ndim=1,
        boundary="periodic",
        points="cells",
        input_names=("u0",),
        target_names=("u", "v"),
        dtype=torch.float64,
    )
    assert source.metadata.grid == Grid.box((8,), boundary="periodic")
    assert source.metadata.describe() == "u0 -> u, v on 8"
    assert source.__getitems__([0]).target.dtype == torch.float64


def test_the_packaged_darcy_files_are_read():
    if not SHARED.is_dir():
        pytest.skip("shared/data is not beside the checkout")
    for part, count in (("train", 1000), ("test", 50)):
        source = NeuralopSource(SHARED / f"darcy_{part}_16.pt")
        assert len(source) == count
        batch = source.__getitems__(range(count))
        assert batch.input.unique().tolist() == [0.0, 1.0]
        assert batch.target.shape == (count, 1, 16, 16)
        # The points sit at i / 16: the first rows are on the boundary, the last are not.
        mean = batch.target[:, 0].mean(dim=0)
        for rows in (mean, mean.T):
            assert rows[0].mean() < 0.05 * rows[-1].mean()
        assert batch.coordinates[:, 0, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "content, complaint",
    [
        ({"x": torch.zeros(2, 4, 4)}, r"expected a dict of two tensors x and y, found \['x'\]"),
        ({**pairs(), "z": torch.zeros(1)}, r"found \['x', 'y', 'z'\]"),
        ([torch.zeros(2, 4, 4)] * 2, "found list"),
        ({"x": [1.0], "y": [2.0]}, "expected a dict of two tensors"),
        ({"x": torch.zeros(2, 4, 4), "y": torch.zeros(3, 4, 4)}, "input holds 2 samples, target"),
        (
            {"x": torch.zeros(2, 4, 4), "y": torch.zeros(2, 4, 5)},
            r"target: expected \(4, 4\) points",
        ),
        ({"x": torch.zeros(2, 4), "y": torch.zeros(2, 4)}, "with 2 space dimensions, found shape"),
        ({"x": torch.zeros(2, 8, 8), "y": torch.zeros(2, 8, 8, 1)}, "looks channel-last"),
    ],
)
def test_files_that_hold_something_else_are_refused(saved, content, complaint):
    with pytest.raises(ValueError, match=f"pairs.pt.*{complaint}"):
        NeuralopSource(saved(content))


class Payload:
    """Pickled as a call, as a file that runs a program would be."""

    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_file_is_not_run(saved, capsys):
    with pytest.raises(ValueError, match="pairs.pt: not a .pt file that holds tensors alone"):
        NeuralopSource(saved({"x": Payload(), "y": torch.zeros(2, 4, 4)}))
    assert capsys.readouterr().out == ""


def test_damaged_and_missing_files_are_named(saved, tmp_path):
    path = saved(pairs())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="pairs.pt: not a .pt file"):
        NeuralopSource(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="pairs.pt: not a .pt file"):
        NeuralopSource(path)
    path.write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="pairs.pt: not a .pt file"):
        NeuralopSource(path)
    with pytest.raises(ValueError, match="gone.pt: there is no such file.*neuraloperator"):
        NeuralopSource(tmp_path / "gone.pt")


def test_nan_names_the_sample(saved):
    content = pairs()
    content["y"][2, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="sample 2, field 'y' holds NaN or infinity"):
        NeuralopSource(saved(content)).__getitems__([1, 2])
