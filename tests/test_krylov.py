import pytest
import torch

from solvers import REASONS, NotConverged, conjugate_gradients


def random_spd(batch, size, condition, seed=0):
    """Matrices with eigenvalues from 1 to `condition`, [b, size, size] in float64."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(batch, size, size, generator=generator, dtype=torch.float64))
    eigenvalues = torch.logspace(0, torch.tensor(condition).log10(), size, dtype=torch.float64)
    return q @ (eigenvalues[:, None] * q.mT)


def random_vectors(batch, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, size, generator=generator, dtype=torch.float64)


def product(matrix):
    return lambda x: (matrix @ x[..., None])[..., 0]


def textbook(matrix, b, M, steps):
    """Preconditioned conjugate gradients with the Fletcher-Reeves coefficient, one system."""
    x, r = torch.zeros_like(b), b
    z = d = M(r)
    for _ in range(steps):
        Ad = matrix @ d
        rz = r @ z
        x, r = x + rz / (d @ Ad) * d, r - rz / (d @ Ad) * Ad
        z = M(r)
        d = z + (r @ z) / rz * d
    return x


def test_agrees_with_a_dense_solve():
    matrix, b = random_spd(5, 30, 1e3), random_vectors(5, 30)
    x, info = conjugate_gradients(product(matrix), b, tolerance=1e-12)
    assert info.converged.all()
    exact = torch.linalg.solve(matrix, b)
    assert ((x - exact).norm(dim=1) <= 1e-9 * exact.norm(dim=1)).all()
    true = (b - product(matrix)(x)).norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(info.residual, true, rtol=1e-6, atol=1e-15)
    assert (info.residual <= 1e-12).all()


def test_fields_of_any_shape():
    b = random_vectors(2, 60).view(2, 3, 4, 5)
    x, info = conjugate_gradients(lambda u: 2 * u, b)
    torch.testing.assert_close(x, b / 2)
    assert info.iterations.tolist() == [1, 1]


def test_terminates_after_as_many_steps_as_distinct_eigenvalues():
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(1, 40, 40, generator=generator, dtype=torch.float64))
    eigenvalues = torch.tensor([1.0, 3.0, 4.0, 7.0], dtype=torch.float64).repeat(10)
    matrix = q @ (eigenvalues[:, None] * q.mT)
    _, info = conjugate_gradients(product(matrix), random_vectors(1, 40), tolerance=1e-10)
    assert info.iterations.item() == 4


@pytest.mark.parametrize("num_directions", [1, 3])
def test_is_the_textbook_method_for_a_fixed_preconditioner(num_directions):
    matrix, b = random_spd(1, 50, 1e4), random_vectors(1, 50)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    x, info = conjugate_gradients(
        product(matrix),
        b,
        lambda r: r / diagonal,
        max_iterations=12,
        num_directions=num_directions,
    )
    expected = textbook(matrix[0], b[0], lambda r: r / diagonal[0], 12)
    assert [REASONS[i] for i in info.reason] == ["iteration limit"]
    torch.testing.assert_close(x[0], expected, rtol=1e-8, atol=1e-10)


def test_a_nonlinear_preconditioner_is_legal():
    """Fletcher-Reeves, the control, falls behind with the same preconditioner."""
    matrix, b = random_spd(1, 80, 1e3), random_vectors(1, 80)
    approximate = torch.linalg.inv(matrix[0] + 3 * torch.eye(80, dtype=torch.float64))

    def M(r):
        """Nearly the inverse, with gains that depend on the sign and size of the residual."""
        scaled = r / r.norm(dim=-1, keepdim=True)
        return r.norm(dim=-1, keepdim=True) * ((scaled + 0.3 * scaled.abs()) @ approximate)

    x, info = conjugate_gradients(product(matrix), b, M, tolerance=1e-10)
    assert info.converged.all() and info.iterations.item() < 60
    control = textbook(matrix[0], b[0], lambda r: M(r[None])[0], info.iterations.item())
    residual = (b[0] - matrix[0] @ control).norm() / b.norm()
    assert residual > 1e3 * info.residual.item()


def test_a_float32_preconditioner_sees_residuals_of_order_one():
    matrix, b = random_spd(2, 30, 1e3), 1e-200 * random_vectors(2, 30)
    inverse = torch.linalg.inv(matrix).float()
    sizes = []

    def M(r):
        sizes.append(r.abs().max().item())
        return product(inverse)(r.float())

    x, info = conjugate_gradients(product(matrix), b, M, tolerance=1e-12)
    assert info.converged.all()
    assert x.dtype == torch.float64
    assert 0.5 <= sizes[0] < 1.0
    # Control: such numbers are zero in float32, and so are their squares in float64.
    assert (b.float() == 0).all() and (b * b == 0).all()


def test_more_directions_mend_a_bad_preconditioner():
    matrix, b = random_spd(1, 60, 1e4), random_vectors(1, 60)
    generator = torch.Generator().manual_seed(2)

    def M(r):
        return r + 0.5 * r.norm() * torch.randn(r.shape, generator=generator, dtype=r.dtype)

    counts = [
        conjugate_gradients(product(matrix), b, M, num_directions=k, tolerance=1e-6)[1]
        for k in (1, 60)
    ]
    assert counts[1].converged.all()
    assert counts[1].iterations.item() < 0.5 * counts[0].iterations.item()


def test_converged_samples_are_left_alone():
    matrix = torch.cat([random_spd(1, 40, 2.0), random_spd(1, 40, 1e5, seed=3)])
    b = random_vectors(2, 40)
    x, info = conjugate_gradients(product(matrix), b)
    alone, alone_info = conjugate_gradients(product(matrix[:1]), b[:1])
    assert info.iterations[0] == alone_info.iterations[0] < info.iterations[1]
    torch.testing.assert_close(x[:1], alone, rtol=1e-12, atol=1e-14)
    assert info.converged.all()


def test_converged_samples_survive_a_preconditioner_that_fails_on_zero():
    """r / ||r||, as a network wants it, is NaN for a residual of zero."""
    b = torch.stack([torch.zeros(20), torch.ones(20)]).double()
    matrix = random_spd(2, 20, 100.0)
    x, info = conjugate_gradients(product(matrix), b, lambda r: r / r.norm(dim=1, keepdim=True))
    assert info.converged.all() and info.iterations[0] == 0
    assert (x[0] == 0).all() and x.isfinite().all()
    assert info.residual[0] == 0


def test_a_warm_start_saves_iterations_and_means_the_same_tolerance():
    matrix, b = random_spd(3, 40, 1e3), random_vectors(3, 40)
    exact = torch.linalg.solve(matrix, b)
    _, cold = conjugate_gradients(product(matrix), b)
    x, warm = conjugate_gradients(product(matrix), b, x0=exact * (1 + 1e-6))
    assert (warm.iterations < cold.iterations).all()
    assert (warm.residual <= 1e-8).all()
    _, hot = conjugate_gradients(product(matrix), b, x0=exact)
    assert (hot.iterations == 0).all()


def test_the_true_residual_decides():
    """An operator with noise: the recurrence goes on to zero, b - A x does not."""
    matrix, b = random_spd(1, 30, 100.0), random_vectors(1, 30)
    generator = torch.Generator().manual_seed(4)

    def noisy(x):
        y = product(matrix)(x)
        return y + 1e-5 * y.norm() * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    x, info = conjugate_gradients(noisy, b, tolerance=1e-10)
    assert [REASONS[i] for i in info.reason] == ["stagnated"]
    assert 1e-7 < info.residual.item() < 1e-2
    control = b
    x, r, d = torch.zeros_like(b), b, b
    for _ in range(info.iterations.item()):
        Ad = noisy(d)
        step = (r * r).sum() / (d * Ad).sum()
        x, control = x + step * d, r - step * Ad
        d, r = control + (control * control).sum() / (r * r).sum() * d, control
    assert control.norm() < 1e-7 * b.norm() < (b - product(matrix)(x)).norm()


def test_rounding_stops_as_stagnated():
    matrix, b = random_spd(1, 50, 1e6), random_vectors(1, 50)
    x, info = conjugate_gradients(product(matrix), b, tolerance=1e-18)
    assert [REASONS[i] for i in info.reason] == ["stagnated"]
    assert info.residual.item() < 1e-10
    with pytest.raises(NotConverged, match=r"\(stagnated\); the tolerance is 1\.0e-18\. Loosen it"):
        info.require("Loosen it.")


def test_a_preconditioner_that_cannot_reach_the_solution_stops_as_stagnated():
    matrix, b = random_spd(1, 20, 10.0), random_vectors(1, 20)
    half = torch.arange(20) < 10
    _, info = conjugate_gradients(product(matrix), b, lambda r: r * half, patience=30)
    assert [REASONS[i] for i in info.reason] == ["stagnated"]
    assert info.iterations.item() < 60


def test_an_indefinite_operator_is_named():
    matrix = torch.stack([torch.eye(10), torch.diag(torch.linspace(-1, 8, 10))]).double()
    _, info = conjugate_gradients(product(matrix), torch.ones(2, 10, dtype=torch.float64))
    assert [REASONS[i] for i in info.reason] == ["converged", "not positive definite"]
    with pytest.raises(NotConverged, match="1 of 2 systems .* sample 1, .*not positive definite"):
        info.require()


def test_an_empty_direction_is_replaced_by_the_residual():
    """M = 0 gives no direction at all: what is left is plain conjugate gradients."""
    matrix, b = random_spd(1, 20, 10.0), random_vectors(1, 20)
    x, info = conjugate_gradients(product(matrix), b, torch.zeros_like)
    assert info.converged.all()
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)


def ring(count, size):
    """The Laplacian of a ring of cells, singular: constants. And the projection without them."""
    eye = torch.eye(size, dtype=torch.float64)
    laplacian = 2 * eye - eye.roll(1, 0) - eye.roll(-1, 0)
    return laplacian.repeat(count, 1, 1), lambda x: x - x.mean(dim=1, keepdim=True)


def test_a_singular_system_is_solved_in_the_range_of_a():
    matrix, project = ring(3, 40)
    b = random_vectors(3, 40)
    skewed = torch.linspace(1, 2, 40).double()  # an M whose answers have a part in the null space
    options = {"M": lambda r: 1e3 * r.mean(1, keepdim=True).abs() + skewed * r, "tolerance": 1e-11}
    x0 = 7.0 + random_vectors(3, 40, seed=2)
    x, info = conjugate_gradients(product(matrix), project(b), x0=x0, project=project, **options)
    assert info.converged.all() and (info.residual <= 1e-11).all()
    assert (x.mean(dim=1).abs() < 1e-12).all()
    expected = product(torch.linalg.pinv(matrix, hermitian=True))(b)
    torch.testing.assert_close(x, expected, rtol=1e-7, atol=1e-8)
    # It is b that is projected, and the residual is that of the projected b.
    other, info = conjugate_gradients(product(matrix), b + 5, project=project, **options)
    assert info.converged.all()
    torch.testing.assert_close(other, expected, rtol=1e-7, atol=1e-8)
    # Control: without it b is not in the range, and no x has so small a residual.
    _, info = conjugate_gradients(product(matrix), b + 5, tolerance=1e-11)
    assert not info.converged.any()


@pytest.mark.parametrize("where", ["b", "M", "A"])
def test_nan_is_named_and_stays_in_its_sample(where):
    matrix, b = random_spd(2, 20, 10.0), random_vectors(2, 20)
    hole = torch.zeros(2, 20, dtype=torch.float64)
    hole[1, 3] = torch.nan
    A, M = product(matrix), torch.clone
    if where == "b":
        b = b + hole
    if where == "M":
        M = hole.add
    if where == "A":
        A = lambda x: product(matrix)(x) + hole  # noqa: E731
    x, info = conjugate_gradients(A, b, M)
    assert [REASONS[i] for i in info.reason] == ["converged", "not finite"]
    with pytest.raises(NotConverged, match="sample 1"):
        info.require()
    torch.testing.assert_close(x[0], torch.linalg.solve(matrix[0], b[0]), rtol=1e-6, atol=1e-8)


def test_errors():
    b = torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"add a batch axis with b\[None\]"):
        conjugate_gradients(torch.clone, b[0])
    with pytest.raises(ValueError, match="torch.int64"):
        conjugate_gradients(torch.clone, b.long())
    with pytest.raises(ValueError, match=r"x0 has shape \(1, 4\)"):
        conjugate_gradients(torch.clone, b, x0=b[:1])
    with pytest.raises(ValueError, match="tolerance=0 must be positive"):
        conjugate_gradients(torch.clone, b, tolerance=0)
    with pytest.raises(ValueError, match="num_directions=0 must be 1 or more"):
        conjugate_gradients(torch.clone, b, num_directions=0)


def energies(matrix, b, steps, **options):
    """phi(x) = x.Ax / 2 - b.x after each number of iterations, of one system."""
    found = []
    for n in range(1, steps + 1):
        x, _ = conjugate_gradients(product(matrix), b, max_iterations=n, tolerance=1e-14, **options)
        found.append(float((x * (product(matrix)(x) / 2 - b)).sum()))
    return found


@pytest.mark.parametrize("warm", [False, True], ids=["from zero", "warm"])
def test_little_progress_ends_the_iteration(warm):
    """At the first i > 10 with phi(x_i) - phi(x_(i - 10)) above 10 progress phi(x_i)."""
    matrix, b = random_spd(1, 60, 1e5), random_vectors(1, 60)
    options = {"x0": torch.linalg.solve(matrix, b) * 0.5} if warm else {}
    x, info = conjugate_gradients(product(matrix), b, progress=0.01, tolerance=1e-14, **options)
    assert [REASONS[i] for i in info.reason] == ["little progress"]
    start = options.get("x0", torch.zeros_like(b))
    phi = [float((start * (product(matrix)(start) / 2 - b)).sum())]
    phi += energies(matrix, b, 60, **options)
    expected = next(i for i in range(10, 60) if phi[i] - phi[i - 10] > 0.1 * phi[i])
    assert int(info.iterations) == expected
    assert phi[expected] == pytest.approx(float((x * (product(matrix)(x) / 2 - b)).sum()))
    whole = conjugate_gradients(product(matrix), b, tolerance=1e-10, **options)[1]
    assert whole.converged.all() and whole.iterations > info.iterations


def test_progress_is_that_of_each_sample():
    """One that lags goes on, and comes to what it comes to alone."""
    matrix = torch.cat((random_spd(1, 40, 1.01), random_spd(1, 40, 300.0)))
    b = random_vectors(2, 40)
    options = {"progress": 0.01, "tolerance": 1e-13}
    x, info = conjugate_gradients(product(matrix), b, **options)
    alone, only = conjugate_gradients(product(matrix[1:]), b[1:], **options)
    assert info.iterations[0] < info.iterations[1] == only.iterations[0]
    torch.testing.assert_close(x[1:], alone)
