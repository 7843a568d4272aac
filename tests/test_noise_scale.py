"""The noise scale of gradients, where it is known."""

import pytest
import torch

from sciml.curvature import noise_scale
from sciml.curvature.noise_scale import noise_scales, ratio
from sciml.losses import MeanSquaredError
from sciml.tasks.part import Misfit
from tests.tiny_losses import GRID, TinyNet, dense_hessian, tiny_loss


def brute_force(g: torch.Tensor, M: torch.Tensor) -> tuple[float, float]:
    """tr(M S) / (G^T M G) and its error from all products of gradients g [m, n]."""

    def scale(K: torch.Tensor) -> torch.Tensor:
        m, centred = len(K), K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()
        return centred.trace() / (m - 1) / ((K.sum() - K.trace()) / (m * (m - 1)))

    K, rows = g @ M @ g.T, torch.arange(len(g))
    left = torch.stack([scale(K[rows != j][:, rows != j]) for j in rows])
    error = ((len(g) - 1) / len(g) * (left - left.mean()).square().sum()).sqrt()
    return float(scale(K)), float(error)


def test_the_formula():
    g = 1 + torch.randn(9, 4, dtype=torch.float64)
    M = torch.randn(4, 4, dtype=torch.float64)
    M = M @ M.T
    found = ratio((g @ M * g).sum(1), g @ M @ g.mean(0))
    assert found == pytest.approx(brute_force(g, M), rel=1e-10)


def test_a_known_covariance():
    """Within four standard errors, and these are of the right size."""
    G = torch.tensor([1.0, 0.5, 0, 0]).double()
    deviation = torch.tensor([1.0, 2, 3, 4]).double()
    M = torch.tensor([4.0, 1, 0.5, 0.1]).double().diag()
    true = (M @ deviation.square().diag()).trace() / (G @ M @ G)
    found = []
    for _ in range(40):
        g = G + deviation * torch.randn(500, 4, dtype=torch.float64)
        found.append(ratio((g @ M * g).sum(1), g @ M @ g.mean(0)))
    values, errors = torch.tensor(found).double().T
    assert abs(values.mean() - true) < 4 * values.std() / 40**0.5
    assert errors.mean() == pytest.approx(float(values.std()), rel=0.4)


def test_gradients_that_are_noise_have_none():
    g = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double()
    assert ratio((g * g).sum(1), g @ g.mean(0)) is None
    same = torch.ones(3, 2).double()
    assert ratio((same * same).sum(1), same @ same.mean(0)) == (0, 0)


def test_of_a_loss(monkeypatch):
    """From products with its Hessian, as from all gradients and the dense one."""
    loss = tiny_loss(
        TinyNet(), lambda v, u: [Misfit(MeanSquaredError(), v, u + 3, GRID)], samples=6
    )
    g = torch.stack([loss.gradient(i) for i in range(6)])
    plain, curved = noise_scales(loss, loss.hessian())
    assert plain == pytest.approx(brute_force(g, torch.eye(57).double()), rel=1e-8)
    assert curved == pytest.approx(brute_force(g, dense_hessian(loss)), rel=1e-8)
    assert plain.value > 0 and curved.value != plain.value
    monkeypatch.setattr(noise_scale, "MOST", 4)
    again, few = noise_scales(loss, loss.hessian())
    assert again == plain
    assert few == pytest.approx(brute_force(g[:4], dense_hessian(loss)), rel=1e-8)
