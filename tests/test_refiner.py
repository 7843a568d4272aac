"""The refiner: lower residual and error, one layer changed, honest time differences, refusals."""

import math
from copy import deepcopy
from functools import partial

import pytest
import torch

from datasets.normalize import Normalizer
from datasets.schema import Field, Frames, Metadata
from sciml.models import Surrogate, build_model
from sciml.sobolev import relative_error, sobolev_norm
from sciml.tasks import SpectralRefiner, StepDefect
from sciml.tasks.spectral_scaling import scale, unscale
from solvers import DiagonalForcing, Imex, NavierStokes, rollout
from solvers.grid import Grid
from tests.helpers import periodic


def flow(n, dt):
    return NavierStokes(
        periodic((n, n), (1.0, 1.0)),
        viscosity=1e-3,
        dt=dt,
        substeps=2,
        forcing=DiagonalForcing(),
    )


def vorticity(count, n, waves=3, seed=0):
    """Random fields with |k| up to `waves`, of standard deviation about 1."""
    generator = torch.Generator().manual_seed(seed)
    x, y = 2 * math.pi * periodic((n, n), (1.0, 1.0)).mesh()
    w = torch.zeros(count, 1, n, n, dtype=torch.float64)
    for i in range(-waves, waves + 1):
        for j in range(-waves, waves + 1):
            if (i, j) != (0, 0):
                c = torch.randn(2, count, 1, 1, 1, generator=generator, dtype=torch.float64)
                wave = i * x + j * y
                w += (c[0] * wave.cos() + c[1] * wave.sin()) / (2 * (i * i + j * j))
    return w


def surrogate(equation, trajectories, model="STFNO", **settings):
    """Untrained, but with the normalisers of the trajectories [b, t, 1, x, y]."""
    torch.manual_seed(0)
    horizon = trajectories.shape[1] - 1
    fields = tuple(Field(f"w[+{k + 1}]") for k in range(horizon))
    window = Frames(1, horizon, 1, equation.dt)
    metadata = Metadata("flow", (Field("w"),), fields, equation.grid, window=window)
    config = {"_target_": f"sciml.models.{model}", "width": 6, "modes": 3, "depth": 1, **settings}
    normalizers = [
        Normalizer(u.mean(dim=(0, 2, 3)), u.std(dim=(0, 2, 3)))
        for u in (trajectories[:, 0], trajectories[:, 1:, 0])
    ]
    return Surrogate(build_model(config, metadata), *normalizers, metadata, config)


def problem(n=16, dt=0.1, horizon=3, count=3):
    equation = flow(n, dt)
    trajectories = rollout(equation, vorticity(count, n), horizon)
    return equation, trajectories, surrogate(equation, trajectories)


def error(prediction, target, grid):
    return relative_error(prediction.unsqueeze(2), target.unsqueeze(2), grid)


def test_residual_and_error_fall():
    """From an untrained network to the solver's own trajectory, without a target."""
    equation, trajectories, model = problem()
    a, u = trajectories[:1, 0], trajectories[:1, 1:, 0]
    refined = SpectralRefiner(model, equation, iterations=25)(a)
    assert (refined.after < 1e-3 * refined.before).all()
    with torch.no_grad():
        before = error(model.double()(a), u, equation.grid)
    after = error(refined.prediction, u, equation.grid)
    assert (before > 0.1).all() and (after < 1e-3).all()


@pytest.mark.slow
def test_a_trained_network_is_refined_on_a_finer_grid():
    """Trained on 32 x 32 for a while, refined on 64 x 64, where the solver says what is right."""
    dt, horizon = 0.2, 4
    coarse, fine = flow(32, dt), flow(64, dt)
    start = vorticity(13, 64, waves=4)
    truth = rollout(fine, start[-1:], horizon)
    trajectories = rollout(coarse, start[:, :, ::2, ::2], horizon)
    model = surrogate(coarse, trajectories[:12], modes=6)
    a, u = trajectories[:12, 0].float(), trajectories[:12, 1:, 0].float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        (model(a) - u).square().mean().backward()
        optimizer.step()
    refiner = SpectralRefiner(model, fine, modes=(24, 24), iterations=30)
    refined = refiner(truth[:, 0])
    assert (refined.after < 1e-2 * refined.before).all()
    with torch.no_grad():
        before = error(model.double()(truth[:, 0]), truth[:, 1:, 0], fine.grid)
    after = error(refined.prediction, truth[:, 1:, 0], fine.grid)
    assert before > 0.05 and after < 0.01


def test_only_the_last_layer_changes():
    equation, trajectories, model = problem()
    kept = deepcopy(model.state_dict())
    refined = SpectralRefiner(model, equation, iterations=3).fit(trajectories[:1, 0])
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    found = refined.state_dict()
    assert found.keys() == kept.keys()
    changed = {k for k in kept if not torch.equal(found[k], kept[k].double())}
    assert changed == {"model.output.weight.entries", "model.output.bias"}
    assert found["model.output.bias"].dtype == torch.float64
    assert refined.model.output.modes == (8, 8, 3)


def test_the_own_trajectory_of_the_solver_has_no_residual():
    equation, trajectories, model = problem(dt=0.05)
    a, u = trajectories[:, 0], trajectories[:, 1:].flatten(1, 2)
    assert SpectralRefiner(model, equation).norm(a, u).max() < 1e-12
    halves = SpectralRefiner(model, equation, residual=equation.residual)
    residual = halves.norm(a, u)
    assert (residual > 1e-7).all() and (residual < 1e-3).all()  # of second order in dt


def test_the_norm_of_the_residual_is_the_closed_form():
    """A wave that is added to the last frame alone: || wave || / dt^(1/2)."""
    equation, trajectories, model = problem(dt=0.05)
    a, u = trajectories[:, 0], trajectories[:, 1:].flatten(1, 2).clone()
    wave = (2 * math.pi * 2 * equation.grid.mesh()[0]).cos()
    u[:, -1] += wave
    expected = (0.5 / (0.3 + (4 * math.pi) ** 2) / 0.05) ** 0.5
    norm = SpectralRefiner(model, equation, alpha=0.3).norm(a, u)
    torch.testing.assert_close(
        norm, torch.full((3,), expected, dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_a_derivative_from_a_step_says_nothing():
    """u_t from a step of 1e-6 of a solver leaves no residual for noise; frames do leave one."""
    dt = 1e-6
    grid = periodic((16, 16), (1.0, 1.0))
    step = NavierStokes(grid, viscosity=1e-3, dt=dt, scheme=partial(Imex, scheme="euler"))
    w = vorticity(3, 16, waves=5).flip(0)
    after = step(w)
    slope = (after - w) / dt
    size = sobolev_norm(step.rhs(w), grid, -1.0)
    assert (sobolev_norm(slope - step.rhs(after), grid, -1.0) < 1e-4 * size).all()
    unrelated = torch.stack((w, vorticity(3, 16, waves=5, seed=7)), dim=1)
    equation, _, model = problem(horizon=1)
    norm = SpectralRefiner(model, equation).norm(*unrelated.unbind(dim=1))
    assert (norm > 0.1 * size).all()


def test_scaling_keeps_the_operator():
    equation, trajectories, model = problem()
    a = trajectories[:, 0].float()
    before = model(a)
    output = model.model.output
    names = set(output.state_dict())
    scale(output, equation.grid, 1.0)
    torch.testing.assert_close(model(a), before)
    unknown = output.parametrizations["bias"].original
    assert unknown.requires_grad and not torch.equal(unknown, torch.ones_like(unknown))
    with torch.no_grad():
        unknown.fill_(1.0)
    k = 2 * math.pi * torch.tensor([2.0, 1.0])  # the mode at index (2, 4) of 0, 1, 2, -1, -2, -3
    torch.testing.assert_close(output.bias[2, 3, 0, 0, 0], (1 + k.square().sum()).sqrt())
    unscale(output)
    assert set(output.state_dict()) == names


def test_samples_are_refined_on_their_own():
    equation, trajectories, model = problem(horizon=2)
    refiner = SpectralRefiner(model, equation, iterations=3)
    both, one = refiner(trajectories[:2, 0]), refiner(trajectories[1:2, 0])
    assert torch.equal(both.prediction[1:], one.prediction)
    assert torch.equal(both.after[1:], one.after)


def test_refusals():
    equation, trajectories, model = problem(horizon=2)
    with pytest.raises(ValueError, match="dt=0.1 apart, the equation steps by dt=0.2"):
        SpectralRefiner(model, flow(16, 0.2))
    with pytest.raises(ValueError, match="alpha=0 must be positive"):
        SpectralRefiner(model, flow(16, 0.1), alpha=0)
    with pytest.raises(ValueError, match="got FNO"):
        SpectralRefiner(surrogate(equation, trajectories, "FNO"), equation)
    equation.grid = Grid.box((16, 16))
    with pytest.raises(ValueError, match="periodic grids"):
        SpectralRefiner(model, equation)
    refiner = SpectralRefiner(model, flow(16, 0.1), modes=(2, 2))
    with pytest.raises(ValueError, match="at least those that are"):
        refiner(trajectories[:1, 0])


def test_a_step_defect_is_a_difference_quotient():
    equation = flow(16, 0.1)
    w = vorticity(2, 16)
    defect = StepDefect(equation)(w, equation(w) + 0.3)
    torch.testing.assert_close(defect, torch.full_like(w, 3.0))
