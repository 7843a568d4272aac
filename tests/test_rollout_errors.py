"""Roll-outs of test trajectories: exact steps, known growth of errors, blow-ups, given fields."""

import math

import numpy as np
import pytest
import torch

from datasets.windows import Windows
from sciml.evaluation.rollout import evaluate_rollout
from sciml.evaluation.rollout_errors import (
    RolloutErrors,
    half_width,
    load_rollouts,
    save_rollouts,
    summary,
)
from sciml.evaluation.rollout_tables import rollout_remarks, rollout_rows
from solvers import AllenCahn, Burgers, rollout
from tests.helpers import periodic
from tests.trajectories import DT, Given

OPTIONS = {"prefix": "test", "batch_size": 2, "like": torch.zeros((), dtype=torch.float64)}


def waves(count: int = 3, n: int = 16, fields: int = 1) -> torch.Tensor:
    """Smooth states [count, fields, n] with a mean."""
    x = 2 * math.pi * torch.arange(n).double() / n
    weights = torch.randn(count, fields, 5, generator=torch.Generator().manual_seed(0)).double()
    parts = torch.stack((torch.ones_like(x), x.sin(), x.cos(), (2 * x).sin(), (2 * x).cos()))
    return weights @ parts


def trajectories(factor: float, frames: int, **options) -> Given:
    powers = factor ** torch.arange(frames).double()
    return Given(powers.view(-1, 1, 1) * waves()[:, None], **options)


def test_a_solver_is_a_step_like_any_other():
    """The solver that made the trajectories has no error, and with one substep its own."""
    grid = periodic((32,), (1.0,))
    solver = Burgers(grid, viscosity=0.05, dt=0.02, substeps=8)
    states = rollout(solver, waves(3, 32), 12)
    windows = Windows(Given(states, grid=grid, dt=0.02))
    exact = evaluate_rollout(solver, windows, 1, **OPTIONS)
    assert exact.error.shape == (3, 12) and exact.error.max() < 1e-12
    assert exact.time[0] == pytest.approx(0.02 * np.arange(1, 13))
    coarse = Burgers(grid, viscosity=0.05, dt=0.02, substeps=1)
    found = evaluate_rollout(coarse, windows, 1, **OPTIONS)
    errors = (rollout(coarse, states[:, 0], 12) - states)[:, 1:, 0]
    expected = errors.norm(dim=2) / states[:, 1:, 0].norm(dim=2)
    assert found.error == pytest.approx(expected.numpy(), rel=1e-9)


@pytest.mark.parametrize(
    "history, bundle, stride, first", [(1, 1, 1, 0), (3, 2, 1, 1), (2, 4, 2, 0)]
)
def test_errors_of_a_wrong_factor(history, bundle, stride, first):
    """u_k = 0.9^k u_0 against steps of 0.8 per frame: 1 - (0.8 / 0.9)^k, whatever the bundle, and
    no change is 0.9^-k - 1.
    """
    windows = Windows(trajectories(0.9, 14), history=history, stride=stride, first=first)

    def step(a):
        return torch.cat([0.8 ** (k * stride) * a[:, -1:] for k in range(1, bundle + 1)], dim=1)

    found = evaluate_rollout(step, windows, bundle, **OPTIONS)
    k = stride * np.arange(1, len(range(first, 14, stride)) - history + 1)
    assert found.error == pytest.approx(np.tile(1 - (0.8 / 0.9) ** k, (3, 1)), rel=1e-9)
    assert found.persistence == pytest.approx(np.tile(0.9**-k - 1.0, (3, 1)), rel=1e-9)
    assert found.time == pytest.approx(np.tile(DT * k, (3, 1)))
    assert found.correlation == pytest.approx(np.ones_like(found.error))


def test_trajectories_of_several_lengths():
    windows = Windows(trajectories(0.9, 10, short=4))
    found = evaluate_rollout(lambda a: 0.9 * a, windows, 1, **OPTIONS)
    assert np.isnan(found.error).sum(axis=1).tolist() == [0, 4, 0]
    figures = found.figures()
    assert figures["test/rollout/trajectories"] == 3 and figures["test/rollout/frames"] == 9
    assert figures["test/rollout/relative_l2@9"] < 1e-12
    assert figures["test/rollout/correlated_to_the_end"] == 3
    assert figures["test/rollout/correlation_time"] == pytest.approx(DT * (9 + 5 + 9) / 3)


def test_a_single_frame_is_no_roll_out():
    windows = Windows(trajectories(0.9, 2))
    assert evaluate_rollout(lambda a: a, windows, 1, **OPTIONS) is None


def test_a_map_of_the_time_has_no_roll_out():
    windows = Windows(trajectories(0.9, 5), history=0)
    assert evaluate_rollout(lambda a: a, windows, 1, **OPTIONS) is None


@pytest.mark.parametrize(("every", "rolls"), [(3, True), (4, False)])
def test_a_map_of_the_first_frame_has_no_roll_out(every, rolls):
    windows = Windows(trajectories(0.9, 5), stride=(1, 4), every=every)
    found = evaluate_rollout(lambda a: 0.9 * a[:, :1], windows, 1, **OPTIONS)
    assert (found is not None) == rolls


@pytest.mark.parametrize("bad", ["nan", "growth"])
def test_a_blow_up_is_counted_and_stays(bad):
    """Sample 1 fails at its third frame; the others go on, and the mean is infinite, not NaN."""
    windows = Windows(trajectories(1.0, 8))
    calls = []

    def step(a):
        calls.append(len(a))
        u, failing = a.clone(), len(calls) == 3
        if failing:
            u[1] = torch.nan if bad == "nan" else 1e3 * u[1]
        elif bad == "growth" and len(calls) > 3:
            u[1] /= 1e3  # coming back does not mend it
        return u

    found = evaluate_rollout(step, windows, 1, **{**OPTIONS, "batch_size": 3})
    assert np.isfinite(found.error).sum(axis=1).tolist() == [7, 2, 7]
    assert not np.isnan(found.error).any() and (found.correlation[1, 2:] == 0).all()
    figures = found.figures()
    assert figures["test/rollout/relative_l2@2"] < 1e-12
    assert figures["test/rollout/relative_l2@5"] == math.inf
    assert figures["test/rollout/median@5"] < 1e-12
    assert figures["test/rollout/blown_up@7"] == 1 and found.blown_up == 1
    assert "test/rollout/half_width@7" not in figures
    assert "1 of 3 blew up" in summary(found)
    assert any("1 roll-out(s) blew up" in text for text in rollout_remarks({"16": found}))


def test_the_correlation_time_never_counts_the_input():
    """A wave that turns: the correlation after k frames is cos(k angle), the mean does not help."""
    n, angle = 32, 0.25
    x = 2 * math.pi * torch.arange(n).double() / n
    states = torch.stack([5 + torch.cos(x - angle * k) for k in range(12)])[None, :, None]
    windows = Windows(Given(states), history=2)
    found = evaluate_rollout(lambda a: a[:, -1:], windows, 1, **OPTIONS)
    assert found.correlation[0] == pytest.approx(np.cos(angle * np.arange(1, 11)), abs=1e-9)
    times, lasting = found.correlation_times()
    assert times == pytest.approx([DT * 2]) and not lasting[0]  # cos(0.5) = 0.88, cos(0.75) = 0.73
    assert found.error == pytest.approx(found.persistence)
    lost = evaluate_rollout(lambda a: -a[:, -1:], windows, 1, **OPTIONS)
    assert lost.correlation_times()[0] == [0.0]


def test_where_the_truth_is_constant_there_is_no_correlation():
    states = torch.ones(1, 5, 1, 8, dtype=torch.float64)
    found = evaluate_rollout(lambda a: a, Windows(Given(states)), 1, **OPTIONS)
    assert np.isnan(found.correlation).all() and found.correlation_times()[1].all()
    zero = evaluate_rollout(lambda a: a, Windows(Given(0 * states)), 1, **OPTIONS)
    assert zero.at(1).size == 0 and "test/rollout/relative_l2@1" not in zero.figures()


def test_given_fields_come_from_the_data():
    """v is the time; u grows by it."""
    time = torch.arange(6).double().view(1, 6, 1, 1).expand(3, 6, 1, 16)
    u = waves()[:, None] + time.cumsum(dim=1) - time
    windows = Windows(Given(torch.cat((u, time), dim=2)), given=["v"])
    found = evaluate_rollout(lambda a: a[:, :1] + a[:, 1:], windows, 1, **OPTIONS)
    assert found.error.shape == (3, 5) and found.error.max() < 1e-12


def test_lead_times_are_those_of_each_step():
    """At times t = k^2 DT, u = u_0 exp(-t) by steps of the time that the last channel says."""
    data = Given(torch.empty(3, 6, 1, 16, dtype=torch.float64))
    data.uneven = True
    times = torch.as_tensor(data.times(0))
    data.states = torch.exp(-times).view(-1, 1, 1) * waves()[:, None]
    windows = Windows(data)
    found = evaluate_rollout(lambda a: a[:, :1] * torch.exp(-a[:, 1:]), windows, 1, **OPTIONS)
    assert found.error.max() < 1e-12 and found.time[0] == pytest.approx(times[1:].numpy())


def test_two_dimensions_with_walls_and_constants():
    from solvers import Grid

    grid = Grid.box((6, 5), boundary="neumann")
    solver = AllenCahn(grid, diffusivity=1e-2, dt=0.1)
    u = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    data = Given(rollout(solver, u, 5), grid=grid, constants=u)
    found = evaluate_rollout(lambda a: solver(a[:, :1]), Windows(data), 1, **OPTIONS)
    assert found.error.shape == (2, 5) and found.error.max() < 1e-12


def errors(values: list[list[float]]) -> RolloutErrors:
    error = np.array(values)
    time = np.tile(np.arange(1.0, 1 + error.shape[1]), (len(error), 1))
    return RolloutErrors("test", time, error, 2 * error, 1 - error)


def test_intervals_are_over_trajectories():
    from scipy import stats

    values = np.array([0.1, 0.3, 0.2, 0.25])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)
    found = errors([[v, 2 * v] for v in values])
    assert found.figures()["test/rollout/half_width@2"] == pytest.approx(high - low)
    assert math.isnan(half_width(values[:1]))


def test_saved_and_loaded_and_tabled(tmp_path):
    found = {"16": errors([[0.01, 0.02], [0.03, math.inf]]), "32": errors([[0.1, 0.3]])}
    save_rollouts(tmp_path / "rollouts.npz", found)
    loaded = load_rollouts(tmp_path / "rollouts.npz")
    for name, one in found.items():
        assert loaded[name].prefix == "test" and np.array_equal(loaded[name].error, one.error)
    rows = rollout_rows(loaded)
    assert [row["resolution"] for row in rows] == ["16", "16", "32", "32"]
    assert rows[0]["figures"][3:5] == ["2.00", "± 12.71"]
    assert rows[1]["figures"][3] == "∞" and rows[1]["figures"][-1] == "1"
