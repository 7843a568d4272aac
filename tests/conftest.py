"""Every test starts from one random state, with one thread, and leaves the process as it was."""

import logging
import os
import warnings
from pathlib import Path

import hypothesis
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from datasets.build import instantiate
from datasets.schema import SPLITS
from tests import helpers

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_start():
    """The seed is set; environment, log handlers, warnings and Hydra's state are put back."""
    torch.manual_seed(0)
    root, environment = logging.getLogger(), dict(os.environ)
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.handlers[:], root.level = handlers, level
    os.environ.clear()
    os.environ.update(environment)
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def arrays(tmp_path_factory) -> list[str]:
    """Overrides that choose a small pair of arrays, 40 samples on 12 x 12 points."""
    return helpers.save_pairs(tmp_path_factory.mktemp("arrays"), *helpers.smooth_pairs())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def parts(arrays) -> dict[str, list[int]]:
    """Rows of `arrays` by split."""
    dataset = instantiate(helpers.compose(arrays).data)
    return {name: dataset.source(name).indices for name in SPLITS}


@pytest.fixture(scope="session")
def complete(tmp_path_factory, arrays) -> tuple[Path, dict[str, float]]:
    """One run with everything that belongs to it, and its figures."""
    path = tmp_path_factory.mktemp("complete") / "run"
    return path, helpers.finish(path, *arrays)


@pytest.fixture
def no_report(monkeypatch):
    """Drawing takes longer than the rest of a small run."""
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, arrays) -> tuple[Path, helpers.Outcome]:
    """A whole run in a process of its own, watched: its folder, and what the terminal shows."""
    folder = tmp_path_factory.mktemp("finished")
    watcher = tmp_path_factory.mktemp("watcher")
    environment = helpers.watched(watcher)
    outcome = helpers.train(*arrays, *helpers.TINY, cwd=folder, environment=environment)
    (path,) = (folder / "runs").glob("*/*")
    (path.parents[2] / "watcher").symlink_to(watcher)
    return path, outcome


@pytest.fixture
def double():
    """Double precision where nothing else is asked for."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
