"""TFNO: agreement with neuraloperator's, parameters of all layers in one tensor, compression."""

import copy
import io

import pytest
import torch

from sciml.models import FNO, TFNO, Neuralop
from solvers.grid import Grid
from tests.test_neuralop import copy_weights

WIDTH, DEPTH = 8, 2
NAMES = {"tucker": "Tucker", "cp": "CP", "tensor_train": "TT"}


def count(module):
    return sum(p.numel() * (1 + p.is_complex()) for p in module.parameters())


def small(shape=(12, 12), **settings):
    torch.manual_seed(0)
    settings = {"width": 6, "modes": 3, "depth": 3, "rank": 0.4, **settings}
    return TFNO(2, 1, len(shape), grid=Grid.box(shape), **settings).double()


@torch.no_grad()
def copy_factors(ours, theirs, modes):
    """The factors of one layer; the rows of an axis of modes as in `copy_weights`."""

    def reorder(factor, axis, dim):
        if axis == len(modes) - 1:
            return factor
        m = modes[axis]
        return factor.index_select(dim, torch.tensor([*range(m, 2 * m), *range(m - 1, -1, -1)]))

    def put(parameter, value):
        parameter.copy_(torch.view_as_real(value.contiguous()))

    left, right, *others = theirs.factors
    if NAMES["tensor_train"] in type(theirs).__name__:
        others = [reorder(f, axis, 1) for axis, f in enumerate(others)]
        for core, value in zip(ours.cores, (left, right, *others), strict=True):
            put(core, value)
        return
    others = [reorder(f, axis, 0) for axis, f in enumerate(others)]
    if "CP" in type(theirs).__name__:
        left = left * theirs.weights
    else:
        put(ours.core, theirs.core.movedim((0, 1), (-2, -1)))
    for factor, value in zip(ours.factors, (*others, left, right), strict=True):
        put(factor, value)


def library_pair(ndim, size, modes, factorization, rank=0.2):
    torch.manual_seed(0)
    settings = {
        "n_modes": 2 * modes,
        "hidden_channels": WIDTH,
        "n_layers": DEPTH,
        "factorization": NAMES[factorization],
        "rank": rank,
    }
    theirs = Neuralop(2, 3, ndim, architecture="TFNO", settings=settings).model
    ours = TFNO(
        2,
        3,
        ndim,
        grid=Grid.box((size,) * ndim, points="left"),
        width=WIDTH,
        modes=modes,
        depth=DEPTH,
        padding=0.0,
        factorization=factorization,
        rank=rank,
    )
    dense = FNO(
        2, 3, ndim, grid=ours.operator.grid, width=WIDTH, modes=modes, depth=DEPTH, padding=0.0
    )
    reconstructed = copy.deepcopy(theirs)
    for convolution in reconstructed.fno_blocks.convs:
        tensor = convolution.weight.to_tensor().detach()
        convolution.weight = torch.nn.Module()
        convolution.weight.tensor = tensor
    copy_weights(dense, reconstructed)
    rest = {k: v for k, v in dense.state_dict().items() if ".weight.entries" not in k}
    ours.operator.load_state_dict(rest, strict=False)
    for block, convolution in zip(ours.operator.blocks, theirs.fno_blocks.convs, strict=True):
        copy_factors(block.convolution.weight, convolution.weight, (modes,) * ndim)
    return ours, theirs


@pytest.mark.parametrize("ndim, size, modes", [(1, 64, 8), (2, 32, 4), (3, 12, 4)])
@pytest.mark.parametrize("factorization", NAMES)
def test_same_output_and_gradients_as_the_library(factorization, ndim, size, modes):
    """To 1e-5 of the norm, on even grids, with the factors copied."""
    ours, theirs = library_pair(ndim, size, modes, factorization, rank=0.2 if ndim < 3 else 0.05)
    a = torch.randn(2, 2, *[size] * ndim)
    u, v = ours(a), theirs(a)
    assert (u - v).norm() < 1e-5 * v.norm()
    u.square().mean().backward()
    v.square().mean().backward()
    mine = ours.operator.blocks[0].skip.weight.grad
    other = theirs.fno_blocks.fno_skips[0].conv.weight.grad.squeeze(-1)
    assert (mine - other).norm() < 1e-4 * other.norm()
    if factorization == "tucker":
        mine = ours.operator.blocks[0].convolution.weight.factors[-1].grad
        other = dict(theirs.fno_blocks.convs[0].weight.named_parameters())["factors.factor_1"].grad
        other = torch.view_as_real(other) if other.is_complex() else other
        assert (mine - other).norm() < 1e-4 * other.norm()


def test_parameter_counts_of_published_forms():
    """The library's Tucker forms of width 64 and 64 modes of both signs in two dimensions."""
    grid = Grid.box((128, 128))
    for rank, expected in ((0.1, 7_202_905), (0.05, None)):
        settings = {
            "n_modes": 64,
            "hidden_channels": 64,
            "n_layers": 4,
            "factorization": "Tucker",
            "rank": rank,
        }
        theirs = count(Neuralop(1, 1, 2, architecture="TFNO", settings=settings))
        ours = count(TFNO(1, 1, 2, grid=grid, width=64, modes=32, rank=rank))
        assert ours == theirs
        assert expected in (None, ours)


@pytest.mark.parametrize("factorization", NAMES)
def test_all_layers_in_one_tensor(factorization):
    """Registered once, saved once, shared by copies of the model, and every layer its own slice."""
    model = small(factorization=factorization, joint=True)
    names = [name for name in model.state_dict() if name.startswith("tensor.")]
    assert not [n for n in model.state_dict() if ".convolution.weight" in n]
    assert set(names) <= {name for name, _ in model.named_parameters()}
    weights = [block.convolution.weight for block in model.operator.blocks]
    assert len({w.dense().sum() for w in weights}) == 3

    a = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    clone = copy.deepcopy(model)
    with torch.no_grad():
        for p in clone.tensor.parameters():
            p.zero_()
    assert clone.operator.blocks[0].convolution.weight.dense().abs().max() == 0
    assert weights[0].dense().abs().max() > 0
    clone.load_state_dict(model.state_dict())
    assert torch.equal(clone(a), model(a))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(a), model(a))
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    assert torch.func.functional_call(model, zeros, (a,)).abs().max() == 0


def test_a_joint_tensor_has_fewer_parameters_than_its_layers():
    """At the same Tucker ranks; at the same fraction the budget is about the same."""
    shape = (6, 4, 6, 6)
    apart = small(rank=shape)
    joint = small(rank=(3, *shape), joint=True)
    factors = 2 * sum(n * n for n in shape)
    assert count(apart) - count(joint) == 2 * factors - 2 * 3 * 3


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("factorization", ["tucker", "tensor_train"])
def test_compresses_a_trained_fno(factorization, joint):
    """Without loss at full rank, with an error that falls with the rank below."""
    torch.manual_seed(0)
    fno = FNO(2, 1, 2, grid=Grid.box((12, 12)), width=6, modes=3, depth=3).double()
    a = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    full = {"tucker": [6, 4, 6, 6], "tensor_train": [6, 24, 4]}[factorization]
    if joint:
        full = {"tucker": [3, *full], "tensor_train": [3, 18, 24, 4]}[factorization]
    dense = torch.stack([block.convolution.weight.dense() for block in fno.blocks])
    errors = []
    for rank in (0.1, 0.5, full):
        model = small(factorization=factorization, joint=joint, rank=rank)
        model.approximate(fno)
        found = [block.convolution.weight.dense() for block in model.operator.blocks]
        errors.append(((torch.stack(found) - dense).norm() / dense.norm()).item())
    assert 1 > errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-12
    assert (model(a) - fno(a)).norm() < 1e-12 * fno(a).norm()


def test_refusals():
    with pytest.raises(ValueError, match=r"factorization='svd' is not one of \['tucker'"):
        small(factorization="svd")
    with pytest.raises(ValueError, match=r"needs at least \(18, 18\) points"):
        small(modes=9)
    with pytest.raises(ValueError, match=r"expected \[batch, 2 channels"):
        small()(torch.zeros(1, 3, 12, 12))
    fno = FNO(2, 1, 2, grid=Grid.box((12, 12)), width=8, modes=3, depth=3)
    with pytest.raises(ValueError, match="other channels, width or depth"):
        small().approximate(fno)


def by_autocast(model, a):
    with torch.autocast("cpu", torch.bfloat16):
        return model(a)


def by_hook(model, a):
    model.operator.blocks[0].convolution.mixing.register_forward_hook(lambda *_: None)
    return model(a)


def by_vmap(model, a):
    return torch.func.vmap(lambda x: model(x[None])[0])(a)


def by_compiler(model, a):
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, backend="eager")(a)


def by_tangents(model, a):
    names = dict(model.named_parameters())
    tangents = {k: torch.ones_like(p) for k, p in names.items() if "tensor" in k or "weight" in k}
    call = lambda p: torch.func.functional_call(model, names | p, (a,))  # noqa: E731
    return torch.func.jvp(call, ({k: names[k] for k in tangents},), (tangents,))[0]


@pytest.mark.parametrize("way", [by_autocast, by_hook, by_vmap, by_compiler, by_tangents])
@pytest.mark.parametrize("joint", [False, True], ids=["per layer", "joint"])
def test_block_by_parts(joint, way):
    """Wherever a block is not one operation, with its weight in a tensor registered elsewhere."""
    model, a = small(joint=joint), torch.randn(2, 2, 12, 12, dtype=torch.float64)
    if way is by_autocast:
        model, a = model.float(), a.float()
    tolerance = 0.1 if way is by_autocast else 1e-10
    with torch.no_grad():
        wanted = model(a)
        assert (way(model, a) - wanted).norm() < tolerance * wanted.norm()


def test_a_joint_tensor_of_another_precision_is_not_fused():
    model = small(joint=True)
    model.tensor.float()
    with pytest.raises(RuntimeError, match="dtype|type"):
        model(torch.randn(2, 2, 12, 12, dtype=torch.float64)).sum().backward()
