"""Tucker, CP and tensor-train weights against the dense tensors that they stand for."""

import math
from unittest.mock import patch

import pytest
import torch

from sciml.layers import (
    CPWeight,
    DenseWeight,
    FactorizedWeight,
    JointWeights,
    TensorTrainWeight,
    TuckerWeight,
)

ALL = (TuckerWeight, CPWeight, TensorTrainWeight)
FULL = {TuckerWeight: [4, 3, 2, 5], TensorTrainWeight: [2, 10, 4]}
COMPLEX = torch.complex128


def random(*shape, seed=0):
    return torch.randn(shape, dtype=COMPLEX, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() * (1 + p.is_complex()) for p in module.parameters())


@pytest.mark.parametrize("spectrum", [(7,), (6, 4), (4, 4, 3)], ids=str)
@pytest.mark.parametrize("layers", [None, 3])
@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_contracts_as_the_dense_tensor(kind, layers, spectrum):
    torch.manual_seed(0)
    weight = kind(spectrum, 3, 5, rank=0.5, layers=layers).double()
    x = random(*spectrum, 2, 3)
    for layer in range(layers) if layers else [None]:
        dense = weight.dense(layer)
        assert dense.shape == (*spectrum, 3, 5)
        expected = torch.einsum("...bi,...io->...bo", x, dense)
        torch.testing.assert_close(weight.contract_factors(x, layer), expected)
        torch.testing.assert_close(weight.contract(x, layer), expected)


def test_dense_tensors_are_the_products_of_their_factors():
    """The three definitions, written as one sum each."""
    torch.manual_seed(0)
    view = torch.view_as_complex
    tucker, cp, train = (kind((4, 3), 2, 5, rank=0.6, layers=2).double() for kind in ALL)
    factors = [view(f) for f in tucker.factors]
    expected = torch.einsum("labpq,Ll,ka,mb,ip,oq->Lkmio", view(tucker.core), *factors)
    torch.testing.assert_close(torch.stack([tucker.dense(j) for j in (0, 1)]), expected)
    expected = torch.einsum("Lr,kr,mr,ir,or->Lkmio", *map(view, cp.factors))
    torch.testing.assert_close(torch.stack([cp.dense(j) for j in (0, 1)]), expected)
    expected = torch.einsum("zLa,aib,boc,ckd,dmy->Lkmio", *map(view, train.cores))
    torch.testing.assert_close(torch.stack([train.dense(j) for j in (0, 1)]), expected)


@pytest.mark.parametrize("is_reconstructed", [False, True])
@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_gradients(kind, is_reconstructed):
    torch.manual_seed(0)
    weight = kind((3, 2), 2, 2, rank=0.5, layers=2).double()
    names, values = zip(*weight.named_parameters(), strict=True)
    x = random(3, 2, 2, 2).requires_grad_()

    def contract(x, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(weight, parameters, (x, 1))

    with (
        patch.object(kind, "forward", kind.contract, create=True),
        patch.object(kind, "is_reconstructed", is_reconstructed),
    ):
        assert torch.autograd.gradcheck(contract, (x, *values))


@pytest.mark.parametrize("kind", FULL, ids=lambda k: k.__name__)
@pytest.mark.parametrize("layers", [None, 3])
def test_full_rank_holds_any_tensor(kind, layers):
    rank = (
        FULL[kind] if layers is None else {4: [3, *FULL[kind]], 3: [3, 6, 12, 4]}[len(FULL[kind])]
    )
    weight = kind((4, 3), 2, 5, rank=rank, layers=layers).double()
    dense = random(*weight.shape)
    weight.approximate(dense)
    found = weight.dense() if layers is None else torch.stack([weight.dense(j) for j in range(3)])
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-13)


def test_cp_of_enough_products_holds_any_tensor():
    """As many as all axes but the largest have entries together."""
    torch.manual_seed(0)
    weight = CPWeight((4, 3), 2, 5, rank=[24]).double()
    dense = random(*weight.shape)
    weight.approximate(dense)
    torch.testing.assert_close(weight.dense(), dense, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_low_rank_is_recovered(kind):
    """A tensor that has the ranks comes back; of noise the factors keep the larger part."""
    torch.manual_seed(0)
    rank = {TuckerWeight: [3, 2, 2, 2], CPWeight: [2], TensorTrainWeight: [2, 3, 2]}[kind]
    origin, weight = (kind((6, 5), 4, 4, rank=rank).double() for _ in range(2))
    weight.approximate(origin.dense())
    error = (weight.dense() - origin.dense()).norm() / origin.dense().norm()
    assert error < 1e-6
    noise = random(*weight.shape)
    weight.approximate(noise)
    assert 0.3 < (weight.dense() - noise).norm() / noise.norm() < 1


def test_tucker_truncation_is_nearly_optimal():
    """The squared error is at most the sum of the squares of all singular values left out
    [De Lathauwer et al. 2000, property 10], and at least the largest such sum of one axis.
    """
    weight = TuckerWeight((6, 5), 4, 4, rank=[4, 3, 2, 3]).double()
    dense = random(*weight.shape)
    weight.approximate(dense)
    left_out = [
        torch.linalg.svdvals(dense.movedim(axis, 0).flatten(1))[rank:].square().sum()
        for axis, rank in enumerate(weight.ranks)
    ]
    error = (weight.dense() - dense).abs().square().sum()
    assert max(left_out) <= error <= sum(left_out)


@torch.no_grad()
@pytest.mark.parametrize("layers", [None, 4])
@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_entries_start_with_the_variance_of_dense_ones(kind, layers):
    torch.manual_seed(0)
    layer = None if layers is None else 1
    entries = torch.stack(
        [
            torch.stack([w.dense(layer).abs().square().mean(), w.dense(layer).real.square().mean()])
            for w in (kind((8, 5), 12, 12, rank=0.2, layers=layers) for _ in range(200))
        ]
    ).mean(0)
    dense = DenseWeight((8, 5), 64, 64).double().dense()
    assert dense.abs().square().mean() == pytest.approx(2 / 128, rel=0.05)
    assert entries[0] == pytest.approx(2 / 24, rel=0.1)
    assert entries[1] == pytest.approx(1 / 24, rel=0.1)


@pytest.mark.parametrize("rank", [0.1, 0.05])
@pytest.mark.parametrize("spectrum", [(64, 33), (24, 13), (16,), (8, 8, 5)], ids=str)
def test_as_many_parameters_as_the_library(spectrum, rank):
    from tltorch import FactorizedTensor

    def library(kind):
        shape = (64, 64, *spectrum)
        return FactorizedTensor.new(shape, rank=rank, factorization=kind, dtype=torch.cfloat)

    assert count(TuckerWeight(spectrum, 64, 64, rank=rank)) == 2 * count_complex(library("Tucker"))
    train = TensorTrainWeight(spectrum, 64, 64, rank=rank)
    theirs = library("TT")
    if train.ranks == tuple(theirs.rank[1:-1]):
        assert count(train) == 2 * count_complex(theirs)
    else:  # ours are cut to what a tensor of this shape can have
        cut = [r < s for r, s in zip(train.ranks, theirs.rank[1:-1], strict=True)]
        assert count(train) < 2 * count_complex(theirs)
        assert {train.ranks[j] for j, is_cut in enumerate(cut) if is_cut} <= {64, spectrum[-1]}
    cp = CPWeight(spectrum, 64, 64, rank=rank)
    assert count(cp) == 2 * (count_complex(library("CP")) - cp.rank)  # it stores a scale as well


def count_complex(tensor):
    """Complex numbers of a tensor of the library, which yields them as complex or as pairs."""
    return sum(p.numel() if p.is_complex() else p.numel() // 2 for p in tensor.parameters())


def test_the_cheaper_way_is_taken():
    """Counted by hand for Tucker; few products of vectors pay, many do not."""
    weight = TuckerWeight((4, 3), 8, 8, rank=[2, 2, 3, 5])
    expansion = 4 * 2 * 2 + 4 * 3 * 2
    factors = expansion * 15 + 12 * 16 * (8 * 3 + 3 * 5 + 5 * 8)
    dense = 4 * (8 * 3 * 5 + 8 * 5 * 8) + expansion * 64 + 12 * 16 * 64
    assert weight.multiplications(16) == (factors, dense)
    assert CPWeight((4, 3), 8, 8, rank=[50]).is_reconstructed
    assert not CPWeight((4, 3), 8, 8, rank=[2]).is_reconstructed
    assert not TensorTrainWeight((4, 3), 8, 8, rank=[2, 2, 2]).is_reconstructed
    assert TensorTrainWeight((8, 6), 8, 8, rank=[8, 12, 3]).is_reconstructed


def test_layers_of_one_tensor():
    weights = JointWeights(TuckerWeight, 2)
    first, second = weights((4, 3), 2, 2), weights((4, 3), 2, 2)
    assert not list(first.parameters()) and list(weights.tensor.parameters())
    torch.testing.assert_close(second.dense(), weights.tensor.dense(1))
    x = random(4, 3, 5, 2).to(torch.complex64)
    torch.testing.assert_close(second.contract(x), torch.matmul(x, second.dense()))
    with pytest.raises(ValueError, match=r"layer 3 with a weight .* is not among the 2 layers"):
        weights((4, 3), 2, 2)
    with pytest.raises(ValueError, match="equal modes and channels"):
        weights = JointWeights(TuckerWeight, 2)
        weights((4, 3), 2, 2)
        weights((4, 4), 2, 2)


def test_refusals():
    with pytest.raises(ValueError, match="rank=0 must be a share"):
        TuckerWeight((4, 3), 2, 2, rank=0)
    with pytest.raises(ValueError, match="rank=8 must be .* the ranks themselves are a list of 1"):
        CPWeight((4, 3), 2, 2, rank=8)
    with pytest.raises(ValueError, match=r"rank=\[2, 2\] must be a share up to 1 or 4 ranks"):
        TuckerWeight((4, 3), 2, 2, rank=[2, 2])
    with pytest.raises(ValueError, match=r"rank=\[2, 0, 2\] must be a share up to 1 or 3 ranks"):
        TensorTrainWeight((4, 3), 2, 2, rank=[2, 0, 2])
    with pytest.raises(ValueError, match=r"rank=\[2, 2\] must be a share up to 1 or 1 ranks"):
        CPWeight((4, 3), 2, 2, rank=[2, 2])
    weight = TuckerWeight((4, 3), 2, 2)
    with pytest.raises(ValueError, match=r"expected a tensor \(4, 3, 2, 2\), got \(4, 3, 2\)"):
        weight.approximate(random(4, 3, 2))
    with pytest.raises(ValueError, match="layer=0, but this tensor holds one layer"):
        weight.dense(0)
    with pytest.raises(ValueError, match="layer=None, but this tensor holds 3 layers"):
        CPWeight((4, 3), 2, 2, layers=3).dense()


def test_parameters_follow_the_module():
    """Double precision, a budget near the fraction asked for, and no parameter without use."""
    for kind in ALL:
        weight = kind((16, 9), 16, 16, rank=0.1).double()
        assert isinstance(weight, FactorizedWeight) and weight.dense().dtype == COMPLEX
        assert count(weight) / (2 * math.prod(weight.shape)) == pytest.approx(0.1, rel=0.15)
        weight.contract(random(16, 9, 2, 16)).abs().sum().backward()
        assert all(p.grad.abs().max() > 0 for p in weight.parameters())
