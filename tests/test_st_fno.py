"""ST-FNO: published sizes, times in and out, symmetry, an independent reference, refusals."""

import math

import pytest
import torch

from datasets.schema import Frames
from sciml.layers import FourierBasis
from sciml.layers.spacetime import SpectralMap, SpectralOutput, encoding, spacetime
from sciml.models import STFNO
from solvers.grid import Grid


def periodic(*shape):
    return Grid.box(shape, boundary="periodic", points="left")


def small(grid, frames, ins=None, outs=None, **settings):
    torch.manual_seed(0)
    settings = {"width": 6, "modes": 3, "depth": 2, **settings}
    ins = ins or frames.history * frames.channels
    outs = outs or frames.horizon * frames.channels
    return STFNO(ins, outs, grid.ndim, grid=grid, frames=frames, **settings).double()


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def trained(model):
    """A spectral bias as after some training."""
    with torch.no_grad():
        model.output.bias += noise(*model.output.bias.shape)
    return model


@pytest.mark.parametrize(
    "width, modes, horizon, count", [(20, 12, 40, 9_242_461), (10, 32, 10, 16_469_791)]
)
def test_published_sizes(width, modes, horizon, count):
    frames = Frames(10, horizon, 1, 1.0)
    with torch.device("meta"):
        model = STFNO(
            10, horizon, 2, grid=periodic(64, 64), frames=frames, width=width, modes=modes
        )
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("history, horizon", [(1, 1), (1, 7), (3, 2), (12, 4), (10, 40)])
def test_any_number_of_frames(history, horizon):
    """Of two channels and a constant, also other numbers than those it was built for."""
    model = small(periodic(12), Frames(history, horizon, 2, 0.1), ins=2 * history + 1)
    assert model(noise(2, 2 * history + 1, 12)).shape == (2, 2 * horizon, 12)
    for t in (1, 5, 20):
        u = model.trajectory(noise(2, t, 2, 12), noise(2, 1, 12), 30)
        assert u.shape == (2, 30, 2, 12) and u.isfinite().all()


def test_twice_as_many_frames_pass_through_the_same_ones():
    model = trained(small(periodic(12, 12), Frames(10, 8, 1, 0.1)))
    past, none = noise(2, 10, 1, 12, 12), noise(2, 0, 12, 12)
    coarse, fine = (model.trajectory(past, none, steps) for steps in (8, 16))
    torch.testing.assert_close(fine[:, 1::2], coarse, rtol=0, atol=1e-12)


def test_frames_and_channels_keep_their_places():
    """Without an output operator each frame of the prediction is the last frame of the input."""
    frames = Frames(3, 4, 2, 0.1)
    model = small(periodic(12, 12), frames, ins=7)
    torch.nn.init.zeros_(model.output.weight.entries)
    a = noise(2, 7, 12, 12)
    assert torch.equal(model(a).unflatten(1, (4, 2)), a[:, None, 4:6].expand(-1, 4, -1, -1, -1))


def test_equivariant_on_periodic_axes():
    model = small(periodic(15, 16), Frames(4, 3, 1, 0.1), latent_steps=4)
    a = noise(2, 4, 15, 16)
    moved = model(a.roll((3, 5), (2, 3)))
    torch.testing.assert_close(moved, model(a).roll((3, 5), (2, 3)), rtol=0, atol=1e-12)
    walls = small(Grid.box((15, 16)), Frames(4, 3, 1, 0.1), latent_steps=4)
    assert (walls(a.roll(3, 2)) - walls(a).roll(3, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("fine", [(24, 24), (25, 30)], ids=str)
def test_a_constant_field_is_the_same_on_every_grid(fine):
    model = small(periodic(12, 12), Frames(2, 3, 1, 0.1), latent_steps=2)
    u = model(torch.full((1, 2, 12, 12), 0.7, dtype=torch.float64))
    v = model(torch.full((1, 2, *fine), 0.7, dtype=torch.float64))
    torch.testing.assert_close(v[..., 0, 0], u[..., 0, 0], rtol=0, atol=1e-12)


def test_spectral_map_equals_a_sum_over_modes():
    """K by full complex exponentials, from 5 times to 8."""
    torch.manual_seed(0)
    operator = SpectralMap(2, 3, (2, 2, 1)).double()
    v = noise(9, 8, 5, 1, 2)
    grid = periodic(9, 8)
    source, target = (
        FourierBasis(spacetime(grid, n), (2, 2, 1), (1.0, 1.0, 1.0), like=v) for n in (5, 8)
    )
    u = operator(v, source, target)
    numbers, weight = (0, 1, -1, -2), operator.weight.dense()
    expected = torch.zeros(9, 8, 8, 1, 3, dtype=torch.complex128)

    def wave(k, sizes):
        axes = torch.meshgrid(*(torch.arange(n).double() / n for n in sizes), indexing="ij")
        return torch.exp(2j * math.pi * sum(m * x for m, x in zip(k, axes, strict=True)))

    for i, kx in enumerate(numbers):
        for j, ky in enumerate(numbers):
            for kt in (0, 1):
                k = (kx, ky, kt)
                v_hat = torch.einsum("xyt,xytbc->bc", wave(k, (9, 8, 5)).conj(), v + 0j) / 360
                part = torch.einsum("xyt,bo->xytbo", wave(k, (9, 8, 8)), v_hat @ weight[i, j, kt])
                expected += part * (1 if kt == 0 else 2)
    torch.testing.assert_close(u, expected.real, rtol=0, atol=1e-12)


def test_zeros_continue_time_on_the_left_as_on_the_right():
    """The published padding stands before the frames; by a shift of time that is the same."""
    v = noise(6, 4, 1, 1)
    grid = spacetime(periodic(6), 4)
    padded = torch.cat((torch.zeros_like(v), v), dim=1)
    ours = FourierBasis(grid, (2, 2), (1.0, 2.0), like=v).analyse(v)
    left = FourierBasis(spacetime(periodic(6), 8), (2, 2), (1.0, 1.0), like=v).analyse(padded)
    shift = torch.exp(-1j * math.pi * torch.arange(3).double())[:, None, None]
    torch.testing.assert_close(left, ours * shift, rtol=0, atol=1e-14)


def test_more_modes_do_not_change_the_output():
    model = trained(small(periodic(12, 14), Frames(5, 6, 2, 0.1)))
    a = noise(2, 10, 12, 14)
    before = model(a)
    model.output = model.output.enlarged((6, 7, 6))
    assert model.output.bias.shape == (12, 14, 7, 2, 2)
    torch.testing.assert_close(model(a), before, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match=r"must be at least those that are, \(6, 7, 6\)"):
        model.output.enlarged((5, 7, 6))


def test_encoding():
    grid = Grid.box((4, 6))
    e = encoding(grid, 5, 7, 0.3, like=noise(1))
    assert e.shape == (4, 6, 5, 1, 7)
    t, x = torch.tensor(0.4).double(), torch.tensor(0.375).double()
    growing = (0.3 * t).exp()
    wanted = [
        x,
        torch.tensor(0.25),
        t,
        growing * (math.pi * t).cos(),
        growing * (math.pi * t).sin(),
        growing * (2 * math.pi * t).cos(),
        growing * (2 * math.pi * t).sin(),
    ]
    torch.testing.assert_close(e[1, 1, 1, 0], torch.stack([w.double() for w in wanted]))


def test_a_steady_map_has_one_time_and_no_input_in_its_output():
    torch.manual_seed(0)
    model = STFNO(2, 1, 2, grid=Grid.box((12, 12)), width=6, modes=3).double()
    assert model.steps == 1 and not model.window.evolves
    torch.nn.init.zeros_(model.reduction.weight)
    torch.nn.init.zeros_(model.reduction.bias)
    assert not model(noise(1, 2, 12, 12)).any()


def test_output_needs_no_frames_of_the_whole_state():
    """Some fields of the state are given and not asked for."""
    frames = Frames(2, 3, 2, 0.1)
    model = small(periodic(12), frames, outs=3)
    assert not model.window.evolves
    assert model(noise(1, 4, 12)).shape == (1, 3, 12)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"modes": 7}, r"at least \(14, 14\) points.*lower model.modes"),
        ({"modes": (3,)}, r"modes=\(3,\)"),
        ({"width": 2}, "width=2 must be at least 3"),
        ({"depth": 0}, "depth=0"),
        ({"padding": -1.0}, "padding=-1.0"),
        ({"ins": 1}, "do not fit 1 input and 2 target channels"),
        ({"outs": 3}, "do not fit 2 input and 3 target channels"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        small(Grid.box((12, 12)), Frames(2, 2, 1, 0.1), **settings)


def test_three_dimensions_of_space_are_refused():
    with pytest.raises(ValueError, match="the grid has 3 of space"):
        spacetime(periodic(4, 4, 4), 4)


def test_the_spectral_bias_is_a_field_in_space_and_time():
    output = SpectralOutput(1, (2, 2)).double()
    torch.nn.init.zeros_(output.weight.entries)
    with torch.no_grad():
        output.bias[0, 1, 0, 0] = 3.0
    basis = FourierBasis(spacetime(periodic(6), 8), (2, 2), (1.0, 1.0), like=noise(1))
    field = basis.synthesise(output(basis.analyse(noise(6, 8, 2, 1))))
    wave = 2 * 0.1 * 3.0 * (2 * math.pi * torch.arange(8).double() / 8).cos()
    torch.testing.assert_close(field, wave[:, None, None].expand(6, 8, 2, 1), rtol=0, atol=1e-14)


def test_bfloat16_autocast():
    model = STFNO(1, 1, 1, grid=Grid.box((16,), boundary="periodic"), width=4, modes=3)
    a = torch.randn(2, 1, 16)
    exact = model(a)
    with torch.autocast("cpu", torch.bfloat16):
        u = model(a)
    u.float().square().sum().backward()
    assert 1e-6 < (u - exact).norm() / exact.norm() < 5e-2
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
