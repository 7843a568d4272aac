"""Random states and numbers: functions of the generator, the same on every grid."""

import math

import pytest
import torch

from solvers import (
    Affine,
    AtRest,
    Blobs,
    CellNoise,
    DamBreak,
    Euler,
    GasState,
    LogUniform,
    RandomSines,
    Stacked,
    TruncatedFourier,
    Uniform,
)
from solvers.grid import Axis, Grid
from tests.helpers import periodic


def generators(count, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


FUNCTIONS = {
    "fourier": TruncatedFourier(3),
    "blobs": Blobs((0.5, 0.25), (1.0, 0.0)),
    "stacked": Stacked([TruncatedFourier(2), AtRest(2, 3.0)]),
    "affine": Affine(TruncatedFourier(2, zero_mean=False), scale=0.5, offset=0.5, lower=0.2),
    "gas": GasState(TruncatedFourier(2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_grid_sees_the_same_function(name):
    fine, coarse = periodic((24, 16), (2.0, 1.0)), periodic((8, 8), (2.0, 1.0))
    u = FUNCTIONS[name].sample(generators(3), fine)
    v = FUNCTIONS[name].sample(generators(3), coarse)
    torch.testing.assert_close(u[..., ::3, ::2], v, rtol=0, atol=1e-13)
    alone = FUNCTIONS[name].sample(generators(1, first=2), coarse)
    torch.testing.assert_close(alone[0], v[2], rtol=0, atol=1e-14)
    assert not torch.allclose(v[0], v[1])


def test_a_truncated_series_has_its_modes_and_no_others():
    u = TruncatedFourier(3, zero_mean=False, max_one=False).sample(
        generators(400), periodic((16, 16), (1, 1))
    )
    power = torch.fft.fft2(u).abs().square().mean(dim=0)
    m = torch.fft.fftfreq(16, 1 / 16).abs()
    inside = (m[:, None] <= 3) & (m <= 3)
    assert power[~inside].max() < 1e-20 * power[inside].max()
    # a product of two waves shares its unit variance among four wave vectors, one among two
    edge = power[0, 1] / power[1, 1]
    assert edge == pytest.approx(2, rel=0.25)
    v = TruncatedFourier(3).sample(generators(20), periodic((200, 200), (1, 1)))
    assert v.mean(dim=(1, 2)).abs().max() < 1e-14
    assert v.abs().amax(dim=(1, 2)).min() > 0.97 and v.abs().max() < 1.03


def test_random_sines_are_bounded_and_some_are_folded_or_windowed():
    grid = periodic((400,), (1.0,))
    u = RandomSines(2, 8).sample(generators(600), grid)
    assert u.abs().max() <= 2
    power = torch.fft.rfft(u).abs().square()
    plain = power[:, 9:].sum(dim=1) < 1e-18 * power.sum(dim=1)
    assert 0.75 < plain.double().mean() < 0.87  # 0.9 * 0.9
    assert (u.amin(dim=1) >= 0).double().mean() == pytest.approx(0.05, abs=0.03)
    with pytest.raises(ValueError, match="one-dimensional, the grid has 2 axes"):
        RandomSines().sample(generators(1), periodic((4, 4), (1, 1)))


def test_noise_on_coarser_grids_is_the_mean():
    noise = CellNoise(16, channels=2)
    fine = noise.sample(generators(200), Grid.box((16, 16)))
    coarse = noise.sample(generators(200), Grid.box((8, 4)))
    torch.testing.assert_close(
        coarse, fine.unflatten(3, (4, 4)).mean(4).unflatten(2, (8, 2)).mean(3)
    )
    assert fine.std() == pytest.approx(1, abs=0.01)
    finer = noise.sample(generators(200), Grid.box((32, 16)))
    torch.testing.assert_close(finer, fine.repeat_interleave(2, dim=2), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"its multiples, not on \(12, 12\)"):
        noise.sample(generators(1), Grid.box((12, 12)))


def test_the_broken_dam_holds_its_water():
    axes = tuple(Axis(n, 60, -2.5, 2.5, ("open", "open")) for n in "xy")
    u = DamBreak((0.5, 0.5)).sample(generators(1), Grid(axes))
    assert u.shape == (1, 3, 60, 60) and not u[:, 1:].any()
    above = (u[0, 0] - 1).sum() * (5 / 60) ** 2
    assert above == pytest.approx(math.pi * 0.25, rel=5e-3)
    radii = DamBreak().sample(generators(50), Grid(axes[:1]))[:, 0].sub(1).sum(dim=1) * 5 / 60 / 2
    assert 0.3 <= radii.min() < 0.35 and 0.65 < radii.max() <= 0.7


def test_blobs_stay_between_their_values():
    u = Blobs((0.5, 0.25), (1.0, 0.0), count=9).sample(generators(20), periodic((32, 32), (1, 1)))
    assert u[:, 0].min() >= 0.5 and u[:, 0].max() <= 1
    assert u[:, 1].min() >= 0 and u[:, 1].max() <= 0.25
    share = (u[:, 0] - 1) / -0.5
    torch.testing.assert_close(share, u[:, 1] / 0.25)


def test_blobs_come_back_through_periodic_sides_only():
    """Ten per cent of a width of 0.05 reach 0.11, so none reaches half of the box."""
    axes = (
        Axis("x", 64, boundary=("open", "open")),
        Axis("y", 64, boundary=("periodic", "periodic")),
    )
    u = Blobs([1.0], [0.0], count=1, width=(0.05, 0.05)).sample(generators(100), Grid(axes))
    ends = torch.stack([u[:, 0].select(dim, i).amax(dim=1) for dim in (1, 2) for i in (0, -1)])
    both = (ends[0::2] > 0.1) & (ends[1::2] > 0.1)
    assert not both[0].any() and both[1].sum() > 5


def test_a_gas_has_its_mach_number():
    grid = periodic((64,), (1.0,))
    u = GasState(TruncatedFourier(2), mach=0.3, contrast=0.2, gamma=1.4).sample(generators(5), grid)
    w = Euler(grid, dt=0.1, gamma=1.4).to_primitive(u)
    assert w[:, 1].abs().amax(dim=1) == pytest.approx([0.3] * 5, rel=0.03)
    assert (w[:, 0] - 1).abs().max() < 0.21
    assert ((1.4 * w[:, 2]).mean() - 1).abs() < 1e-6
    torch.testing.assert_close(Euler(grid, dt=0.1, gamma=1.4).to_conserved(w), u)


def test_distributions():
    draws = Uniform(2, 3).sample(generators(2000))
    assert draws.min() >= 2 and draws.max() <= 3 and draws.mean() == pytest.approx(2.5, abs=0.03)
    draws = LogUniform(1e-4, 1e-2).sample(generators(2000))
    assert draws.min() >= 1e-4 and draws.max() <= 1e-2
    assert draws.log10().mean() == pytest.approx(-3, abs=0.05)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: TruncatedFourier(0), "modes=0 must be at least 1"),
        (lambda: RandomSines(0), "count=0 and modes=8 must be"),
        (lambda: Blobs((1,), (1, 2)), "need a value per field"),
        (lambda: CellNoise(0), "size=0 and channels=1"),
        (lambda: DamBreak((0.7, 0.3)), r"radius=\(0.7, 0.3\) must rise"),
        (lambda: Stacked([]), "at least one"),
        (lambda: GasState(AtRest(), contrast=1), r"contrast=1 must lie in \[0, 1\)"),
        (lambda: Uniform(1, 1), "low=1 must be below high=1"),
        (lambda: LogUniform(0, 1), "low=0 must lie between 0 and"),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
