"""Data sets of other projects from the configuration to a trained model."""

import numpy as np
import pytest
import torch

from datasets.build import instantiate
from datasets.schema import SPLITS
from tests import foreign_layouts as layouts
from tests.helpers import compose, finish

N = 10


def saved_array(path):
    np.save(path, layouts.smooth(N, 5, 2, 8, 8))
    return path


def well_folder(folder):
    for k, split in enumerate(SPLITS):
        (folder / "data" / split).mkdir(parents=True)
        path = layouts.well(folder / "data" / split / "a.h5", x=8, y=8, n=4)
        change = layouts.replaced("t0_fields/density", lambda u, k=k: u + k)
        layouts.damaged(path, change)
    return folder


def arena(make):
    def build(folder):
        folder.mkdir()
        for split in SPLITS:
            make(folder / f"{split}_1.h5", split, n=4)
        return folder

    return build


SETS = {
    "well": ("well", well_folder, []),
    "equation": ("pdebench", lambda p: layouts.equation(p, n=N), []),
    "flow": ("pdebench", lambda p: layouts.flow(p, n=N), []),
    "darcy": ("pdebench", lambda p: layouts.darcy(p, n=N), ["data.window=null"]),
    "seeds": ("pdebench", lambda p: layouts.seeds(p, n=N), []),
    "incompressible": ("pdebench", lambda p: layouts.incompressible(p, n=N), []),
    "smoke": ("pdearena", arena(layouts.smoke), []),
    "series": ("pdearena", arena(layouts.series), []),
    "pairs": ("neuralop_h5", lambda p: layouts.pairs(p, n=N), []),
    "array": ("trajectories", lambda p: saved_array(p.with_suffix(".npy")), ["dt=0.1"]),
}


@pytest.fixture(params=SETS)
def overrides(request, tmp_path):
    """The overrides of one data set, made here."""
    choice, make, more = SETS[request.param]
    return [f"data={choice}", f"path={make(tmp_path / 'made')}", *more]


def test_every_format_trains(overrides, tmp_path, no_report):
    figures = finish(tmp_path / "run", *overrides, "trainer.max_epochs=1")
    assert figures["status"] == "completed"
    assert np.isfinite(figures["test/relative_l2"])
    data = instantiate(compose(overrides).data)
    facts = data.facts()
    counts = facts["splits"]
    assert all(counts[split] == len(data.source(split)) > 0 for split in SPLITS)
    assert facts["hash"] == instantiate(compose(overrides).data).facts()["hash"]
    assert data.source("train").metadata.describe() == facts["description"]
    with pytest.raises(ValueError, match="resolution=5: the files hold the grid"):
        data.source("test", 5)


def test_splits_are_whole_trajectories(tmp_path):
    path = layouts.equation(tmp_path / "a.hdf5", n=N)
    data = instantiate(compose(["data=pdebench", f"path={path}", "data.seed=3"]).data)
    parts = [data.source(split).trajectories.indices for split in SPLITS]
    assert sorted(sum(parts, [])) == list(range(N))
    assert [len(part) for part in parts] == [8, 1, 1]


def test_a_trajectory_in_two_splits_is_refused(tmp_path):
    path = layouts.equation(tmp_path / "a.hdf5", n=N)
    layouts.damaged(path, layouts.replaced("tensor", lambda u: np.repeat(u[:1], N, axis=0)))
    with pytest.raises(ValueError, match="trajectory 0 begins with the parameters"):
        instantiate(compose(["data=pdebench", f"path={path}"]).data)


def test_a_window_belongs_to_solutions_over_time(tmp_path):
    steady = ["data=pdebench", f"path={layouts.darcy(tmp_path / 'd.hdf5', n=N)}"]
    with pytest.raises(ValueError, match="holds a steady map; set data.window=null"):
        instantiate(compose(steady).data)
    moving = ["data=pdebench", f"path={layouts.equation(tmp_path / 'e.hdf5', n=N)}"]
    with pytest.raises(ValueError, match="holds solutions over time; set data.window={history"):
        instantiate(compose([*moving, "data.window=null"]).data)


def test_missing_splits_are_named(tmp_path):
    layouts.smoke(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="pdearena: no valid and no test split in train"):
        instantiate(compose(["data=pdearena", f"path={tmp_path}"]).data)


def test_windows_are_those_of_the_configuration(tmp_path):
    path = layouts.flow(tmp_path / "a.hdf5", n=N, t=6)
    window = "data.window={history: 2, horizon: 1, stride: 2}"
    data = instantiate(compose(["data=pdebench", f"path={path}", window]).data)
    batch = data.source("test").__getitems__([0, 1])
    assert batch.input.shape == (2, 2 * 4 + 3, 8, 10)
    assert torch.equal(batch.parameters[0], torch.tensor([0.1, 0.01, 0.01]))
