"""`python train.py model=fno data=X` for every recipe: one epoch on a few samples of it."""

import math

import pytest
from omegaconf import OmegaConf

from sciml.run import run
from sciml.runtime.run_folder import RunFolder
from tests.helpers import ROOT, TINY, compose

YOURS = {"program", "python"}  # examples for solvers from outside: test_simulation_recipe.py
GENERATED = sorted(
    path.stem
    for path in (ROOT / "conf" / "data").glob("*.yaml")
    if "_target_: datasets.Generated" in path.read_text() and path.stem not in YOURS
)
RECIPES = sorted({path.stem for path in (ROOT / "conf" / "pde").glob("*.yaml")} - YOURS)
# Coefficients of the equation: another value makes another equation.
COEFFICIENTS = {
    *("viscosity", "diffusivity", "rate", "convection", "velocity", "gravity", "gamma", "drag"),
    *("feed", "kill", "dispersion", "hyperviscosity", "diffusion", "hyperdiffusion", "quadratic"),
    *("cubic", "wavenumber", "offset", "bulk_viscosity"),
}
# The same recipe on a coarser grid and for a shorter time, where the usual ones take long.
SMALL = {
    "data.pde.num_steps": 1,
    "data.pde.warm_up": 0,
    "data.pde.refine": 1,
    "data.pde.tail": "null",
}


def test_every_recipe_has_a_data_set_and_a_paper_size():
    assert GENERATED == RECIPES
    papers = sorted(path.stem for path in (ROOT / "conf" / "pde" / "paper").glob("*.yaml"))
    assert papers == RECIPES


@pytest.mark.parametrize("name", GENERATED)
def test_one_epoch(name, tmp_path):
    config = compose([f"data={name}"])
    changes = [
        f"data_dir={tmp_path}",
        "data.counts={train: 4, valid: 1, test: 1}",
        "data.num_workers=0",
    ]
    if "num_steps" in config.data.pde:
        changes += [f"++{key}={value}" for key, value in SMALL.items()]
    points = 48 if name == "helmholtz" else 16 if len(config.data.pde.grid.axes) == 2 else 32
    changes += [f"data.resolution={points}", "trainer.max_epochs=1"]
    config = compose([f"data={name}", *TINY, *changes])
    figures = run(config, RunFolder(tmp_path / "run"))
    assert figures["status"] == "completed" and math.isfinite(figures["test/relative_l2"])
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", RECIPES)
def test_the_paper_size_is_the_same_recipe_at_another_size(name):
    small = OmegaConf.to_container(compose([f"data={name}"]).data.pde)
    paper = OmegaConf.to_container(compose([f"data={name}", f"pde@data.pde=paper/{name}"]).data.pde)
    assert {k for k in small if small[k] != paper.get(k)} <= {
        *("resolution", "counts", "num_steps", "refine", "warm_up", "stepper", "tail"),
        *("initial", "random_field"),
    }
    assert paper["_target_"] == small["_target_"] and paper["name"] == name
    assert sum(paper["counts"].values()) >= sum(small["counts"].values())
    for part in ("provenance", "fields", "grid"):
        assert paper[part] == small[part]


@pytest.mark.parametrize("name", RECIPES)
def test_provenance_says_what_the_recipe_does_when_its_coefficients_are_others(name):
    pde = compose([f"data={name}"]).data.pde
    part = "stepper" if "stepper" in pde else "solver"
    names = COEFFICIENTS if part == "stepper" else {"source"}
    for key in names.intersection(pde[part]):
        if isinstance(pde[part][key], float):
            other = compose([f"data={name}", f"data.pde.{part}.{key}=0.7654"]).data.pde
            assert "0.7654" in other.provenance.equation, key


@pytest.mark.parametrize("axes", [1, 2])
def test_a_gas_has_one_ratio_of_specific_heats(axes):
    name = f"pdebench_compressible_{axes}d"
    assert compose([f"data={name}", "data.pde.stepper.gamma=1.4"]).data.pde.initial.gamma == 1.4
