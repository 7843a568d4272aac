"""What a configuration may ask of Hydra itself, which builds callbacks, launchers, sweepers and log
handlers, and imports packages, before any code of ours runs.
"""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf

CALLBACKS = ("sciml.runtime.sweep_report.SweepReport",)
LAUNCHERS = ("hydra._internal.core_plugins.basic_launcher.BasicLauncher",)
SWEEPERS = ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper",)
VARIABLES = {
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
}
LEVELS = {"CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"}
CONF = [Path(__file__).parents[1] / "conf", Path(hydra.__file__).parent / "conf"]
_compose = ConfigLoaderImpl.load_configuration
_open_source = ConfigSource.__init__


def install() -> None:
    """From now on Hydra in this process composes what `check_hydra` allows, searches no package for
    configurations but its own, and does not unpickle a job (--experimental-rerun).
    """
    ConfigLoaderImpl.load_configuration = _checked
    ConfigSource.__init__ = _own_source
    sys.modules["hydra.main"]._get_rerun_conf = _no_rerun


def check_hydra(config: DictConfig) -> None:
    """ValueError if the `hydra` part of a configuration can make Hydra run code.

    A folder given with --config-dir can bring its own hydra/callbacks/x.yaml, and Hydra calls
    what stands there. What it builds objects from is therefore compared with a short list, as it
    is written: interpolations are refused there, since they may stand for something else by the
    time they are used. Callbacks, launcher and sweeper are those named above, logs are those of
    `conf/hydra` or Hydra's own with any level, and of environment variables only `VARIABLES` are
    set: others make programs, such as git, load other code. Another launcher, a sweeper or a
    callback is for this file to add, together with what it does with its arguments.
    """
    if OmegaConf.is_interpolation(config, "hydra"):
        _refuse("hydra", "an interpolation", "written out")
    settings = OmegaConf.to_container(config.hydra, resolve=False)
    callbacks, job, sweeper = (settings[name] for name in ("callbacks", "job", "sweeper"))
    known = [{"_target_": target} for target in CALLBACKS]
    for name, callback in _mapping("callbacks", callbacks).items():
        if callback not in known:
            _refuse(f"hydra.callbacks.{name}", callback, " or ".join(CALLBACKS))
    if settings["launcher"] not in [{"_target_": target} for target in LAUNCHERS]:
        _refuse("hydra.launcher", settings["launcher"], " or ".join(LAUNCHERS))
    if not isinstance(sweeper, Mapping) or sweeper.get("_target_") not in SWEEPERS:
        _refuse("hydra.sweeper", sweeper, " or ".join(SWEEPERS))
    for key in _mapping("sweeper.params", sweeper.get("params") or {}):
        if key.lstrip("+~").startswith("hydra"):
            _refuse(f"hydra.sweeper.params.{key}", sweeper["params"][key], "a key of ours")
    for kind in ("job_logging", "hydra_logging"):
        if _without_levels(settings[kind]) not in _logs(kind):
            _refuse(f"hydra.{kind}", settings[kind], "one of conf/hydra or of Hydra, unchanged")
    variables = _mapping("job", job).get("env_set")
    for name, value in _mapping("job.env_set", variables).items():
        if name not in VARIABLES or "${" in str(value):
            _refuse(f"hydra.job.env_set.{name}", value, f"{', '.join(sorted(VARIABLES))}")


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(f"hydra.{name}", value, "a mapping, written out")
    return value


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise ValueError(
        f"{name}={str(value)[:200]} is not allowed in a configuration, Hydra would act on it "
        f"before it can be checked further; expected {expected} (see datasets/hydra_guard.py)."
    )


def _without_levels(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    items = node.items()
    return {k: _without_levels(v) for k, v in items if not (k == "level" and v in LEVELS)}


@cache
def _logs(kind: str) -> list[Any]:
    """The logging configurations that are there to be chosen, without their levels."""
    files = [file for conf in CONF for file in sorted(conf.glob(f"**/hydra/{kind}/*.yaml"))]
    loaded = [OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files]
    return [_without_levels(one) for one in loaded]


def _checked(loader: ConfigLoaderImpl, *arguments: Any, **named: Any) -> DictConfig:
    config = _compose(loader, *arguments, **named)
    check_hydra(config)
    return config


def _own_source(source: ConfigSource, provider: str, path: str) -> None:
    scheme, _, package = path.partition("://")
    package = package.replace("/", ".")
    own = package in ("", "hydra.conf") or package.startswith("hydra_plugins.")
    if scheme in ("pkg", "structured") and not own:
        raise ValueError(
            f"hydra.searchpath: {path} would import the package {package}; give its folder as "
            "file://..."
        )
    _open_source(source, provider, path)


def _no_rerun(file_path: str, overrides: list[str]) -> NoReturn:
    raise ValueError(
        f"--experimental-rerun={file_path} would unpickle that file, which can run code; repeat "
        "the run from the overrides.json in its folder."
    )
