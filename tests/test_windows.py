"""Windows against slices of arrays, and splits that keep trajectories apart."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from datasets.schema import Field, Metadata
from datasets.steps import Steps
from datasets.trajectories import SomeTrajectories, require_apart
from datasets.windows import Windows
from tests.helpers import periodic


@dataclass
class InMemory:
    """Trajectories of a vector field, a scalar field, a coefficient and one parameter."""

    u: list[torch.Tensor]
    at: list[np.ndarray]

    def __post_init__(self):
        grid = periodic((4, 3), (1.0, 1.0))
        state = (Field("velocity", components=2), Field("depth"))
        self.metadata = Metadata(
            "toy", (Field("bottom"),), state, grid, ("gravity",), dt=0.5, num_frames=9
        )
        self.reads: list[slice] = []

    def __len__(self):
        return len(self.u)

    def times(self, index):
        return self.at[index]

    def read(self, index, frames):
        self.reads.append(frames)
        return self.u[index][frames]

    def constants(self, index):
        return torch.full((1, 4, 3), 10.0 + index)

    def parameters(self, index):
        return torch.tensor([9.0 + index])


def toy(lengths=(9, 6), times=None):
    generator = torch.Generator().manual_seed(0)
    u = [torch.randn(n, 3, 4, 3, generator=generator) for n in lengths]
    return InMemory(u, times or [0.5 * np.arange(n) for n in lengths])


def test_a_window_is_a_slice():
    data = toy()
    windows = Windows(data, history=2, horizon=3, stride=1)
    assert len(windows) == (9 - 4) + (6 - 4)
    batch = windows.__getitems__([6, 0])
    for row, (trajectory, start) in enumerate([(1, 1), (0, 0)]):
        assert windows.place([6, 0][row]) == (trajectory, start, 1)
        u = data.u[trajectory]
        torch.testing.assert_close(batch.input[row, :6], u[start : start + 2].flatten(0, 1))
        torch.testing.assert_close(batch.target[row], u[start + 2 : start + 5].flatten(0, 1))
        assert (batch.input[row, 6] == 10 + trajectory).all()
        assert (batch.input[row, 7] == 9 + trajectory).all()
        assert batch.parameters[row] == 9 + trajectory
    meta = windows.metadata
    assert meta.in_channels == batch.input.shape[1] == 8
    assert meta.out_channels == batch.target.shape[1] == 9
    assert [f.name for f in meta.input_fields] == [
        *("velocity[-1]", "depth[-1]", "velocity[+0]", "depth[+0]"),
        *("bottom", "gravity"),
    ]
    assert [f.name for f in meta.target_fields][:2] == ["velocity[+1]", "depth[+1]"]
    assert meta.dt == 0.5 and meta.num_frames is None


@pytest.mark.parametrize(
    "history, horizon, strides", [(1, 1, (1, 1)), (2, 1, (1, 4)), (3, 2, (1, 2))]
)
@pytest.mark.parametrize("every, first, last", [(1, 0, None), (2, 1, 8), (3, 0, 7)])
def test_every_window_that_fits_is_there_once(history, horizon, strides, every, first, last):
    data = toy((9, 6, 1, 4))
    windows = Windows(
        data, history=history, horizon=horizon, stride=strides, every=every, first=first, last=last
    )
    expected = []
    for trajectory, u in enumerate(data.u):
        for stride in range(strides[0], strides[1] + 1):
            frames = len(u) if last is None else min(last, len(u))
            span = (history + horizon - 1) * stride
            starts = range(first, frames - span, every)
            expected += [(trajectory, start, stride) for start in starts]
    assert [windows.place(i) for i in range(len(windows))] == expected


def test_only_the_frames_of_the_window_are_read():
    data = toy((9,))
    Windows(data, history=2, horizon=1, stride=3).__getitems__([1])
    assert data.reads == [slice(1, 8, 3)]


def test_the_lead_time_is_a_parameter_when_it_varies():
    windows = Windows(toy(), stride=(1, 3))
    assert windows.metadata.parameters == ("gravity", "lead_time")
    assert windows.metadata.dt is None
    for index in range(len(windows)):
        stride = windows.place(index)[2]
        batch = windows.__getitems__([index])
        assert batch.parameters[0, 1] == 0.5 * stride
        assert (batch.input[0, -1] == 0.5 * stride).all()


def test_uneven_times_make_the_lead_time_a_parameter():
    data = toy((4,), [np.array([0.0, 0.5, 1.0, 3.0])])
    windows = Windows(data)
    leads = windows.__getitems__([0, 1, 2]).parameters[:, 1]
    assert leads.tolist() == [0.5, 0.5, 2.0]


def test_fields_that_are_given_are_not_asked_for():
    data = toy()
    batch = (windows := Windows(data, horizon=2, given=["velocity"])).__getitems__([1])
    assert batch.input.shape[1] == windows.metadata.in_channels == 5
    torch.testing.assert_close(batch.target[0], data.u[0][2:4, 2])
    assert [f.name for f in windows.metadata.target_fields] == ["depth[+1]", "depth[+2]"]


def test_parameters_need_not_be_channels():
    windows = Windows(toy(), parameters=False)
    batch = windows.__getitems__([0])
    assert windows.metadata.in_channels == batch.input.shape[1] == 4
    assert batch.parameters.tolist() == [[9.0]]


def test_without_frames_the_time_and_the_parameters_go_in():
    """first=1 leaves the frame at t = 0 out; every other one is a target once."""
    data = toy((9, 6))
    windows = Windows(data, history=0, first=1)
    places = [(0, k) for k in range(1, 9)] + [(1, k) for k in range(1, 6)]
    assert [windows.place(i) for i in range(len(windows))] == [(*at, 1) for at in places]
    data.reads.clear()
    batch = windows.__getitems__(range(len(windows)))
    assert data.reads == [slice(k, k + 1, 1) for _, k in places]
    expected = torch.stack([data.u[trajectory][k] for trajectory, k in places])
    torch.testing.assert_close(batch.target, expected, rtol=0, atol=0)
    numbers = torch.tensor([[10.0 + i, 9.0 + i, 0.5 * k] for i, k in places])
    assert torch.equal(batch.input, numbers[:, :, None, None].expand(-1, -1, 4, 3))
    assert torch.equal(batch.parameters, numbers[:, 1:])
    meta = windows.metadata
    assert [f.name for f in meta.input_fields] == ["bottom", "gravity", "time"]
    assert [f.name for f in meta.target_fields] == ["velocity", "depth"]
    assert meta.parameters == ("gravity", "time")
    assert meta.window is None and meta.dt is None and meta.num_frames is None
    assert meta.describe() == "bottom, gravity, time -> velocity, depth on 4 x 3"


def test_several_frames_from_a_time_on():
    """Every second frame from t on, fields that are given left out; times need not be even."""
    at = np.array([0.0, 0.1, 0.7, 1.0, 2.0, 2.5, 4.0, 4.5, 9.0])
    data = toy((9,), [at])
    windows = Windows(data, history=0, horizon=3, stride=2, every=2, last=8, given=["velocity"])
    assert [windows.place(i) for i in range(len(windows))] == [(0, 0, 2), (0, 2, 2)]
    batch = windows.__getitems__([1, 0])
    for row, start in enumerate((2, 0)):
        expected = data.u[0][[start, start + 2, start + 4], 2]
        torch.testing.assert_close(batch.target[row], expected, rtol=0, atol=0)
        assert (batch.input[row, -1] == torch.tensor(at[start]).float()).all()
    names = [f.name for f in windows.metadata.target_fields]
    assert names == ["depth[+0]", "depth[+1]", "depth[+2]"]
    assert windows.metadata.parameters == ("gravity", "time")


def test_a_map_without_frames_has_no_steps():
    windows = Windows(toy(), history=0)
    with pytest.raises(ValueError, match="toy: a steady map has no steps; .* task=supervised"):
        Steps(windows, 1)


def test_a_parameter_of_the_name_time_is_not_hidden():
    data = toy()
    data.metadata = replace(data.metadata, parameters=("time",))
    with pytest.raises(ValueError, match="toy: has a parameter `time` of its own; .* history=1"):
        Windows(data, history=0)


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"history": -1}, "history=-1 must be at least 0"),
        ({"history": 0, "parameters": False}, "history=0 and parameters=False: .* not go in"),
        ({"history": 0, "stride": (1, 4)}, r"stride=\[1, 4\] with history=0: .* the same input"),
        ({"history": 0, "first": 9}, "no window of history=0 and horizon=1 frames at stride=1"),
        ({"stride": 0}, "stride=0 must be at least 1"),
        ({"stride": (3, 2)}, r"stride=\[3, 2\] must be a number, or the smallest and the largest"),
        ({"every": 0}, "every=0 must be at least 1"),
        ({"history": 9}, "toy: no window of history=9 and horizon=1 frames at stride=1 fits"),
        (
            {"given": ["speed"]},
            r"given=\['speed'\] must be some of the fields \['velocity', 'depth",
        ),
        ({"given": ["velocity", "depth"]}, "must be some of the fields .* not all"),
        ({"last": 1}, "fits the frames from 0 to 1; the longest trajectory has 9"),
    ],
)
def test_wrong_settings(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Windows(toy(), **settings)


def test_a_window_beyond_the_last_is_refused():
    with pytest.raises(IndexError, match="window 13 of 13"):
        Windows(toy()).__getitems__([13])


def test_the_same_trajectory_in_two_splits_is_a_leak():
    data = toy((5, 5, 5))
    parts = {"train": SomeTrajectories(data, [0, 1]), "test": SomeTrajectories(data, [2])}
    require_apart(parts)
    data.u[2] = data.u[1].clone()
    require_apart(parts)  # its parameter is another
    data.parameters = data.constants = lambda index: torch.ones(1)
    with pytest.raises(ValueError, match="toy: test trajectory 0 begins with the .* train traj"):
        require_apart(parts)
    assert parts["test"].metadata == replace(data.metadata)
