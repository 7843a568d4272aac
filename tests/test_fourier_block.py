"""The fused Fourier block and perceptron against their parts, and when the parts run."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sciml.layers import FourierBasis, FourierBlock, Perceptron, fourier_block, fusion, perceptron
from sciml.models import FNO
from solvers.grid import Grid

SHAPES = {(9,): 3, (8, 9): 3, (5, 6, 7): 2}


class Counted:
    """How often the fused operations ran."""

    def __init__(self, monkeypatch):
        self.block = self.perceptron = 0
        for name, function in (
            ("block", fourier_block.FusedBlock),
            ("perceptron", perceptron.FusedPerceptron),
        ):
            monkeypatch.setattr(function, "apply", self._counting(name, function.apply))

    def _counting(self, name, apply):
        def counting(*arguments):
            setattr(self, name, getattr(self, name) + 1)
            return apply(*arguments)

        return counting


@pytest.fixture
def counted(monkeypatch):
    return Counted(monkeypatch)


def layer(shape=(8, 9), width=4, dtype=torch.float64):
    torch.manual_seed(0)
    grid = Grid.box(shape, boundary="periodic", points="left")
    modes = (SHAPES[shape],) * len(shape)
    block = FourierBlock(width, modes).to(dtype)
    with torch.no_grad():
        for p in block.parameters():
            p += 0.1 * torch.randn_like(p)  # no gate of ones, no bias of zero
    v = torch.randn(*shape, 3, width, dtype=dtype, requires_grad=True)
    return block, v, FourierBasis(grid, modes, (1.0,) * len(shape), like=v)


def parts(monkeypatch):
    """Nothing is fused from here on."""
    for module in (fourier_block, perceptron):
        monkeypatch.setattr(module, "fusible", lambda layer, x: False)


def all_gradients(block, v, basis, last):
    out = block(v, basis, last=last)
    weight = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    return out, torch.autograd.grad((out * weight).sum(), (v, *block.parameters()))


@pytest.mark.parametrize("chunk", [20, 1 << 20], ids=["many chunks", "one chunk"])
@pytest.mark.parametrize("last", [False, True], ids=["inner", "last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_block_equals_its_parts(shape, last, chunk, counted, monkeypatch):
    monkeypatch.setattr(fusion, "CHUNK", chunk)
    block, v, basis = layer(shape)
    fused = all_gradients(block, v, basis, last)
    with torch.no_grad():
        torch.testing.assert_close(block(v, basis, last=last), fused[0], rtol=0, atol=1e-13)
    assert counted.block == 2
    parts(monkeypatch)
    torch.testing.assert_close(fused, all_gradients(block, v, basis, last), rtol=1e-11, atol=1e-12)
    assert counted.block == 2


@pytest.mark.parametrize("last", [False, True], ids=["inner", "last"])
def test_gradients_of_first_and_second_order(last, counted):
    block, v, basis = layer((9,), width=2)
    parameters = dict(block.named_parameters())

    def call(v, *values):
        names = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(block, names, (v, basis), {"last": last})

    inputs = (v, *parameters.values())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)
    assert counted.block > 0


def test_perceptron(counted, monkeypatch):
    torch.manual_seed(0)
    model = Perceptron(3, 5, 2).double()
    x = torch.randn(4, 7, 3, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(fusion, "CHUNK", 20)

    def call(x, *p):
        names = dict(zip(("0.weight", "0.bias", "2.weight", "2.bias"), p, strict=True))
        return torch.func.functional_call(model, names, (x,))

    torch.testing.assert_close(model(x), nn.Sequential(*model)(x))
    assert torch.autograd.gradcheck(call, (x, *model.parameters()))
    assert torch.autograd.gradgradcheck(call, (x, *model.parameters()))
    assert counted.perceptron > 0
    model(x.detach()).sum().backward()
    assert model[0].weight.grad.abs().min() > 0


def test_the_graph_may_be_walked_twice(counted):
    block, v, basis = layer()
    loss = block(v, basis, last=False).square().sum()
    first = torch.autograd.grad(loss, (v, *block.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, (v, *block.parameters()))
    assert counted.block == 1 and all(map(torch.equal, first, second))


def test_a_changed_weight_is_noticed():
    block, v, basis = layer()
    loss = block(v, basis, last=False).sum()
    with torch.no_grad():
        block.gate += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpoints(reentrant, counted):
    block, v, basis = layer()
    plain = torch.autograd.grad(block(v, basis, last=False).square().sum(), v)
    out = checkpoint(lambda v: block(v, basis, last=False), v, use_reentrant=reentrant)
    out.square().sum().backward()
    torch.testing.assert_close(v.grad, plain[0], rtol=0, atol=0)
    assert counted.block == 3


def test_frozen_parts():
    block, v, basis = layer()
    wanted = torch.autograd.grad(block(v, basis, last=False).sum(), v)
    block.requires_grad_(False)
    found = torch.autograd.grad(block(v, basis, last=False).sum(), v)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    block.gate.requires_grad_(True)
    grad = torch.autograd.grad(
        block(v.detach(), basis, last=False).sum(), block.gate, create_graph=True
    )
    plain = torch.autograd.grad(block(v, basis, last=False).sum(), block.gate)
    torch.testing.assert_close(grad, plain)


def test_parts_run_where_they_are_watched(counted):
    block, v, basis = layer()
    wanted = block(v, basis, last=False)
    assert (counted.block, counted.perceptron) == (1, 0)
    for part in (block.convolution.mixing, block.skip, block.mlp[1], block.convolution):
        for register in ("forward_hook", "forward_pre_hook", "full_backward_hook"):
            seen = []
            hook = getattr(part, f"register_{register}")(lambda *a, seen=seen: seen.append(1))
            out = block(v, basis, last=False)
            out.sum().backward()
            hook.remove()
            assert len(seen) == 1
            torch.testing.assert_close(out, wanted)
    handle = nn.modules.module.register_module_forward_hook(lambda *a: None)
    block(v, basis, last=False)
    handle.remove()
    assert counted.block == 1


def test_parts_run_where_they_are_asked_to(counted):
    block, v, basis = layer()
    wanted = block(v, basis, last=False)
    with fusion.parts_one_by_one():
        with fusion.parts_one_by_one():
            block(v, basis, last=False)
        torch.testing.assert_close(block(v, basis, last=False), wanted)
    with pytest.raises(KeyError), fusion.parts_one_by_one():
        raise KeyError
    assert (counted.block, counted.perceptron) == (1, 0)
    block(v, basis, last=False)
    assert counted.block == 2


def test_hooks_of_the_block_itself_run_beside_the_fused_operation(counted):
    block, v, basis = layer()
    seen = []
    block.register_forward_hook(lambda *a: seen.append(1))
    block(v, basis, last=False)
    assert seen and counted.block == 1


def test_parametrised_weights_are_used(counted, monkeypatch):
    block, v, basis = layer()
    parametrizations.weight_norm(block.skip)
    fused = all_gradients(block, v, basis, False)
    parts(monkeypatch)
    torch.testing.assert_close(all_gradients(block, v, basis, False), fused)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_exchanged_parts_run(counted):
    for place, part in (
        ("skip", Doubled(4, 4, bias=False)),
        ("skip", nn.Linear(4, 4)),
        ("mlp.1", nn.GELU("tanh")),
        ("mlp.2", Doubled(2, 4)),
        ("convolution.bias", None),
    ):
        block, v, basis = layer()
        block.set_submodule(place, part.double()) if part else setattr(
            block.convolution, "bias", None
        )
        u = block.convolution(v, basis) + block.skip(v)
        gelu = nn.functional.gelu
        wanted = gelu(nn.Sequential(*block.mlp)(gelu(u)) + block.gate * v)
        torch.testing.assert_close(block(v, basis, last=False), wanted)
    assert counted.block == 0 and counted.perceptron == 3  # where the perceptron is as it was


def test_transforms_of_torch_func_and_forward_mode_take_the_parts(counted):
    block, v, basis = layer()
    call = lambda v: block(v, basis, last=False)  # noqa: E731
    v = v.detach()
    t = torch.randn_like(v)
    value, slope = torch.func.jvp(call, (v,), (t,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(v, t)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(call(dual)).tangent, slope)
    _, pull = torch.func.vjp(call, v)
    pulled = pull(t)[0]
    stacked = torch.func.vmap(call)(torch.stack((v, t)))
    assert counted.block == counted.perceptron == 0
    torch.testing.assert_close((pulled * t).sum(), (slope * t).sum())
    torch.testing.assert_close(stacked[1], call(t))
    torch.testing.assert_close(value, call(v))


def test_autocast_takes_the_parts(counted):
    block, v, basis = layer(dtype=torch.float32)
    exact = block(v, basis, last=False)
    with torch.autocast("cpu", torch.bfloat16):
        out = block(v, basis, last=False)
    assert counted.block == 1 and counted.perceptron == 0
    assert 1e-5 < (out - exact).norm() / exact.norm() < 1e-2
    out.sum().backward()
    assert block.skip.weight.grad.dtype == torch.float32


def test_what_is_kept_for_the_backward_pass():
    """Per block v, u and the spectrum, a third of what the parts keep."""

    def kept(model, a):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            u = model(a)
        del u
        return sum(size for address, size in sizes.items() if address not in own)

    model = FNO(1, 1, 2, grid=Grid.box((32, 32)), width=16, modes=4, depth=3)
    a = torch.randn(4, 1, 32, 32)
    fused = kept(model, a)
    for module in model.modules():  # hooks on all parts
        module.register_forward_hook(lambda *a: None)
    field = 4 * 4 * 16 * 32 * 32
    assert fused < 7.5 * field
    assert fused < 0.35 * kept(model, a)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_layer_that_is_used_again_has_the_same_gradient_of_any_order(depth, counted, monkeypatch):
    """What comes into it then depends on its own weights, a path that is not to count twice."""
    torch.manual_seed(0)
    grid = Grid.box((12,), boundary="periodic", points="left")
    model = FNO(1, 1, 1, grid=grid, width=4, modes=3, depth=depth).double()
    a, parameters = torch.randn(2, 1, 12, dtype=torch.float64), list(model.parameters())

    def gradients(create_graph):
        loss = model(model(model(a))).square().sum()
        return torch.autograd.grad(loss, parameters, create_graph=create_graph)

    def curvature():
        first = gradients(True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), parameters)

    plain, graph, second = gradients(False), gradients(True), curvature()
    assert counted.block == 9 * depth
    torch.testing.assert_close(graph, plain, rtol=1e-12, atol=1e-12)
    parts(monkeypatch)
    torch.testing.assert_close(second, curvature(), rtol=1e-10, atol=1e-10)
    assert counted.block == 9 * depth


def test_gradients_in_batches(counted):
    block, v, basis = layer()
    out = block(v, basis, last=False).flatten()[:5]
    each = torch.stack([torch.autograd.grad(x, v, retain_graph=True)[0] for x in out])
    (found,) = torch.autograd.grad(out, v, torch.eye(5).double(), is_grads_batched=True)
    torch.testing.assert_close(found, each)
    model, x = Perceptron(3, 5, 2).double(), torch.randn(4, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(model, x, vectorize=True), jacobian(model, x))


def test_predictions_reuse_memory_that_nobody_sees(counted):
    torch.manual_seed(0)
    model = FNO(1, 1, 2, grid=Grid.box((9, 8)), width=4, modes=3, depth=3).double()
    a = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    given, wanted = a.clone(), model(a).detach()
    kept = []
    with torch.no_grad():
        assert torch.equal(model(a), wanted) and torch.equal(a, given)
        for block in model.blocks:
            block.register_forward_hook(lambda *call: kept.append((call[2], call[2].clone())))
        assert torch.equal(model(a), wanted)
    assert all(torch.equal(v, then) for v, then in kept) and len(kept) == 3
    assert len({v.data_ptr() for v, _ in kept}) == 3
    assert counted.block == 9


@pytest.mark.parametrize("spend", [False, True])
def test_spending_the_input(spend):
    """Control of the test above: v is overwritten where it is spent, and only without gradients."""
    block, v, basis = layer()
    before = v.detach().clone()
    wanted = block(v, basis, last=False, spend=spend)
    assert torch.equal(v, before)
    with torch.no_grad():
        found = block(v, basis, last=False, spend=spend)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
    assert torch.equal(v, before) is not spend
