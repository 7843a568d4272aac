"""Parameters that are chosen: inside their bounds, a third of them uniform, where it pays."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from datasets.stream import Breed, GaussianProcess, Sobol
from datasets.stream.stream import Stream
from sciml.losses import RelativeL2
from sciml.run import run
from sciml.runtime.feedback import Feedback
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


def play(sampler, count: int, tell: bool = True, error=hard, late: int = 0) -> np.ndarray:
    """Points of `count` simulations. Before the next one is chosen the errors of 16 are told, the
    youngest of which has `late` younger ones beside it: they are still on their way.
    """
    for i in range(count):
        sampler.choose(i)
        if tell and i >= late:
            known = np.arange(max(0, i - late - 15), i - late + 1)
            sampler.observe(known, np.array([error(sampler.points[k]) for k in known]))
    return np.array([sampler.points[i] for i in range(count)])


def chosen(sampler) -> np.ndarray:
    """Points that are not uniform."""
    return np.array([p for i, p in sampler.points.items() if sampler.kind(i) == "chosen"])


def concentration(points: np.ndarray) -> float:
    """Density about the hard place, that of uniform points is 1."""
    inside = ((points - (0.8, 0.3)) ** 2).sum(axis=1) < 0.2**2
    return float(inside.mean() / (np.pi * 0.2**2))


def hole(points: np.ndarray) -> float:
    """Distance of the emptiest place from the next point."""
    probes = np.random.default_rng(5).random((2000, 2))
    return cdist(probes, points).min(axis=1).max()


@pytest.mark.parametrize("each", BOX.values(), ids=BOX)
def test_quantiles_turn_uniform_numbers_into_the_distribution(each):
    generators = [torch.Generator().manual_seed(i) for i in range(50)]
    chances = [torch.rand(1, generator=g, dtype=torch.float64).item() for g in generators]
    drawn = each.sample([torch.Generator().manual_seed(i) for i in range(50)])
    torch.testing.assert_close(torch.tensor([each.quantile(p) for p in chances]).double(), drawn)
    assert (each.quantile(0.0), each.quantile(1.0)) == (each.low, pytest.approx(each.high))
    assert stats.kstest(drawn.numpy(), each.cdf).pvalue > 0.05


@pytest.mark.parametrize("each", BOX.values(), ids=BOX)
def test_cdf_is_the_inverse_of_quantile_of_numbers_arrays_and_tensors(each):
    p = np.linspace(0, 1, 11)
    for chances in (p, torch.from_numpy(p), torch.from_numpy(p).view(11, 1)):
        values = each.quantile(chances)
        assert type(values) is type(each.cdf(values)) is type(chances)
        np.testing.assert_allclose(each.cdf(values), chances, atol=1e-12)
    assert each.cdf(each.quantile(0.3)) == pytest.approx(0.3)
    assert (np.diff(each.quantile(p)) > 0).all()


def test_sobol_is_the_sequence_and_more_even_than_chance():
    sampler = started(Sobol())
    points = play(sampler, 64)
    whole = qmc.Sobol(2, scramble=True, rng=np.random.default_rng(0)).random(64)
    assert np.array_equal(points, whole)
    again = started(Sobol())
    assert again.choose(37) == sampler.choose(37)
    chance = np.random.default_rng(1).random((64, 2))
    assert qmc.discrepancy(points) < 0.2 * qmc.discrepancy(chance)


@pytest.mark.parametrize("late", [0, 32])
@pytest.mark.parametrize("kind", LEARNING)
def test_hard_regions_are_simulated_more_often_and_a_third_stays_uniform(kind, late):
    """Also where errors are known 32 simulations late."""
    sampler = started(LEARNING[kind]())
    points = play(sampler, 240, late=late)
    assert ((points >= 0) & (points < 1)).all()
    uniform = np.array([sampler.kind(i) == "uniform" for i in range(240)])
    assert 0.3 <= uniform.mean() < 0.6
    assert concentration(points[~uniform]) > 3 and concentration(points[uniform]) < 1.6


@pytest.mark.parametrize("kind", LEARNING)
def test_without_errors_all_is_uniform(kind):
    """The control; errors that are all the same, or none, teach nothing either."""
    blind = started(LEARNING[kind]())
    points = play(blind, 240, tell=False)
    assert {blind.kind(i) for i in range(240)} == {"uniform"}
    assert concentration(points) == pytest.approx(1, abs=0.4)
    for nothing in (0.0, np.nan, np.inf):
        play(blind, 20, error=lambda point, e=nothing: e)
        assert {blind.kind(i) for i in range(20)} == {"uniform"}
    flat = started(LEARNING[kind]())
    play(flat, 240, error=lambda point: 1.0)
    assert len(chosen(flat)) > 60 and concentration(chosen(flat)) < 1.8


def test_a_sample_without_an_error_does_not_count():
    sampler = started(Breed())
    for i in range(3):
        sampler.choose(i)
    sampler.observe(np.array([0, 1, 1, 2]), np.array([1.0, 3.0, np.nan, np.nan]))
    points, errors = sampler.latest(10)
    assert errors.tolist() == [0.5, 1.5] and np.array_equal(points[1], sampler.points[1])
    assert np.array_equal(sampler.pending(10), [sampler.points[2]])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_uniform_share_holds_over_many_choices(seed):
    """Of any beginning, at the largest share that may be chosen; and it is not more than asked."""
    sampler = started(Breed(first=0.7, last=0.7), seed)
    play(sampler, 2000, error=lambda point: 1.0)
    uniform = np.array([sampler.kind(i) == "uniform" for i in range(2000)])
    assert (uniform.cumsum() >= 0.3 * np.arange(1, 2001)).all() and uniform.sum() == 600
    other = started(Breed(first=0.7, last=0.7), seed)  # what is uniform does not follow errors
    play(other, 2000)
    assert np.array_equal(uniform, [other.kind(i) == "uniform" for i in range(2000)])
    rising = started(Breed(first=0.0, last=0.4, rise=1000), seed)
    play(rising, 2000)
    grown = np.array([rising.kind(i) == "chosen" for i in range(2000)])
    assert grown[:1000].mean() == pytest.approx(0.2, abs=0.04)
    assert grown[1000:].mean() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("late", [0, 16])
def test_variance_fills_the_space_better_than_chance(late):
    """Also where simulations are on their way, which count as if their errors were known."""
    sampler = started(GaussianProcess(chosen=0.7, memory=100))
    play(sampler, 100, error=lambda point: 1 + 0.3 * np.sin(6 * point.sum()), late=late)
    points = chosen(sampler)
    chance = [hole(np.random.default_rng(seed).random(points.shape)) for seed in range(20)]
    assert hole(points) < 0.9 * np.median(chance) and hole(points) < np.quantile(chance, 0.3)


def test_without_simulations_on_their_way_those_of_one_moment_are_alike(monkeypatch):
    """The control."""
    monkeypatch.setattr(GaussianProcess, "pending", lambda self, count: np.empty((0, 2)))
    sampler = started(GaussianProcess(chosen=0.7, memory=100))
    play(sampler, 100, error=lambda point: 1 + 0.3 * np.sin(6 * point.sum()), late=16)
    points = chosen(sampler)
    assert hole(points) > hole(np.random.default_rng(0).random(points.shape))


def test_no_global_random_numbers_are_drawn():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    play(started(LEARNING["upper"]()), 30)
    play(started(Breed(first=0.7)), 30)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


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
    assert one.history() == other.history()
    for i, parameters, kind in one.history():
        cube = [BOX[name].cdf(value) for name, value in parameters.items()]
        np.testing.assert_allclose(cube, one.points[i], atol=1e-12)
        assert all(each.low <= parameters[name] <= each.high for name, each in BOX.items())
        assert kind == one.kind(i)
    different = started(make(), seed=1)
    assert different.choose(60) != one.choose(60)


def state(folder) -> dict:
    """That of the sampler of a run, at its end."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return last["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["sampler"]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "sampler",
    ["breed", pytest.param("sobol", marks=SLOW), pytest.param("gaussian_process", marks=SLOW)],
)
def test_runs_with_chosen_parameters_repeat_and_go_on(train, tmp_path, sampler):  # noqa: F811
    settings = [f"online/sampler={sampler}", "data.counts={train: 24, valid: 3, test: 3}"]
    if sampler == "breed":
        settings += ["online.sampler.first=0.7"]
    whole = train("whole", "online=inproc", *settings)
    if sampler != "sobol":  # otherwise nothing had been learned that could be forgotten
        assert "chosen" in state(whole)["kinds"].values()
    assert equal(weights(whole), weights(train("local", "online=local", *settings)))
    with pytest.raises(Interrupted):
        train("part", "online=inproc", *settings, stop_at=60)
    last = f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt"
    assert equal(weights(whole), weights(train("rest", "online=inproc", *settings, last)))
    drawn = train("drawn", "online=inproc", settings[1])
    assert not equal(weights(whole), weights(drawn))


PLATE = ("data=heated_plate", "data.resolution=8", "data.pde.num_steps=6")
LITTLE = ("model=fully_connected", "model.hidden=[16]", "batch_size=4", "trainer.max_epochs=2")


def breed(tmp_path, monkeypatch, *overrides) -> Breed:
    """The sampler of a run after it."""
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)
    kept = []
    start = Breed.start
    monkeypatch.setattr(
        Breed, "start", lambda self, *a, **k: (kept.append(self), start(self, *a, **k))[1]
    )
    config = compose(
        [*PLATE, *LITTLE, "online=inproc", "online/sampler=breed", "online.sampler.first=0.7"]
        + ["data.counts={train: 40, valid: 4, test: 4}", f"data_dir={tmp_path}"]
        + ["online.buffer.capacity=40", *overrides]
    )
    run(config, RunFolder(tmp_path / "run"))
    return kept[-1]


def test_errors_reach_the_sampler(tmp_path, monkeypatch):
    """The mean over simulations of what it was told is about 1, as errors are relative."""
    sampler = breed(tmp_path, monkeypatch)
    _, errors = sampler.latest(100)
    assert len(errors) == 40 and 0.5 < errors.mean() < 2 and errors.std() > 0.05
    assert len(chosen(sampler)) > 4


def test_without_the_callback_nothing_is_learned(tmp_path, monkeypatch):
    """The control."""
    monkeypatch.setattr("sciml.runtime.training.feedback", lambda data: [])
    sampler = breed(tmp_path, monkeypatch)
    assert len(sampler.points) == 40 and len(chosen(sampler)) == 0


@pytest.mark.parametrize(
    "method",
    [
        pytest.param((), marks=pytest.mark.slow),
        ("curvature=kfac", "curvature.factor_period=1", "curvature.samples=null"),
        pytest.param(("curvature=newton_cg",), marks=pytest.mark.slow),
        pytest.param(("optimizer=lbfgs", "curvature=none"), marks=pytest.mark.slow),
    ],
    ids=["default", "kfac", "newton_cg", "lbfgs"],
)
def test_one_call_a_step_is_heard(tmp_path, monkeypatch, method):
    """Not those of curvature methods, line searches and the validation."""
    heard, told, note, observe = [], [], Feedback._note, Stream.observe

    def count(self, module, arguments, errors):
        before = len(self._found)
        note(self, module, arguments, errors)
        heard.append(len(self._found) - before)

    def tell(self, errors):
        told.append(errors)
        observe(self, errors)

    monkeypatch.setattr(Feedback, "_note", count)
    monkeypatch.setattr(Stream, "observe", tell)
    breed(tmp_path, monkeypatch, *method)
    assert sum(heard) == len(told) > 100 and len(heard) > len(told)
    assert all(e.shape == (4,) and (e > 0).all() for e in told)


def step(loss: torch.nn.Module, calls) -> list[torch.Tensor]:
    """What a stream is told of a batch of three samples in which `loss` is called like that."""
    told = []
    stream = SimpleNamespace(observe=told.append, intake=SimpleNamespace(sampler=started(Breed())))
    task, feedback = SimpleNamespace(loss=loss), Feedback(stream)
    batch = SimpleNamespace(target=torch.zeros(3, 2, 4))
    feedback.on_fit_start(None, task)
    loss(torch.full((3, 2, 4), 9.0), torch.ones(3, 2, 4), None)  # of a validation
    feedback.on_train_batch_start(None, task, batch, 0)
    for prediction, target in calls:
        loss(prediction, target, None)
    feedback.on_before_backward(None, task, None)
    loss(torch.full((3, 2, 4), 9.0), torch.ones(3, 2, 4), None)  # of a curvature method
    feedback.on_train_batch_end(None, task, None, batch, 0)
    feedback.on_fit_end(None, task)
    assert not loss._forward_hooks
    return told


class PerSample(torch.nn.Module):
    """Errors without an axis of channels."""

    def forward(self, prediction, target, grid):
        return (prediction - target).abs().flatten(1).mean(dim=1)


class Whole(torch.nn.Module):
    """One number for all."""

    def forward(self, prediction, target, grid):
        return (prediction - target).abs().mean()


def test_what_a_stream_is_told():
    ones, size = torch.ones(3, 2, 4), torch.tensor([1.0, 2.0, 3.0])
    off = ones * (1 + size.view(3, 1, 1))
    for loss in (RelativeL2(), PerSample()):
        (told,) = step(loss, [(off, ones)])
        torch.testing.assert_close(told, size)
        (told,) = step(loss, [(off, ones), (ones, ones), (off[:2], ones[:2])])
        torch.testing.assert_close(told, size / 2)  # of the calls for the whole batch
    still = ones.clone()
    still[0, 1], still[1] = 0, 0  # a channel and a sample that have no relative error
    (told,) = step(RelativeL2(), [(off, still)])
    torch.testing.assert_close(told, torch.tensor([1.0, torch.nan, 3.0]), equal_nan=True)


def test_a_loss_that_knows_no_samples_is_refused():
    with pytest.raises(ValueError, match="Breed follows the loss of each sample.*as_drawn"):
        step(PerSample(), [])
    with pytest.raises(ValueError, match="of which the training computed none"):
        step(Whole(), [(torch.ones(3, 2, 4), torch.ones(3, 2, 4))])


def test_what_cannot_be_chosen_is_said(tmp_path):
    with pytest.raises(ValueError, match="no parameters, only random fields.*as_drawn"):
        online(tmp_path, "online/sampler=sobol", problem=("data=burgers_decay",))
    with pytest.raises(ValueError, match=r"last=0.8 must lie between 0 and 0.7: at least 30 %"):
        Breed(last=0.8)
    with pytest.raises(ValueError, match=r"chosen=0.71 must lie between"):
        GaussianProcess(chosen=0.71)
    with pytest.raises(ValueError, match="acquisition='best': variance or upper"):
        GaussianProcess(acquisition="best")


def test_what_has_no_parameters_is_said_first(tmp_path):
    problem = ("data=darcy", "data.resolution=8")
    with pytest.raises(ValueError, match="no parameters, only random fields"):
        online(tmp_path, "online/sampler=breed", "online.clients=4", problem=problem)


@pytest.mark.parametrize(("count", "enough"), [(9, False), (10, True)])
def test_a_study_in_which_nothing_could_be_chosen_is_refused(tmp_path, count, enough):
    small = (f"data.counts={{train: {count}, valid: 2, test: 2}}", "online.clients=2")
    chosen = (*small, "online.buffer.capacity=64", "online.watermark=32")  # of 5 1/3 simulations
    online(tmp_path, *chosen, "online/sampler=sobol")
    if enough:
        online(tmp_path, *chosen, "online/sampler=breed")
        return
    with pytest.raises(ValueError, match="9 simulations are chosen before the first training step"):
        online(tmp_path, *chosen, "online/sampler=breed")
