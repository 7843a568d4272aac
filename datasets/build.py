"""Objects from configuration, limited to the classes that this project means to be configured."""

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from datasets.kinds import check_kinds

ROOMS = ("datasets", "sciml", "solvers")
FOREIGN = frozenset(
    {
        "lightning.Trainer",
        "torch.optim.Adam",
        "torch.optim.AdamW",
        "torch.optim.LBFGS",
        "torch.optim.SGD",
    }
)


def check_target(target: Any) -> type:
    """The class that a `_target_` names; refused are all but those that a package of ours exports
    in `__all__`, and `FOREIGN`.

    Hydra calls whatever `_target_` names, so a configuration from elsewhere could start any
    program. The last dot must separate a package from a name in its `__all__`: a path through an
    imported module, such as `sciml.models.torch.load`, is not one. `datasets.stream.Program` and
    `PythonSolver` are allowed, and run what the configuration names: that is what they are for.
    """
    if isinstance(target, str):
        package, _, name = target.rpartition(".")
        if target in FOREIGN:
            return getattr(importlib.import_module(package), name)
        if package.split(".")[0] in ROOMS:
            try:
                module = importlib.import_module(package)
            except ModuleNotFoundError as error:
                raise ValueError(f"_target_ {target!r}: there is no package {package}.") from error
            exported = getattr(module, "__all__", ())
            if name in exported and inspect.isclass(getattr(module, name)):
                return getattr(module, name)
            raise ValueError(
                f"_target_ {target!r} is not a class that {package} exports; it has "
                f"{', '.join(exported) or 'none'}."
            )
    raise ValueError(
        f"_target_ {target!r} is not allowed: only classes exported by {', '.join(ROOMS)} and the "
        "names in datasets/build.py FOREIGN are instantiated."
    )


def _require_resolved(node: Any) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            _require_resolved(key)
            _require_resolved(value)
    elif isinstance(node, str):
        if "${" in node:
            raise ValueError(f"{node[:200]!r}: an interpolation that is not resolved is refused.")
    elif isinstance(node, Sequence):
        for value in node:
            _require_resolved(value)
    elif OmegaConf.is_config(node):
        _require_resolved(OmegaConf.to_container(node, resolve=False))


def described(node: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings with a `_target_` in a configuration, at any depth."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from described(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from described(value)


def instantiate(config: Any, /, **injected: Any) -> Any:
    """Build the object that `config` describes, after `check_target` on every `_target_` in it.

    `config` is a mapping with `_target_` (and `_partial_: true` for a factory), as in Hydra.
    Interpolations are resolved once, and what would be resolved again by Hydra, an escaped `\\${`,
    is refused: what is checked is what is called. `injected` are
    further arguments, passed on as they are. Wrong or missing arguments, and text where a number
    belongs, raise a ValueError that names the target.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    if OmegaConf.is_config(config):
        config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"expected a mapping with _target_, got {config!r}.")
    _require_resolved(config)
    builders = [(mapping, check_target(mapping["_target_"])) for mapping in described(config)]
    for mapping, builder in builders:
        check_kinds(mapping["_target_"], builder, mapping)
    clash = sorted(injected.keys() & config.keys())
    if clash:
        raise ValueError(
            f"{config['_target_']}: {', '.join(clash)} cannot be configured, the program sets it."
        )
    try:
        partial = hydra_instantiate({**config, "_partial_": True}, _convert_="all")
        if config.get("_partial_", False) and not injected:
            return partial
        return partial(**injected)
    except InstantiationException as error:
        raise ValueError(_reason(error)) from error
    except TypeError as error:
        raise ValueError(f"{config['_target_']}: {error}") from error


def _reason(error: BaseException) -> str:
    """The innermost message of an exception chain: what the constructor itself said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
