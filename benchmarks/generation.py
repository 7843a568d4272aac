"""Generation with one and two worker processes, and its memory against the number of samples.

`python -m benchmarks.generation [--quick]`: the command line as a user types it, whole processes,
alternating, medians. The memory is that of the largest process of the command.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

from benchmarks.result import Target, emit
from sciml.runtime.run_folder import ROOT

RECIPE = "burgers"


def generate(num_samples: int, num_workers: int) -> float:
    """Seconds of one command on an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            f"pde={RECIPE}",
            f"num_samples={num_samples}",
            "num_valid=0",
            "num_test=0",
            f"num_workers={num_workers}",
            f"root={folder}",
        ]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "datasets.generate", *arguments],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def peak_megabytes(num_samples: int) -> float:
    """Resident memory of the largest process of one command, measured in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        generate(num_samples, 1)
        os.write(writer, str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        return int(answer.read()) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples and repetitions")
    quick = parser.parse_args().quick
    samples, repetitions = (1024, 1) if quick else (4096, 3)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repetitions):
        for num_workers, found in seconds.items():
            found.append(generate(samples, num_workers))
    few, many = 256, 1024 if quick else 4096
    memory = {count: peak_megabytes(count) for count in (few, many)}
    rows = [
        {
            "recipe": RECIPE,
            "samples": samples,
            "workers": workers,
            "seconds": median(found),
            "samples per second": samples / median(found),
        }
        for workers, found in seconds.items()
    ]
    speedup = median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    growth = memory[many] / memory[few]
    emit(
        "generation",
        rows,
        {
            "2 workers against 1": Target(speedup, 1.7, "higher"),
            f"memory with {many} samples against {few} "
            f"({memory[many]:.0f} and {memory[few]:.0f} MB)": Target(growth, 1.1, "lower"),
        },
        threads=1,
    )


if __name__ == "__main__":
    main()
