"""Minimal residuals for symmetric indefinite batches."""

import pytest
import scipy.sparse.linalg
import torch

from solvers import REASONS, minres
from tests.test_krylov import product, random_vectors


def indefinite(batch, size, condition=100.0, seed=0, zeros=0):
    """Symmetric matrices with eigenvalues of both signs, moduli from 1 to `condition`."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(batch, size, size, generator=generator, dtype=torch.float64))
    eigenvalues = torch.logspace(0, torch.tensor(condition).log10(), size, dtype=torch.float64)
    eigenvalues[::3] *= -1
    eigenvalues[:zeros] = 0
    matrix = q @ (eigenvalues[:, None] * q.mT)
    return (matrix + matrix.mT) / 2, q[..., :zeros]


def positive(batch, size, seed=5):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, size, size, generator=generator, dtype=torch.float64)
    return root @ root.mT / size + torch.eye(size, dtype=torch.float64)


def first_below(matrix, b, tolerance, M=None):
    """After how many steps SciPy's x has the true residual asked for."""
    count, reached = 0, None

    def look(x):
        nonlocal count, reached
        count += 1
        below = (b - matrix @ torch.from_numpy(x)).norm() <= tolerance * b.norm()
        reached = count if below and reached is None else reached

    M = None if M is None else M.numpy()
    scipy.sparse.linalg.minres(
        matrix.numpy(), b.numpy(), M=M, rtol=1e-15, maxiter=500, callback=look
    )
    return reached


def test_agrees_with_a_dense_solve_and_reports_the_true_residual():
    (matrix, _), b = indefinite(4, 40), random_vectors(4, 40)
    x, info = minres(product(matrix), b, tolerance=1e-11)
    assert info.converged.all()
    exact = torch.linalg.solve(matrix, b)
    assert ((x - exact).norm(dim=1) <= 1e-8 * exact.norm(dim=1)).all()
    true = (b - product(matrix)(x)).norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(info.residual, true, rtol=1e-6, atol=1e-15)
    assert (info.residual <= 1e-11).all()


@pytest.mark.parametrize("preconditioned", [False, True])
def test_takes_the_iterations_of_scipy(preconditioned):
    (matrix, _), b = indefinite(3, 60, condition=10.0), random_vectors(3, 60)
    inverse = torch.linalg.inv(positive(3, 60))
    M = product(inverse) if preconditioned else None
    _, info = minres(product(matrix), b, M, tolerance=1e-8)
    assert info.converged.all()
    for i in range(3):
        expected = first_below(matrix[i], b[i], 1e-8, inverse[i] if preconditioned else None)
        assert abs(int(info.iterations[i]) - expected) <= 2


def test_the_residual_is_the_smallest_in_the_krylov_space():
    (matrix, _), b = indefinite(1, 30), random_vectors(1, 30)
    for steps in (1, 4, 9):
        _, info = minres(product(matrix), b, max_iterations=steps)
        basis, _ = torch.linalg.qr(
            torch.stack([torch.linalg.matrix_power(matrix[0], k) @ b[0] for k in range(steps)], 1)
        )
        image = matrix[0] @ basis
        rest = b[0] - image @ torch.linalg.lstsq(image, b[0][:, None]).solution[:, 0]
        assert float(info.residual) == pytest.approx(float(rest.norm() / b.norm()), rel=1e-6)


def test_a_good_preconditioner_saves_iterations():
    (matrix, _), b = indefinite(2, 80, condition=1e4), random_vectors(2, 80)
    values, vectors = torch.linalg.eigh(matrix)
    modulus = vectors @ (values.abs().reciprocal()[..., None] * vectors.mT)
    _, info = minres(product(matrix), b, product(modulus), tolerance=1e-9)
    assert info.converged.all() and info.iterations.max() <= 4  # eigenvalues 1 and -1


def test_singular_but_consistent_gives_the_solution_of_least_norm():
    matrix, null = indefinite(3, 40, zeros=3)
    b = product(matrix)(random_vectors(3, 40))
    x, info = minres(product(matrix), b, tolerance=1e-10)
    assert info.converged.all()
    assert (null.mT @ x[..., None]).norm() < 1e-8 * x.norm()


def test_inconsistent_systems_are_reported_and_solved_in_the_least_squares_sense():
    matrix, null = indefinite(2, 30, condition=10.0, zeros=1)
    b = random_vectors(2, 30)
    b[0] = matrix[0] @ b[0]
    x, info = minres(product(matrix), b, tolerance=1e-9)
    assert [REASONS[i] for i in info.reason] == ["converged", "inconsistent"]
    r = b[1] - matrix[1] @ x[1]
    assert (matrix[1] @ r).norm() < 1e-6 * 10 * r.norm()
    part = float((null[1].mT @ b[1]).norm() / b[1].norm())
    assert float(info.residual[1]) == pytest.approx(part, rel=1e-6)


def test_nearly_singular_is_not_inconsistent():
    matrix, null = indefinite(2, 30, condition=10.0, zeros=1)
    matrix = matrix + 1e-9 * null @ null.mT
    b = random_vectors(2, 30)
    _, info = minres(product(matrix), b, tolerance=1e-6)
    assert info.converged.all()


def test_a_projection_keeps_the_null_space_out():
    matrix, null = indefinite(2, 30, zeros=1)

    def project(v):
        return v - (null @ (null.mT @ v[..., None]))[..., 0]

    b = random_vectors(2, 30)
    b[0] = project(b)[0]
    M = product(torch.linalg.inv(positive(2, 30)))
    x, info = minres(product(matrix), b, M, project=project, tolerance=1e-10)
    assert [REASONS[i] for i in info.reason] == ["converged", "inconsistent"]
    exact = (torch.linalg.pinv(matrix, hermitian=True) @ b[..., None])[..., 0]
    assert (x - exact).norm() < 1e-7 * exact.norm()


def test_samples_do_not_influence_each_other_bitwise():
    (matrix, _), b = indefinite(3, 24), random_vectors(3, 24)
    matrix[0] = torch.eye(24)  # done after one step

    def rows(m):
        return lambda x: (m * x[:, None, :]).sum(-1)

    for inverse in (torch.eye(24).double().expand(3, 24, 24), torch.linalg.inv(positive(3, 24))):
        x, info = minres(rows(matrix), b, rows(inverse), tolerance=1e-9)
        assert len(set(info.iterations.tolist())) > 1
        for i in range(3):
            one = slice(i, i + 1)
            alone, found = minres(rows(matrix[one]), b[one], rows(inverse[one]), tolerance=1e-9)
            assert torch.equal(x[one], alone) and info.iterations[i] == found.iterations[0]
            assert info.residual[i] == found.residual[0]


def test_reasons():
    (matrix, _), b = indefinite(1, 30, condition=1e3), random_vectors(1, 30)

    def reason(A, b, M=None, **options):
        return REASONS[int(minres(A, b, M, **options)[1].reason)]

    A = product(matrix)
    assert reason(A, b, max_iterations=3) == "iteration limit"
    assert reason(A, b, tolerance=1e-30) == "stagnated"
    assert reason(A, b, lambda r: -r) == "not positive definite"
    assert reason(A, b, lambda r: r * torch.sign(b)) == "not positive definite"
    assert reason(lambda x: x * torch.nan, b) == "not finite"
    assert reason(A, b * torch.nan) == "not finite"
    assert reason(A, 0 * b) == "converged"


def test_a_warm_start_and_float32():
    (matrix, _), b = indefinite(2, 30, condition=10.0), random_vectors(2, 30)
    exact = torch.linalg.solve(matrix, b)
    _, info = minres(product(matrix), b, x0=exact * (1 + 1e-6), tolerance=1e-8)
    _, cold = minres(product(matrix), b, tolerance=1e-8)
    assert info.converged.all() and (info.iterations < cold.iterations).all()
    x, info = minres(product(matrix.float()), b.float(), tolerance=1e-5)
    assert info.converged.all() and x.dtype == torch.float32
    assert (x - exact).norm() < 1e-3 * exact.norm()


def test_errors():
    with pytest.raises(ValueError, match="minres is for real systems, take fgmres"):
        minres(lambda x: x, torch.ones(1, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"add a batch axis with b\[None\]"):
        minres(lambda x: x, torch.ones(3))
    with pytest.raises(ValueError, match="max_iterations=0"):
        minres(lambda x: x, torch.ones(1, 3), max_iterations=0)
