"""What a sample is, and where samples come from: recipes, arrays, files of other projects.

The name is that of another project on PyPI: this package belongs to an application that is run
from its checkout and is never installed. Names are imported when they are first used, so that
`python -m datasets.generate --help` does not wait for torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "ArraySource": "arrays",
    "Arrays": "dataset",
    "Batch": "schema",
    "DataModule": "datamodule",
    "DataSet": "schema",
    "EvolutionRecipe": "evolution_recipe",
    "Field": "schema",
    "Generated": "dataset",
    "Metadata": "schema",
    "Moments": "normalize",
    "NeuralopHDF5": "foreign",
    "NeuralopHDF5Source": "neuralop_h5",
    "NeuralopPairs": "dataset",
    "NeuralopSource": "neuralop_pt",
    "Normalizer": "normalize",
    "PDEArenaFiles": "foreign",
    "PDEArenaTrajectories": "pdearena",
    "PDEArenaZarr": "pdearena_zarr",
    "PDEBenchFiles": "foreign",
    "PDEBenchPairs": "pdebench",
    "PDEBenchTrajectories": "pdebench",
    "Recipe": "recipe",
    "ShardedSource": "reader",
    "ShardedTrajectories": "reader",
    "Solution": "recipe",
    "Stored": "stored",
    "Source": "schema",
    "SteadyRecipe": "recipe",
    "Subset": "split",
    "Trajectories": "trajectories",
    "TrajectoryArray": "trajectory_array",
    "TrajectoryArrays": "foreign",
    "WellFolder": "foreign",
    "WellTrajectories": "well",
    "Windows": "windows",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
