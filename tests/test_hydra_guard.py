"""Hydra builds callbacks, plug-ins and log handlers itself: a configuration cannot make it run
code.
"""

import os
import pickle
import subprocess
import sys

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from datasets import hydra_guard
from datasets.hydra_guard import ConfigLoaderImpl, check_hydra, install
from tests.helpers import ROOT, compose, train

TOUCH = {"_target_": "pathlib.Path.touch"}
OURS = {"_target_": "sciml.runtime.sweep_report.SweepReport"}
BASIC = "hydra._internal.core_plugins.basic"
SWEEPER = {"_target_": f"{BASIC}_sweeper.BasicSweeper", "max_batch_size": None, "params": None}
FILE = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/hydra/job_logging/file.yaml"))


def settings(**parts):
    """A whole configuration, next to a payload that interpolations could bring in."""
    base = {"callbacks": {"a": OURS}, "launcher": {"_target_": f"{BASIC}_launcher.BasicLauncher"}}
    base |= {"sweeper": SWEEPER, "job": {"env_set": {}}, "job_logging": FILE}
    base |= {"hydra_logging": {"version": 1, "root": None, "disable_existing_loggers": False}}
    return OmegaConf.create({"payload": TOUCH, "name": "x", "hydra": base | parts})


def handler(**changes):
    return {**FILE, "handlers": {"file": {**FILE["handlers"]["file"], **changes}}}


@pytest.mark.parametrize(
    "parts, where",
    [
        ({"callbacks": {"a": TOUCH}}, "callbacks.a"),
        ({"callbacks": {"a": {"_target_": "${name}"}}}, "callbacks.a"),
        ({"callbacks": {"a": "${payload}"}}, "callbacks.a"),
        ({"callbacks": "${payload}"}, "callbacks"),
        ({"callbacks": {"a": "${oc.create:'{_target_: pathlib.Path.touch}'}"}}, "callbacks.a"),
        ({"callbacks": {"a": "${oc.decode:'{_target_: pathlib.Path.touch}'}"}}, "callbacks.a"),
        ({"callbacks": {"a": "\\${oc.create:'{_target_: pathlib.Path.touch}'}"}}, "callbacks.a"),
        ({"callbacks": {"a": {**OURS, "b": TOUCH}}}, "callbacks.a"),
        ({"callbacks": {"a": {**OURS, "b": "\\${oc.create:'{_target_: x}'}"}}}, "callbacks.a"),
        ({"launcher": TOUCH}, "launcher"),
        ({"launcher": "${payload}"}, "launcher"),
        ({"launcher": {"_target_": "hydra_plugins.a.B", "b": "c"}}, "launcher"),
        ({"sweeper": {"_target_": f"{BASIC}_not.B"}}, "sweeper"),
        ({"sweeper": {**SWEEPER, "params": {"hydra.searchpath": "[pkg://a]"}}}, "sweeper.params"),
        ({"sweeper": {**SWEEPER, "params": {"+hydra.run": "a"}}}, "sweeper.params"),
        ({"sweeper": {**SWEEPER, "params": "${payload}"}}, "sweeper.params"),
        ({"job_logging": handler(**{"()": "pathlib.Path.touch"})}, "job_logging"),
        ({"job_logging": handler(**{"class": "logging.handlers.SocketHandler"})}, "job_logging"),
        ({"job_logging": handler(stream="ext://sys.stdout")}, "job_logging"),
        ({"job_logging": handler(filename="/tmp/a.pth")}, "job_logging"),
        ({"job_logging": handler(mode="w")}, "job_logging"),
        ({"job_logging": {**FILE, "formatters": {"line": {"format": "import os"}}}}, "job_logging"),
        ({"job_logging": {**FILE, "root": {"level": "${name}", "handlers": []}}}, "job_logging"),
        ({"hydra_logging": "${payload}"}, "hydra_logging"),
        ({"job": {"env_set": {"LD_PRELOAD": "./a.so"}}}, "job.env_set.LD_PRELOAD"),
        ({"job": {"env_set": {"OMP_NUM_THREADS": "${name}"}}}, "job.env_set.OMP_NUM_THREADS"),
        ({"job": {"env_set": "${payload}"}}, "job.env_set"),
        ({"job": "${payload}"}, "job"),
    ],
    ids=str,
)
def test_what_could_run_code_is_refused(parts, where):
    with pytest.raises(ValueError, match=rf"^hydra\.{where}\S*=.* is not allowed"):
        check_hydra(settings(**parts))


def test_all_of_it_from_elsewhere_is_refused():
    config = OmegaConf.create({"a": settings().hydra, "hydra": "${a}"})
    with pytest.raises(ValueError, match="hydra=an interpolation is not allowed"):
        check_hydra(config)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"callbacks": {}},
        {"job": {"env_set": {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0"}}},
        {"job_logging": {**FILE, "root": {**FILE["root"], "level": "DEBUG"}}},
        {"sweeper": {**SWEEPER, "params": {"seed": "0,1", "+experiment": "small_darcy"}}},
    ],
    ids=str,
)
def test_what_users_need_passes(parts):
    check_hydra(settings(**parts))


@pytest.mark.parametrize("choice", ["none", "default", "stdout", "disabled", "file"])
def test_logs_that_are_there_to_be_chosen_pass(choice):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [f"hydra/job_logging={choice}"]
        check_hydra(hydra_compose("config", overrides, return_hydra_config=True))


@pytest.fixture
def foreign(tmp_path):
    """Writes a group file of configuration from elsewhere; options that choose it."""

    def write(group, text):
        path = tmp_path / "elsewhere" / group / "extra.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return [f"--config-dir={tmp_path / 'elsewhere'}", f"{group}=extra"]

    return write


def callback(marker):
    return (
        "# @package hydra.callbacks\n"
        f"extra: {{_target_: pathlib.Path.touch, _args_: ['{marker}']}}\n"
    )


def refused(outcome, name):
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {name}")


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
def test_a_foreign_callback_stops_the_program_before_it_runs(foreign, tmp_path, mode):
    marker = tmp_path / "ran"
    options = foreign("hydra/callbacks", callback(marker))
    refused(train(*mode, *options, cwd=tmp_path), "hydra.callbacks.extra=")
    assert not marker.exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "text, name",
    [
        ("job_logging: {handlers: {file: {'()': pathlib.Path.touch}}}", "hydra.job_logging="),
        ("job: {env_set: {LD_PRELOAD: a.so}}", "hydra.job.env_set.LD_PRELOAD="),
        (
            "mode: MULTIRUN\nsweeper: {params: {hydra.searchpath: '[pkg://antigravity]'}}",
            "hydra.sweeper.params.hydra.searchpath=",
        ),
    ],
)
def test_an_experiment_from_elsewhere_cannot_reach_hydra(foreign, tmp_path, text, name):
    options = foreign("experiment", f"# @package hydra\n{text}\n")
    refused(train(*options, cwd=tmp_path), name)


def test_the_generator_is_guarded_too(foreign, tmp_path):
    marker = tmp_path / "ran"
    options = foreign("hydra/callbacks", callback(marker))
    command = [sys.executable, "-m", "datasets.generate", *options, "pde=darcy"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == 1 and b"error: hydra.callbacks.extra=" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("scheme", ["pkg", "structured"])
def test_a_package_is_not_searched_for_configurations(tmp_path, scheme):
    package = tmp_path / "importme"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    outcome = train(
        f"hydra.searchpath=[{scheme}://importme]",
        "trainer=none",
        cwd=tmp_path,
        environment={"PYTHONPATH": str(tmp_path)},
    )
    refused(outcome, f"hydra.searchpath: {scheme}://importme would import the package importme")
    assert not (tmp_path / "ran").exists()


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickled_job_is_not_repeated(tmp_path):
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(Payload()))
    outcome = train("--experimental-rerun=job.pickle", cwd=tmp_path)
    refused(outcome, "--experimental-rerun=job.pickle would unpickle")
    assert not (tmp_path / "ran").exists()


def test_hydra_alone_runs_callbacks_packages_and_pickles(foreign, tmp_path):
    """The controls."""
    marker = tmp_path / "ran"
    conf = f"config_path={str(ROOT / 'conf')!r}, config_name='config'"
    (tmp_path / "program.py").write_text(
        f"import hydra\n@hydra.main(version_base='1.3', {conf})\ndef main(config): pass\nmain()\n"
    )
    package = tmp_path / "importme"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(marker)!r}, 'w')")
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(Payload()))
    for options in (
        foreign("hydra/callbacks", callback(marker)),
        ["hydra.searchpath=[pkg://importme]"],
        ["hydra.searchpath=[structured://importme]"],
        ["--experimental-rerun=job.pickle"],
    ):
        command = [sys.executable, "program.py", *options]
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
        assert marker.exists(), done.stderr
        marker.rmdir() if marker.is_dir() else marker.unlink()


def test_it_is_installed_once_and_checks_what_is_composed(monkeypatch):
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", hydra_guard._compose)
    compose(["+hydra.callbacks.a._target_=os.system"])  # without it
    install()
    install()
    assert ConfigLoaderImpl.load_configuration is hydra_guard._checked
    compose()
    with pytest.raises(ValueError, match=r"hydra.callbacks.a=\{'_target_': 'os.system'\}"):
        compose(["+hydra.callbacks.a._target_=os.system"])
