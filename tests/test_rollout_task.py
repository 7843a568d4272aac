"""Roll-outs in training: the right frames, statistics and gradients, whatever the way to unroll."""

import pytest
import torch
from torch import nn

from datasets.normalize import Normalizer, fit
from datasets.schema import Batch, Field, Frames, Metadata
from datasets.steps import Steps, advance, last_frame
from datasets.windows import Windows
from sciml.losses import RelativeL2
from sciml.tasks import Constant, Pushforward, Rollout, TeacherForcing, ThroughTime
from solvers.grid import Grid
from tests.trajectories import Given

DECAY = 0.9
WAYS = [TeacherForcing(), ThroughTime(), ThroughTime(last=2), Pushforward()]


def decaying(frames: int = 9, count: int = 3) -> Given:
    """u_(k+1) = DECAY u_k + source, with the source as constant field, two components."""
    generator = torch.Generator().manual_seed(0)
    u, source = torch.randn(2, count, 2, 8, generator=generator, dtype=torch.float64)
    states = [u]
    for _ in range(frames - 1):
        states.append(DECAY * states[-1] + source)
    return Given(torch.stack(states, dim=1), constants=source)


class Exact(nn.Module):
    """The exact step between normalised fields; `factor` is learnt."""

    def __init__(self, ins: Normalizer, outs: Normalizer, frames: Frames, increments=False):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(DECAY, dtype=torch.float64))
        self.ins, self.outs, self.frames, self.increments = [ins], [outs], frames, increments
        self.calls = 0

    def forward(self, v):
        self.calls += 1
        a, c = self.ins[0].inverse(v), self.frames.channels
        end = self.frames.history * c
        first = u = a[:, end - c : end]
        coming = []
        for _ in range(self.frames.horizon):
            u = self.factor * u + a[:, end:]
            coming.append(u - first if self.increments else u)
        return self.outs[0](torch.cat(coming, dim=1))


def task(windows: Windows, bundle: int = 1, unroll=None, increments: bool = False, **options):
    steps = Steps(windows, bundle, increments=increments)
    ins, outs = (n.double() for n in fit(steps))
    return Rollout(
        Exact(ins, outs, steps.frames, increments),
        windows.metadata,
        bundle=bundle,
        unroll=unroll or ThroughTime(),
        increments=increments,
        loss=RelativeL2(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        schedule=Constant(),
        input_normalizer=ins,
        target_normalizer=outs,
        **options,
    )


def whole(windows: Windows) -> Batch:
    return windows.__getitems__(range(len(windows)))


@pytest.mark.parametrize("increments", [False, True])
@pytest.mark.parametrize("history, bundle, steps", [(1, 1, 4), (2, 1, 3), (1, 3, 2), (3, 2, 2)])
@pytest.mark.parametrize("unroll", WAYS, ids=lambda way: type(way).__name__)
def test_the_exact_step_has_no_loss_after_any_number_of_steps(
    history, bundle, steps, unroll, increments
):
    windows = Windows(decaying(), history=history, horizon=bundle * steps)
    module, batch = task(windows, bundle, unroll, increments), whole(windows)
    assert module.training_loss(batch) < 1e-12
    torch.testing.assert_close(module(batch.input), batch.target, rtol=1e-12, atol=1e-12)


def test_the_roll_out_is_the_step_repeated():
    windows = Windows(decaying(), history=2, horizon=4)
    module, batch = task(windows, 2), whole(windows)
    module.model.factor.data += 0.3
    first = module.step(batch.input)
    a = torch.cat((first[:, :4], batch.input[:, 4:]), dim=1)  # two frames in, two frames out
    torch.testing.assert_close(module(batch.input), torch.cat((first, module.step(a)), dim=1))
    module.model.calls = 0
    module(batch.input)
    assert module.model.calls == 2


def test_teacher_forcing_is_the_mean_of_single_steps():
    windows = Windows(decaying(), horizon=3)
    module = task(windows, unroll=TeacherForcing())
    module.model.factor.data += 0.3
    steps = Steps(windows, 1)
    pairs = steps.__getitems__(range(len(steps)))
    error = (module.step(pairs.input) - pairs.target).flatten(2).norm(dim=2)
    expected = (error / pairs.target.flatten(2).norm(dim=2)).mean()
    torch.testing.assert_close(module.training_loss(whole(windows)), expected)


def slope(module: Rollout, batch: Batch) -> float:
    module.model.factor.grad = None
    module.training_loss(batch).backward()
    return module.model.factor.grad.item()


def test_gradients_go_back_through_time():
    """As a difference of the loss says."""
    windows = Windows(decaying(), horizon=4)
    module, batch = task(windows), whole(windows)
    factor = module.model.factor
    factor.data += 0.05
    found = slope(module, batch)
    with torch.no_grad():
        factor += 1e-6
        above = module.training_loss(batch)
        factor -= 2e-6
        below = module.training_loss(batch)
    assert found == pytest.approx(((above - below) / 2e-6).item(), rel=1e-6)


@pytest.mark.parametrize("way", ["last", "pushforward"])
def test_steps_that_run_free_leave_no_gradient(way, monkeypatch):
    """The loss is that of the last step, the slope that of the model there with a fixed input."""
    windows = Windows(decaying(), horizon=4)
    unroll = ThroughTime(last=1) if way == "last" else Pushforward()
    module, batch = task(windows, unroll=unroll), whole(windows)
    module.model.factor.data += 0.05
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor(high - 1))
    found = slope(module, batch)
    a = batch.input
    for _ in range(3):
        a = advance(a, module.step(a), module.frames).detach()
    module.model.factor.grad = None
    u = batch.target[:, 6:]
    error = (module.step(a) - u).flatten(2).norm(dim=2) / u.flatten(2).norm(dim=2)
    error.mean().backward()
    assert found == pytest.approx(module.model.factor.grad.item(), rel=1e-12)
    full = slope(task(windows), batch)
    assert found != pytest.approx(full, rel=1e-3)


def test_pushforward_draws_every_length_and_repeats_with_the_seed():
    windows = Windows(decaying(), horizon=3)
    module, batch = task(windows, unroll=Pushforward()), whole(windows)
    module.model.factor.data += 0.05

    def losses():
        torch.manual_seed(0)
        return [module.training_loss(batch).item() for _ in range(30)]

    found = losses()
    assert len({round(loss, 10) for loss in found}) == 3
    assert losses() == found


def test_noise_enters_frames_alone_in_units_of_their_deviation():
    windows = Windows(decaying(), history=2)
    module, batch = task(windows, noise=0.5), whole(windows)
    seen = []
    module.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]))
    many = Batch(*(u.repeat(200, 1, 1) for u in batch[:2]), *batch[2:])
    module.training_loss(many)
    noise = seen[0] - module.input_normalizer(many.input)
    assert noise[:, :4].std(dim=(0, 2)) == pytest.approx(torch.full((4,), 0.5), rel=0.03)
    assert (noise[:, 4:] == 0).all()
    torch.testing.assert_close(module(batch.input), batch.target)  # not outside of training


def test_statistics_are_those_of_single_steps():
    """A frame leaves with one mean and deviation wherever it lies in the window."""
    windows = Windows(decaying(), horizon=4)
    steps = Steps(windows, 1)
    ins, outs = fit(steps)
    batch = whole(windows)
    frames = batch.target.unflatten(1, (4, 2))
    torch.testing.assert_close(outs.mean, frames.mean(dim=(0, 1, 3)))
    torch.testing.assert_close(outs.std, frames.std(dim=(0, 1, 3), correction=0))
    entering = torch.cat((batch.input[:, None, :2], frames[:, :3]), dim=1)
    torch.testing.assert_close(ins.mean[:2], entering.mean(dim=(0, 1, 3)))
    assert steps.metadata.out_channels == 2 and steps.metadata.window == Frames(1, 1, 2, 0.5)
    assert [f.name for f in steps.metadata.target_fields] == ["u", "v"]


def test_increments_are_named_and_measured():
    windows = Windows(decaying(), horizon=4)
    steps = Steps(windows, 2, increments=True)
    pair = steps.__getitems__([3])  # second step of the second window
    batch = windows.__getitems__([1])
    change = batch.target[:, 4:] - batch.target[:, 2:4].repeat(1, 2, 1)
    torch.testing.assert_close(pair.target, change)
    torch.testing.assert_close(last_frame(pair.input, steps.frames)[:, :2], batch.target[:, 2:4])
    names = [f.name for f in steps.metadata.target_fields]
    assert names[0] == "change of u[+1]" and len(names) == 4


def test_what_does_not_fit_is_refused():
    data = decaying()
    with pytest.raises(ValueError, match=r"task.bundle=2 must divide .*horizon=3"):
        task(Windows(data, horizon=3), 2)
    given = Windows(data, horizon=2, given=["v"])
    with pytest.raises(ValueError, match=r"set data.window.given=\[\]"):
        task(given)
    assert Steps(given, 2).metadata.out_channels == 2  # one step needs nothing fed back
    with pytest.raises(ValueError, match="increments=true needs every field"):
        Steps(given, 2, increments=True)
    steady = Metadata("map", (Field("a"),), (Field("u"),), Grid.box((8,)))
    with pytest.raises(ValueError, match="a steady map has no steps"):
        Rollout.pairs(type("Pairs", (), {"metadata": steady}), {"bundle": 1, "increments": False})
    data.uneven = True
    with pytest.raises(ValueError, match="uneven times"):
        task(Windows(data, horizon=2))
    with pytest.raises(ValueError, match="noise=-1"):
        task(Windows(decaying()), noise=-1.0)
    with pytest.raises(ValueError, match="last=0"):
        ThroughTime(last=0)


def test_lead_times_of_a_range_of_strides_hold_for_every_step():
    windows = Windows(decaying(), horizon=2, stride=(1, 3))
    assert Steps(windows, 1).metadata.window.lead == 4
    pair = Steps(windows, 1).__getitems__([2 * (len(windows) - 1) + 1])
    assert (pair.input[:, 4] == 1.5).all()
