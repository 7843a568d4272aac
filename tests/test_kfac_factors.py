"""Blocks of factorised spectral weights against dense Gauss-Newton matrices."""

import pytest
import torch
from torch import nn

from sciml.curvature.capture import Capture
from sciml.curvature.packing import unpacked
from sciml.layers import CPWeight, FourierBasis, JointWeights, SpectralConv, TuckerWeight
from sciml.models import TFNO
from solvers.grid import Grid
from tests.gauss_newton import Problem, close, realrep

pytestmark = pytest.mark.usefixtures("double")


class Factorised(nn.Module):
    """Convolutions with factorised weights, one after the other."""

    def __init__(self, grid: Grid, modes, make, count: int = 1, joint: bool = False):
        super().__init__()
        self.grid, self.modes = grid, modes
        weight = JointWeights(make, count) if joint else make
        self.convolutions = nn.ModuleList(
            SpectralConv(2, 2, modes, weight, bias=False) for _ in range(count)
        )
        self.tensor = weight.tensor if joint else None
        self.after = lambda u: u

    def forward(self, x):
        basis = FourierBasis(self.grid, self.modes, (1.0,) * self.grid.ndim, x)
        v = x.movedim((0, 1), (-2, -1))
        for convolution in self.convolutions:
            v = convolution(v, basis)
        return self.after(v.movedim((-2, -1), (0, 1)))


def tucker(spectrum, i, o, layers=None):
    stacked = [2] if layers else []
    return TuckerWeight(spectrum, i, o, rank=[*stacked, *[2] * len(spectrum), 2, 2], layers=layers)


def cp(spectrum, i, o, layers=None):
    return CPWeight(spectrum, i, o, rank=[3], layers=layers)


def dense(problem: Problem, name: str) -> torch.Tensor:
    """Of one parameter of pairs, over (real parts, imaginary parts)."""
    G = problem.dense(name)
    n = len(G) // 2
    return G.view(n, 2, n, 2).permute(1, 0, 3, 2).reshape(2 * n, 2 * n)


def one_mode(x: torch.Tensor) -> torch.Tensor:
    """The part of fields [b, c, n] with the frequency 1."""
    spectrum = torch.fft.rfft(x)
    kept = torch.zeros_like(spectrum)
    kept[..., 1] = spectrum[..., 1]
    return torch.fft.irfft(kept, n=x.shape[-1])


def product(block) -> torch.Tensor:
    """The curvature that a block stands for, without damping."""
    sizes = block.shape if len(block.factors) > 2 else block.shape[1:]
    factors = [unpacked(f, n) for f, n in zip(block.factors, sizes, strict=True)]
    found = factors[0][0]
    for factor in factors[1:]:
        found = torch.kron(found, factor[0])
    return found


@pytest.mark.parametrize("make", [tucker, cp])
def test_factors_of_a_single_mode_are_exact(make):
    """Fields of one wave: every factor, the core among them, has one outer product per sample."""
    grid = Grid.box((9,), boundary="periodic", points="left")
    model = Factorised(grid, (2,), make)
    model.after = one_mode
    problem = Problem(model, one_mode(torch.randn(5, 2, 9)), torch.randn(5, 2, 9))
    kfac = problem.factored()
    base = "convolutions.0.weight"
    K = 3  # modes 0, 1, 2, of which only the second is there: means over modes are a third
    weight = model.convolutions[0].weight
    count = len(weight.factors)
    left, right = f"{base}.factors.{count - 2}", f"{base}.factors.{count - 1}"
    block = product(kfac.blocks[left])
    assert close(realrep(K * block), dense(problem, left))
    n, r = weight.factors[-1].shape[:2]
    swapped = product(kfac.blocks[right]).view(r, n, r, n).permute(1, 0, 3, 2).reshape(n * r, n * r)
    assert close(realrep(K * swapped), dense(problem, right))
    rows = f"{base}.factors.0"
    block = kfac.blocks[rows]
    found = dense(problem, rows)
    r = weight.factors[0].shape[1]
    A, B = (unpacked(f, n) for f, n in zip(block.factors, block.shape[1:], strict=True))
    found = found.view(2, K, r, 2, K, r)[:, 1, :, :, 1].reshape(2 * r, 2 * r)
    assert close(realrep(A[1] * B[1]), found)
    assert A[0].norm() < 1e-30


def test_the_core_of_a_single_mode_is_exact():
    grid = Grid.box((9,), boundary="periodic", points="left")
    model = Factorised(grid, (2,), tucker)
    with torch.no_grad():  # of the factor of modes nothing but the row of that wave counts
        model.convolutions[0].weight.factors[0][0] = 0
        model.convolutions[0].weight.factors[0][2] = 0
    model.after = one_mode
    problem = Problem(model, one_mode(torch.randn(5, 2, 9)), torch.randn(5, 2, 9))
    kfac = problem.factored()
    name = "convolutions.0.weight.core"
    K = 3
    block = product(kfac.blocks[name])  # both means are over three modes, two of them empty
    assert close(realrep(K * K * block), dense(problem, name))


def test_a_linear_network_s_rows_are_exact_for_all_modes():
    """Modes do not depend on each other, so what samples and other modes add up to is all."""
    grid = Grid.box((5, 7), boundary="periodic", points="left")
    for make in (tucker, cp):
        model = Factorised(grid, (2, 2), make)
        problem = Problem(model, torch.randn(3, 2, 5, 7), torch.randn(3, 2, 5, 7))
        kfac = problem.factored()
        name = "convolutions.0.weight.factors.1"  # the last axis: k = 0 has paired modes
        block = kfac.blocks[name]
        A, B = (unpacked(f, n) for f, n in zip(block.factors, block.shape[1:], strict=True))
        n, r = model.convolutions[0].weight.factors[1].shape[:2]
        found = dense(problem, name).view(2, n, r, 2, n, r)
        for k in (1, 2):
            assert close(realrep(A[k] * B[k]), found[:, k, :, :, k].reshape(2 * r, 2 * r))


@pytest.mark.parametrize("make", [tucker, cp])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("shape, modes", [((9,), (3,)), ((5, 7), (2, 2))], ids=["1-D", "2-D"])
def test_tokens_make_the_gradients_of_all_factors(make, joint, shape, modes, monkeypatch):
    """With s = 1 throughout sum a g^T is the gradient; the core's is a product of all axes."""
    ones = torch.ones(())
    monkeypatch.setattr(
        "sciml.curvature.factors.multiplicity",
        lambda calls, like: ones.expand(like[..., 0, 0].numel()),
    )
    grid = Grid.box(shape, boundary="periodic", points="left")
    model = Factorised(grid, modes, make, count=2, joint=joint)
    problem = Problem(model, torch.randn(3, 2, *shape), torch.randn(3, 2, *shape))
    kfac = problem.factored()
    modules = {m for layer in kfac.coverage.layers.values() for m in layer.watched}
    with Capture(modules, model) as capture:
        expansion = problem.objective()
    ((calls, _),) = capture.gradients(expansion, "empirical", [])
    gradients = problem.gradients()
    assert len(kfac.coverage.layers) == len(dict(model.named_parameters()))
    for name, layer in kfac.coverage.layers.items():
        tokens = layer.tokens(layer.seen(calls))
        assert torch.equal(layer.split(layer.join([gradients[name]]))[0], gradients[name])
        if layer.kind == "core":
            continue
        found = layer.split(torch.matmul(tokens.a.mT, tokens.g))[0] / 3**0.5
        assert close(found, gradients[name], 1e-12), name


def test_a_tfno_is_covered_by_its_factors():
    grid = Grid.box((8, 8))
    for factorization in ("tucker", "cp"):
        for joint in (False, True):
            model = TFNO(
                1,
                1,
                2,
                grid=grid,
                width=4,
                modes=2,
                depth=2,
                factorization=factorization,
                joint=joint,
            )
            problem = Problem(model, torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8))
            kfac = problem.kfac(fisher="monte_carlo")
            rest = set(kfac.curvature.coverage.rest)
            assert all(name.endswith(("bias", "gate")) for name in rest), rest
            before = [p.clone() for p in model.parameters()]
            problem.gradients()
            kfac.step()
            moved = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
            assert all(moved) and all(p.isfinite().all() for p in model.parameters())
