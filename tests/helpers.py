"""What tests share: small arrays, composed configurations, `python train.py` as users run it."""

import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import matplotlib
import numpy as np
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from sciml.runtime.checkpoint_io import load_checkpoint
from solvers.grid import Axis, Grid

ROOT = Path(__file__).resolve().parents[1]
TINY = ("model.width=6", "model.modes=3", "model.depth=1", "trainer.max_epochs=2", "batch_size=8")


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


def smooth_pairs(
    count: int = 40, shape: tuple[int, ...] = (12, 12), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """a with |a_hat| ~ (1 + |k|)^-3 and variance 1, and u = (1 - lap)^-1 (a + a^2); periodic."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    axes = [n * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape]
    k = sum(m.square() for m in torch.meshgrid(*axes, indexing="ij")).sqrt()
    dims = tuple(range(1, white.ndim))

    def filtered(u: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifftn(torch.fft.fftn(u, dim=dims) * factor, dim=dims).real

    a = filtered(white, (1 + k) ** -3)
    a = a / a.std()
    return a.numpy(), filtered(a + a.square(), 1 / (1 + k.square())).numpy()


def periodic(sizes, lengths, points: str = "left") -> Grid:
    """A periodic grid on [0, length] in each direction."""
    sides = ("periodic", "periodic")
    axes = zip("xyz", sizes, lengths, strict=False)
    return Grid(tuple(Axis(a, n, 0.0, length, sides, points) for a, n, length in axes))


def save_pairs(folder: Path, a: np.ndarray, u: np.ndarray) -> list[str]:
    """Write a.npy and u.npy; the overrides that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "a.npy", a)
    np.save(folder / "u.npy", u)
    return ["data=arrays", f"input={folder / 'a.npy'}", f"target={folder / 'u.npy'}"]


def finish(path: Path, *overrides: str) -> dict[str, float]:
    """A run in the folder `path`, as train.py makes it; its figures."""
    from sciml.run import run  # notes the number of threads, which conftest sets first
    from sciml.runtime.run_folder import RunFolder

    folder, config = RunFolder(path), compose([*TINY, *overrides])
    folder.write_config(config, list(overrides))
    return run(config, folder)


def weights(path: Path, name: str = "best") -> dict[str, torch.Tensor]:
    """Of a checkpoint in the folder of a run."""
    return load_checkpoint(path / "checkpoints" / f"{name}.ckpt")["state_dict"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def compose(overrides: list[str] | tuple[str, ...] = ()) -> DictConfig:
    """The configuration of `python train.py OVERRIDES`, with the name `test`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra_compose("config", ["name=test", *overrides])


def asked(command: str, run: Path, *overrides: str) -> DictConfig:
    """The settings of `python -m sciml.curvature.COMMAND` for the best checkpoint of a run."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
        return hydra_compose(command, [path, *overrides])


def train(*overrides: str, cwd: Path, environment: Mapping[str, str] | None = None, **options):
    """`python train.py OVERRIDES` in a process of its own; `options` go to subprocess.run."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def main(*overrides: str, capsys) -> Outcome:
    """The same in this process and folder, without the seconds that the imports take."""
    path = str(ROOT / "train.py")
    return _run(partial(runpy.run_path, path), [path, *overrides], capsys)


def module(name: str, *overrides: str, capsys) -> Outcome:
    """`python -m NAME OVERRIDES` in this process and folder."""
    return _run(partial(runpy.run_module, name), [name, *overrides], capsys)


def _run(program: Callable, command: list[str], capsys) -> Outcome:
    GlobalHydra.instance().clear()
    capsys.readouterr()
    code = 0
    with patch.object(sys, "argv", command):
        try:
            program(run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(code, *capsys.readouterr())


def tensor_bytes(path: Path) -> list[tuple[int, int]]:
    """Where in the file the numbers of the tensors in a checkpoint lie, as (start, length)."""
    spans = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if "/data/" in entry.filename and entry.file_size:
                file.seek(
                    entry.header_offset + 26
                )  # lengths of the name and the extra field follow
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
                spans.append((entry.header_offset + 30 + name + extra, entry.file_size))
    return spans


def watched(folder: Path) -> dict[str, str]:
    """Environment of a process that lists its network calls and new processes in `folder`/events.

    Its home is the empty `folder`/home; matplotlib finds the list of fonts that it keeps elsewhere.
    """
    (folder / "home").mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        f"events = open({str(folder / 'events')!r}, 'a', buffering=1)\n"
        "def note(event, arguments):\n"
        "    if event.startswith(('socket.', 'subprocess.', 'os.system', 'os.exec', 'urllib.')):\n"
        "        print(event, arguments, file=events)\n"
        "sys.addaudithook(note)\n"
    )
    fonts = {"MPLCONFIGDIR": matplotlib.get_cachedir()}
    return {"PYTHONPATH": str(folder), "HOME": str(folder / "home"), **fonts}
