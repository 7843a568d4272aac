"""The two commands of the README, timed as a newcomer meets them.

`python -m benchmarks.first_run [--quick]` copies the tracked files to an empty folder, gives it
the environment of this checkout, runs `make train` there and reads the test error from the run
folder; then `make test`, and `python train.py --help` five times. `--quick` leaves `make test`
out and trains for 2 epochs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.result import Target, emit
from sciml.runtime.run_folder import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        checkout = copy_checkout(Path(folder))
        rows, targets = [], {}

        command = (
            ["make", "train"] if not quick else [sys.executable, "train.py", "trainer.max_epochs=2"]
        )
        wall = timed(command, checkout)
        [metrics] = checkout.glob("runs/*/*/metrics.json")
        found = json.loads(metrics.read_text())
        error = 100 * found["test/relative_l2"]
        rows += [
            {"what": "make train, s", "value": wall},
            {
                "what": "  of it: imports, data and report, s",
                "value": found["data_s"] + wall - found["wall_s"],
            },
            {"what": "  of it: training, s", "value": found["train_s"]},
            {"what": "  of it: evaluation, s", "value": found["evaluate_s"]},
            {"what": "test relative L2, %", "value": error},
            {"what": "peak memory of training, MB", "value": found["peak_rss_mb"]},
            {"what": "parameters", "value": found["parameters"]},
        ]
        targets["make train, s"] = Target(wall, 300, "lower")
        targets["test relative L2 on Darcy 64 x 64, %"] = Target(error, 2.5, "lower")

        help_s = statistics.median(
            timed([sys.executable, "train.py", "--help"], checkout) for _ in range(5)
        )
        rows.append({"what": "python train.py --help, s (median of 5)", "value": help_s})
        targets["python train.py --help, s"] = Target(help_s, 2, "lower")
        if not quick:
            tests = timed(["make", "test"], checkout)
            rows.append({"what": "make test, s", "value": tests})
            targets["make test, s"] = Target(tests, 600, "lower")
    emit(
        "first_run",
        rows,
        targets,
        versions=("torch", "lightning", "numpy", "h5py"),
        threads=os.cpu_count(),
    )


def copy_checkout(folder: Path) -> Path:
    """The tracked files of this checkout as they are, and a link to its environment."""
    checkout = folder / "checkout"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    return checkout


def timed(command: list[str], folder: Path) -> float:
    """Wall-clock seconds of a command that must succeed; shows its output only if it does not."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    print(f"{' '.join(command)}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    main()
