"""Residuals of the equation that the data solve, and learning from them."""

import pytest
import torch

from datasets import DataModule
from datasets.build import instantiate
from sciml.norms import dual_norm, root_mean_square
from sciml.run import _task
from sciml.tasks import Physics, tuned
from solvers import Darcy
from solvers.grid import Grid
from tests.helpers import compose, periodic

SMALL = ["task=physics", "model.width=6", "model.modes=4", "model.depth=2", "data.num_workers=0"]
FEW = ["data.counts={train: 4, valid: 1, test: 1}"]
COARSE = ["++data.pde.tail=null", "++data.pde.accuracy=1"]  # for grids that hold the data badly
SETS = {
    "darcy": ["data=darcy", "data.resolution=16"],
    "mgno": ["data=mgno_darcy_rough", "data.resolution=16"],
    "inclusions": ["data=poisson_inclusions", "data.resolution=16"],
    "helmholtz": ["data=helmholtz", "data.resolution=33", "task.norm=l2"],
    "burgers": [
        *("data=burgers", "data.resolution=64", "data.window.horizon=2", "data.pde.num_steps=4"),
        *("data.pde.stepper.dt=2e-3", "data.pde.stepper.substeps=4", "data.window.history=2"),
        *COARSE,
    ],
    "navier_stokes": [
        *("data=navier_stokes_1e-3", "data.resolution=32", "data.pde.num_steps=4"),
        *("data.pde.stepper.dt=0.05", "data.pde.stepper.substeps=4", "data.pde.refine=1"),
        *COARSE,
    ],
    "solver": [
        *("data=navier_stokes_1e-3", "data.resolution=32", "data.pde.num_steps=4"),
        *("data.pde.refine=1", "data.window.stride=2", "task.time=solver"),
        *COARSE,
    ],
    "parameters": [
        *("data=heat", "data.resolution=16", "data.pde.num_steps=4", "data.window.given=[]"),
        *("task.time=solver", "data.window.horizon=2", *COARSE),
    ],
    "coefficients": [
        *("data=wave", "data.resolution=16", "data.pde.num_steps=4", "data.pde.refine=1"),
        *("task.time=solver", "task.norm=l2", *COARSE),
    ],
}
EXACT = {  # residual of the truth over that of no change or zero; float32 files, time step
    "darcy": 1e-4,
    "mgno": 1e-4,
    "inclusions": 1e-4,
    "helmholtz": 1e-3,
    "burgers": 2e-2,
    "navier_stokes": 1e-3,
    "solver": 1e-4,
    "parameters": 1e-4,
    "coefficients": 1e-4,
}


def learner(path, *overrides: str) -> tuple[Physics, DataModule]:
    config = compose([*SMALL, *FEW, f"data_dir={path}", *overrides])
    data = DataModule(instantiate(config.data), batch_size=4)
    return _task(config, data), data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", SETS)
def test_solutions_satisfy_their_equation_and_others_do_not(name, folder):
    task, data = learner(folder, *SETS[name])
    batch = data.dataset.source("train").__getitems__(range(4))
    found = task.missed(batch, batch.target).mean()
    scale = task.missed(batch, task.residual.trivial(batch.input, batch.target)).mean()
    assert found < EXACT[name] * scale
    noise = batch.target.std() * torch.randn(batch.target.shape)
    assert task.missed(batch, batch.target + 0.1 * noise).mean() > 5 * found
    task.log = lambda *arguments, **options: None
    task.training_step(batch, 0).backward()
    assert all(p.grad.isfinite().all() for p in task.model.parameters())


def test_darcy_s_residual_is_the_solver_s(folder):
    task, data = learner(folder, *SETS["darcy"])
    batch = data.dataset.source("train").__getitems__([0, 1])
    u = torch.rand(2, 1, 16, 16)
    r = task.residual(batch.input, u, batch.parameters)
    grid = Grid.box((16, 16))
    torch.testing.assert_close(r, Darcy(grid, source=1.0).residual(batch.input, u))
    assert torch.equal(task.missed(batch, u), dual_norm(r, grid))


def test_labels_weigh_the_loss_on_solutions(folder):
    task, data = learner(folder, *SETS["darcy"], "task.labels=3", "task.weight=0.5")
    batch = data.dataset.source("train").__getitems__([0, 1])
    logged = {}
    task.log = lambda name, value, **options: logged.update({name: value})
    u = task(batch.input)
    data_loss, physics = task.mean_loss(u, batch.target), task.missed(batch, u).mean()
    torch.testing.assert_close(task.training_step(batch, 0), 3 * data_loss + 0.5 * physics)
    assert logged["train/physics"] == physics


def test_without_labels_no_target_is_read(folder):
    task, data = learner(folder, *SETS["darcy"], "task.labels=0")
    batch = data.dataset.source("train").__getitems__([0, 1])
    task.log = lambda *arguments, **options: None
    expected = task.training_step(batch, 0)
    blind = batch._replace(target=torch.full_like(batch.target, torch.nan))
    assert task.training_loss(blind) == expected


def test_the_norms_of_a_wave():
    """sin(k x) has mean square 1/2, and (1 + k^2)^-1/2 of it in H^-1."""
    grid = periodic((512,), (1.0,))
    x = grid.axes[0].coordinates()
    k = 6 * torch.pi
    u = torch.sin(k * x)[None, None]
    assert root_mean_square(u).item() == pytest.approx(0.5**0.5)
    assert dual_norm(u, grid).item() == pytest.approx((0.5 / (1 + k**2)) ** 0.5, rel=1e-3)
    grid = Grid.box((64, 64))
    x, y = grid.mesh()
    u = (torch.sin(torch.pi * x) * torch.sin(2 * torch.pi * y))[None, None].repeat(2, 3, 1, 1)
    assert dual_norm(u, grid) == pytest.approx(
        torch.full((2, 3), (0.25 / (1 + 5 * torch.pi**2)) ** 0.5, dtype=torch.float64), rel=1e-3
    )


def test_norms_have_gradients_at_zero():
    grid = periodic((16,), (1.0,))
    for norm in (root_mean_square, lambda u: dual_norm(u, grid)):
        u = torch.zeros(1, 1, 16, requires_grad=True)
        norm(u).sum().backward()
        assert u.grad.isfinite().all()


def test_frames_that_lie_too_far_apart_are_refused(folder):
    task, data = learner(folder, "data=burgers", "data.resolution=64", *COARSE)
    task.log = lambda *arguments, **options: None
    batch = data.dataset.source("train").__getitems__(range(4))
    with pytest.raises(ValueError, match="a minimum of it is no solution. .*task.time=solver"):
        task.training_step(batch, 0)


@pytest.mark.parametrize(
    "overrides, reason",
    [
        (
            ["data=heat", "data.resolution=16", "data.pde.num_steps=2", *COARSE],
            r"data.window.given=\[\]",
        ),
        ([*SETS["burgers"], "data.window.stride=[1,2]"], "set data.window.stride to one number"),
        ([*SETS["darcy"], "task.weight=0"], "task.weight=0 must be positive"),
        ([*SETS["helmholtz"], "task.norm=h-1"], "Take the l2 norm"),
        ([*SETS["darcy"], "task.norm=l3"], "norm=l3 must be l2 or h-1"),
    ],
)
def test_what_has_no_residual_is_refused(folder, overrides, reason):
    with pytest.raises(ValueError, match=reason):
        task, data = learner(folder, *overrides)
        task.training_loss(data.dataset.source("train").__getitems__([0]))


class Correction(torch.nn.Module):
    """An operator that is 30 % wrong, whose weights are a field that it adds."""

    def __init__(self, truth: torch.Tensor):
        super().__init__()
        self.first, self.field = 1.3 * truth, torch.nn.Parameter(torch.zeros_like(truth[:1]))

    def forward(self, a):
        return self.first + self.field


def test_a_single_instance_is_tuned_to_its_equation(folder):
    """The residual and the true error fall, without a look at the truth; weights stay."""
    task, data = learner(folder, *SETS["darcy"])
    batch = data.dataset.source("train").__getitems__([0])
    task.model = Correction(task.target_normalizer(batch.target))
    start = task(batch.input).detach()
    blind = batch._replace(target=torch.full_like(batch.target, torch.nan))
    u = tuned(task, blind, steps=50, lr=2e-2)
    assert task.missed(batch, u) < 0.3 * task.missed(batch, start)
    assert (u - batch.target).norm() < 0.3 * (start - batch.target).norm()
    assert (task.model.field == 0).all()
    torch.testing.assert_close(tuned(task, batch, steps=1, lr=1e-9), start)
    held = tuned(task, blind, steps=50, lr=2e-2, anchor=100.0)
    assert (held - start).norm() < 0.5 * (u - start).norm()


class Batched(Correction):
    """With statistics that a training mode would change, and that would change u."""

    def __init__(self, truth):
        super().__init__(truth)
        self.norm = torch.nn.BatchNorm2d(1)

    def forward(self, a):
        return super().forward(a) + 0.1 * self.norm(a)


def test_tuning_leaves_statistics_and_modes_alone(folder):
    task, data = learner(folder, *SETS["darcy"])
    batch = data.dataset.source("train").__getitems__([0])
    task.model = Batched(task.target_normalizer(batch.target))
    task.train()
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    u = tuned(task, batch, steps=1, lr=1e-9)
    assert task.model.training and task.model.norm.training
    assert all(torch.equal(before[k], v) for k, v in task.model.state_dict().items())
    torch.testing.assert_close(u, task.eval()(batch.input).detach())


def test_a_tuning_without_steps_is_refused(folder):
    task, data = learner(folder, *SETS["darcy"])
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        tuned(task, data.dataset.source("train").__getitems__([0]), steps=0)


@pytest.mark.slow
def test_darcy_is_learnt_from_its_equation_alone(tmp_path, no_report):
    """The error of a map that never saw a solution falls to a tenth and less."""
    from tests.helpers import finish

    figures = finish(
        tmp_path / "run",
        *("data=darcy", "data.resolution=16", f"data_dir={tmp_path}", "data.num_workers=0"),
        *("data.counts={train: 200, valid: 20, test: 20}", "task=physics", "task.labels=0"),
        *("model.width=16", "model.modes=6", "model.depth=3", "trainer.max_epochs=20"),
    )
    assert figures["test/relative_l2"] < 0.1
