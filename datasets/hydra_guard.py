"""What a configuration may ask of Hydra itself, which builds callbacks, launchers, sweepers and log
handlers before any code of ours runs.
"""

import re
from collections.abc import Iterator
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CALLBACKS = {"sciml.runtime.sweep_report.SweepReport"}
PLUGINS = re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)(\.\w+)+")
LOG_CLASSES = {
    "logging.FileHandler",
    "logging.NullHandler",
    "logging.StreamHandler",
    "logging.handlers.RotatingFileHandler",
    "colorlog.ColoredFormatter",
}
LOG_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
VARIABLES = {"CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"}


def install() -> None:
    """From now on every configuration that Hydra composes in this process passes `check_hydra`."""
    compose = ConfigLoaderImpl.load_configuration

    def checked(loader: ConfigLoaderImpl, *arguments: Any, **named: Any) -> DictConfig:
        config = compose(loader, *arguments, **named)
        check_hydra(config.hydra)
        return config

    if compose.__name__ != checked.__name__:
        ConfigLoaderImpl.load_configuration = checked


def check_hydra(settings: DictConfig) -> None:
    """ValueError if the `hydra` part of a configuration names code outside a short list.

    A folder given with --config-dir can bring its own hydra/callbacks/x.yaml, and Hydra calls
    what stands there. Allowed are the callbacks in `CALLBACKS`, launchers and sweepers that are
    installed as plug-ins of Hydra (it looks them up among its own), the log handlers in
    `LOG_CLASSES`, and the environment variables in `VARIABLES`: others make programs, such as
    git, load other code. Where Hydra builds objects an interpolation has to give a plain value,
    as it could bring a `_target_` from anywhere.
    """
    for root in ("callbacks", "launcher", "sweeper"):
        for path, value in _values(settings, root):
            plugin = root != "callbacks" and len(path) == 2 and PLUGINS.fullmatch(str(value))
            if path[-1] == "_target_" and not plugin and value not in CALLBACKS:
                raise ValueError(
                    f"hydra.{'.'.join(path)}={value!r} is not allowed: Hydra's callbacks are "
                    f"{', '.join(sorted(CALLBACKS))}, its launchers and sweepers plug-ins."
                )
    for root in ("job_logging", "hydra_logging"):
        for path, value in _values(settings, root):
            built = path[-1] in ("()", "class", "factory") and value not in LOG_CLASSES
            if built or str(value).startswith("ext://") and value not in LOG_STREAMS:
                raise ValueError(
                    f"hydra.{'.'.join(path)}={value!r} is not allowed: logs are written by "
                    f"{', '.join(sorted(LOG_CLASSES))}, to files, sys.stdout or sys.stderr."
                )
    foreign = sorted(set(settings.job.env_set) - VARIABLES)
    if foreign:
        raise ValueError(
            f"hydra.job.env_set.{foreign[0]} is not allowed: a configuration sets "
            f"{', '.join(sorted(VARIABLES))} alone; set other variables in the shell."
        )


def _values(node: DictConfig | ListConfig, key: Any, path=()) -> Iterator[tuple[tuple, Any]]:
    """(path, value) of all that is no mapping or list at and below `node[key]`."""
    path = (*path, str(key))
    if OmegaConf.is_missing(node, key):
        return
    value = _plain(node, key, path) if OmegaConf.is_interpolation(node, key) else node[key]
    if isinstance(value, DictConfig | ListConfig):
        for below in value if isinstance(value, DictConfig) else range(len(value)):
            yield from _values(value, below, path)
    else:
        yield path, value


def _plain(node: DictConfig | ListConfig, key: Any, path: tuple[str, ...]) -> Any:
    """What an interpolation gives; text where it is not known yet, but sure to be a string."""
    text = OmegaConf.to_container(node, resolve=False)[key].strip()
    try:
        value = node[key]
    except OmegaConfBaseException:
        value = None if text.startswith("${") and text.endswith("}") else text
    if value is None or OmegaConf.is_config(value):
        raise ValueError(
            f"hydra.{'.'.join(path)}={text} is not allowed: it stands for settings that cannot be "
            "checked; write them out."
        )
    return value
