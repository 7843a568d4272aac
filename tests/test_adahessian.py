"""AdaHessian: exact where the Hessian is diagonal, the dense Hessian of a small FNO otherwise."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sciml.curvature import AdaHessian
from sciml.curvature import adahessian as module
from sciml.curvature.parameter_vector import real
from sciml.layers.fourier_block import FusedBlock
from sciml.models import FNO
from solvers.grid import Grid
from tests.complex_steps import Spectral, random, through_a_file

NEWTON = {"lr": 1.0, "betas": (0.0, 0.0), "eps": 0.0}


class Quadratic(nn.Module):
    """x^H A x / 2 - Re b^H x of a vector x; complex ones as pairs if `pairs`."""

    def __init__(self, A: Tensor, b: Tensor, *, pairs: bool = False):
        super().__init__()
        self.A, self.b, self.start = A, b, random(*b.shape, seed=7, dtype=b.dtype)
        self.spectral = Spectral(self.start.view(-1, 1, 1), "pairs") if pairs else None
        self.x = None if pairs else nn.Parameter(self.start.clone())

    @property
    def value(self) -> Tensor:
        x = self.spectral.weight.dense().flatten() if self.spectral else self.x
        return (x.conj() @ self.A @ x / 2 - self.b.conj() @ x).real

    def objective(self, samples=None):
        return SimpleNamespace(value=self.value)

    def solved(self) -> Tensor:
        return self.spectral.value().flatten() if self.spectral else self.x.detach()


def ada(model, objective=None, **settings) -> AdaHessian:
    optimizer = AdaHessian(model.parameters(), **{**NEWTON, **settings})
    optimizer.attach(model, objective or model.objective)
    return optimizer


def descend(model, optimizer, steps: int = 1, **backward) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model.value.backward(**backward)
        optimizer.step()


@pytest.fixture
def every_sign(monkeypatch):
    """Of all vectors of signs one after the other: their mean has no sampling error."""

    def use(count: int) -> int:
        vectors = itertools.cycle(itertools.product((-1.0, 1.0), repeat=count))
        draw = lambda x: torch.tensor(next(vectors), dtype=x.dtype).view(x.shape)  # noqa: E731
        monkeypatch.setattr(module, "signs", draw)
        return 2**count

    return use


@pytest.mark.parametrize("kind", ["real", "complex", "pairs"])
def test_one_step_to_the_minimum_if_the_hessian_is_diagonal(kind):
    """Where it is the same for both parts of each complex number."""
    h = torch.logspace(-2, 2, 6, dtype=torch.float64)
    dtype = torch.float64 if kind == "real" else torch.complex128
    b = random(6, dtype=dtype)
    model = Quadratic(torch.diag(h).to(dtype), b, pairs=kind == "pairs")
    descend(model, ada(model))
    torch.testing.assert_close(model.solved(), b / h, rtol=1e-12, atol=1e-12)


def test_the_mean_over_all_signs_is_the_diagonal(every_sign):
    A = random(5, 5, dtype=torch.float64)
    model = Quadratic(A @ A.T, random(5, dtype=torch.float64))
    optimizer, count = ada(model), every_sign(5)
    model.value.backward()
    found = torch.stack([optimizer._diagonal([model.x])[0] for _ in range(count)])
    assert found.std(0).min() > 0.1
    torch.testing.assert_close(found.mean(0), (A @ A.T).diagonal(), rtol=1e-12, atol=1e-12)


def pair_block(phase: float) -> tuple[Tensor, Tensor]:
    """A real 2 x 2 Hessian of one complex number, turned, and the number."""
    c, s = torch.tensor(phase, dtype=torch.float64).cos(), torch.tensor(phase).double().sin()
    Q = torch.stack((torch.stack((c, -s)), torch.stack((s, c))))
    return Q @ torch.tensor([[5.0, 1.0], [1.0, 0.5]], dtype=torch.float64) @ Q.T, Q


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.0])
def test_the_two_parts_of_a_number_share_half_their_trace(every_sign, phase):
    """Whatever its phase, while the diagonal of its block depends on that."""
    H, _ = pair_block(phase)
    model = Spectral(random(1, 1, 1))
    x = model.parameter
    objective = lambda samples: SimpleNamespace(value=x.flatten() @ H @ x.flatten() / 2)  # noqa: E731
    optimizer, count = ada(model, objective), every_sign(2)
    found = sum(optimizer._diagonal([x])[0] for _ in range(count)) / count
    assert found.shape == (1, 1, 1, 1)
    assert found.item() == pytest.approx(2.75, abs=1e-12)
    assert (H.diagonal() - 2.75).abs().max() > 0.5


def small_fno() -> tuple[nn.Module, Tensor, Tensor]:
    grid = Grid.box((8,), boundary="periodic", points="left")
    model = FNO(1, 1, 1, grid=grid, width=2, modes=2, depth=2).double()
    return model, random(3, 1, 8).real, random(3, 1, 8, seed=5).real


def dense_hessian(model: nn.Module, loss) -> Tensor:
    """Row by row, with hooks that keep the layers of an FNO from being fused."""
    hooks = [block.mlp.register_forward_hook(lambda *x: None) for block in model.blocks]
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    units = [(g, e.view_as(g).clone()) for g in gradients for e in torch.eye(g.numel()).to(g)]
    rows = [torch.autograd.grad(g, parameters, e, retain_graph=True) for g, e in units]
    for hook in hooks:
        hook.remove()
    return torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in rows])


def test_the_diagonal_of_an_fno_is_that_of_its_dense_hessian(monkeypatch):
    """Through its fused blocks, whose backward pass is by hand."""
    model, a, u = small_fno()
    loss = lambda: (model(a) - u).square().sum()  # noqa: E731
    H = dense_hessian(model, loss)
    torch.testing.assert_close(H, H.T, rtol=1e-9, atol=1e-9)
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]
    z = module.signs(H[0])
    drawn = iter(z.split(sizes))
    monkeypatch.setattr(module, "signs", lambda x: next(drawn).view(x.shape).clone())
    fused, original = [], FusedBlock.apply
    monkeypatch.setattr(FusedBlock, "apply", lambda *x: fused.append(1) or original(*x))

    optimizer = ada(model, lambda samples: SimpleNamespace(value=loss()))
    found = optimizer._diagonal(parameters)
    assert len(fused) == len(model.blocks)
    for p, D, expected in zip(parameters, found, (z * (H @ z)).split(sizes), strict=True):
        expected = optimizer._averaged(p, expected.view(p.shape))
        torch.testing.assert_close(D, expected, rtol=1e-9, atol=1e-9)


def test_an_fno_learns():
    model, a, _ = small_fno()
    u, losses = a.roll(1, -1) + a.square(), []

    def value(samples=None):
        return SimpleNamespace(value=(model(a) - u).square().mean())

    optimizer = ada(model, value, lr=0.2, betas=(0.9, 0.99), eps=1e-4, hessian_period=3)
    for _ in range(30):
        optimizer.zero_grad()
        value().value.backward()
        losses.append(value().value.item())
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_steps_are_those_of_the_formula():
    """Means over time, their bias, the period, the power and the decay."""
    A = random(5, 5, dtype=torch.float64)
    A, b = A @ A.T, random(5, dtype=torch.float64)
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2}
    model = Quadratic(A, b)
    optimizer = ada(model, **settings, hessian_power=0.7, hessian_period=3)
    torch.manual_seed(4)
    descend(model, optimizer, 25)

    torch.manual_seed(4)
    x, m, v, probes = model.start, 0.0, 0.0, 0
    for t in range(1, 26):
        g = A @ x - b
        if t <= 10 or t % 3 == 1:
            z = module.signs(x)
            v, probes = 0.9 * v + 0.1 * (z * (A @ z)).square(), probes + 1
        m = 0.8 * m + 0.2 * g
        denominator = (v / (1 - 0.9**probes)) ** 0.35 + 1e-3
        x = x * (1 - 0.1 * 0.2) - 0.1 * m / (1 - 0.8**t) / denominator
    torch.testing.assert_close(model.solved(), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("average", [True, False])
def test_kernels_of_convolutions_have_one_number_for_their_points(average):
    model = nn.ModuleDict(
        {"conv": nn.Conv2d(2, 3, 3), "table": nn.ParameterList([torch.ones(2, 3, 4)])}
    )
    optimizer = AdaHessian(model.parameters(), average=average)
    optimizer.attach(model, None)
    weight = model["conv"].weight
    D = torch.randn(weight.shape)
    expected = D.mean((2, 3), keepdim=True) if average else D
    torch.testing.assert_close(optimizer._averaged(weight, D), expected)
    D = torch.randn(2, 3, 4)  # has three axes too, and is no kernel
    assert optimizer._averaged(model["table"][0], D) is D


def test_gradients_with_a_graph_need_no_objective():
    A = random(5, 5, dtype=torch.float64)
    ends = []
    for attached in (True, False):
        model = Quadratic(A @ A.T, random(5, dtype=torch.float64))
        optimizer = ada(model) if attached else AdaHessian(model.parameters(), **NEWTON)
        torch.manual_seed(3)
        descend(model, optimizer, 3, create_graph=not attached)
        ends.append(model.solved())
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-13)


def test_without_any_graph_steps_are_adamw_s():
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2}
    A = random(5, 5, dtype=torch.float64)
    mine, theirs = (Quadratic(A @ A.T, random(5, dtype=torch.float64)) for _ in range(2))
    with pytest.warns(UserWarning, match="no objective is attached"):
        descend(mine, AdaHessian(mine.parameters(), **settings), 6)
    descend(theirs, torch.optim.AdamW(theirs.parameters(), **settings), 6)
    torch.testing.assert_close(mine.solved(), theirs.solved(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_diagonal_that_is_not_finite_is_left_out(monkeypatch, guarded):
    """Control: without the guard it ends all that follows."""
    model = Quadratic(torch.eye(3).double(), random(3, dtype=torch.float64))
    optimizer = ada(model, lr=0.1, betas=(0.9, 0.9))
    descend(model, optimizer, 2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "signs", lambda x: torch.full_like(x, torch.nan))
        if guarded:
            with pytest.warns(UserWarning, match="x, step 2: the diagonal of its Hessian is not"):
                descend(model, optimizer)
        else:
            patch.setattr(Tensor, "isfinite", lambda x: torch.ones(x.shape, dtype=torch.bool))
            descend(model, optimizer)
    assert model.solved().isfinite().all() == guarded


def test_a_first_diagonal_that_is_not_finite_moves_nothing(monkeypatch):
    model = Quadratic(torch.eye(3).double(), random(3, dtype=torch.float64))
    optimizer = ada(model)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="not finite"):
        patch.setattr(module, "signs", lambda x: torch.full_like(x, torch.inf))
        descend(model, optimizer)
    assert torch.equal(model.solved(), model.start)
    descend(model, optimizer)
    torch.testing.assert_close(model.solved(), model.b)


def test_losses_without_curvature():
    """A bias that enters in proportion: H = 0, so that eps alone bounds the step."""
    p = nn.Parameter(torch.ones(2))
    model = nn.ParameterList([p])
    optimizer = AdaHessian([p], lr=1e-3, eps=1e-2)
    optimizer.attach(model, lambda samples: SimpleNamespace(value=p.sum()))
    p.sum().backward()
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((2,), 0.9))


@pytest.mark.parametrize("samples", [None, 2])
def test_the_hessian_is_that_of_so_many_samples(samples):
    asked = []
    model = Quadratic(torch.eye(3).double(), random(3, dtype=torch.float64))
    objective = lambda n: asked.append(n) or model.objective()  # noqa: E731
    optimizer = ada(model, objective, samples=samples, hessian_period=3, lr=0.1)
    descend(model, optimizer, 17)
    assert asked == [samples] * (10 + 2)  # of steps 13 and 16


@pytest.mark.parametrize("guarded", [True, False])
def test_running_statistics_see_a_batch_once(monkeypatch, guarded):
    """Control: in training mode the second pass would be counted as well."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    x = random(8, 2).real.float()
    objective = lambda samples: SimpleNamespace(value=model(x).square().mean())  # noqa: E731
    optimizer = ada(model, objective, lr=1e-3, eps=1e-4)
    if not guarded:
        monkeypatch.setattr(nn.BatchNorm1d, "eval", lambda self: self)
    objective(None).value.backward()
    optimizer.step()
    assert (model[1].num_batches_tracked == 1) == guarded and model[1].training


@pytest.mark.parametrize("kind", ["real", "complex", "pairs"])
def test_going_on_from_a_checkpoint_is_bitwise_the_same(kind):
    dtype = torch.float32 if kind == "real" else torch.complex64
    A = random(5, 5).to(dtype)
    A, b = A @ A.mH, random(5).to(dtype)
    settings = {"lr": 0.05, "betas": (0.9, 0.95), "eps": 1e-4, "hessian_period": 3}
    whole, first, second = (Quadratic(A, b, pairs=kind == "pairs") for _ in range(3))
    torch.manual_seed(2)
    descend(whole, ada(whole, **settings), 20)
    torch.manual_seed(2)
    optimizer = ada(first, **settings)
    descend(first, optimizer, 12)
    second.load_state_dict(first.state_dict())
    other = ada(second, **settings)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    descend(second, other, 8)
    assert torch.equal(second.solved(), whole.solved())


def test_a_closure_is_called_with_gradients():
    model = Quadratic(torch.eye(3).double(), random(3, dtype=torch.float64))
    optimizer = ada(model)

    def closure():
        optimizer.zero_grad()
        loss = model.value
        loss.backward()
        return loss

    assert torch.is_tensor(optimizer.step(closure))
    torch.testing.assert_close(model.solved(), model.b)


def test_signs():
    z = module.signs(torch.zeros(2000))
    assert set(z.unique().tolist()) == {-1.0, 1.0} and abs(z.mean()) < 0.1
    assert real(torch.zeros(2, dtype=torch.complex64)).shape == (2, 2)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\)"),
        ({"hessian_power": 0.0}, "hessian_power=0.0"),
        ({"hessian_period": 0}, "hessian_period=0"),
        ({"samples": 0}, "samples=0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdaHessian([nn.Parameter(torch.zeros(2, 2))], **settings)
