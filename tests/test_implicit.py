"""Gradients through linear solves with any operator."""

import pytest
import torch

from solvers import LinearSystem, fgmres, minres

REAL, COMPLEX = torch.float64, torch.complex128


def operator(x, matrix, diagonal):
    """(C^2 / 4 + diag(e^d)) x, nonlinear in theta, not symmetric."""
    y = (matrix @ (matrix @ x[..., None]))[..., 0] / 4
    return y + diagonal.exp() * x


def dense(matrix, diagonal):
    return matrix @ matrix / 4 + torch.diag_embed(diagonal.exp())


def solve(b, *theta):
    return torch.linalg.solve(dense(*theta), b)


def solve_adjoint(b, *theta):
    return torch.linalg.solve(dense(*theta).mH, b)


def problem(dtype, b=2, n=4):
    matrix = torch.randn(b, n, n, dtype=dtype, requires_grad=True)
    diagonal = torch.randn(b, n, dtype=REAL, requires_grad=True)
    return torch.randn(b, n, dtype=dtype, requires_grad=True), matrix, diagonal


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_first_and_second_derivatives(dtype):
    system, arguments = LinearSystem(operator, solve, solve_adjoint), problem(dtype, n=3)
    torch.testing.assert_close(system(*arguments), solve(*arguments))
    assert torch.autograd.gradcheck(system, arguments)
    assert torch.autograd.gradgradcheck(system, arguments)


def test_agrees_with_autograd_through_a_dense_solve_to_third_order():
    arguments = problem(REAL)
    found = []
    for function in (LinearSystem(operator, solve, solve_adjoint), solve):
        value = function(*arguments).pow(3).sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, arguments, create_graph=True)
            value = sum(g.square().sum() for g in gradients)
        found.append(gradients)
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=1e-8, atol=1e-8 * theirs.detach().abs().max().item()
        )


def test_a_self_adjoint_operator_needs_one_solver():
    def symmetric(x, a):
        return (a @ x[..., None])[..., 0] + (a.mT @ x[..., None])[..., 0]

    system = LinearSystem(symmetric, lambda b, a: torch.linalg.solve(a + a.mT, b))
    a = torch.randn(2, 4, 4, dtype=REAL, requires_grad=True)
    b = torch.randn(2, 4, dtype=REAL, requires_grad=True)
    assert torch.autograd.gradcheck(system, (b, a))
    assert torch.autograd.gradgradcheck(system, (b, a))


def test_parameters_that_depend_on_each_other():
    """A tensor reached twice, once through another, gets each part once."""
    b, matrix, diagonal = problem(REAL)
    system = LinearSystem(operator, solve, solve_adjoint)

    def both(function):
        second = diagonal.square() * matrix.diagonal(dim1=1, dim2=2)
        return torch.autograd.grad(function(b, matrix, second).sum(), (b, matrix, diagonal))

    for mine, theirs in zip(both(system), both(solve), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_iterations_of_any_number_are_not_recorded():
    b, matrix, diagonal = problem(COMPLEX, n=12)

    def iterate(b, *theta):
        x, info = fgmres(lambda x: operator(x, *theta), b, tolerance=1e-12)
        info.require()
        return x

    def iterate_adjoint(b, matrix, diagonal):
        return iterate(b, matrix.mH, diagonal)

    system = LinearSystem(operator, iterate, iterate_adjoint)
    found = torch.autograd.grad(system(b, matrix, diagonal).abs().sum(), (b, matrix, diagonal))
    expected = torch.autograd.grad(solve(b, matrix, diagonal).abs().sum(), (b, matrix, diagonal))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9)


def test_a_singular_system_with_a_projection():
    """The gradient of the solution without a part in the null space, the constants."""

    def laplacian(x, t):
        flux = t * x.diff(dim=-1)
        ends = torch.zeros_like(flux[..., :1])
        return -torch.cat((ends, flux, ends), dim=-1).diff(dim=-1)

    def project(v):
        return v - v.mean(dim=-1, keepdim=True)

    def iterate(b, t):
        x, info = minres(lambda x: laplacian(x, t), project(b), project=project, tolerance=1e-13)
        info.require()
        return x

    t = (1 + torch.rand(2, 5, dtype=REAL)).requires_grad_()
    b = torch.randn(2, 6, dtype=REAL, requires_grad=True)
    system = LinearSystem(laplacian, iterate)
    assert torch.autograd.gradcheck(lambda b, t: system(project(b), t), (b, t), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda b, t: system(project(b), t), (b, t), fast_mode=True)


def test_only_what_is_asked_for_is_computed():
    b, matrix, diagonal = problem(REAL)
    calls = []

    def counted(x, *theta):
        calls.append(len(x))
        return operator(x, *theta)

    system = LinearSystem(counted, solve, solve_adjoint)
    system(b, matrix.detach(), diagonal.detach()).sum().backward()
    assert calls == [] and b.grad is not None
