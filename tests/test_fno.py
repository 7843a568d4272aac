"""FNO: symmetries, resolutions, odd grids, float64, and what it refuses."""

import math

import pytest
import torch

from sciml.models import FNO, FNOOriginal
from solvers.grid import Axis, Grid


def periodic(shape):
    return Grid.box(shape, boundary="periodic", points="left")


def small(shape, grid=None, **settings):
    torch.manual_seed(0)
    settings = {"width": 6, "modes": 3, "depth": 2, **settings}
    return FNO(2, 1, len(shape), grid=grid or Grid.box(shape), **settings)


@pytest.mark.parametrize("shape", [(16,), (15, 16), (7, 8, 9)], ids=str)
def test_one_class_for_all_dimensions(shape):
    model = small(shape)
    u = model(torch.randn(3, 2, *shape))
    assert u.shape == (3, 1, *shape) and u.is_contiguous()
    u.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)], ids=str)
def test_equivariant_on_periodic_axes(shape):
    model = small(shape, periodic(shape)).double()
    a = torch.randn(2, 2, *shape, dtype=torch.float64)
    moved = model(a.roll((3, 5), (2, 3)))
    torch.testing.assert_close(moved, model(a).roll((3, 5), (2, 3)), rtol=0, atol=1e-13)


def test_walls_break_equivariance():
    """Control: a non-periodic axis gets its coordinate and a longer period."""
    model = small((16, 16)).double()
    a = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    assert (model(a.roll(3, 2)) - model(a).roll(3, 2)).abs().max() > 1e-3


def test_mixed_boundaries():
    grid = Grid(
        (Axis("x", 16, boundary=("periodic", "periodic"), points="left"), Axis("y", 15, upper=2.0))
    )
    model = small((16, 15), grid, padding=0.5).double()
    assert model.period == (1.0, 1.5)
    assert model.lifting[0].in_features == 3  # two fields and y
    a = torch.randn(1, 2, 16, 15, dtype=torch.float64)
    torch.testing.assert_close(model(a.roll(4, 2)), model(a).roll(4, 2), rtol=0, atol=1e-13)


@pytest.mark.parametrize("fine", [32, 33, 47])
def test_resolution_does_not_matter_to_band_limited_input(fine):
    """One linear block on a band-limited field: the same function on every grid, to rounding."""

    def field(n):
        x, y = periodic((n, n)).mesh()
        wave = torch.cos(2 * math.pi * (x + 2 * y)) + torch.sin(2 * math.pi * (2 * x - y)) + 0.5
        return torch.stack((wave, 0.3 * wave))[None]

    torch.manual_seed(0)
    model = FNO(2, 1, 2, grid=periodic((16, 16)), width=6, modes=4, depth=1).double()
    block = model.blocks[0]
    v = torch.randn(2, 6, dtype=torch.float64)

    def through(n):
        from sciml.layers import FourierBasis

        u = field(n).movedim((0, 1), (-2, -1)) @ v
        basis = FourierBasis(periodic((n, n)), model.modes, model.period, like=u)
        return block.convolution(u, basis) + block.skip(u)

    coarse, refined = through(16), through(fine)
    mean, other = coarse.mean((0, 1)), refined.mean((0, 1))
    torch.testing.assert_close(mean, other)
    torch.testing.assert_close(coarse[0, 0], refined[0, 0])  # the point x = 0 is on both grids
    if fine == 32:
        torch.testing.assert_close(coarse, refined[::2, ::2])


def test_trained_on_fine_grid_works_on_coarser_than_its_modes():
    model = small((32, 32), modes=10)
    assert model(torch.randn(1, 2, 12, 13)).shape == (1, 1, 12, 13)


def test_float64():
    model = small((12, 12)).double()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    a = torch.randn(1, 2, 12, 12, dtype=torch.float64)
    assert (model(a) - model.float()(a.float()).double()).abs().max() < 1e-5


def test_exports_with_any_batch_size():
    model = small((12, 12)).eval()
    a = torch.randn(3, 2, 12, 12)
    program = torch.export.export(model, (a,), dynamic_shapes=({0: torch.export.Dim("b")},))
    b = torch.randn(5, 2, 12, 12)
    torch.testing.assert_close(program.module()(b), model(b))


@pytest.mark.slow
def test_export_of_larger_batches_and_the_original_form():
    grid = Grid.box((12, 12))
    torch.manual_seed(0)
    model = FNOOriginal(2, 1, 2, grid=grid, width=4, modes=3, depth=2).eval()
    a = torch.randn(3, 2, 12, 12)
    program = torch.export.export(model, (a,), dynamic_shapes=({0: torch.export.Dim("b")},))
    b = torch.randn(7, 2, 12, 12)
    torch.testing.assert_close(program.module()(b), model(b))


def in_pieces_and_compiled(backend):
    """Loss and gradients of both; a graph break is an error."""
    model = small((12, 13), depth=1)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    a = torch.randn(3, 2, 12, 13)
    found = []
    for call in (model, compiled):
        loss = call(a).square().mean()
        found.append((loss, torch.autograd.grad(loss, tuple(model.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_as_one_graph(backend):
    in_pieces_and_compiled(backend)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compiles_to_machine_code():
    in_pieces_and_compiled("inductor")


@pytest.mark.parametrize("shape", [(16,), (17,), (32, 32), (31, 33), (9, 10, 11)], ids=str)
def test_equivariance_in_single_precision(shape):
    model = small(shape, periodic(shape))
    a = torch.randn(2, 2, *shape)
    axes, steps = tuple(range(2, 2 + len(shape))), tuple(range(3, 3 + len(shape)))
    wanted = model(a).roll(steps, axes)
    assert (model(a.roll(steps, axes)) - wanted).norm() < 1e-6 * wanted.norm()


def test_band_limited_input_gives_one_function_on_all_grids():
    """What GELU makes of it is not band-limited, but decays fast in a smooth network: from 48
    points on the output at common points changes by less than 1e-5.
    """
    torch.manual_seed(0)
    model = FNO(1, 1, 2, grid=periodic((48, 48)), width=8, modes=6, depth=3)

    def output(n):
        x, y = periodic((n, n)).mesh(torch.float32)
        wave = torch.cos(2 * math.pi * (x + 2 * y)) + torch.sin(2 * math.pi * (2 * x - y)) + 0.5
        with torch.no_grad():
            return model(wave[None, None])[..., :: n // 3, :: n // 3]

    wanted = output(96)
    for n in (48, 51, 63):
        assert (output(n) - wanted).norm() < 1e-5 * wanted.norm()


def test_bfloat16_autocast():
    """Pointwise layers in bfloat16, transforms in float32."""
    model, a = small((16, 16)), torch.randn(2, 2, 16, 16)
    exact = model(a)
    with torch.autocast("cpu", torch.bfloat16):
        u = model(a)
        loss = u.float().square().mean()
    loss.backward()
    assert 1e-6 < (u - exact).norm() / exact.norm() < 2e-2
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )


@pytest.mark.parametrize("shape", [(16,), (8, 9)], ids=str)
def test_no_samples(shape):
    with torch.no_grad():
        u = small(shape)(torch.randn(0, 2, *shape))
    assert u.shape[0] == 0 and u.shape[2:] == shape


def test_refusals():
    with pytest.raises(
        ValueError, match=r"modes=\(9, 9\) needs at least \(18, 18\) points.*\(16, 17\)"
    ):
        FNO(1, 1, 2, grid=Grid.box((16, 17)), modes=9)
    with pytest.raises(ValueError, match="ndim=2, but the grid has 1 axes"):
        FNO(1, 1, 2, grid=Grid.box((16,)), modes=2)
    with pytest.raises(ValueError, match="must be at least 1"):
        FNO(1, 1, 1, modes=0)
    model = small((12, 12))
    with pytest.raises(ValueError, match=r"expected \[batch, 2 channels, 2 axes.*\(1, 3, 12, 12\)"):
        model(torch.randn(1, 3, 12, 12))
    with pytest.raises(ValueError, match="2 axes of points"):
        model(torch.randn(1, 2, 12))


def test_parameter_count():
    """lifting + blocks + projection, counted by hand; complex weights count twice."""
    w, m, d = 32, 12, 4
    dense = lambda i, o: i * o + o  # noqa: E731
    block = 2 * (2 * m) * (m + 1) * w * w + dense(w, w) + dense(w, w // 2) + dense(w // 2, w) + w
    expected = dense(3, 2 * w) + dense(2 * w, w) + d * block + dense(w, 2 * w) + dense(2 * w, 1)
    assert (
        sum(p.numel() for p in FNO(1, 1, 2, width=w, modes=m, depth=d).parameters())
        == expected
        == 2_569_057
    )
