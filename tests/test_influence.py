"""Influence of training samples against retraining without them."""

import pytest
import torch
from torch import nn

from sciml.curvature.influence import Influence
from sciml.gauss_newton import Expansion
from sciml.losses import MeanSquaredError
from tests.gauss_newton import close

pytestmark = pytest.mark.usefixtures("double")


class Regression:
    """Samples [n, 1, i] -> [n, 1, o] and the loss of a model on some of them."""

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor):
        self.model, self.x, self.y = model, x, y

    def expand(self, numbers) -> Expansion:
        return self.on(self.x[list(numbers)], self.y[list(numbers)])

    def on(self, x: torch.Tensor, y: torch.Tensor) -> Expansion:
        loss, prediction = MeanSquaredError(), self.model(x)
        value = loss(prediction, y, None)
        return Expansion(value.mean(), [loss.term(prediction, y, None).scaled(1 / value.numel())])


def linear(n: int = 30) -> Regression:
    """A least-squares problem at its solution."""
    x, y = torch.randn(n, 1, 3), torch.randn(n, 1, 2)
    model = nn.Linear(3, 2)
    h = torch.cat((x[:, 0], torch.ones(n, 1)), 1)
    solution = torch.linalg.lstsq(h, y[:, 0]).solution
    with torch.no_grad():
        model.weight.copy_(solution[:-1].T)
        model.bias.copy_(solution[-1])
    return Regression(model, x, y)


def test_scores_are_the_derivative_of_leaving_out():
    """Exactly that of a least-squares problem, whose curvature is one Kronecker product; the
    eigenvalues are those of one draw of noise per batch, averaged over many.
    """
    p = linear()
    qx, qy = torch.randn(4, 1, 3), torch.randn(4, 1, 2)
    found = Influence(p.model, p.expand, 30, damping=1e-12, passes=400, batch_size=30)
    scores = found.scores([p.on(qx[i : i + 1], qy[i : i + 1]) for i in range(4)])
    h = torch.cat((p.x[:, 0], torch.ones(30, 1)), 1)
    H = h.T @ h / 30  # the same for both outputs, whose loss is their mean: factor 2 / 2
    hq = torch.cat((qx[:, 0], torch.ones(4, 1)), 1)
    r, rq = p.model(p.x)[:, 0] - p.y[:, 0], p.model(qx)[:, 0] - qy[:, 0]
    exact = (hq @ torch.linalg.solve(H, h.T)) * (rq @ r.T) / 30
    assert close(scores, exact.detach(), 0.1)
    assert torch.corrcoef(torch.stack((scores.flatten(), exact.detach().flatten())))[0, 1] > 0.995


def test_samples_that_are_left_out_change_the_loss_as_scored():
    """Of a small network, trained again from its solution without each of the samples."""
    n = 24
    x = torch.randn(n, 1, 2)
    y = (x.sum(-1, keepdim=True)).sin() + 0.3 * torch.randn(n, 1, 1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    p = Regression(model, x, y)
    weight = 1e-2

    def train(numbers, model):
        steps = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")
        own = Regression(model, x, y)

        def closure():
            steps.zero_grad()
            penalty = weight * sum(q.square().sum() for q in model.parameters())
            loss = own.expand(numbers).value * len(numbers) / n + penalty
            loss.backward()
            return loss

        for _ in range(3):
            steps.step(closure)

    train(range(n), model)
    qx = torch.randn(3, 1, 2)
    qy = (qx.sum(-1, keepdim=True)).sin()
    scores = Influence(model, p.expand, n, damping=0.1, passes=50).scores(
        [p.on(qx[i : i + 1], qy[i : i + 1]) for i in range(3)]
    )
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = [float(p.on(qx[i : i + 1], qy[i : i + 1]).value) for i in range(3)]
    changes = torch.empty(3, n)
    for m in range(n):
        model.load_state_dict(state)
        train([k for k in range(n) if k != m], model)
        for i in range(3):
            changes[i, m] = float(p.on(qx[i : i + 1], qy[i : i + 1]).value) - before[i]
    for i in range(3):
        correlation = torch.corrcoef(torch.stack((scores[i], changes[i])))[0, 1]
        assert correlation > 0.6, i


@pytest.mark.parametrize("batch_size", [1, 33, 65])
def test_no_sample_counts_more_than_another(batch_size):
    """65 samples, the last with inputs five times as large: whatever the batch, the scores are
    those of the closed form.
    """
    p = linear(65)
    p.x[-1] *= 5
    h = torch.cat((p.x[:, 0], torch.ones(65, 1)), 1)
    with torch.no_grad():
        solution = torch.linalg.lstsq(h, p.y[:, 0]).solution
        p.model.weight.copy_(solution[:-1].T)
        p.model.bias.copy_(solution[-1])
    qx, qy = torch.randn(1, 1, 3), torch.randn(1, 1, 2)
    found = Influence(p.model, p.expand, 65, damping=1e-12, passes=20, batch_size=batch_size)
    scores = found.scores([p.on(qx, qy)])
    hq, r = torch.cat((qx[:, 0], torch.ones(1, 1)), 1), p.model(p.x)[:, 0] - p.y[:, 0]
    rq = p.model(qx)[:, 0] - qy[:, 0]
    exact = (hq @ torch.linalg.solve(h.T @ h / 65, h.T)) * (rq @ r.T) / 65
    assert close(scores, exact.detach(), 0.15)


@pytest.mark.parametrize("draws, spread", [(32, (1.0, 2.5)), (1, (5.0, torch.inf))])
def test_diagonals_need_draws(monkeypatch, draws, spread):
    """Of a single one, which a full batch would have, d is the square of one normal number for
    each entry, and its inverse may have any size; of 32 the sizes of the scores agree over seeds.
    """
    monkeypatch.setattr("sciml.curvature.influence.DRAWS", draws)
    p = linear(64)
    p.model = nn.Sequential(p.model, Shift())
    query, sizes = (torch.randn(1, 1, 3), torch.randn(1, 1, 2)), []
    for seed in range(8):
        torch.manual_seed(seed)
        influence = Influence(p.model, p.expand, 64, batch_size=64)
        assert influence.draws == draws
        sizes.append(float(influence.scores([p.on(*query)]).norm()))
    assert spread[0] < max(sizes) / min(sizes) < spread[1]


class Shift(nn.Module):
    """Two parameters that no known layer holds."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x + self.shift


def test_directions_are_held_in_part(monkeypatch):
    p = linear()
    data = [(torch.randn(1, 1, 3), torch.randn(1, 1, 2)) for _ in range(5)]
    found = Influence(p.model, p.expand, 30)
    whole = found.scores(p.on(*pair) for pair in data)
    monkeypatch.setattr("sciml.curvature.influence.AT_ONCE", 17)  # two of 8 numbers
    torch.testing.assert_close(found.scores(p.on(*pair) for pair in data), whole)
    with pytest.raises(ValueError, match="there are none"):
        found.scores([])


def test_what_makes_no_sense_is_refused():
    p = linear()
    with pytest.raises(ValueError, match="count=0"):
        Influence(p.model, p.expand, 0)
