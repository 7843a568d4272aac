"""The folder of a run: what was asked for, where it ran, what came of it."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datasets.store import commit
from sciml.runtime.interruption import Interrupted

PACKAGES = ("torch", "lightning", "hydra-core", "neuraloperator", "h5py", "numpy", "scipy")
ROOT = Path(__file__).resolve().parents[2]


class RunFolder:
    """Writes the files of one run under `path`; a folder that already holds a run is refused.

    config.yaml     the composed configuration, interpolations resolved
    overrides.json  the command-line overrides
    choices.json    the choice of each configuration group, asked for or not
    run.json        seeds, versions, machine, data and model
    metrics.json    status and figures, written last
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.command = repeating(sys.argv)  # of a job of a sweep, not that of all
        held = [n for n in ("config.yaml", "metrics.json") if (self.path / n).exists()]
        if held:
            raise ValueError(
                f"{self.path} already holds a run ({', '.join(held)}); runs never overwrite "
                "each other. Leave hydra.run.dir and hydra.sweep.dir at their "
                "defaults or name a new folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        try:  # of two processes that come here at once, one creates the file
            (self.path / "overrides.json").touch(exist_ok=False)
        except FileExistsError:
            raise ValueError(f"{self.path} is in use by another run; name a new folder.") from None

    def write_config(
        self,
        config: DictConfig,
        overrides: list[str],
        choices: Mapping[str, str | None] | None = None,
    ) -> None:
        """`choices`, Hydra's `runtime.choices`; a configuration composed elsewhere has none."""
        text = OmegaConf.to_yaml(config, resolve=True)
        commit(self.path / "config.yaml", text.encode())
        self.write_json("overrides.json", overrides)
        self.write_json("choices.json", dict(choices or {}))

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=2, default=str)
        commit(self.path / name, (text + "\n").encode())

    def write_failure(self, error: BaseException) -> None:
        """metrics.json of a run that ended early; figures that are there already stay."""
        if (self.path / "metrics.json").exists():
            return
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        status = "interrupted" if stopped else "failed"
        first = str(error).strip().partition("\n")[0]
        text = f"{type(error).__name__}: {first}" if first else type(error).__name__
        self.write_json("metrics.json", {"status": status, "error": text})


def repeating(arguments: Sequence[str]) -> str:
    """What to type to run a program with these arguments again."""
    return shlex.join(["python", Path(arguments[0]).name, *arguments[1:]])


def environment(device: Any) -> dict[str, Any]:
    """Versions, machine and commit of this process, which computes on `device`."""
    import torch

    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(device),
        },
        "git": _commit(),
    }


def _versions() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> dict[str, Any] | None:
    """The checkout's commit and whether tracked files differ from it; None outside git."""
    try:
        commands = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
        head, changes = (
            subprocess.run(["git", "-C", str(ROOT), *c], capture_output=True, text=True, check=True)
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": head.stdout.strip(), "dirty": bool(changes.stdout.strip())}
