"""`python -m sciml.refine`: what it makes of a run, and what it refuses."""

import sys

import pytest

from sciml.refine import COLUMNS, main, refine
from tests.helpers import finish

COUNTS = "data.pde.counts={train: 4, valid: 2, test: 2}"
FLOW = (
    *("model=st_fno", "data=burgers", COUNTS, "data.resolution=32", "data.pde.num_steps=3"),
    *(
        "data.pde.stepper.dt=0.05",
        "data.pde.stepper.substeps=8",
        "data.window.horizon=3",
        "model.modes=3",
        "model.width=4",
    ),
    *(
        "model.modes_time=2",
        "model.latent_steps=4",
        "++data.pde.tail=null",
        "++data.pde.accuracy=1",
    ),
)
CHANGES = ("task=rollout", "task.increments=true", "data.pde.num_steps=3")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refine")
    finish(folder / "run", *FLOW, f"data_dir={folder / 'data'}")
    return folder / "run"


def test_error_and_residual_fall(run):
    """Far below those of the network, and the solver's own steps have next to no residual."""
    rows = refine(run, 2, 40)
    assert len(rows) == 2 and rows[0][0] != rows[1][0]  # of two trajectories
    for error, refined, solver, residual, fitted, data, *seconds in rows:
        assert refined < 0.05 * error and fitted < 0.05 * residual
        assert data < 1e-3 * residual and solver < 1e-2 * error
        assert min(seconds) > 0


def test_the_command_prints_a_row_for_each_sample(run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["refine", str(run), "--samples", "1", "--iterations", "2"])
    main()
    printed = capsys.readouterr().out
    assert all(title in printed for title in (*COLUMNS, "mean")), printed


def test_refusals(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least 1"):
        refine(run, samples=0)
    with pytest.raises(ValueError, match="not the folder of a run"):
        refine(tmp_path)
    finish(tmp_path / "steady", "data=darcy", COUNTS, "data.resolution=16", f"data_dir={tmp_path}")
    with pytest.raises(ValueError, match="solutions over time that a recipe"):
        refine(tmp_path / "steady")
    finish(tmp_path / "change", *FLOW, f"data_dir={run.parent / 'data'}", *CHANGES)
    with pytest.raises(ValueError, match="gives changes, refinement needs states"):
        refine(tmp_path / "change")
    monkeypatch.setattr(sys, "argv", ["refine", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="error: .*no config.yaml"):
        main()
