"""K-FAC as an optimizer: in training loops, on several processes, with bad input."""

import copy
import math

import pytest
import torch
from lightning import Trainer
from torch import distributed as dist
from torch import multiprocessing, nn

from datasets import DataModule
from sciml.curvature import EKFAC, KFAC, AdaHessian
from sciml.losses import MeanSquaredError, RelativeL2
from sciml.models import FNO
from sciml.tasks import Constant
from solvers.grid import Grid
from tests.gauss_newton import Problem, close
from tests.helpers import smooth_pairs
from tests.test_tasks import QUIET, learner, pairs  # noqa: F401

GRID = Grid.box((8, 8), boundary="periodic", points="left")


def small(seed: int = 0) -> FNO:
    torch.manual_seed(seed)
    return FNO(1, 1, 2, grid=GRID, width=4, modes=2, depth=2)


def problem(model: nn.Module | None = None, samples: int = 6, seed: int = 1) -> Problem:
    a, u = (torch.tensor(x[:, None]) for x in smooth_pairs(samples, (8, 8), seed))
    model = model if model is not None else small()
    dtype = next(model.parameters()).dtype
    return Problem(model, a.to(dtype), u.to(dtype), RelativeL2())


def optimizer(model: nn.Module, kind=KFAC, lr=1e-2, **options):
    return kind(torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0), **options)


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_it_learns_faster_than_adamw_per_step(kind):
    """On a small FNO with the same learning rate and the same batches."""
    ends = {}
    for name in ("adamw", "curved"):
        p = problem(samples=16)
        steps = torch.optim.AdamW(p.model.parameters(), lr=3e-2, weight_decay=0.0)
        if name == "curved":
            steps = kind(steps)
            steps.attach(p.model, p.objective)
        for _ in range(60):
            p.gradients()
            steps.step()
        ends[name] = float(p.objective().value)
    assert ends["curved"] < 0.8 * ends["adamw"]


def test_steps_are_as_long_as_those_of_adamw():
    """Each tensor moves as far as AdamW moves it, whose moments of real parameters are the same."""
    p = problem()
    twin = copy.deepcopy(p.model)
    curved = optimizer(p.model)
    curved.attach(p.model, p.objective)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        p.gradients()
        for a, b in zip(p.model.parameters(), twin.parameters(), strict=True):
            b.grad = a.grad.clone()
        before = [[q.detach().clone() for q in m.parameters()] for m in (p.model, twin)]
        curved.step(), plain.step()
        for name, q, r, b, c in zip(
            dict(twin.named_parameters()),
            p.model.parameters(),
            twin.parameters(),
            *before,
            strict=True,
        ):
            moved, expected = (q - b).norm(), (r - c).norm()
            if "entries" not in name:
                torch.testing.assert_close(moved, expected, rtol=2e-3, atol=1e-7)
            else:  # one second moment for both parts of a number
                assert 0.7 < moved / expected < 1.3


def test_a_closure_and_gradients_made_before_are_the_same():
    ends = []
    for closed in (False, True):
        p = problem()
        steps = optimizer(p.model)
        steps.attach(p.model, p.objective)
        torch.manual_seed(5)
        for _ in range(12):

            def closure(p=p):
                p.gradients()
                return p.objective().value

            if closed:
                assert steps.step(closure) > 0
            else:
                closure()
                assert steps.step() is None
        ends.append(torch.cat([q.flatten() for q in p.model.parameters()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"precision": "16-mixed", "accelerator": "cpu"},
    ],
    ids=["accumulated", "clipped", "bf16", "fp16"],
)
def test_it_trains_under_lightning(pairs, options):  # noqa: F811
    def curved(parameters):
        return KFAC(torch.optim.AdamW(parameters, lr=0.05), factor_period=2, inverse_period=4)

    if options.get("precision") == "16-mixed" and not torch.cuda.is_available():
        pytest.skip("float16 with scaled losses needs a GPU")
    torch.manual_seed(0)
    module = learner(pairs, optimizer=curved, schedule=Constant())
    trainer = Trainer(max_epochs=30, **(QUIET | options))
    trainer.fit(module, DataModule(pairs, batch_size=5))
    assert trainer.callback_metrics["val/relative_l2"] < 0.05
    (steps,) = trainer.optimizers
    assert steps.curvature.passes > 3 and steps.steps == trainer.global_step
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_training_goes_on_from_its_state():
    whole, stopped = problem(), problem()
    optimizers = []
    for p in (whole, stopped):
        optimizers.append(optimizer(p.model, samples=2, kl_clip=1e-3))
        optimizers[-1].attach(p.model, p.objective)
        torch.manual_seed(3)
        for _ in range(13):
            p.gradients()
            optimizers[-1].step()
    state = copy.deepcopy((stopped.model.state_dict(), optimizers[1].state_dict()))
    resumed = problem(small(seed=9))
    again = optimizer(resumed.model, samples=2, kl_clip=1e-3)
    again.attach(resumed.model, resumed.objective)
    resumed.model.load_state_dict(state[0])
    again.load_state_dict(state[1])
    for p, steps in ((whole, optimizers[0]), (resumed, again)):
        torch.manual_seed(4)
        for _ in range(9):
            p.gradients()
            steps.step()
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(
        not t.is_complex() for b in state[1]["curvature"]["blocks"].values() for t in b.values()
    )


def test_a_state_without_curvature_is_refused():
    p = problem()
    steps = optimizer(p.model)
    steps.attach(p.model, p.objective)
    plain = torch.optim.AdamW(p.model.parameters())
    with pytest.raises(ValueError, match="written with curvature=none"):
        steps.load_state_dict(plain.state_dict())


def test_states_of_others_are_refused():
    def attached(kind=KFAC, **options):
        p = problem()
        steps = optimizer(p.model, kind, samples=2, **options)
        steps.attach(p.model, p.objective)
        p.gradients()
        steps.step()
        return steps

    whole = attached()
    with pytest.raises(ValueError, match="KFAC: the checkpoint was written with EKFAC"):
        whole.load_state_dict(attached(EKFAC).state_dict())
    with pytest.raises(ValueError, match="other blocks, of .*lifting.*`exclude` must be those"):
        attached(exclude=["lifting*"]).load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="of .*: the checkpoint's does not fit.*block_size"):
        attached(block_size=2).load_state_dict(whole.state_dict())


def rank(number: int, world: int, file, out) -> None:
    dist.init_process_group("gloo", f"file://{file}", rank=number, world_size=world)
    torch.set_num_threads(1)
    p = problem(small().double())
    half = slice(3 * number, 3 * number + 3)
    own = Problem(p.model, p.x[half], p.y[half], p.loss)
    steps = optimizer(p.model, fisher="exact")
    steps.attach(own.model, own.objective)
    for _ in range(2):
        own.gradients()
        for q in p.model.parameters():  # as DistributedDataParallel does
            dist.all_reduce(q.grad)
            q.grad /= world
        steps.step()
    torch.save((p.model.state_dict(), steps.state_dict()["curvature"]), f"{out}-{number}")


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """Factors are averaged over processes: with half a batch each, they are those of the batch."""
    arguments = (2, tmp_path / "meeting", str(tmp_path / "out"))
    multiprocessing.spawn(rank, arguments, nprocs=2)
    p = problem(small().double())
    steps = optimizer(p.model, fisher="exact")
    steps.attach(p.model, p.objective)
    for _ in range(2):
        p.gradients()
        steps.step()
    one, other = (torch.load(f"{tmp_path}/out-{n}", weights_only=True) for n in range(2))
    for name, value in p.model.state_dict().items():
        assert torch.equal(one[0][name], other[0][name])
        torch.testing.assert_close(one[0][name], value, rtol=1e-8, atol=1e-12)
    for name, block in steps.state_dict()["curvature"]["blocks"].items():
        for key in ("A", "B"):
            found = one[1]["blocks"][name][key]
            assert close(found, block[key])


def test_the_floor_slows_modes_of_little_power():
    """Of two modes, one ten thousand times weaker; without the floor both move alike."""
    moved = {}
    for floor in (0.0, 1e-2):
        model = small()
        p = problem(model)
        steps = optimizer(model, floor=floor, damping=1e-3)
        steps.attach(model, p.objective)
        name = "blocks.0.convolution"
        steps.curvature.observe()
        block = steps.curvature.blocks[name]
        for factor in block.factors:
            factor[1:] *= 1e-2
        steps.curvature.refresh()
        G = torch.randn(block.shape, dtype=torch.complex64)
        G[1:] *= 1e-4
        D = block.apply(G)
        moved[floor] = float(D[1:].norm(dim=(1, 2)).mean() / D[0].norm())
    assert moved[0.0] > 0.1
    assert moved[1e-2] < 0.05 * moved[0.0]


def test_factors_that_are_not_finite_are_left_out_and_named():
    p = problem()
    steps = optimizer(p.model)
    steps.attach(p.model, p.objective)
    p.gradients()
    steps.step()
    before = {k: v.clone() for k, v in steps.curvature.blocks["blocks.0.skip"].state().items()}
    healthy = p.x
    p.x = p.x.clone()
    p.x[0] = math.nan
    with pytest.warns(UserWarning, match="its statistics are not finite; those of before stay"):
        steps.curvature.observe()
    p.x = healthy
    after = steps.curvature.blocks["blocks.0.skip"].state()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert steps.curvature.failures["blocks.0.skip"] == 1
    p.gradients()
    steps.step()
    assert all(q.isfinite().all() for q in p.model.parameters())


@pytest.mark.parametrize("graft", [True, False])
@pytest.mark.parametrize("bad", [1e38, math.nan])
@pytest.mark.parametrize("kl_clip", [None, 1e6], ids=["free", "bounded"])
def test_a_step_that_is_not_finite_is_left_out_and_named(graft, bad, kl_clip):
    """The others move as they would have."""
    twins = [problem(), problem()]
    for p in twins:
        torch.manual_seed(0)
        steps = optimizer(p.model, graft=graft, kl_clip=kl_clip)
        steps.attach(p.model, p.objective)
        p.gradients()
        steps.step()
        if p is twins[0]:
            steps.curvature.blocks["blocks.0.skip"].inverses[0].fill_(bad)
            with pytest.warns(UserWarning, match="skip.weight, pass .* its step is not finite; it"):
                steps.step()
        else:
            steps.step()
    moved, reference = (dict(p.model.named_parameters()) for p in twins)
    left = {n for n in moved if not torch.equal(moved[n], reference[n])}
    assert left == {"blocks.0.skip.weight"}
    assert all(q.isfinite().all() for q in moved.values())


def test_an_indefinite_factor_keeps_the_last_good_inverse_and_is_named():
    p = problem()
    steps = optimizer(p.model)
    steps.attach(p.model, p.objective)
    steps.curvature.observe()
    steps.curvature.refresh()
    block = steps.curvature.blocks["blocks.0.convolution"]
    before = [inverse.clone() for inverse in block.inverses]
    block.factors[0][3] = torch.nan
    with pytest.warns(
        UserWarning, match="curvature of blocks.0.convolution, pass 1: .* no inverse"
    ):
        steps.curvature.refresh()
    assert torch.equal(block.inverses[0][3], before[0][3])
    assert block.inverses[0].isfinite().all()
    block.factors[0][3] = -1e12 * torch.eye(4)
    assert block.refresh(1e-2, 0.0) >= 1  # no damping that is tried makes it positive
    assert torch.equal(block.inverses[0][3], before[0][3])


def test_a_singular_factor_is_damped_until_it_has_an_inverse():
    from sciml.curvature.kronecker import damped_inverse

    F = torch.tensor([[[1.0, 0.0], [0.0, -2e-3]]], dtype=torch.float64)
    inverse, valid = damped_inverse(F, torch.tensor([1e-3], dtype=torch.float64))
    assert valid.all()
    expected = torch.linalg.inv(F + 1e-2 * torch.eye(2, dtype=torch.float64))
    assert close(inverse, expected)


class NoTerm(nn.Module):
    def forward(self, prediction, target, grid):
        return (prediction - target).abs().flatten(2).mean(2)


def test_a_loss_without_curvature_is_refused(pairs):  # noqa: F811
    module = learner(
        pairs,
        loss=NoTerm(),
        optimizer=lambda parameters: KFAC(torch.optim.AdamW(parameters)),
        schedule=Constant(),
    )
    with pytest.raises(ValueError, match="NoTerm: its curvature is not known"):
        Trainer(max_epochs=1, **QUIET).fit(module, DataModule(pairs, batch_size=5))


def test_ada_hessian_asks_no_loss_for_its_curvature(pairs):  # noqa: F811
    """It differentiates the value twice, which any loss has."""
    module = learner(pairs, loss=Smooth(), optimizer=AdaHessian, schedule=Constant())
    before = [p.detach().clone() for p in module.parameters()]
    Trainer(max_epochs=1, **QUIET).fit(module, DataModule(pairs, batch_size=5))
    moved = zip(before, module.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


class Smooth(NoTerm):
    def forward(self, prediction, target, grid):
        return (prediction - target).pow(4).flatten(2).mean(2)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"damping": 0.0}, "damping=0.0 must be positive"),
        ({"floor": -1.0}, "floor=-1.0 not negative"),
        ({"decay": 1.0}, "decay=1.0 from 0 to below 1"),
        ({"factor_period": 0}, "factor_period=0"),
        ({"samples": 0}, "samples=0"),
        ({"samples": "some"}, "samples=some must be a whole number.*or .auto."),
        ({"block_size": 0}, "block_size=0"),
        ({"damping_period": 0}, "damping_period=0"),
        ({"damping_period": 5}, "damping_period=5 needs graft=false"),
        ({"kl_clip": 0.0}, "kl_clip=0.0 must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        optimizer(small(), **options)


def test_other_optimizers_are_refused():
    with pytest.raises(ValueError, match="length of its steps from AdamW, not SGD"):
        KFAC(torch.optim.SGD(small().parameters(), lr=0.1))


@pytest.mark.parametrize("option", ["maximize", "amsgrad"])
def test_options_of_adamw_that_nobody_follows_are_refused(option):
    with pytest.raises(ValueError, match=f"KFAC does not follow optimizer.{option}=true"):
        KFAC(torch.optim.AdamW(small().parameters(), **{option: True}))


def test_a_step_before_attach_is_refused():
    model = small()
    with pytest.raises(ValueError, match="call attach"):
        optimizer(model).step()


def test_batch_normalisation_is_not_counted_twice():
    model = nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.BatchNorm1d(3), nn.Conv1d(3, 1, 1))
    torch.manual_seed(0)
    x = torch.randn(4, 1, 8)
    p = Problem(model, x, x.roll(1, 2), MeanSquaredError())
    steps = optimizer(model)
    steps.attach(model, p.objective)
    counted = int(model[1].num_batches_tracked)
    steps.curvature.observe()
    assert int(model[1].num_batches_tracked) == counted
    assert model[1].training


def test_without_grafting_a_quadratic_problem_is_solved_in_a_step():
    """Its own length is right where the factors are: one layer, one step of lr = 1."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    x = torch.randn(8, 5, 3, dtype=torch.float64)
    y = torch.randn(8, 5, 2, dtype=torch.float64)
    p = Problem(model, x, y)
    steps = optimizer(model, lr=1.0, damping=1e-24, graft=False, fisher="exact")
    steps.attach(model, p.objective)
    p.gradients()
    steps.step()
    gradients = p.gradients().values()
    assert max(float(g.abs().max()) for g in gradients) < 1e-10


@pytest.mark.parametrize("bound", [1e-3, 1e-5])
def test_the_change_of_the_function_is_bounded(bound):
    changes = {}
    for clip in (None, bound):
        p = problem()
        steps = optimizer(p.model, lr=0.3, graft=False, kl_clip=clip)
        steps.attach(p.model, p.objective)
        before = [q.detach().clone() for q in p.model.parameters()]
        gradients = p.gradients()
        steps.step()
        moved = [q.detach() - b for q, b in zip(p.model.parameters(), before, strict=True)]
        both = zip(gradients.values(), moved, strict=True)
        changes[clip] = -0.3 * float(sum((g * d).sum() for g, d in both))
    assert changes[None] > 1e-2
    # lr^2 nu^2 sum g.d is the bound; moving by lr nu d changes g.(moved) by its root
    nu = (bound * steps.curvature.loss / changes[None]) ** 0.5
    assert changes[bound] == pytest.approx(nu * changes[None], rel=1e-3)


@pytest.mark.parametrize("clip", [1e-2, 1e-4, None])
def test_grafted_steps_change_no_more_than_the_bound(clip):
    """d.G d is that share of the loss, by the dense matrix; without a bound it is far above, and
    tensors keep the proportions of AdamW's lengths.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    x = torch.randn(8, 5, 4, dtype=torch.float64)
    p = Problem(model, x, torch.randn(8, 5, 3, dtype=torch.float64))
    steps = optimizer(model, lr=0.3, damping=1e-24, fisher="exact", kl_clip=clip)
    steps.attach(model, p.objective)
    start, loss = model[0].weight.detach().clone(), float(p.objective().value.detach())
    G = p.dense("0.weight")
    p.gradients()
    steps.step()
    d = (model[0].weight.detach() - start).flatten()
    share = float(d @ G @ d) / loss
    assert share > 0.05 if clip is None else share == pytest.approx(clip, rel=1e-8)


def test_weights_decay_as_much_less_as_steps_are_shortened():
    """Otherwise decay would win where the bound is tight."""
    ends = {}
    for clip, decay in ((None, 0.0), (1e-3, 0.0), (1e-3, 0.5)):
        p = problem()
        steps = optimizer(p.model, lr=0.3, kl_clip=clip)
        steps.param_groups[0]["weight_decay"] = decay
        steps.attach(p.model, p.objective)
        start = [q.detach().clone() for q in p.model.parameters()]
        torch.manual_seed(5)
        p.gradients()
        steps.step()
        ends[clip, decay] = [q.detach() for q in p.model.parameters()]
    whole, short, decayed = (
        [b - a for a, b in zip(start, ends[k], strict=True)]
        for k in ((None, 0.0), (1e-3, 0.0), (1e-3, 0.5))
    )
    share = float(short[0].norm() / whole[0].norm())
    assert share < 0.5
    for a, d, e in zip(start, short, decayed, strict=True):
        torch.testing.assert_close(e - d, -0.3 * 0.5 * share * a, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_damping_follows_in_a_network_of_several_layers(kind):
    """The graph of the curvature is that of the weights before the step: of short steps the
    quadratic model is right, and damping falls; of wild ones it is wrong, and damping rises.
    """
    ends = {}
    for lr, clip in ((0.1, 1e-7), (3.0, 1.0)):
        p = problem(samples=16)
        steps = optimizer(p.model, kind, lr=lr, graft=False, damping_period=2, kl_clip=clip)
        steps.attach(p.model, p.objective)
        for _ in range(4):
            p.gradients()
            steps.step()
        ends[lr] = steps.curvature.damping
    assert ends[0.1] == pytest.approx(1e-2 * 0.95**4)
    assert ends[3.0] > 1e-2


def test_the_first_pass_that_is_finite_counts_in_full():
    """What came before it was thrown away, and leaves no zeros in the means."""
    means = []
    for spoiled in (True, False):
        p = problem()
        curved = optimizer(p.model)
        curved.attach(p.model, p.objective)
        if spoiled:
            x, p.x = p.x, torch.full_like(p.x, torch.nan)
            with pytest.warns(UserWarning, match="not finite"):
                curved.curvature.observe()
            p.x = x
        torch.manual_seed(7)
        curved.curvature.observe()
        means.append(curved.curvature.blocks["blocks.0.convolution"].factors)
    for a, b in zip(*means, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "pattern, reason", [("(", "is no regular expression"), ("trunk", "matches no parameter")]
)
def test_patterns_that_exclude_nothing_are_refused(pattern, reason):
    with pytest.raises(ValueError, match=f"curvature.exclude: .* {reason}"):
        optimizer(model := small(), exclude=[pattern]).attach(model, lambda samples: None)


def test_the_loss_that_bounds_steps_is_kept():
    """A continued training is bounded by the same number."""
    p = problem()
    steps = optimizer(p.model, kl_clip=1e-2)
    steps.attach(p.model, p.objective)
    p.gradients()
    steps.step()
    again = optimizer(p.model, kl_clip=1e-2)
    again.attach(p.model, p.objective)
    again.load_state_dict(copy.deepcopy(steps.state_dict()))
    assert again._bound() == steps._bound() == pytest.approx(1e-2 * steps.curvature.loss)


def test_damping_follows_the_quadratic_model():
    """On a quadratic problem the model is right and damping falls; steps that are far too long
    raise the loss, and it rises.
    """
    ends = {}
    for lr in (0.1, 50.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 2).double()
        x = torch.randn(8, 5, 3, dtype=torch.float64)
        p = Problem(model, x, torch.randn(8, 5, 2, dtype=torch.float64))
        steps = optimizer(model, lr=lr, graft=False, damping=1e-2, damping_period=2)
        steps.attach(model, p.objective)
        for _ in range(8):
            p.gradients()
            steps.step()
        ends[lr] = steps.curvature.damping
    assert ends[0.1] == pytest.approx(1e-2 * 0.95**8)
    assert ends[50.0] == pytest.approx(1e-2 / 0.95**8)


def test_damping_that_is_fixed_stays():
    p = problem()
    steps = optimizer(p.model)
    steps.attach(p.model, p.objective)
    for _ in range(6):
        p.gradients()
        steps.step()
    assert steps.curvature.damping == 1e-2
