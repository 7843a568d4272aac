"""Data sets of solutions over time: frames are those of the stepper, bad ones are refused."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from datasets import EvolutionRecipe, ShardedSource, ShardedTrajectories, Windows
from datasets.generate import generate
from datasets.recipe import sample_generator
from datasets.shards import GenerationError
from solvers import (
    Burgers,
    HeatedPlate,
    ShallowWater,
    Stacked,
    TruncatedFourier,
    Uniform,
    rollout,
)
from solvers.composed_states import Affine
from solvers.grid import Grid
from tests.helpers import ROOT, periodic

PERIODIC = {"boundary": ["periodic", "periodic"]}


def described(**changes):
    """Burgers in two dimensions by its configuration."""
    axes = [
        {"_target_": "solvers.Axis", "name": n, "size": 1, "points": "left", **PERIODIC}
        for n in "xy"
    ]
    part = {"_target_": "solvers.TruncatedFourier", "modes": 2}
    stepper = {"_target_": "solvers.Burgers", "_partial_": True, "dt": 0.02, "substeps": 4}
    recipe = {
        "_target_": "datasets.EvolutionRecipe",
        "name": "waves",
        "grid": {"_target_": "solvers.Grid", "axes": axes},
        "initial": {"_target_": "solvers.Stacked", "parts": [part, part]},
        "stepper": stepper,
        "parameters": {"viscosity": {"_target_": "solvers.Uniform", "low": 0.03, "high": 0.05}},
        "fields": [{"name": "velocity", "components": 2}],
        "num_steps": 5,
        "version": 1,
        "provenance": {"source": "test"},
    }
    return {**recipe, **changes}


COUNTS = {"train": 3, "valid": 1, "test": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("waves")
    return generate(described(), root, COUNTS, resolution=[48, 36], progress=False)


def test_frames_are_those_of_the_stepper(folder):
    data = ShardedTrajectories(folder, "train", dtype=torch.float64)
    assert len(data) == 3 and data.metadata.num_frames == 6 and data.metadata.dt == 0.02
    assert data.metadata.describe() == "6 frames of velocity on 48 x 36, dt 0.02"
    grid = periodic((48, 36), (1.0, 1.0))
    for index in range(3):
        generator = sample_generator(0, "train", index)
        viscosity = Uniform(0.03, 0.05).sample([generator])
        initial = Stacked([TruncatedFourier(2), TruncatedFourier(2)]).sample([generator], grid)
        u = rollout(Burgers(grid, viscosity=viscosity, dt=0.02, substeps=4), initial, 5)
        torch.testing.assert_close(data.read(index, slice(0, 6)), u[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(data.read(index, slice(1, 6, 2)), u[0, 1::2], rtol=0, atol=1e-7)
        torch.testing.assert_close(data.parameters(index), viscosity, rtol=1e-7, atol=0)
    assert data.constants(0).shape == (0, 48, 36)
    np.testing.assert_allclose(data.times(0), 0.02 * np.arange(6))


def test_one_reader_for_maps_and_one_for_trajectories(folder):
    with pytest.raises(ValueError, match="holds trajectories; read it as ShardedTrajectories"):
        ShardedSource(folder, "train")


def test_windows_of_shards(folder):
    windows = Windows(ShardedTrajectories(folder, "train"), history=2)
    batch = windows.__getitems__([0, 4])
    data = ShardedTrajectories(folder, "train")
    torch.testing.assert_close(batch.input[1, :4], data.read(1, slice(0, 2)).flatten(0, 1))
    torch.testing.assert_close(batch.target[1], data.read(1, slice(2, 3))[0])
    assert (batch.input[1, 4] == data.parameters(1)).all()


def test_statistics_of_the_change_from_frame_to_frame(folder):
    data = ShardedTrajectories(folder, "train", dtype=torch.float64)
    u = torch.stack([data.read(i, slice(0, 6)) for i in range(3)])
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    for key, values in (("std", u), ("std_delta", u.diff(dim=1))):
        expected = values.transpose(0, 2).flatten(1).std(dim=1, correction=0)
        assert stats[key]["velocity"] == pytest.approx(expected.tolist(), rel=1e-5)
    expected = u.diff(dim=1).square().mean(dim=(0, 1, 3, 4)).sqrt()
    assert stats["rms_delta"]["velocity"] == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_wells_reader_gives_our_trajectories(folder):
    well = pytest.importorskip("the_well.data")
    theirs = well.WellDataset(
        path=str(folder), well_split_name="train", n_steps_input=2, n_steps_output=1
    )
    windows = Windows(ShardedTrajectories(folder, "train"), history=2, parameters=False)
    assert len(theirs) == len(windows) == 12
    for index in (0, 5, 11):
        sample, batch = theirs[index], windows.__getitems__([index])
        input = sample["input_fields"].movedim(-1, 1).flatten(0, 1)
        torch.testing.assert_close(input, batch.input[0], rtol=0, atol=0)
        assert torch.equal(sample["output_fields"][0].movedim(-1, 0), batch.target[0])


@pytest.mark.parametrize(
    "points, boundary", [("left", "periodic"), ("cells", "open"), ("nodes", "open")]
)
def test_a_finer_grid_is_brought_to_the_one_asked_for(points, boundary):
    grid = Grid.box((4,), boundary=boundary, points=points)
    recipe = EvolutionRecipe(
        "r",
        grid,
        TruncatedFourier(1),
        partial(Burgers, viscosity=1.0, dt=1.0),
        fields=[{"name": "u"}],
        num_steps=1,
        version=1,
        provenance={},
        refine=3,
    )
    fine = recipe._fine((8,))
    x = fine.mesh()[None]
    torch.testing.assert_close(recipe._restrict(x, (8,)), grid.resized((8,)).mesh()[None])
    if points == "cells":
        mean = recipe._restrict(x**2, (8,))[0, 0]
        assert not torch.allclose(mean, grid.resized((8,)).mesh()[0] ** 2, atol=1e-4)


def recipe(**changes):
    settings = dict(
        fields=[{"name": "u"}], num_steps=4, version=1, provenance={}, accuracy=1e-2, tail=1e-4
    )
    stepper = changes.pop("stepper", partial(Burgers, viscosity=0.02, dt=0.05, substeps=2))
    initial = changes.pop("initial", TruncatedFourier(2))
    return EvolutionRecipe("r", periodic((4,), (1.0,)), initial, stepper, **(settings | changes))


def solve(made, points=48, count=3):
    return made.solve([sample_generator(0, "test", i) for i in range(count)], (points,))


def test_warm_up_and_refinement_change_what_is_kept():
    plain = solve(recipe()).fields["u"]
    warm = solve(recipe(warm_up=2, num_steps=2)).fields["u"]
    torch.testing.assert_close(plain[:, 2:], warm)
    fine = solve(recipe(refine=4)).fields["u"]
    assert 0 < (plain - fine).abs().max() < 1e-3
    assert plain.shape == (3, 5, 48) and plain.dtype == torch.float32


def test_the_residual_is_the_error_of_a_step():
    coarse = solve(recipe()).residual
    fine = solve(recipe(stepper=partial(Burgers, viscosity=0.02, dt=0.05, substeps=4))).residual
    assert (coarse > 10 * fine).all() and (fine > 0).all()


def test_samples_do_not_depend_on_their_batch():
    made = recipe(parameters={"viscosity": Uniform(0.02, 0.04)}, stepper=partial(Burgers, dt=0.05))
    together = solve(made).fields["u"]
    alone = made.solve([sample_generator(0, "test", 2)], (48,)).fields["u"]
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-7)


def plate(**changes):
    stepper = changes.pop("stepper", partial(HeatedPlate, diffusivity=0.5, dt=0.01))
    settings = dict(fields=[{"name": "temperature"}], num_steps=3, version=1, provenance={})
    settings["parameters"] = {name: Uniform(0.0, 1.0) for name in ("left", "initial", "height_1")}
    return EvolutionRecipe("p", Grid.box((4, 4)), None, stepper, **(settings | changes))


def test_a_stepper_that_knows_its_own_beginning():
    made = plate()
    generators = [sample_generator(0, "test", i) for i in range(3)]
    found = made.solve(generators, (8, 6))
    names = ("left", "initial", "height_1")
    generators = [sample_generator(0, "test", i) for i in range(3)]
    drawn = {name: Uniform(0.0, 1.0).sample(generators) for name in names}
    equation = HeatedPlate(Grid.box((8, 6)), diffusivity=0.5, dt=0.01, **drawn)
    expected = rollout(equation, equation.start(), 3)[:, :, 0]
    torch.testing.assert_close(found.fields["temperature"], expected.float(), rtol=0, atol=0)
    assert all(torch.equal(found.parameters[name], drawn[name]) for name in names)
    assert made.metadata((8, 6)).parameters == names


def test_a_beginning_without_drawn_parameters_is_that_of_all_samples():
    stepper = partial(HeatedPlate, diffusivity=0.5, dt=0.01, initial=0.3, left=1.0)
    found = plate(parameters={}, stepper=stepper).solve(
        [sample_generator(0, "test", i) for i in range(2)], (8, 6)
    )
    u = found.fields["temperature"]
    assert u.shape == (2, 4, 8, 6) and torch.equal(u[0], u[1]) and (u[:, 0] == 0.3).all()


def test_a_stepper_without_a_beginning_needs_an_initial_condition():
    with pytest.raises(ValueError, match=r"initial=None: Burgers has no start\(\).* give an init"):
        recipe(initial=None).metadata((8,))
    with pytest.raises(ValueError, match="initial=None: Burgers has no start"):
        solve(recipe(initial=None))


THIN = partial(Burgers, viscosity=0.002, dt=0.05, substeps=2)  # shocks of a few thousandths


def test_what_is_not_accurate_is_refused():
    with pytest.raises(ValueError, match="step 1 of dt=0.05 changes by .* substeps of Burgers"):
        solve(recipe(accuracy=1e-7))
    with pytest.raises(ValueError, match="highest third .* the grid 16 is too coarse. Raise res"):
        solve(recipe(stepper=THIN), 16)
    solve(recipe(stepper=THIN, tail=None), 16)


def test_wrong_settings():
    with pytest.raises(ValueError, match="num_steps=0 and refine=1 must be at least 1"):
        recipe(num_steps=0)
    two = [{"name": "u"}, {"name": "v"}]
    with pytest.raises(ValueError, match=r"\['u', 'v'\] have 2 components, the state of Burgers"):
        recipe(fields=two).metadata((8,))
    with pytest.raises(ValueError, match="stepper: .*unexpected keyword argument 'viscous'"):
        recipe(stepper=partial(Burgers, viscous=1)).metadata((8,))


def test_nothing_of_a_shard_that_blows_up_is_written(tmp_path):
    stepper = {**described()["stepper"], "dt": 1.0, "substeps": 1}
    strong = {"_target_": "solvers.Affine", "part": described()["initial"], "scale": 1e3}
    changes = {"stepper": stepper, "initial": strong, "tail": None, "accuracy": 1e9}
    with pytest.raises(GenerationError, match="train sample 0 cannot be made: Unstable: Burgers"):
        generate(
            described(**changes, num_steps=40), tmp_path, COUNTS, resolution=16, progress=False
        )
    assert not list(tmp_path.rglob("*.h5"))


def test_a_wave_too_fast_for_its_substeps_is_stopped(tmp_path):
    with pytest.raises(ValueError, match="needs .* substeps for cfl=0.4, 10000 are allowed"):
        made = EvolutionRecipe(
            "r",
            Grid.box((64,), boundary="open"),
            Affine(Stacked([TruncatedFourier(1)] * 2), offset=3),
            partial(ShallowWater, dt=1e4),
            fields=[{"name": "u"}, {"name": "v"}],
            num_steps=1,
            version=1,
            provenance={},
        )
        try:
            solve(made, 64)
        except RuntimeError as error:
            raise ValueError(str(error)) from error


@pytest.mark.parametrize(
    "name, key, value, points, expected",
    [
        ("wave", "stepper.dt", 1.0, 16, "^LeapfrogWave: a step of dt=1 .* needs .* substeps"),
        ("burgers", "stepper.viscosity", -1e-5, 16, "viscosity=-1e-05 must not be negative"),
        ("navier_stokes_1e-3", "stepper.viscosity", -1.0, 16, "viscosity=-1.0 must not be neg"),
        ("burgers", "stepper.viscosity", math.nan, 16, "^pde.stepper.viscosity=nan must be a fin"),
        ("burgers", "grid.axes[0].size", math.inf, 16, r"^pde.grid.axes.0.size=inf must be a fin"),
        ("burgers", "fields", [{"name": "../u"}], 16, "^field '../u': a name in HDF5 has no /"),
        ("pdebench_shallow_water", "version", 2, 1, "2 cells or more on every axis"),
    ],
)
def test_what_cannot_be_solved_is_refused_first(name, key, value, points, expected, tmp_path):
    recipe = OmegaConf.load(ROOT / "conf" / "pde" / f"{name}.yaml")
    OmegaConf.update(recipe, key, value)
    with pytest.raises(ValueError, match=expected):
        generate(recipe, tmp_path, COUNTS, resolution=points, progress=False)
    assert not list(tmp_path.iterdir())
