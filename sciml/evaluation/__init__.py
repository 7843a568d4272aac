"""Metrics, the report of a run and the table over a sweep; names are imported when first used."""

from importlib import import_module
from typing import Any

_MODULES = {
    "Evaluation": "result",
    "FieldErrors": "field_errors",
    "Result": "result",
    "RolloutErrors": "rollout_errors",
    "Spectrum": "spectrum",
    "band_nmse": "spectrum",
    "channel_names": "metrics",
    "choose_samples": "result",
    "evaluate_rollout": "rollout",
    "error_spectrum": "spectrum",
    "max_error": "metrics",
    "nrmse": "metrics",
    "read_run": "run_folder",
    "read_sweep": "sweep",
    "relative_h1": "metrics",
    "relative_l2": "metrics",
    "resolved_split": "spectrum",
    "sweep_table": "sweep",
    "vrmse": "metrics",
    "write_report": "report",
    "write_sweep_report": "sweep",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
