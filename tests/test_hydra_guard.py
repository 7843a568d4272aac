"""Hydra builds callbacks, plug-ins and log handlers itself: a configuration cannot make it run
code.
"""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from datasets.hydra_guard import ConfigLoaderImpl, check_hydra, install
from tests.helpers import ROOT, compose, train

TOUCH = {"_target_": "pathlib.Path.touch"}


def settings(**parts):
    """The `hydra` part of a configuration, next to a payload that interpolations could bring in."""
    base = {"callbacks": {}, "launcher": None, "sweeper": None, "job": {"env_set": {}}}
    base |= {"job_logging": {}, "hydra_logging": {}}
    config = OmegaConf.create({"payload": TOUCH, "name": "x", "hydra": base | parts})
    return config.hydra


@pytest.mark.parametrize(
    "parts",
    [
        {"callbacks": {"a": TOUCH}},
        {"callbacks": {"a": {"_target_": "${name}"}}},
        {"callbacks": {"a": "${payload}"}},
        {"callbacks": "${payload}"},
        {"callbacks": {"a": "${oc.create:'{_target_: pathlib.Path.touch}'}"}},
        {"callbacks": {"a": "${hydra:later}"}},
        {"callbacks": {"a": {"_target_": "sciml.runtime.sweep_report.SweepReport", "b": TOUCH}}},
        {"callbacks": {"_target_": "pathlib.Path.touch"}},
        {"launcher": TOUCH},
        {"launcher": {"_target_": "hydra_plugins.a.B", "b": [{"c": TOUCH}]}},
        {"launcher": {"_target_": "hydra_plugins.a.B", "b": ["${payload}"]}},
        {"sweeper": {"_target_": "hydra._internal.core_plugins_not.B"}},
        {"sweeper": {"sampler": {"_target_": "hydra_plugins.a.B"}}},
        {"job_logging": {"handlers": {"a": {"()": "pathlib.Path.touch"}}}},
        {"job_logging": {"handlers": {"a": {"class": "subprocess.run"}}}},
        {"job_logging": {"handlers": {"a": {"class": "logging.handlers.SocketHandler"}}}},
        {"job_logging": {"handlers": {"a": {"stream": "ext://os.system"}}}},
        {"hydra_logging": {"formatters": {"a": {"()": "${name}"}}}},
        {"hydra_logging": "${payload}"},
        {"job": {"env_set": {"LD_PRELOAD": "./a.so"}}},
        {"job": {"env_set": {"PATH": "."}}},
    ],
    ids=str,
)
def test_what_could_run_code_is_refused(parts):
    with pytest.raises(ValueError, match=r"hydra\..* is not allowed"):
        check_hydra(settings(**parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"callbacks": {"a": {"_target_": "sciml.runtime.sweep_report.SweepReport"}}},
        {"launcher": {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.Launcher"}},
        {"sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}},
        {"launcher": {"_target_": "hydra_plugins.a.B", "folder": "${hydra:later}/x", "n": "???"}},
        {"launcher": {"_target_": "hydra_plugins.a.B", "job_name": "${name}"}},
        {"job_logging": {"handlers": {"a": {"class": "logging.FileHandler"}}}},
        {"job_logging": {"handlers": {"a": {"stream": "ext://sys.stdout"}}}},
        {"job": {"env_set": {"OMP_NUM_THREADS": "1"}}},
    ],
    ids=str,
)
def test_what_users_need_passes(parts):
    check_hydra(settings(**parts))


@pytest.fixture
def foreign(tmp_path):
    """A folder of configuration from elsewhere, whose callback creates the file `ran`."""
    group = tmp_path / "elsewhere" / "hydra" / "callbacks"
    group.mkdir(parents=True)
    marker = tmp_path / "ran"
    (group / "extra.yaml").write_text(
        "# @package hydra.callbacks\n"
        f"extra: {{_target_: pathlib.Path.touch, _args_: ['{marker}']}}\n"
    )
    return [f"--config-dir={group.parents[1]}", "hydra/callbacks=extra"], marker


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
def test_a_foreign_callback_stops_the_program_before_it_runs(foreign, tmp_path, mode):
    options, marker = foreign
    outcome = train(*mode, *options, cwd=tmp_path)
    assert outcome.code == 1
    assert "error: hydra.callbacks.extra._target_='pathlib.Path.touch' is not" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not marker.exists() and not (tmp_path / "runs").exists()


def test_hydra_alone_runs_it(foreign, tmp_path):
    """The control."""
    options, marker = foreign
    program = tmp_path / "program.py"
    conf = f"config_path={str(ROOT / 'conf')!r}, config_name='config'"
    program.write_text(
        f"import hydra\n@hydra.main(version_base='1.3', {conf})\ndef main(config): pass\nmain()\n"
    )
    command = [sys.executable, str(program), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert marker.exists(), done.stderr


def test_our_own_configuration_passes_and_is_checked_once(monkeypatch):
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", ConfigLoaderImpl.load_configuration)
    install()
    first = ConfigLoaderImpl.load_configuration
    install()
    assert ConfigLoaderImpl.load_configuration is first
    compose()
    with pytest.raises(ValueError, match="hydra.callbacks.a._target_='os.system'"):
        compose(["+hydra.callbacks.a._target_=os.system"])
