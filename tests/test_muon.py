"""Muon for complex weights: the polar factor, complex arithmetic written out, symmetries."""

import math

import pytest
import torch
from torch import Tensor, nn

from sciml.curvature import SpectralMuon
from sciml.curvature.muon import COEFFICIENTS, orthogonal
from tests.complex_steps import (
    IN,
    MODES,
    OUT,
    Spectral,
    fed,
    gradients,
    random,
    through_a_file,
    unitary,
)

START = random(*MODES, IN, OUT, seed=9)
ONES = torch.ones(6, dtype=torch.float64)
SETTINGS = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
SHAPES = [(5, 4, 3), (5, 3, 4), (5, 4, 4), (1, 7, 2)]


def muon(model, **settings) -> SpectralMuon:
    optimizer = SpectralMuon(model.parameters(), **{**SETTINGS, **settings})
    optimizer.attach(model, None)
    return optimizer


def polar(X: Tensor) -> Tensor:
    """U V^H of X = U S V^H."""
    U, _, V = torch.linalg.svd(X, full_matrices=False)
    return U @ V


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convergent_iterations_end_at_the_polar_factor(shape, dtype):
    X = random(*shape, dtype=dtype)
    found = orthogonal(X, "convergent", 40)
    torch.testing.assert_close(found, polar(X), rtol=1e-12, atol=1e-12)


def test_convergence_is_of_third_order():
    errors = []
    for e in (0.1, 0.05, 0.025):
        a, b, c = COEFFICIENTS["convergent"]
        x = 1 - e
        errors.append(abs(1 - (a * x + b * x**3 + c * x**5)))
    slopes = [math.log2(one / other) for one, other in zip(errors, errors[1:], strict=False)]
    assert all(abs(slope - 3) < 0.3 for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_fast_iterations_end_near_it(dtype):
    """With the bounds of the docstring, for singular values down to 2e-3 of the norm."""
    U, _, V = torch.linalg.svd(random(9, 8, 6, dtype=dtype), full_matrices=False)
    S = torch.logspace(0, math.log10(2.1e-3), 6, dtype=torch.float64)
    found = orthogonal(U @ torch.diag(S).to(dtype) @ V)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.68 and values.max() < 1.21
    core = U.mH @ found @ V.mH  # the same singular vectors
    torch.testing.assert_close(
        core, torch.diag_embed(core.diagonal(dim1=1, dim2=2)), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("polynomial", COEFFICIENTS)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_unitary_factors_pass_through(polynomial, shape):
    X, U, V = random(*shape), unitary(shape[1], 21), unitary(shape[2], 22)
    found, expected = orthogonal(U @ X @ V, polynomial), U @ orthogonal(X, polynomial) @ V
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_no_scale_is_too_small_or_too_large(scale):
    """Squares of single precision end at 1e-45 and 1e38."""
    X = random(5, 4, 3, dtype=torch.complex64)
    torch.testing.assert_close(orthogonal(X * scale), orthogonal(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_norm_alone_has_such_scales(scale):
    """Control: why matrices are divided by their largest entry first."""
    X = scale * random(5, 4, 3, dtype=torch.complex64)
    divided = X / torch.linalg.vector_norm(X, dim=(1, 2), keepdim=True)
    lengths = torch.linalg.vector_norm(divided.to(torch.complex128), dim=(1, 2))
    assert not (lengths - 1).abs().lt(0.5).any()


def test_modes_without_momentum_stay():
    X = random(5, 4, 3)
    X[2] = 0
    found = orthogonal(X, "convergent", 40)
    assert (found[2] == 0).all() and found.isfinite().all()
    torch.testing.assert_close(found[3], polar(X[3]), rtol=1e-12, atol=1e-12)


def written_out(W: Tensor, steps: Tensor, nesterov: bool) -> Tensor:
    """[K, m, n], mode by mode."""
    lr, beta, decay = (SETTINGS[key] for key in ("lr", "momentum", "weight_decay"))
    M = torch.zeros_like(W)
    for G in steps:
        for k in range(len(W)):
            M[k] = beta * M[k] + (1 - beta) * G[k]
            N = beta * M[k] + (1 - beta) * G[k] if nesterov else M[k]
            W[k] = (1 - lr * decay) * W[k] - lr * 0.2 * max(W.shape[1:]) ** 0.5 * polar(N)
    return W


@pytest.mark.parametrize("kind", ["pairs", "complex"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_spectral_weights_step_as_written_out(kind, nesterov):
    """Pairs of real numbers and complex parameters, which have another order of axes."""
    steps, model = gradients(9), Spectral(START, kind)
    optimizer = muon(model, nesterov=nesterov, polynomial="convergent", iterations=60)
    expected = written_out(START.flatten(0, 1).clone(), steps.flatten(1, 2), nesterov)
    found = fed(model, optimizer, steps)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(2, 4, (3, 1)), nn.Conv1d(5, 4, 1)])
def test_real_matrices_step_as_written_out(layer):
    layer = layer.double()
    start = layer.weight.detach().flatten(1).clone()
    steps = gradients(9, (1, *start.shape)).real
    optimizer = muon(layer, polynomial="convergent", iterations=60)
    for g in steps:
        layer.weight.grad = g.reshape(layer.weight.shape).clone()
        optimizer.step()
    expected = written_out(start[None], steps, nesterov=True)
    torch.testing.assert_close(layer.weight.flatten(1), expected[0], rtol=1e-9, atol=1e-9)


def test_real_matrices_step_as_torch_s():
    """Which works in bfloat16."""
    start, steps = random(6, 4).real.float(), gradients(9, (6, 4)).real.float()
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = SpectralMuon([mine], **SETTINGS)
    reference = torch.optim.Muon([theirs], **SETTINGS, adjust_lr_fn="match_rms_adamw")
    for g in steps:
        mine.grad, theirs.grad = g.clone(), g.clone()
        optimizer.step()
        reference.step()
    assert (mine - theirs).norm() < 0.02 * (mine - start).norm()


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (5, 5)])
def test_entries_move_by_a_fifth_of_the_rate(shape):
    start = random(2, *shape)
    model = Spectral(start)
    optimizer = muon(model, weight_decay=0.0, polynomial="convergent", iterations=60)
    moved = fed(model, optimizer, gradients(1, (2, *shape))) - start
    rms = moved.abs().square().mean((1, 2)).sqrt()
    torch.testing.assert_close(rms, torch.full((2,), 0.2 * SETTINGS["lr"], dtype=rms.dtype))


def test_steps_follow_unitary_changes_of_channels_and_phases():
    U, V = unitary(IN, 21), unitary(OUT, 22)
    phases = torch.polar(ONES, ONES.cumsum(0)).view(*MODES, 1, 1)
    ends, turn = [], lambda x: phases * (U @ x @ V.mH)
    for change in (lambda x: x, turn):
        model = Spectral(change(START))
        ends.append(fed(model, muon(model), change(gradients(23))))
    torch.testing.assert_close(ends[1], turn(ends[0]), rtol=1e-9, atol=1e-9)


def test_vectors_step_as_adamw_at_another_rate():
    start = random(5, dtype=torch.float64)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    common = {"betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    optimizer = SpectralMuon([mine], lr=0.1, adamw_lr=0.3, **common)
    reference = torch.optim.AdamW([theirs], lr=0.03, **common)
    for step in range(8):
        mine.grad = theirs.grad = random(5, seed=step, dtype=torch.float64)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", ["pairs", "complex"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_going_on_from_a_checkpoint_is_bitwise_the_same(kind, dtype):
    steps = gradients(12).to(dtype)
    whole, first, second = (Spectral(START.to(dtype), kind) for _ in range(3))
    expected = fed(whole, muon(whole), steps)
    optimizer = muon(first)
    fed(first, optimizer, steps[:5])
    second.load_state_dict(first.state_dict())
    other = muon(second)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert torch.equal(fed(second, other, steps[5:]), expected)


def test_no_gradient_no_step():
    model = Spectral(START)
    muon(model).step()
    assert torch.equal(model.value(), START)


def test_a_closure_is_called_with_gradients():
    p = nn.Parameter(torch.eye(3))
    optimizer = SpectralMuon([p])

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3
    assert p.diagonal().lt(1).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"polynomial": "slow"}, "polynomial=slow must be one of fast, convergent"),
        ({"iterations": 0}, "iterations=0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpectralMuon([nn.Parameter(torch.zeros(2, 2))], **settings)
