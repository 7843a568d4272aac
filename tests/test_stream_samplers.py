"""Parameters that are chosen: inside their bounds, a third of them uniform, where it pays."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from datasets.stream import Breed, GaussianProcess, Sobol
from sciml.run import run
from sciml.runtime.interruption import Interrupted
from sciml.runtime.run_folder import RunFolder
from solvers import LogUniform, Uniform
from tests.helpers import compose, equal, weights
from tests.streams import online
from tests.test_stream_resume import train  # noqa: F401

BOX = {"a": Uniform(-1.0, 3.0), "b": LogUniform(0.01, 1.0)}
LEARNING = {
    "breed": lambda **o: Breed(**{"rise": 50, **o}),
    "upper": lambda **o: GaussianProcess(acquisition="upper", chosen=0.7, memory=60, **o),
}


def started(sampler, seed=0):
    sampler.start(BOX, seed=seed)
    return sampler


def hard(point: np.ndarray) -> float:
    """Errors of a model that fails near one place of the unit square."""
    return 0.1 + 10 * np.exp(-((point - (0.8, 0.3)) ** 2).sum() / (2 * 0.1**2))


def play(sampler, count: int, tell: bool = True, error=hard) -> np.ndarray:
    """Points of `count` simulations, each told four samples' errors when the next is chosen."""
    for i in range(count):
        sampler.choose(i)
        if tell:
            recent = np.arange(max(0, i - 15), i + 1)
            sampler.observe(recent, np.array([error(sampler.points[k]) for k in recent]))
    return np.array([sampler.points[i] for i in range(count)])


def near(points: np.ndarray) -> float:
    return float((((points - (0.8, 0.3)) ** 2).sum(axis=1) < 0.2**2).mean())


@pytest.mark.parametrize("each", BOX.values(), ids=BOX)
def test_quantiles_turn_uniform_numbers_into_the_distribution(each):
    generators = [torch.Generator().manual_seed(i) for i in range(50)]
    chances = [torch.rand(1, generator=g, dtype=torch.float64).item() for g in generators]
    drawn = each.sample([torch.Generator().manual_seed(i) for i in range(50)])
    torch.testing.assert_close(torch.tensor([each.quantile(p) for p in chances]).double(), drawn)
    assert (each.quantile(0.0), each.quantile(1.0)) == (each.low, pytest.approx(each.high))


def test_sobol_is_the_sequence_and_more_even_than_chance():
    sampler = started(Sobol())
    points = play(sampler, 64)
    whole = qmc.Sobol(2, scramble=True, rng=np.random.default_rng(0)).random(64)
    assert np.array_equal(points, whole)
    again = started(Sobol())
    assert again.choose(37) == sampler.choose(37)
    chance = np.random.default_rng(1).random((64, 2))
    assert qmc.discrepancy(points) < 0.2 * qmc.discrepancy(chance)


@pytest.mark.parametrize("kind", LEARNING)
def test_hard_regions_are_simulated_more_often_and_a_third_stays_uniform(kind):
    sampler = started(LEARNING[kind]())
    points = play(sampler, 240)
    chosen = np.array([sampler.kinds[i] == "chosen" for i in range(240)])
    assert ((points >= 0) & (points < 1)).all() and 0.3 <= (~chosen).mean() < 0.6
    assert near(points[chosen]) > 3 * near(points[~chosen])
    blind = started(LEARNING[kind]())  # the control
    points = play(blind, 240, tell=False)
    assert set(blind.kinds.values()) == {"uniform"} and near(points) < 0.25


def test_the_uniform_share_holds_over_many_choices():
    sampler = started(Breed(first=0.7, last=0.7))
    play(sampler, 2000, error=lambda point: 1.0)
    uniform = np.cumsum([kind == "uniform" for kind in sampler.kinds.values()])
    assert (uniform >= 0.3 * np.arange(1, 2001)).all() and uniform[-1] < 0.34 * 2000


def test_variance_fills_the_space_better_than_chance():
    """The largest hole, as a distance, among points that were chosen."""
    sampler = started(GaussianProcess(chosen=0.7, memory=100))
    play(sampler, 100, error=lambda point: 1 + 0.3 * np.sin(6 * point.sum()))
    points = np.array([p for i, p in sampler.points.items() if sampler.kinds[i] == "chosen"])
    probes = np.random.default_rng(5).random((2000, 2))
    holes = [
        cdist(probes, np.random.default_rng(seed).random(points.shape)).min(axis=1).max()
        for seed in range(20)
    ]
    assert cdist(probes, points).min(axis=1).max() < np.median(holes)


@pytest.mark.parametrize("make", [*LEARNING.values(), lambda: Sobol()], ids=[*LEARNING, "sobol"])
def test_a_sampler_goes_on_as_it_was(make, tmp_path):
    one, other = started(make()), started(make())
    play(one, 40)
    torch.save(one.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for i in range(40, 60):
        assert one.choose(i) == other.choose(i)
        for sampler in (one, other):
            sampler.observe(np.array([i]), np.array([hard(sampler.points[i])]))
    different = started(make(), seed=1)
    assert different.choose(60) != one.choose(60)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "sampler",
    ["breed", pytest.param("sobol", marks=SLOW), pytest.param("gaussian_process", marks=SLOW)],
)
def test_runs_with_chosen_parameters_repeat_and_go_on(train, tmp_path, sampler):  # noqa: F811
    chosen = [f"online/sampler={sampler}", "data.counts={train: 24, valid: 3, test: 3}"]
    if sampler == "breed":
        chosen += ["online.sampler.first=0.7"]
    whole = train("whole", "online=inproc", *chosen)
    assert equal(weights(whole), weights(train("local", "online=local", *chosen)))
    with pytest.raises(Interrupted):
        train("part", "online=inproc", *chosen, stop_at=60)
    last = f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt"
    assert equal(weights(whole), weights(train("rest", "online=inproc", *chosen, last)))
    drawn = train("drawn", "online=inproc", chosen[1])
    assert not equal(weights(whole), weights(drawn))


def test_errors_reach_the_sampler(tmp_path, monkeypatch):
    """The mean over simulations of what it was told is about 1, as errors are relative."""
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)
    kept = []
    monkeypatch.setattr(Breed, "propose", lambda self, i, random: kept.append(self) and None)
    small = ["model=fully_connected", "model.hidden=[16]", "batch_size=4", "trainer.max_epochs=2"]
    plate = ["data=heated_plate", "data.resolution=8", "data.pde.num_steps=6"]
    config = compose(
        [*plate, *small, "online=inproc", "online/sampler=breed", "online.sampler.first=0.7"]
        + ["data.counts={train: 20, valid: 3, test: 3}", f"data_dir={tmp_path}"]
        + ["online.buffer.capacity=40"]
    )
    run(config, RunFolder(tmp_path / "run"))
    _, errors = kept[-1].latest(100)
    assert len(errors) > 5 and 0.5 < errors.mean() < 2 and errors.std() > 0.05


def test_what_cannot_be_chosen_is_said(tmp_path):
    with pytest.raises(ValueError, match="no parameters, only random fields.*as_drawn"):
        online(tmp_path, "online/sampler=sobol", problem=("data=burgers_decay",))
    with pytest.raises(ValueError, match=r"last=0.8 must lie between 0 and 0.7: at least 30 %"):
        Breed(last=0.8)
    with pytest.raises(ValueError, match=r"chosen=0.71 must lie between"):
        GaussianProcess(chosen=0.71)
    with pytest.raises(ValueError, match="acquisition='best': variance or upper"):
        GaussianProcess(acquisition="best")
