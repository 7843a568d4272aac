"""M-FAC against the matrix that it never makes."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from sciml.curvature import MFAC
from sciml.curvature.gradient_window import GradientWindow
from sciml.layers import DenseWeight
from tests.complex_steps import random, through_a_file

SETTINGS = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
LENGTH, SIZE = 12, 5


def vectors(count: int, length: int = LENGTH, seed: int = 1) -> Tensor:
    return random(count, length, seed=seed, dtype=torch.float64)


def dense(gradients: Tensor, x: Tensor, damping: float) -> Tensor:
    """lambda (lambda + F)^(-1) x."""
    F = gradients.T @ gradients / len(gradients)
    shift = damping * F.trace() / len(gradients)
    eye = torch.eye(len(F), dtype=F.dtype)
    return shift * torch.linalg.solve(F + shift * eye, x)


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_the_direction_is_that_of_the_dense_matrix(damping):
    """While the window fills, and when old gradients are replaced."""
    window, gradients = GradientWindow(SIZE, LENGTH, torch.zeros(1).double()), vectors(14)
    for t, (g, x) in enumerate(zip(gradients, vectors(14, seed=2), strict=True)):
        found = window.direction(x, window.absorb(g, x), damping)
        expected = dense(gradients[max(0, t + 1 - SIZE) : t + 1], x, damping)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert window.count == SIZE and window.taken == 14
    torch.testing.assert_close(window.gram, window.rows.double() @ window.rows.double().T)


def test_single_precision_is_good_enough():
    """For the usual damping, with gradients that are almost the same and a momentum of them."""
    length = 800
    gradients = vectors(1, length) + 0.1 * vectors(9, length, seed=3)
    x = gradients.mean(0)
    window = GradientWindow(9, length, torch.zeros(1))
    for g in gradients:
        products = window.absorb(g.float(), x.float())
    found = window.direction(x.float(), products, 1e-2).double()
    expected = dense(gradients, x, 1e-2)
    assert (found - expected).norm() < 1e-3 * expected.norm()


def model(pairs: bool = False) -> nn.Module:
    torch.manual_seed(5)
    return (DenseWeight((3,), 2, 2) if pairs else nn.Linear(4, 3)).double()


def mfac(net, **settings) -> MFAC:
    optimizer = MFAC(
        AdamW(net.parameters(), **SETTINGS), **{"window": SIZE, "damping": 1e-2, **settings}
    )
    optimizer.attach(net, None)
    return optimizer


def give(net: nn.Module, vector: Tensor) -> None:
    parameters = list(net.parameters())
    for p, part in zip(parameters, vector.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view(p.shape).clone().to(p)


def train(net, optimizer, gradients: Tensor, after=lambda t: None) -> list[Tensor]:
    for t, g in enumerate(gradients):
        give(net, g)
        optimizer.step()
        after(t)
    return [p.detach().clone() for p in net.parameters()]


def numbers(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_steps_have_the_direction_of_the_dense_matrix_and_the_length_of_adamw():
    net, reference = model(), model()
    optimizer, adamw = mfac(net), AdamW(reference.parameters(), **{**SETTINGS, "weight_decay": 0})
    gradients, m = vectors(9, numbers(net)), 0.0
    for t, g in enumerate(gradients):
        before = [p.detach().clone() for p in net.parameters()]
        theirs = [p.detach().clone() for p in reference.parameters()]
        for each, stepped in ((net, optimizer), (reference, adamw)):
            give(each, g)
            stepped.step()
        m = 0.8 * m + 0.2 * g
        direction = dense(gradients[max(0, t + 1 - SIZE) : t + 1], m, 1e-2)
        parts = direction.split([p.numel() for p in net.parameters()])
        for p, q, was, old, d in zip(
            net.parameters(), reference.parameters(), before, theirs, parts, strict=True
        ):
            step = -(q - old).norm() * d.view(p.shape) / d.norm()
            torch.testing.assert_close(p - 0.99 * was, step, rtol=1e-8, atol=1e-10)


def test_much_damping_follows_the_momentum():
    net = model()
    optimizer, gradients = mfac(net, damping=1e12), vectors(4, numbers(net))
    before = train(net, optimizer, gradients[:3])
    train(net, optimizer, gradients[3:])
    for p, was in zip(net.parameters(), before, strict=True):
        moved, m = p.detach() - 0.99 * was, optimizer.state[p]["exp_avg"]
        assert torch.cosine_similarity(moved.flatten(), -m.flatten(), 0) > 1 - 1e-9


def test_the_scale_of_the_loss_does_not_matter():
    ends = []
    for scale in (1.0, 2.0**20):
        net = model()
        optimizer = MFAC(AdamW(net.parameters(), lr=0.1, eps=0.0), window=SIZE)
        ends.append(train(net, optimizer, scale * vectors(9, numbers(net))))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_curvature_is_learnt_from_gradients():
    """Least squares with noise of the curvature's shape: fewer steps than along the momentum."""
    scales = torch.logspace(0, -2, 10, dtype=torch.float64)
    losses = {}
    for damping in (1e-2, 1e9):
        net = nn.ParameterList([torch.ones(10, dtype=torch.float64)])
        optimizer = MFAC(AdamW(net.parameters(), lr=0.05), window=20, damping=damping)
        for t in range(200):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - t / 200)
            noise = random(10, seed=t, dtype=torch.float64)
            net[0].grad = scales * (scales * net[0].detach() + 0.02 * noise)
            optimizer.step()
        losses[damping] = ((scales * net[0].detach()).square().sum() / 2).item()
    assert losses[1e-2] < 0.5 * losses[1e9]


def test_the_parts_of_a_number_share_their_second_moment():
    """What `attach` is for; without it the phase of a number has a say in the length of steps."""
    turn = torch.polar(*torch.tensor([[1.0], [0.7]], dtype=torch.float64)).item()
    for attached in (True, False):
        ends = []
        for phase in (1.0, turn):
            net = model(pairs=True)
            entries = torch.view_as_complex(net.entries.detach()) * phase
            net.entries.data.copy_(torch.view_as_real(entries))
            optimizer = MFAC(AdamW(net.parameters(), **SETTINGS), window=SIZE)
            if attached:
                optimizer.attach(net, None)
            gradients = torch.view_as_complex(vectors(7, numbers(net)).view(7, -1, 2)) * phase
            train(net, optimizer, torch.view_as_real(gradients).flatten(1))
            ends.append(torch.view_as_complex(net.entries.detach()) / phase)
        assert ((ends[1] - ends[0]).abs().max() < 1e-9) == attached


def test_complex_parameters_step_as_pairs():
    net = model(pairs=True)
    foreign = nn.ParameterList([torch.view_as_complex(net.entries.detach().clone())])
    gradients = vectors(7, numbers(net))
    train(net, mfac(net), gradients)
    optimizer = mfac(foreign)
    for g in gradients:
        foreign[0].grad = torch.view_as_complex(g.view(*foreign[0].shape, 2).clone())
        optimizer.step()
    torch.testing.assert_close(
        torch.view_as_real(foreign[0].detach()), net.entries.detach(), rtol=1e-12, atol=1e-12
    )


def test_parameters_without_a_gradient_stay():
    net = model()
    optimizer = mfac(net)
    give(net, vectors(1, numbers(net))[0])
    net.bias.grad, before = None, net.bias.detach().clone()
    optimizer.step()
    assert torch.equal(net.bias, before)
    net.weight.requires_grad_(False)
    assert mfac(net).window.rows.shape == (SIZE, 3)  # frozen ones take no room


def test_equal_gradients_have_a_step():
    """Their Gram matrix has rank one."""
    net = model()
    g = vectors(1, numbers(net))
    assert all(p.isfinite().all() for p in train(net, mfac(net, damping=1e-14), g.repeat(8, 1)))


def test_gradients_that_are_zero():
    net = model()
    optimizer = mfac(net)
    ends = train(net, optimizer, torch.zeros(3, numbers(net)))
    assert all(p.isfinite().all() for p in ends)
    assert all(p.isfinite().all() for p in train(net, optimizer, vectors(3, numbers(net))))


@pytest.mark.parametrize("info", [1, 0], ids=["reported", "not a number"])
def test_a_matrix_without_an_inverse_leaves_the_momentum(monkeypatch, info):
    net, follower = model(), model()
    optimizer, gradients = mfac(net), vectors(4, numbers(net))
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda S: (S * torch.nan, torch.tensor(info)))
    with pytest.warns(UserWarning, match="has no inverse; the step follows the momentum"):
        found = train(net, optimizer, gradients)
    assert optimizer.failures == {"direction": 4}
    monkeypatch.undo()
    expected = train(follower, mfac(follower, damping=1e14), gradients)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_without_the_guard_the_weights_are_lost(monkeypatch):
    """Control of the test above."""
    net = model()
    failing = lambda S: (S * torch.nan, torch.tensor(0))  # noqa: E731
    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing)
    monkeypatch.setattr(Tensor, "isfinite", lambda x: torch.ones(x.shape, dtype=torch.bool))
    assert all(p.isnan().any() for p in train(net, mfac(net), vectors(1, numbers(net))))


@pytest.mark.parametrize("before", [3, 8], ids=["filling", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_going_on_from_a_checkpoint_is_bitwise_the_same(before, dtype):
    whole, first, second = (model().to(dtype) for _ in range(3))
    gradients = vectors(14, numbers(whole))
    expected = train(whole, mfac(whole), gradients)
    optimizer = mfac(first)
    train(first, optimizer, gradients[:before])
    second.load_state_dict(first.state_dict())
    other = mfac(second)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    found = train(second, other, gradients[before:])
    assert all(torch.equal(p, q) for p, q in zip(found, expected, strict=True))


def test_a_schedule_still_acts_after_a_checkpoint():
    net = model()
    optimizer = mfac(net)
    optimizer.load_state_dict(mfac(model()).state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = net.weight.detach().clone()
    train(net, optimizer, vectors(2, numbers(net)))
    assert torch.equal(net.weight, before)


def test_a_checkpoint_of_another_kind_is_refused():
    optimizer = mfac(model())
    with pytest.raises(ValueError, match="MFAC: the checkpoint holds no curvature"):
        optimizer.load_state_dict(AdamW(model().parameters()).state_dict())
    net = model()
    smaller = mfac(net, window=2)
    train(net, smaller, vectors(3, numbers(net)))
    with pytest.raises(ValueError, match="holds 2 gradients of 15 numbers, expected 3 of 15"):
        optimizer.load_state_dict(smaller.state_dict())


def test_a_window_that_is_too_large_is_refused():
    net = nn.Linear(1000, 100)
    with pytest.raises(
        ValueError,
        match=r"window=32 gradients of 100,100 numbers and .* take 12.8 MB.*at most 24",
    ):
        MFAC(AdamW(net.parameters()), window=32, max_memory_mb=10)
    assert len(MFAC(AdamW(net.parameters()), window=24, max_memory_mb=10).window.rows) == 24


@pytest.mark.parametrize(
    "settings, message",
    [({"window": 0}, "window=0"), ({"damping": 0.0}, "damping=0.0")],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MFAC(AdamW(model().parameters()), **settings)


def test_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="the length of its steps from AdamW, not SGD"):
        MFAC(SGD(model().parameters()))


def test_a_closure_is_called_with_gradients():
    net, x = model(), vectors(6, 4)
    optimizer, losses = mfac(net), []

    def closure():
        optimizer.zero_grad()
        loss = net(x).square().sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(5):
        assert torch.is_tensor(optimizer.step(closure))
    assert losses[-1] < losses[0]
