"""Eigenvalues, densities and traces from products with vectors, beside those of matrices."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator

from sciml.curvature import spectrum
from sciml.curvature.estimate import jackknife, mean
from sciml.curvature.spectrum import Eigenpairs, largest, quadrature, traces
from tests.tiny_losses import DenseOperator, TinyNet, dense_hessian, tiny_loss


@pytest.fixture
def matrix() -> torch.Tensor:
    """[40, 40] with a bulk of both signs and a few large eigenvalues."""
    values = torch.cat((torch.linspace(-0.3, 1, 36), torch.tensor([3.0, 5, 8, 20]))).double()
    Q, _ = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))
    return (Q * values) @ Q.T


def test_largest_eigenvalues(matrix):
    found = largest(aslinearoperator(matrix.numpy()), 4, tolerance=1e-10)
    np.testing.assert_allclose(found.values, [20, 8, 5, 3], rtol=1e-10)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(4), atol=1e-10)
    assert found.residuals.max() < 1e-8
    rough = largest(aslinearoperator(matrix.numpy()), 4, tolerance=1e-2)
    true = np.linalg.norm(matrix.numpy() @ rough.vectors - rough.vectors * rough.values, axis=0)
    np.testing.assert_allclose(rough.residuals, true, atol=1e-12)
    few = largest(aslinearoperator(np.diag([1.0, -2.0, 3.0])), 5)
    np.testing.assert_allclose(few.values, [3, 1], rtol=1e-8)


def test_largest_eigenvalues_of_a_loss():
    loss = tiny_loss(TinyNet())
    expected = torch.linalg.eigvalsh(dense_hessian(loss)).flip(0)[:5]
    found = largest(loss.hessian().to_scipy(), 5, tolerance=1e-8)
    np.testing.assert_allclose(found.values, expected, rtol=1e-8)


def test_what_does_not_converge_is_left_out(monkeypatch):
    monkeypatch.setattr(spectrum, "RESTARTS", 1)
    crowded = np.diag(1 + 1e-9 * np.arange(2000.0))
    crowded[-1, -1] = 2
    found = largest(aslinearoperator(crowded), 5, tolerance=1e-14)
    assert len(found.values) < 5 and (found.residuals < 1e-10).all()


def test_quadrature_is_exact_for_low_degrees(matrix):
    """Moments of the spectrum that a vector sees, up to degree 2 m - 1 of m steps."""
    found = quadrature(DenseOperator(matrix), 4, 3, seed=5)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))
    torch.manual_seed(5)
    v = torch.randn(40, dtype=torch.float64)
    v /= v.norm()
    for degree in range(8):
        moment = (found.weights[0] * found.nodes[0] ** degree).sum()
        expected = v @ torch.linalg.matrix_power(matrix, degree) @ v
        torch.testing.assert_close(moment, expected, rtol=1e-10, atol=1e-10)


def test_as_many_steps_as_dimensions_give_all_eigenvalues():
    values = torch.tensor([-3.0, -1, 0, 0.5, 2, 4, 7, 11]).double()
    Q, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    found = quadrature(DenseOperator((Q * values) @ Q.T), 8, 2)
    for nodes in found.nodes:
        torch.testing.assert_close(nodes, values, rtol=1e-8, atol=1e-8)
    assert found.mean(torch.ones_like) == pytest.approx((1, 0), abs=1e-12)


def test_equal_eigenvalues_do_no_harm():
    """Lanczos comes to an end early, and what it finds from then on has no weight."""
    A = DenseOperator(torch.tensor([0.0] * 30 + [1.0] * 9 + [5.0]).double().diag())
    found = quadrature(A, 12, 200)
    for function, true in ((torch.ones_like, 1), (torch.abs, 14 / 40), (torch.square, 34 / 40)):
        value, error = found.mean(function)
        assert abs(value - true) <= 4 * error + 1e-12
    assert float(found.nodes.max()) == pytest.approx(5) and found.nodes.min() > -1e-8


def test_moments_within_their_errors(matrix):
    found = quadrature(DenseOperator(matrix), 10, 300)
    for degree in (1, 2):
        value, error = found.mean(lambda x, d=degree: x**d)
        expected = torch.linalg.matrix_power(matrix, degree).trace() / 40
        assert abs(value - expected) < 4 * error and error < 0.1 * expected


def test_shares(matrix):
    """Of negative eigenvalues, and the effective dimension, within errors of the true ones."""
    values = torch.linalg.eigvalsh(matrix)
    found = quadrature(DenseOperator(matrix), 40, 200)
    below, share = found.negative(0.1)
    participation = found.participation()
    expected = (
        (values < -0.1).double().mean(),
        (-values).clamp_min(0).sum() / values.abs().sum(),
        values.abs().sum() ** 2 / values.square().sum() / 40,
    )
    for (value, error), true in zip((below, share, participation), expected, strict=True):
        assert abs(value - true) < 4 * error < 0.5 * true


def test_what_is_smaller_than_the_floor_is_zero():
    A = DenseOperator(torch.tensor([-1e-6] * 30 + [1e-6] * 9 + [5.0]).double().diag())
    raw, found = (quadrature(A, 5, 50, floor=floor) for floor in (0.0, 1e-5))
    assert raw.nodes.min() < 0 and found.nodes.min() == 0
    assert found.negative(0)[1] == (0, 0) and raw.negative(0)[1].value > 0


def test_the_density_is_one_in_all(matrix):
    found = quadrature(DenseOperator(matrix), 30, 5)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=0.03)
    peak = found.grid[found.density.argmax()]
    assert -0.3 < peak < 1.5 and found.grid[0] < -0.3 and found.grid[-1] > 20


NONE = Eigenpairs(np.zeros(0), np.zeros((40, 0)), np.zeros(0))


def test_traces_of_diagonal_blocks(matrix):
    """Within four standard errors, which fall when the large eigenvalues are known."""
    sizes, diagonal = (10, 25, 5), matrix.diagonal()
    expected = torch.stack([part.sum() for part in diagonal.split(sizes)])
    top = largest(aslinearoperator(matrix.numpy()), 4, tolerance=1e-10)
    whole = {}
    for name, known in (("none", NONE), ("four", top)):
        whole[name], blocks = traces(DenseOperator(matrix), sizes, 100, known=known)
        assert abs(whole[name].value - diagonal.sum()) < 4 * whole[name].error
        for (value, error), true in zip(blocks, expected, strict=True):
            assert abs(value - true) < 4 * error
    assert whole["four"].error < 0.3 * whole["none"].error


def test_traces_are_exact_where_they_can_be(matrix):
    """Of a diagonal matrix, by any vector of signs; and if all eigenpairs are known."""
    diagonal = torch.arange(40, dtype=torch.float64)
    whole, (first, rest) = traces(DenseOperator(diagonal.diag()), (3, 37), 2, known=NONE)
    assert whole == (780, 0) and first == (3, 0) and rest == (777, 0)
    values, vectors = np.linalg.eigh(matrix.numpy())
    known = Eigenpairs(values, vectors, np.zeros(40))
    whole, _ = traces(DenseOperator(matrix), (40,), 2, known=known)
    assert whole.value == pytest.approx(float(matrix.trace()), rel=1e-12) and whole.error < 1e-12


def test_traces_of_a_loss_by_tensor():
    loss = tiny_loss(TinyNet())
    H = dense_hessian(loss)
    top = largest(loss.hessian().to_scipy(), 5)
    whole, blocks = traces(loss.hessian(), loss.view.sizes, 40, known=top)
    assert abs(whole.value - float(H.trace())) < 4 * whole.error
    for (value, error), part in zip(blocks, H.diagonal().split(loss.view.sizes), strict=True):
        assert abs(value - float(part.sum())) < 4 * error


def test_estimates():
    """Leaving one out gives the standard error of a mean exactly, and of a square nearly."""
    x = 5 + torch.randn(2000, dtype=torch.float64)
    assert jackknife(torch.mean, x) == pytest.approx(mean(x), rel=1e-10)
    value, error = jackknife(lambda x: x.mean().square(), x)
    assert value == pytest.approx(25, rel=0.03)
    assert error == pytest.approx(2 * float(x.mean()) * mean(x).error, rel=0.01)
