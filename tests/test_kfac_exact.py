"""Kronecker factors against dense Gauss-Newton matrices, where theory says that they are equal."""

import pytest
import torch
from torch import nn

from sciml.layers import FourierBasis, SpectralConv
from sciml.losses import MeanSquaredError, RelativeL2
from solvers.grid import Grid
from tests.gauss_newton import Problem, close, factors, flat, in_layer_order, realrep

pytestmark = pytest.mark.usefixtures("double")


def points_last(model: nn.Module) -> nn.Module:
    """[b, c, n] through a model that works on [.., c]."""
    return nn.Sequential(flat(lambda x: x.movedim(1, -1)), model, flat(lambda x: x.movedim(-1, 1)))


class Mode(nn.Module):
    """A spectral convolution of fields [b, c, *space]."""

    def __init__(self, i: int, o: int, modes, grid: Grid, bias: bool = False):
        super().__init__()
        self.grid, self.modes = grid, tuple(modes)
        self.convolution = SpectralConv(i, o, modes, bias=bias)

    def basis(self, x):
        return FourierBasis(self.grid, self.modes, (1.0,) * self.grid.ndim, x)

    def forward(self, x):
        v = x.movedim((0, 1), (-2, -1))
        return self.convolution(v, self.basis(x)).movedim((-2, -1), (0, 1))


GRIDS = {
    "1-D": ((9,), (3,)),
    "1-D even": ((8,), (3,)),
    "1-D Nyquist": ((6,), (3,)),
    "2-D": ((5, 7), (2, 2)),
    "2-D even": ((6, 6), (2, 2)),
    "2-D Nyquist": ((4, 4), (2, 2)),
    "2-D Nyquist of one axis": ((4, 5), (2, 2)),
    "3-D": ((3, 4, 5), (1, 1, 1)),
    "3-D Nyquist": ((2, 2, 2), (1, 1, 1)),
}


def spectral(name: str, samples: int = 3, i: int = 2, o: int = 2) -> Problem:
    shape, modes = GRIDS[name]
    grid = Grid.box(shape, boundary="periodic", points="left")
    model = Mode(i, o, modes, grid)
    return Problem(model, torch.randn(samples, i, *shape), torch.randn(samples, o, *shape))


def test_deep_linear_layers_are_exact():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.Linear(2, 2))
    problem = Problem(points_last(model), torch.randn(5, 3, 1), torch.randn(5, 2, 1))
    kfac = problem.factored()
    for index in range(3):
        name = f"1.{index}"
        layer = kfac.coverage.layers[name]
        names = [f"{name}.weight", f"{name}.bias"][: len(layer.parameters)]
        A, B = factors(kfac, name)
        assert close(torch.kron(A[0], B[0]), in_layer_order(problem.dense(*names), layer))


def test_one_sample_is_exact_through_nonlinearities():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    for samples, exact in ((1, True), (3, False)):
        x, y = torch.randn(samples, 3, 1), torch.randn(samples, 2, 1)
        problem = Problem(points_last(model), x, y, RelativeL2())
        kfac = problem.factored()
        layer = kfac.coverage.layers["1.2"]
        A, B = factors(kfac, "1.2")
        dense = in_layer_order(problem.dense("1.2.weight", "1.2.bias"), layer)
        assert close(torch.kron(A[0], B[0]), dense) == exact  # three: the factors are an assumption


def test_monte_carlo_tends_to_the_exact_factors():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    problem = Problem(points_last(model), torch.randn(4, 3, 6), torch.randn(4, 2, 6), RelativeL2())
    exact = problem.factors("1.0")
    sampled = problem.factors("1.0", fisher="monte_carlo", passes=2000)
    assert close(sampled[0], exact[0])
    assert close(sampled[1], exact[1], 0.05)
    assert not close(problem.factors("1.0", fisher="monte_carlo")[1], exact[1], 0.05)
    assert not close(problem.factors("1.0", fisher="empirical")[1], exact[1], 0.5)


def test_the_diagonal_tends_to_that_of_the_gauss_newton_matrix():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.randn(3, 1))

        def forward(self, x):
            return (self.gate * x).tanh().cumsum(1)

    problem = Problem(Gated(), torch.randn(4, 3, 6), torch.randn(4, 3, 6))
    diagonal = problem.dense("gate").diagonal()
    assert close(problem.factored().diagonals["gate"].mean.flatten(), diagonal)
    sampled = problem.factored(fisher="monte_carlo", passes=2000).diagonals["gate"].mean
    assert close(sampled.flatten(), diagonal, 0.05)


def test_expand_is_exact_at_points_and_reduce_before_a_mean():
    layer = nn.Linear(3, 2)
    x, y = torch.randn(4, 5, 3), torch.randn(4, 2, 1)
    pooled = nn.Sequential(layer, flat(lambda u: u.mean(1)[..., None]))
    at_points = nn.Sequential(layer, flat(lambda u: u.movedim(1, 2)))
    cases = (
        (pooled, y, "reduce", True),
        (pooled, y, "expand", False),
        (at_points, torch.randn(4, 2, 5), "expand", True),
        (at_points, torch.randn(4, 2, 5), "reduce", False),
    )
    for model, target, sharing, exact in cases:
        problem = Problem(model, x, target)
        kfac = problem.factored(sharing=sharing)
        A, B = factors(kfac, "0")
        dense = in_layer_order(problem.dense("0.weight", "0.bias"), kfac.coverage.layers["0"])
        assert close(torch.kron(A[0], B[0]), dense) == exact, (sharing, exact)


@pytest.mark.parametrize("name", GRIDS)
def test_each_mode_of_a_spectral_convolution_is_exact(name):
    problem = spectral(name)
    A, B = problem.factors("convolution")
    paired = problem.model.basis(problem.x).paired.flatten()
    dense = problem.dense("convolution.weight.entries")
    K, size = len(A), 4
    dense = dense.view(K, size, 2, K, size, 2).permute(0, 2, 1, 3, 5, 4)
    dense = dense.reshape(K, 2 * size, K, 2 * size)  # mode, (re, im), mode, (re, im)
    gradient = torch.view_as_complex(problem.gradients()["convolution.weight.entries"])
    gradient = gradient.reshape(K, size)
    gradient = torch.cat((gradient.real, gradient.imag), 1)
    others = torch.zeros(K, K, dtype=torch.bool)
    for k in range(K):
        block = realrep(torch.kron(A[k], B[k]))
        coupled = [j for j in range(K) if dense[k, :, j].norm() > 1e-12 * dense[k, :, k].norm()]
        others[k, coupled] = True
        if not paired[k]:
            assert coupled == [k]
            assert close(block, dense[k, :, k])
        # a pair acts as one wave: along a gradient the rows of both together are one block of ours
        full = sum(dense[k, :, j] @ gradient[j] for j in range(K))
        assert close(full, block @ gradient[k])
    assert torch.equal(others, others.T)
    assert others.sum(1).max() <= 2
    assert (others.sum(1) == 1)[~paired].all()


def test_the_gauss_newton_matrix_has_the_null_space_of_unseen_parts():
    """Of modes that are real fields the imaginary part of R v, of a pair k, -k the difference of
    R_k and conj(R_-k): as many dimensions as there are complex numbers in R_k, for each.
    """
    for name in GRIDS:
        problem = spectral(name, samples=4)
        dense = problem.dense("convolution.weight.entries")
        paired = int(problem.model.basis(problem.x).paired.sum())
        values = torch.linalg.eigvalsh(dense)
        assert int((values < 1e-12 * values[-1]).sum()) == paired * 4, name


def step(problem: Problem, name: str, kfac) -> None:
    """The whole Newton step of one layer, without damping."""
    block, layer = kfac.blocks[name], kfac.coverage.layers[name]
    kfac.damping, kfac.floor = 1e-26, 0.0
    assert block.refresh(kfac.damping, kfac.floor) == 0
    gradients = problem.gradients()
    with torch.no_grad():
        names = {id(p): n for n, p in problem.model.named_parameters()}
        G = layer.join([gradients[names[id(p)]] for p in layer.parameters])
        for p, d in zip(layer.parameters, layer.split(block.apply(G)), strict=True):
            p -= d


def least_squares(problem: Problem) -> float:
    """The lowest loss that the model, linear in its parameters, can have."""
    (parameter,) = problem.model.parameters()
    eye = torch.eye(parameter.numel())
    outputs = []
    with torch.no_grad():
        for row in eye:
            parameter.copy_(row.view_as(parameter))
            outputs.append(problem.model(problem.x).flatten())
        J = torch.stack(outputs, 1)
        best = torch.linalg.lstsq(J, problem.y.flatten(), driver="gelsd").solution
        parameter.copy_(best.view_as(parameter))
        return float(problem.objective().value)


@pytest.mark.parametrize("name", GRIDS)
def test_one_step_reaches_the_least_squares_optimum(name):
    problem = spectral(name, samples=5)
    step(problem, "convolution", problem.factored())
    reached = float(problem.objective().value)
    assert reached == pytest.approx(least_squares(problem), rel=1e-10)


@pytest.mark.parametrize("name", ["1-D", "2-D", "3-D Nyquist"])
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_another_rule_for_real_and_imaginary_parts_misses_it(monkeypatch, name, factor):
    monkeypatch.setattr(
        "sciml.curvature.spectral.multiplicity",
        lambda calls, like: torch.full((len(like),), factor),
    )
    problem = spectral(name, samples=5)
    every = problem.model.basis(problem.x).paired
    if factor == 1.0 and every.all():
        pytest.skip("here 1 is right for all modes")
    step(problem, "convolution", problem.factored())
    reached = float(problem.objective().value)
    assert reached > least_squares(problem) * (1 + 1e-4)


def test_the_update_is_the_solution_of_the_kronecker_system():
    grid = Grid.box((5, 7), boundary="periodic", points="left")
    x, y = torch.randn(3, 2, 5, 7), torch.randn(3, 2, 5, 7)
    problem = Problem(Linear(grid, (2, 2)), x, y)
    kfac = problem.factored()
    block = kfac.blocks["first.convolution"]
    layer = kfac.coverage.layers["first.convolution"]
    block.refresh(0.1, 0.01)
    (A, B), shift, pi = block.damping(0.1, 0.01)
    root = shift.sqrt()
    G = layer.join([problem.gradients()["first.convolution.weight.entries"]])
    left = A + (root * pi).view(-1, 1, 1) * torch.eye(2)
    right = B + (root / pi).view(-1, 1, 1) * torch.eye(2)
    system = torch.stack([torch.kron(a, b) for a, b in zip(left, right, strict=True)])
    expected = torch.linalg.solve(system, G.flatten(1)[..., None])[..., 0].view_as(G)
    assert close(block.apply(G), expected)
    wrong = torch.linalg.solve(left, G) @ torch.linalg.inv(right)  # B^-1 instead of B^-T
    assert (wrong - expected).norm() > 0.1 * expected.norm()


class Linear(nn.Module):
    """A deep linear FNO: two spectral convolutions with pointwise maps between them."""

    def __init__(self, grid: Grid, modes: tuple[int, ...]):
        super().__init__()
        self.first, self.second = (Mode(2, 2, modes, grid) for _ in range(2))
        self.skip, self.between = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)

    def forward(self, x):
        u = self.first(x) + self.skip(x.movedim(1, -1)).movedim(-1, 1)
        return self.second(self.between(u.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("shape, modes", [((9,), (3,)), ((5, 7), (2, 2))], ids=["1-D", "2-D"])
def test_spectral_layers_of_a_deep_linear_network_are_exact(shape, modes):
    grid = Grid.box(shape, boundary="periodic", points="left")
    x, y = torch.randn(3, 2, *shape), torch.randn(3, 2, *shape)
    problem = Problem(Linear(grid, modes), x, y)
    paired = problem.model.first.basis(x).paired.flatten()
    kfac = problem.factored()
    for name in ("first", "second"):
        A, B = factors(kfac, f"{name}.convolution")
        dense = problem.dense(f"{name}.convolution.weight.entries")
        K = len(A)
        dense = dense.view(K, 4, 2, K, 4, 2).permute(0, 2, 1, 3, 5, 4).reshape(K, 8, K, 8)
        for k in range(K):
            if not paired[k]:
                assert close(realrep(torch.kron(A[k], B[k])), dense[k, :, k])


def test_batches_and_grids_do_not_change_what_is_learnt():
    """Twice the same batch, or the same band-limited fields on a finer grid."""
    coarse = Grid.box((9, 9), boundary="periodic", points="left")
    fine = Grid.box((15, 15), boundary="periodic", points="left")
    model = Mode(2, 2, (2, 2), coarse)
    x, y = torch.randn(3, 2, 9, 9), torch.randn(3, 2, 9, 9)

    def limited(u, grid):
        bases = [FourierBasis(g, (4, 4), (1.0, 1.0), u) for g in (coarse, grid)]
        v = u.movedim((0, 1), (-2, -1))
        return bases[1].synthesise(bases[0].analyse(v)).movedim((-2, -1), (0, 1))

    once = Problem(model, limited(x, coarse), limited(y, coarse))
    reference = once.factors("convolution")
    gradient = once.gradients()["convolution.weight.entries"].clone()
    twice = Problem(model, *(torch.cat((u, u)) for u in (once.x, once.y)))
    for a, b in zip(twice.factors("convolution"), reference, strict=True):
        assert close(a, b)
    assert close(twice.gradients()["convolution.weight.entries"], gradient)
    finer = Mode(2, 2, (2, 2), fine)
    finer.load_state_dict(model.state_dict())
    refined = Problem(finer, limited(x, fine), limited(y, fine))
    for a, b in zip(refined.factors("convolution"), reference, strict=True):
        assert close(a, b)
    assert close(refined.gradients()["convolution.weight.entries"], gradient)


def test_a_change_of_channels_does_not_change_the_step():
    """v -> M v with R -> M^-T R is the same function, and stays it after a step."""
    shape, modes = (7, 6), (2, 2)
    grid = Grid.box(shape, boundary="periodic", points="left")
    x, y = torch.randn(6, 2, *shape), torch.randn(6, 2, *shape)
    M = torch.tensor([[1.0, 0.7], [-0.3, 2.0]])
    one, other = Mode(2, 2, modes, grid), Mode(2, 2, modes, grid)
    with torch.no_grad():
        R = torch.linalg.solve(M.T.to(torch.complex128), one.convolution.weight.dense())
        other.convolution.weight.entries.copy_(torch.view_as_real(R))
    problems = Problem(one, x, y), Problem(other, torch.einsum("ij,bjxy->bixy", M, x), y)
    assert close(other(problems[1].x), one(x))
    for problem in problems:
        step(problem, "convolution", problem.factored())
    assert close(other(problems[1].x), one(x), 1e-8)
    assert MeanSquaredError()(one(x), y, None).mean() < y.square().mean()


def test_means_of_real_fields_stay_real():
    """The imaginary part of the mean's weights has no gradient, and no step makes it one."""
    problem = spectral("2-D")
    kfac = problem.factored()
    block, layer = (
        kfac.blocks["convolution"],
        kfac.coverage.layers["convolution"],
    )
    block.refresh(1e-2, 1e-2)
    G = layer.join([problem.gradients()["convolution.weight.entries"]])
    assert G[0].imag.abs().max() < 1e-14
    assert block.apply(G)[0].imag.abs().max() < 1e-12 * block.apply(G)[0].abs().max()
    for factor in factors(kfac, "convolution"):
        assert close(factor.mH, factor)
        assert torch.linalg.eigvalsh(factor).min() > -1e-12
