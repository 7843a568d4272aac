"""Samples of a stream: those of the stored data set, each once."""

import numpy as np
import pytest
import torch

from datasets.windows import Windows
from tests.streams import generated, online

ONCE = ("online/buffer=fifo", "online.buffer.capacity=40", "online.reuse=1", "online.clients=3")
WINDOWS = {
    "time": "data.window={history: 0, first: 1}",
    "from the start": "data.window={history: 1, stride: [1, 6], every: 7}",
    "steps": "data.window={history: 1}",
    "long windows": "data.window={history: 2, horizon: 2, stride: [1, 2]}",
    "without numbers": "data.window={history: 2, horizon: 1, parameters: false}",
    "from the middle": "data.window={history: 1, horizon: 1, first: 2, last: 6}",
}


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch):
    """Stored samples are solved as streamed ones are: the last bits of a sum over a matrix differ
    with the number of samples that are solved together.
    """
    monkeypatch.setattr("datasets.evolution_recipe.MAX_POINTS", 1)


def rows(batch) -> list[bytes]:
    parts = (batch.input, batch.target, batch.parameters)
    return [
        b"".join(np.ascontiguousarray(part[i].numpy()).tobytes() for part in parts)
        for i in range(len(batch.target))
    ]


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_stream_holds_the_windows_of_the_stored_solutions_each_once(tmp_path, window):
    stored = generated(tmp_path, window).source("train")
    assert isinstance(stored, Windows)
    streamed = online(tmp_path, window, *ONCE, batch_size=1)
    found = [row for batch in streamed.loader() for row in rows(batch)]
    assert streamed.source("train").metadata == stored.metadata
    assert sorted(found) == sorted(rows(stored.__getitems__(range(len(stored)))))


def test_another_seed_of_the_data_is_another_stream(tmp_path):
    """The control of the test above."""
    first, other = (
        online(tmp_path, *ONCE, f"data.seed={seed}", batch_size=1).loader() for seed in (0, 1)
    )
    assert not {r for b in first for r in rows(b)} & {r for b in other for r in rows(b)}


def test_a_steady_map_streams_one_sample_per_simulation(tmp_path):
    darcy = {"problem": ("data=darcy", "data.resolution=12")}
    stored = generated(tmp_path, **darcy).source("train").__getitems__(range(10))
    streamed = online(tmp_path, *ONCE, **darcy, batch_size=1)
    found = [(batch.input.clone(), batch.target.clone()) for batch in streamed.loader()]
    for i, (a, u) in enumerate(found):  # of four lanes with one frame each, in order
        assert torch.equal(a[0], stored.input[i])
        torch.testing.assert_close(u[0], stored.target[i], rtol=1e-5, atol=0)
    assert len(found) == 10


def test_the_training_split_is_what_is_there_at_the_watermark(tmp_path):
    streamed = online(tmp_path, "online.buffer.capacity=30", "online.watermark=17")
    beginning = streamed.source("train")
    assert len(beginning) == 17
    first, stored = beginning.__getitems__(range(17)), generated(tmp_path).source("train")
    known = set(rows(stored.__getitems__(range(len(stored)))))
    assert set(rows(first)) <= known and len(set(rows(first))) == 17


def test_held_out_samples_are_those_of_the_stored_data_set(tmp_path):
    stored, streamed = generated(tmp_path), online(tmp_path)
    for split in ("valid", "test"):
        assert rows(stored.source(split).__getitems__(range(18))) == rows(
            streamed.source(split).__getitems__(range(18))
        )
