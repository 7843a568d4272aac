"""Flexible generalised minimal residuals, real and complex."""

import pytest
import scipy.sparse.linalg
import torch

from solvers import REASONS, fgmres
from tests.test_krylov import product

REAL, COMPLEX = torch.float64, torch.complex128


def system(batch, size, dtype=REAL, spread=0.6, seed=0):
    """I + spread * G with G of spectral radius about one, and a right-hand side."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(batch, size, size, generator=generator, dtype=dtype) / size**0.5
    b = torch.randn(batch, size, generator=generator, dtype=dtype)
    return torch.eye(size, dtype=dtype) + spread * g, b


def rows(m):
    return lambda x: (m * x[:, None, :]).sum(-1)


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_agrees_with_a_dense_solve_and_reports_the_true_residual(dtype):
    matrix, b = system(4, 50, dtype)
    x, info = fgmres(product(matrix), b, tolerance=1e-11)
    assert info.converged.all() and x.dtype == dtype
    exact = torch.linalg.solve(matrix, b)
    assert ((x - exact).norm(dim=1) <= 1e-9 * exact.norm(dim=1)).all()
    true = (b - product(matrix)(x)).norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(info.residual, true, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
@pytest.mark.parametrize("restart", [8, 40])
def test_takes_the_iterations_of_scipy(dtype, restart):
    matrix, b = system(3, 40, dtype, spread=0.7)
    M = torch.linalg.inv(torch.diag_embed(matrix.diagonal(dim1=1, dim2=2)) + 0.1 * matrix)
    _, info = fgmres(product(matrix), b, product(M), restart=restart)
    assert info.converged.all()
    for i in range(3):
        residuals = []
        scipy.sparse.linalg.gmres(
            (matrix[i] @ M[i]).numpy(),
            b[i].numpy(),
            rtol=1e-8,
            restart=restart,
            callback=residuals.append,
            callback_type="pr_norm",
        )
        assert abs(int(info.iterations[i]) - len(residuals)) <= 1


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_a_preconditioner_may_change_every_step(dtype):
    """Each direction is as good as its preconditioner; GMRES, which forgets it, is the control."""
    matrix, b = system(2, 60, dtype, spread=2.0)
    inverse = torch.linalg.inv(matrix)
    generator = torch.Generator().manual_seed(1)

    def M(r):
        noise = torch.randn(r.shape, generator=generator, dtype=dtype)
        return product(inverse)(r) + 0.02 * noise

    x, info = fgmres(product(matrix), b, M, tolerance=1e-10)
    assert info.converged.all() and info.iterations.max() < 40
    plain = fgmres(product(matrix), b, tolerance=1e-10, max_iterations=40)[1]
    assert not plain.converged.any()
    assert (x - torch.linalg.solve(matrix, b)).norm() < 1e-8 * x.norm()


def test_a_nonlinear_preconditioner_in_float32():
    matrix, b = system(2, 40)
    x, info = fgmres(product(matrix), 1e-150 * b, lambda r: r.float() + 0.3 * r.float().abs())
    assert info.converged.all() and x.dtype == REAL
    assert (info.residual <= 1e-8).all()


def test_no_worse_than_the_best_in_the_krylov_space():
    matrix, b = system(1, 30, COMPLEX, spread=1.5)
    for steps in (1, 4, 9):
        _, info = fgmres(product(matrix), b, max_iterations=steps)
        powers = [torch.linalg.matrix_power(matrix[0], k) @ b[0] for k in range(steps)]
        image = matrix[0] @ torch.linalg.qr(torch.stack(powers, 1))[0]
        rest = b[0] - image @ torch.linalg.lstsq(image, b[0][:, None]).solution[:, 0]
        assert int(info.iterations) == steps
        assert float(info.residual) == pytest.approx(float(rest.norm() / b.norm()), rel=1e-6)


def test_singular_but_consistent():
    matrix, _ = system(2, 30)
    matrix = matrix @ matrix.mT
    values, vectors = torch.linalg.eigh(matrix)
    null = vectors[..., :1]
    matrix = matrix - values[:, :1, None] * null @ null.mT
    b = (matrix @ torch.randn(2, 30, 1, dtype=REAL))[..., 0]
    _, info = fgmres(product(matrix), b, restart=40)
    assert info.converged.all()

    def project(v):
        return v - (null @ (null.mT @ v[..., None]))[..., 0]

    b[1] += null[1, :, 0]
    x, info = fgmres(product(matrix), b, restart=40)
    assert [REASONS[i] for i in info.reason] == ["converged", "stagnated"]
    x, info = fgmres(product(matrix), b, lambda r: r + 0.1, project=project, tolerance=1e-10)
    assert [REASONS[i] for i in info.reason] == ["converged", "inconsistent"]
    exact = (torch.linalg.pinv(matrix, hermitian=True, rtol=1e-10) @ b[..., None])[..., 0]
    assert (x - exact).norm() < 1e-6 * exact.norm()


def test_breakdown_is_no_convergence():
    """The shift e_1 -> e_2 -> .. -> 0 never reaches e_1; the cyclic one does at its last step."""
    size = 6
    shift = torch.diag(torch.ones(size - 1, dtype=REAL), -1)[None]
    b = torch.eye(size, dtype=REAL)[:1]
    x, info = fgmres(product(shift), b)
    assert REASONS[int(info.reason)] == "stagnated" and x.isfinite().all()
    assert float(info.residual) == pytest.approx(1.0)
    shift[0, 0, -1] = 1
    x, info = fgmres(product(shift), b)
    assert info.converged.all() and int(info.iterations) == size
    assert REASONS[int(fgmres(product(shift), b, restart=5)[1].reason)] == "stagnated"


def test_samples_do_not_influence_each_other_bitwise():
    matrix, b = system(3, 24, COMPLEX)
    matrix[0] = torch.eye(24)  # done after one step
    x, info = fgmres(rows(matrix), b, restart=6)
    assert len(set(info.iterations.tolist())) > 1
    for i in range(3):
        one = slice(i, i + 1)
        alone, alone_info = fgmres(rows(matrix[one]), b[one], restart=6)
        assert torch.equal(x[one], alone)
        assert info.iterations[i] == alone_info.iterations[0]
        assert info.residual[i] == alone_info.residual[0]


def test_reasons():
    matrix, b = system(1, 30)

    def reason(A, b, M=None, **options):
        return REASONS[int(fgmres(A, b, M, **options)[1].reason)]

    A = product(matrix)
    assert reason(A, b, max_iterations=3) == "iteration limit"
    assert reason(A, b, tolerance=1e-30) == "stagnated"
    assert reason(lambda x: x * torch.nan, b) == "not finite"
    assert reason(A, b, lambda r: r * torch.nan) == "not finite"
    assert reason(A, b * torch.nan) == "not finite"
    assert reason(A, 0 * b) == "converged"


def test_fields_a_warm_start_and_float32():
    matrix, b = system(2, 30)
    exact = torch.linalg.solve(matrix, b)
    _, cold = fgmres(product(matrix), b)
    _, warm = fgmres(product(matrix), b, x0=exact * (1 + 1e-6))
    assert warm.converged.all() and (warm.iterations < cold.iterations).all()
    x, info = fgmres(product(matrix.to(torch.complex64)), b.to(torch.complex64), tolerance=1e-5)
    assert (
        info.converged.all()
        and x.dtype == torch.complex64
        and info.residual.dtype.is_floating_point
    )
    fields, _ = fgmres(lambda u: 2j * u, torch.ones(2, 3, 4, dtype=COMPLEX))
    torch.testing.assert_close(fields, torch.full((2, 3, 4), -0.5j, dtype=COMPLEX))


def test_errors():
    with pytest.raises(ValueError, match="restart=0 must be 1 or more"):
        fgmres(lambda x: x, torch.ones(1, 3), restart=0)
    with pytest.raises(ValueError, match=r"add a batch axis with b\[None\]"):
        fgmres(lambda x: x, torch.ones(3))
    with pytest.raises(ValueError, match=r"x0 has shape \(1, 4\)"):
        fgmres(lambda x: x, torch.ones(1, 3), x0=torch.ones(1, 4))
