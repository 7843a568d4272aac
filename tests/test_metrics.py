"""Metrics: closed forms, observed order, Parseval, agreement with The Well, and what is refused."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from datasets.schema import Field
from sciml.evaluation import (
    FieldErrors,
    band_nmse,
    channel_names,
    choose_samples,
    error_spectrum,
    max_error,
    nrmse,
    relative_h1,
    relative_l2,
    vrmse,
)
from sciml.evaluation.field_errors import METRICS
from sciml.evaluation.spectrum import cosine_transform
from solvers.grid import Axis, Grid

PERIODIC, WALL = ("periodic", "periodic"), ("dirichlet", "neumann")
GRIDS = [
    Grid((Axis("x", 16, 0, 2, PERIODIC, "left"),)),
    Grid((Axis("x", 15, 0, 2, PERIODIC, "cells"),)),
    Grid((Axis("x", 12, 0, 1, WALL, "nodes"),)),
    Grid((Axis("x", 9, -1, 3, WALL), Axis("y", 8, 0, 1, PERIODIC, "left"))),
    Grid((Axis("x", 7, 0, 1, PERIODIC), Axis("y", 10, 0, 9, PERIODIC))),
    Grid(
        (Axis("x", 6, 0, 1, PERIODIC), Axis("y", 5, 0, 1, WALL), Axis("z", 4, 0, 2, WALL, "nodes"))
    ),
]
names = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid.shape)))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(grid: Grid, b: int = 3, c: int = 2) -> tuple[Tensor, Tensor]:
    """A target and a prediction that is off by ten percent or so."""
    target = normal(b, c, *grid.shape)
    return target + 0.1 * normal(b, c, *grid.shape, seed=1), target


def column(u: Tensor) -> Tensor:
    return u[None, None]


# relative L2 and its relatives


def test_relative_l2_is_per_sample_and_per_field():
    target = normal(2, 2, 5, 7)
    factor = torch.tensor([[0.1, 0.2], [0.3, 4.0]], dtype=torch.float64)
    prediction = target * (1 + factor[..., None, None])
    torch.testing.assert_close(relative_l2(prediction, target), factor, rtol=1e-14, atol=0)
    units = torch.tensor([1e-8, 1e6])[:, None, None]  # of the two fields
    torch.testing.assert_close(relative_l2(units * prediction, units * target), factor)


def test_relative_l2_does_not_depend_on_resolution():
    x = [torch.linspace(0, 2 * math.pi, n + 1, dtype=torch.float64)[:-1] for n in (16, 128)]
    errors = [relative_l2(column(x.sin() + 0.3 * (3 * x).cos()), column(x.sin())) for x in x]
    assert errors[0].item() == pytest.approx(0.3, rel=1e-13)
    assert errors[1].item() == pytest.approx(0.3, rel=1e-13)


def test_nrmse_without_eps_is_relative_l2():
    prediction, target = pair(GRIDS[3])
    torch.testing.assert_close(nrmse(prediction, target, eps=0.0), relative_l2(prediction, target))


def test_predicting_the_mean_scores_one_in_vrmse():
    target = normal(4, 2, 50, 50)
    mean = target.mean((2, 3), keepdim=True).expand_as(target)
    exact = math.sqrt(1 - 1 / 2500)  # the variance is the unbiased one
    assert vrmse(mean, target, eps=0.0) == pytest.approx(exact, rel=1e-13)


def test_max_error():
    prediction, target = pair(GRIDS[3])
    target[1, 0, 3, 4] += 7.0
    expected = (prediction - target).abs().numpy().max(axis=(2, 3))
    np.testing.assert_array_equal(max_error(prediction, target), expected)
    assert max_error(prediction, target)[1, 0] > 6


# H1


@pytest.mark.parametrize("points", ["cells", "nodes", "left"])
def test_h1_is_exact_for_quadratics_between_walls(points):
    """The three-point differences differentiate x^2 exactly, also one-sided ones."""
    grid = Grid.box((9,), points=points)
    x = grid.axes[0].coordinates()
    exact = ((x**2 + 1).sum() / (x**4 + 4 * x**2).sum()).sqrt()
    found = relative_h1(column(x**2 + x), column(x**2), grid)
    assert found.item() == pytest.approx(exact.item(), rel=1e-13)


def test_wrapping_at_a_wall_would_be_wrong():
    """The control: with periodic differences the jump of x across the wall counts as gradient."""
    x = Grid.box((64,)).axes[0].coordinates()
    walls, wrapped = (
        relative_h1(column(x + 0.1 * (math.pi * x).sin()), column(x), Grid.box((64,), boundary=b))
        for b in ("dirichlet", "periodic")
    )
    exact = 0.1 * math.sqrt((0.5 + math.pi**2 / 2) / (1 + 1 / 3))
    assert walls.item() == pytest.approx(exact, rel=1e-3)
    assert wrapped.item() < 0.5 * exact


@pytest.mark.parametrize(
    ("boundary", "points", "wave"),
    [("periodic", "left", 2 * math.pi), ("periodic", "cells", 2 * math.pi), ("open", "cells", 1.0)],
)
def test_h1_is_of_second_order(boundary, points, wave):
    """u = sin(k x), e = cos(2 k x) on the unit interval: integrals are known in closed form."""

    def squares(k: float, phase: float) -> tuple[float, float]:
        """Integrals of cos(k x - phase)^2 and of its derivative's square."""
        oscillation = (math.sin(2 * (k - phase)) + math.sin(2 * phase)) / (4 * k)
        return 0.5 + oscillation, k**2 * (0.5 - oscillation)

    exact = math.sqrt(sum(squares(2 * wave, 0.0)) / sum(squares(wave, math.pi / 2)))
    sizes, errors = (32, 64, 128), []
    for size in sizes:
        grid = Grid.box((size,), boundary=boundary, points=points)
        x = grid.axes[0].coordinates()
        u, e = (wave * x).sin(), (2 * wave * x).cos()
        errors.append(abs(relative_h1(column(u + e), column(u), grid).item() - exact))
    order = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(order - 2) < 0.3


def test_h1_in_two_dimensions_by_hand():
    """u = x y and e = x on a box that is twice as long in x: gradients (y, x) and (1, 0)."""
    grid = Grid((Axis("x", 6, 0, 2), Axis("y", 4, 0, 1)))
    x, y = grid.mesh()
    exact = ((x**2 + 1).sum() / ((x * y) ** 2 + y**2 + x**2).sum()).sqrt()
    found = relative_h1(column(x * y + x), column(x * y), grid)
    assert found.item() == pytest.approx(exact.item(), rel=1e-13)


# Agreement with The Well


@pytest.mark.parametrize("shape", [(32,), (24, 17), (8, 12, 10)])
def test_agreement_with_the_well(shape):
    well = pytest.importorskip("the_well.benchmark.metrics")
    meta = SimpleNamespace(n_spatial_dims=len(shape))
    grid = Grid.box(shape, boundary="periodic", points="left")
    prediction, target = pair(grid)
    last = [u.movedim(1, -1) for u in (prediction, target)]
    for ours, theirs in ((vrmse, well.VRMSE), (nrmse, well.NRMSE), (max_error, well.LInfinity)):
        expected = theirs.eval(*last, meta)
        torch.testing.assert_close(ours(prediction, target), expected, rtol=1e-6, atol=0)
    parts = well.binned_spectral_mse.eval(*last, meta)
    expected = torch.stack([parts[f"spectral_error_nmse_per_bin_{i}"] for i in range(3)], dim=-1)
    torch.testing.assert_close(band_nmse(prediction, target, grid), expected, rtol=1e-6, atol=0)


# Spectra


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_cosine_transform_is_that_of_scipy(size):
    u = normal(3, size, 4)
    expected = scipy.fft.dct(u.numpy(), type=2, axis=1, norm="ortho")
    np.testing.assert_allclose(cosine_transform(u, 1), expected, atol=1e-14)


@names
def test_parseval(grid):
    prediction, target = pair(grid)
    spectrum = error_spectrum(prediction, target, grid)
    for energy, u in ((spectrum.truth, target), (spectrum.error, prediction - target)):
        torch.testing.assert_close(energy.sum(2), u.square().flatten(2).mean(2), rtol=1e-13, atol=0)
    assert spectrum.wavenumber[0] == 0
    assert (spectrum.wavenumber.diff() > 0).all()
    torch.testing.assert_close(spectrum.truth[..., 0] >= 0, torch.ones(3, 2, dtype=bool))


@pytest.mark.parametrize("size", [16, 15])
@pytest.mark.parametrize("mode", [1, 3, 7])
def test_a_wave_lies_in_the_shell_of_its_wavenumber(size, mode):
    grid = Grid((Axis("x", size, 0, 2, PERIODIC, "left"), Axis("y", 12, 0, 2, PERIODIC)))
    x, _ = grid.mesh()
    wave = column((math.pi * mode * x + 0.3).cos())
    spectrum = error_spectrum(torch.zeros_like(wave), wave, grid)
    shell = spectrum.truth[0, 0].argmax()
    assert spectrum.wavenumber[shell].item() == pytest.approx(math.pi * mode)
    assert spectrum.truth[0, 0, shell].item() == pytest.approx(0.5, rel=1e-12)
    torch.testing.assert_close(spectrum.error, spectrum.truth)


def test_a_cosine_between_walls_lies_in_the_shell_of_its_wavenumber():
    grid = Grid((Axis("x", 20, 0, 3, WALL),))
    wave = column((5 * math.pi / 3 * grid.axes[0].coordinates()).cos())
    wavenumber, truth, _ = error_spectrum(wave, wave, grid)
    assert wavenumber[truth[0, 0].argmax()].item() == pytest.approx(5 * math.pi / 3)
    assert truth.max().item() == pytest.approx(0.5, rel=1e-12)


def test_unequal_walls_do_not_pollute_the_spectrum():
    """A ramp: energies fall as k^-4 in the cosine basis and, the control, as k^-2 in Fourier's."""
    slopes = []
    for boundary in ("dirichlet", "periodic"):
        grid = Grid.box((256,), boundary=boundary)
        ramp = column(grid.axes[0].coordinates())
        k, truth, _ = error_spectrum(ramp, ramp, grid)
        odd = slice(5, 40, 2)  # a ramp has odd cosines only
        slopes.append(np.polyfit(k[odd].log(), truth[0, 0, odd].log(), 1)[0])
    assert slopes[0] == pytest.approx(-4, abs=0.1)
    assert slopes[1] == pytest.approx(-2, abs=0.1)


def test_shells_of_a_long_box_resolve_its_long_side():
    """Waves of 16 and 8 lengths of the short side lie apart; shells without a mode are left out."""
    grid = Grid((Axis("x", 8, 0, 16, PERIODIC), Axis("y", 32, 0, 1, PERIODIC)))
    x, _ = grid.mesh()
    u = column((2 * math.pi / 16 * x).cos() + 2 * (2 * math.pi / 8 * x).cos())
    k, truth, _ = error_spectrum(u, u, grid)
    assert truth[0, 0, :3].tolist() == pytest.approx([0, 0.5, 2.0], abs=1e-12)
    shells = k / (2 * math.pi / 16)
    assert shells[:8].tolist() == pytest.approx([0, 1, 2, 3, 4, 16, 32, 48])


def test_bands_part_the_energy():
    """A right low wave and a wrong high one: no error in the low band, all of it in the high."""
    grid = Grid.box((64, 64), boundary="periodic")
    x, y = grid.mesh()
    low, high = (2 * math.pi * x).cos(), (2 * math.pi * (25 * x + 25 * y)).cos()
    found = band_nmse(column(low), column(low + high), grid)[0, 0]
    assert found.tolist() == pytest.approx([0, 0, 1], abs=1e-6)


# What is refused, and what would come without it


def test_a_zero_target_has_no_relative_error():
    prediction, target = pair(GRIDS[0])
    target[2, 1] = 0
    for metric in (relative_l2, lambda p, t: relative_h1(p, t, GRIDS[0])):
        with pytest.raises(ValueError, match="zero everywhere in 1 case.*sample 2 channel 1"):
            metric(prediction, target)
    zero = target[2, 1]
    assert (zero.norm() / zero.norm()).isnan()  # the control: an exact prediction would score NaN
    assert vrmse(prediction, target).isfinite().all()


def test_shapes_must_agree():
    target = normal(4, 3, 8)
    for metric in (relative_l2, nrmse, vrmse, max_error):
        with pytest.raises(ValueError, match=r"\(4, 1, 8\) and target \(4, 3, 8\) differ in shape"):
            metric(target[:, :1], target)
    assert (target[:, :1] - target).shape == target.shape  # the control: broadcast in silence


def test_fields_must_lie_on_the_grid():
    u = normal(1, 1, 8)
    for metric in (relative_h1, error_spectrum, band_nmse):
        with pytest.raises(ValueError, match=r"grid \(16,\), got \(8,\); use grid.resized"):
            metric(u, 2 * u, GRIDS[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_diverged_prediction_has_an_infinite_error(value):
    grid = GRIDS[3]
    prediction, target = pair(grid)
    prediction[1, 0, 2, 2] = value
    for metric in (relative_l2, nrmse, vrmse, max_error, lambda p, t: relative_h1(p, t, grid)):
        found = metric(prediction, target)
        assert found[1, 0] == math.inf
        assert found.isfinite().sum() == 5
    assert (band_nmse(prediction, target, grid)[1, 0] == math.inf).all()


def test_channel_names():
    fields = (Field("tracer"), Field("velocity", "m/s", 2), Field("stress", "Pa", 3))
    grid = Grid.box((4, 4))
    expected = ("tracer", "velocity_x", "velocity_y", "stress_0", "stress_1", "stress_2")
    assert channel_names(fields, grid) == expected


# The collection over batches and processes


def collect(grid: Grid, batches, fields: tuple[str, ...] = ("p", "q")) -> FieldErrors:
    errors = FieldErrors(fields, grid)
    for prediction, target, index in batches:
        errors.update(prediction, target, torch.as_tensor(index))
    return errors


@names
def test_batches_in_any_order_give_what_one_batch_gives(grid):
    prediction, target = pair(grid, b=7)
    order = torch.tensor([4, 1, 6, 0, 2, 5, 3])
    parts = [(prediction[rows], target[rows], rows) for rows in order.split(3)]
    whole = collect(grid, [(prediction, target, range(7))])
    for name, expected in whole.compute().items():
        np.testing.assert_allclose(collect(grid, parts).compute()[name], expected, rtol=1e-12)
    found = whole.summary()
    means = relative_l2(prediction, target).mean(0)
    assert found["test/relative_l2/p"] == pytest.approx(means[0].item(), rel=1e-13)
    assert found["test/relative_l2"] == pytest.approx(means.mean().item(), rel=1e-13)


def test_the_summary_is_plain_and_complete():
    found = collect(GRIDS[0], [(*pair(GRIDS[0]), range(3))]).summary("test@16")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(type(value) is float for value in found.values())
    keys = {f"test@16/{metric}/{field}" for metric in METRICS for field in "pq"}
    keys |= {f"test@16/{metric}" for metric in METRICS if metric != "max_error"}
    assert set(found) == keys | {f"test@16/{n}" for n in ("samples", "undefined", "diverged")}
    assert found["test@16/samples"] == 3


def test_single_precision_fields_are_measured_in_double():
    target = 1e-3 * normal(2, 2, 16)
    collected = collect(GRIDS[0], [(1.001 * target.float(), target.float(), range(2))]).compute()
    assert collected["relative_l2"].dtype == np.float64
    np.testing.assert_allclose(collected["relative_l2"], 1e-3, rtol=1e-3)


def test_one_sample_of_one_field_keeps_its_axes():
    prediction, target = pair(GRIDS[0], b=1, c=1)
    collected = collect(GRIDS[0], [(prediction, target, [5])], ("p",)).compute()
    assert collected["relative_l2"].shape == (1, 1)
    assert choose_samples(collected).tolist() == [5, 5, 5]


def test_a_repeated_sample_counts_once():
    prediction, target = pair(GRIDS[0], b=3)
    once = collect(GRIDS[0], [(prediction, target, range(3))])
    padded = [(prediction, target, range(3)), (prediction[:1], target[:1], [0])]
    assert collect(GRIDS[0], padded).summary() == once.summary()


def test_zero_targets_are_left_out_and_counted():
    prediction, target = pair(GRIDS[3], b=4)
    target[1, 0] = 0
    prediction[1, 0] = 2.5
    errors = collect(GRIDS[3], [(prediction, target, range(4))])
    found, rest = errors.summary(), [0, 2, 3]
    others = collect(GRIDS[3], [(prediction[rest], target[rest], rest)]).summary()
    assert found["test/undefined"] == 1
    assert found["test/max_error/p"] == 2.5
    for metric in METRICS[:-1]:
        assert found[f"test/{metric}/p"] == pytest.approx(others[f"test/{metric}/p"], rel=1e-13)
        assert math.isfinite(found[f"test/{metric}"])
    assert np.isnan(errors.compute()["relative_l2"][1, 0])


def test_a_field_that_is_always_zero_has_no_relative_figure():
    prediction, target = pair(GRIDS[0])
    target[:, 1] = 0
    found = collect(GRIDS[0], [(prediction, target, range(3))]).summary()
    assert "test/relative_l2/q" not in found
    assert found["test/relative_l2"] == found["test/relative_l2/p"]
    errors = collect(GRIDS[0], [(prediction, 0 * target, range(3))])
    with pytest.raises(ValueError, match="every target is zero everywhere"):
        errors.summary()
    with pytest.raises(ValueError, match="no sample has a relative error"):
        choose_samples(errors.compute())


def test_a_diverged_sample_shows_in_the_means_and_leaves_the_spectrum_alone():
    prediction, target = pair(GRIDS[0])
    prediction[2, 0, 3] = math.nan
    errors = collect(GRIDS[0], [(prediction, target, range(3))])
    found, collected = errors.summary(), errors.compute()
    assert found["test/diverged"] == 1
    assert found["test/relative_l2/p"] == math.inf
    assert math.isfinite(found["test/relative_l2/q"])
    assert choose_samples(collected)[2] == 2
    expected = error_spectrum(prediction[:2], target[:2], GRIDS[0]).error.mean(0)
    np.testing.assert_allclose(collected["spectrum_error"], expected)


def test_damaged_data_are_not_blamed_on_the_model():
    prediction, target = pair(GRIDS[0])
    target[1, 1, 0] = math.nan
    with pytest.raises(ValueError, match=r"test sample\(s\) \[31\] hold NaN"):
        collect(GRIDS[0], [(prediction, target, [30, 31, 32])])


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_what_else_the_collection_refuses():
    with pytest.raises(ValueError, match="no sample was added"):
        FieldErrors(("p", "q"), GRIDS[0]).compute()
    with pytest.raises(ValueError, match=r"expected channels \('p',\), got 2"):
        collect(GRIDS[0], [(*pair(GRIDS[0]), range(3))], ("p",))


def test_best_median_and_worst():
    errors = np.array([[0.5, 0.1], [0.2, 0.2], [9.0, np.nan], [0.0, 0.1], [np.nan, np.nan]])
    collected = {"relative_l2": errors, "index": np.array([10, 11, 12, 13, 14])}
    assert choose_samples(collected).tolist() == [13, 11, 12]


def worker(rank: int, store: str) -> None:
    """One of two processes: rank 0 holds three samples, rank 1 two, one of them a repetition."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    prediction, target = pair(GRIDS[3], b=4)
    rows = torch.tensor([[0, 2, 1], [3, 0]][rank])
    errors = FieldErrors(("p", "q"), GRIDS[3])
    errors.update(prediction[rows], target[rows], rows)
    found = errors.summary()
    torch.distributed.destroy_process_group()
    expected = collect(GRIDS[3], [(prediction, target, range(4))]).summary()
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path / "store"),), nprocs=2)
