"""Runs that another one is compared with."""

from omegaconf import DictConfig, OmegaConf


def variants(config: DictConfig) -> dict[str, DictConfig]:
    """The configuration of each run in `config.compare`, by name: that of `config` with what the
    entry says instead. `null` takes a group away: `online: null` makes and keeps the samples.
    """
    found = {}
    for name, changes in config.compare.items():
        other = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        for key, value in changes.items():
            if key not in other:
                raise ValueError(
                    f"compare.{name}.{key}: a run has no such setting; there are "
                    f"{', '.join(sorted(map(str, other)))}."
                )
            mapping = OmegaConf.is_config(value)
            other[key] = OmegaConf.merge(other[key], value) if mapping else value
        other.compare, other.ckpt_path, other.name = {}, None, f"{config.name}-{name}"
        found[name] = other
    return found
