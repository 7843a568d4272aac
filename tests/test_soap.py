"""SOAP for complex weights: against complex arithmetic written out, and by its symmetries."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sciml.curvature import SpectralSOAP
from sciml.curvature import soap as module
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
SETTINGS = {"lr": 0.03, "betas": (0.9, 0.97), "eps": 1e-6, "weight_decay": 0.1}
PERIODS = {"factor_period": 2, "basis_period": 5}


def soap(model, **settings) -> SpectralSOAP:
    optimizer = SpectralSOAP(model.parameters(), **{**SETTINGS, **PERIODS, **settings})
    optimizer.attach(model, None)
    return optimizer


def written_out(W: Tensor, steps: Tensor, sides: str = "LR") -> Tensor:
    """Algorithm 3 for [K, m, n], its momentum in the coordinates of W, mode by mode."""
    beta1, beta2 = SETTINGS["betas"]
    power = torch.zeros(len(W), dtype=torch.float64)
    M, V = torch.zeros_like(W), torch.zeros_like(W.real)
    L, R = (torch.zeros(n, n, dtype=W.dtype) for n in W.shape[1:])
    QL, QR = (torch.eye(n, dtype=W.dtype) for n in W.shape[1:])
    for t, G in enumerate(steps):
        if t > 0:
            for k in range(len(W)):
                M[k] = beta1 * M[k] + (1 - beta1) * G[k]
                square = (QL.mH @ G[k] @ QR).abs() ** 2
                V[k] = beta2 * V[k] + (1 - beta2) * square / (2 if W.is_complex() else 1)
                direction = (QL.mH @ M[k] @ QR) / (1 - beta1**t)
                direction /= (V[k] / (1 - beta2**t)).sqrt() + SETTINGS["eps"]
                W[k] *= 1 - SETTINGS["lr"] * SETTINGS["weight_decay"]
                W[k] -= SETTINGS["lr"] * QL @ direction @ QR.mH
        if t % PERIODS["factor_period"] == 0:
            power = beta2 * power + (1 - beta2) * G.abs().square().sum((1, 2))
            share = power.mean() / power
            L = beta2 * L + (1 - beta2) * sum(w * g @ g.mH for w, g in zip(share, G, strict=True))
            R = beta2 * R + (1 - beta2) * sum(w * g.mH @ g for w, g in zip(share, G, strict=True))
        if t == 0:
            QL, QR = (torch.linalg.eigh(P).eigenvectors.flip(-1) for P in (L, R))
        elif t % PERIODS["basis_period"] == 0:
            if "L" in sides:
                QL, order = iterated(L, QL)
                V = V[:, order]
            QR, order = iterated(R, QR)
            V = V[:, :, order]
        QL = QL if "L" in sides else torch.eye(len(QL), dtype=W.dtype)
    return W


def iterated(P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    order = (Q.mH @ P @ Q).diagonal().real.argsort(descending=True)
    return torch.linalg.qr(P @ Q[:, order]).Q, order


@pytest.mark.parametrize("kind", ["pairs", "complex"])
def test_spectral_weights_step_as_written_out(kind):
    """Pairs of real numbers and complex parameters, which have another order of axes."""
    steps = gradients(23)
    model = Spectral(START, kind)
    expected = written_out(START.flatten(0, 1).clone(), steps.flatten(1, 2))
    found = fed(model, soap(model), steps)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("largest, sides", [(OUT, "R"), (IN, "LR")])
def test_a_long_side_keeps_the_identity(largest, sides):
    steps, model = gradients(23), Spectral(START)
    expected = written_out(START.flatten(0, 1).clone(), steps.flatten(1, 2), sides)
    optimizer = soap(model, largest=largest)
    found = fed(model, optimizer, steps)
    assert ("left_basis" in optimizer.state[model.parameter]) == ("L" in sides)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(2, 4, (3, 1)), nn.Conv1d(5, 4, 1)])
def test_real_matrices_step_as_written_out(layer):
    layer = copy.deepcopy(layer).double()
    shape, start = layer.weight.shape, layer.weight.detach().flatten(1).clone()
    steps = gradients(23, (1, *start.shape)).real
    optimizer = soap(layer)
    for g in steps:
        layer.weight.grad = g.reshape(shape).clone()
        optimizer.step()
    expected = written_out(start[None].clone(), steps)
    torch.testing.assert_close(layer.weight.flatten(1), expected[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("matrix", [False, True], ids=["vector", "matrix with long sides"])
def test_the_rest_steps_as_adamw(matrix):
    start = random(4, 5, dtype=torch.float64) if matrix else random(5, dtype=torch.float64)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = SpectralSOAP([mine], **SETTINGS, largest=3)
    reference = torch.optim.AdamW([theirs], **SETTINGS)
    for step in range(8):
        mine.grad = theirs.grad = random(*start.shape, seed=step, dtype=torch.float64)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


def turned(make) -> tuple[Tensor, Tensor]:
    """The end of a training whose channels and phases are turned, and the turned end of another."""
    U, V = unitary(IN, 21), unitary(OUT, 22)
    phases = torch.polar(ONES, ONES.cumsum(0)).view(*MODES, 1, 1)
    turn = lambda x: phases * (U @ x @ V.mH)  # noqa: E731
    steps, ends = gradients(23), []
    for change in (lambda x: x, turn):
        model = Spectral(change(START))
        ends.append(fed(model, make(model), change(steps)))
    return ends[1], turn(ends[0])


def test_steps_follow_unitary_changes_of_channels_and_phases():
    torch.testing.assert_close(*turned(soap), rtol=1e-8, atol=1e-8)


def test_adamw_does_not_follow_them():
    """Control: the symmetry is one of the bases."""
    found, expected = turned(lambda model: soap(model, largest=0))
    assert (found - expected).abs().max() > 1e-2


def bases(steps: Tensor, **settings) -> list[Tensor]:
    model = Spectral(START)
    optimizer = soap(model, **settings)
    fed(model, optimizer, steps)
    state = optimizer.state[model.parameter]
    return [torch.view_as_complex(state[f"{side}_basis"]) for side in ("left", "right")]


def overlap(one: Tensor, other: Tensor) -> float:
    """The least |cosine| between columns of the same number."""
    return float((one.conj() * other).sum(0).abs().min())


def test_every_mode_has_the_same_say(monkeypatch):
    """Bases do not change if the power of modes does; in plain sums only the strongest count."""
    even, steep = gradients(1, spread=1.0), gradients(1, spread=1e6)
    for one, other in zip(bases(even), bases(steep), strict=True):
        assert overlap(one, other) > 1 - 1e-9
    ones = lambda x, *arguments: torch.full_like(x, float(x.mean()))  # noqa: E731
    monkeypatch.setattr(Tensor, "clamp_min", ones)
    assert min(map(overlap, bases(even), bases(steep))) < 0.9


def test_bases_become_those_of_the_gradients():
    """G = U X V^H with rows and columns of X of different size has the eigenvectors U and V."""
    U, V = unitary(IN, 21), unitary(OUT, 22)
    X = random(400, *MODES, IN, OUT, seed=5)
    X = X * torch.tensor([8.0, 4.0, 2.0, 1.0]).view(-1, 1) * torch.tensor([9.0, 3.0, 1.0])
    found = bases(U @ X @ V.mH, betas=(0.9, 0.995), factor_period=1)
    assert overlap(found[0], U) > 0.995
    assert overlap(found[1], V) > 0.995


def test_orthogonal_iteration_ends_at_eigenvectors():
    A = random(6, 6)
    P = A @ A.mH
    Q, values = torch.eye(6, dtype=A.dtype), torch.linalg.eigvalsh(P).flip(0)
    for _ in range(400):
        Q, _ = module._iterated(P, Q)
    torch.testing.assert_close(Q.mH @ P @ Q, torch.diag(values).to(A.dtype), rtol=1e-8, atol=1e-8)


def test_curvature_in_other_directions_than_the_axes():
    """|A W B|^2 / 2 with condition numbers of 1e4, in turned axes: AdamW cannot see them."""
    A, B = (unitary(n, s) * torch.logspace(0, -2, n) for n, s in ((IN, 31), (OUT, 32)))
    losses = {}
    for largest in (0, 1024):
        model = Spectral(START)
        optimizer = soap(model, largest=largest, weight_decay=0.0, factor_period=1)
        for step in range(300):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / 300)
            optimizer.zero_grad()
            W = torch.view_as_complex(model.parameter)
            loss = (A.mH @ W @ B).abs().square().sum() / 2
            loss.backward()
            optimizer.step()
        losses[largest] = loss.item()
    assert losses[1024] < 0.1 * losses[0]


def failing(*arguments):
    raise torch.linalg.LinAlgError("did not converge")


def test_no_eigenvectors_leave_the_last_good_basis(monkeypatch):
    """At first that is the identity; parameters are called by their names."""
    model, steps = Spectral(START), gradients(8)
    optimizer = soap(model)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="weight.entries, step 0"):
        patch.setattr(torch.linalg, "eigh", failing)
        fed(model, optimizer, steps[:1])
    state = optimizer.state[model.parameter]
    eye = torch.view_as_real(torch.eye(IN, dtype=torch.complex128))
    assert torch.equal(state["left_basis"], eye)
    fed(model, optimizer, steps[1:7])
    before = state["left_basis"].clone()
    assert not torch.equal(before, eye)
    monkeypatch.setattr(module, "_iterated", lambda P, Q: (Q * torch.nan, None))
    fed(model, optimizer, steps[1:7])
    assert torch.equal(state["left_basis"], before)
    assert model.value().isfinite().all()


def test_without_the_guard_nan_enters_the_weights(monkeypatch):
    """Control of the test above."""
    model, steps = Spectral(START), gradients(8)
    optimizer = soap(model)
    fed(model, optimizer, steps)
    monkeypatch.setattr(module, "_iterated", lambda P, Q: (Q * torch.nan, None))
    monkeypatch.setattr(Tensor, "isfinite", lambda x: torch.ones(x.shape, dtype=torch.bool))
    fed(model, optimizer, steps)
    assert model.value().isnan().any()


@pytest.mark.parametrize("guarded", [True, False])
def test_squares_that_overflow_are_left_out(monkeypatch, guarded):
    """Control: without the guard they end the use of the factors."""
    p = nn.Parameter(torch.zeros(3, 4))
    optimizer = SpectralSOAP([p], lr=1e-3, basis_period=100)
    if not guarded:
        monkeypatch.setattr(Tensor, "isfinite", lambda x: torch.ones(x.shape, dtype=torch.bool))
    for step in range(4):
        p.grad = random(3, 4, seed=step, dtype=torch.float32) * (1e25 if step == 2 else 1)
        optimizer.step()
    monkeypatch.undo()
    assert optimizer.state[p]["left"].isfinite().all() == guarded


@pytest.mark.parametrize("kind", ["pairs", "complex"])
@pytest.mark.parametrize("single", [True, False])
def test_going_on_from_a_checkpoint_is_bitwise_the_same(kind, single):
    dtype = torch.complex64 if single else torch.complex128
    steps = gradients(24).to(dtype)
    whole, first, second = (Spectral(START.to(dtype), kind) for _ in range(3))
    expected = fed(whole, soap(whole), steps)
    optimizer = soap(first)
    fed(first, optimizer, steps[:11])
    second.load_state_dict(first.state_dict())
    other = soap(second)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert torch.equal(fed(second, other, steps[11:]), expected)


def test_complex_states_of_real_parameters_would_not_come_back():
    """Control: why states are stored as pairs."""
    p = nn.Parameter(torch.zeros(2))
    optimizers = [torch.optim.SGD([p]) for _ in range(2)]
    optimizers[0].state[p]["basis"] = torch.tensor([1 + 2j])
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert not optimizers[1].state[p]["basis"].is_complex()


def test_the_first_step_only_measures():
    model = Spectral(START)
    assert torch.equal(fed(model, soap(model), gradients(1)), START)


def test_no_gradient_no_step():
    model = Spectral(START)
    optimizer = soap(model)
    optimizer.step()
    assert torch.equal(model.value(), START) and not optimizer.state[model.parameter]


def test_gradients_that_are_zero():
    """As behind a layer that is zero at first."""
    model = Spectral(START)
    optimizer = soap(model, weight_decay=0.0)
    assert torch.equal(fed(model, optimizer, gradients(7) * 0), START)
    assert fed(model, optimizer, gradients(7)).isfinite().all()


def test_groups_have_settings_of_their_own():
    one, other = (nn.Parameter(random(3, 4, dtype=torch.float64)) for _ in range(2))
    optimizer = SpectralSOAP([{"params": [one], "largest": 0}, {"params": [other]}], lr=0.1)
    one.grad = other.grad = torch.ones(3, 4, dtype=torch.float64)
    optimizer.step()
    assert "left" not in optimizer.state[one] and "left" in optimizer.state[other]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\)"),
        ({"basis_period": 0}, "basis_period=0"),
        ({"largest": -1}, "largest=-1"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpectralSOAP([nn.Parameter(torch.zeros(2, 2))], **settings)


@pytest.mark.slow
def test_real_matrices_step_as_another_library_s():
    """pytorch_optimizer is no dependency; its SOAP has another place for eps and other periods
    for factors, so eps is nearly nothing here.
    """
    library = pytest.importorskip("pytorch_optimizer")
    start, steps = random(4, 5).real.float(), gradients(30, (4, 5)).real.float()
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    common = {"lr": 0.03, "betas": (0.9, 0.97), "weight_decay": 0.0, "eps": 1e-12}
    optimizer = SpectralSOAP([mine], **common, basis_period=5)
    reference = library.SOAP([theirs], **common, precondition_frequency=5, correct_bias=True)
    for g in steps:
        mine.grad, theirs.grad = g.clone(), g.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
