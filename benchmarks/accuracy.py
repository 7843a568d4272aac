"""The acceptance figures of every equation in `solvers`, measured, beside their bars.

    python -m benchmarks.accuracy

Each row is one property in double precision: the distance from an exact solution or from another
code, an observed order (that of the method, give or take 0.3), or something that must not change.
The set-ups are those of the tests (see `benchmarks.acceptance`). One thread, about a minute. Apart
from the time of the direct Poisson solve, which is wall-clock time and wants an idle machine,
nothing here depends on the machine but rounding.
"""

import argparse
import sys
import time

import torch

from benchmarks.acceptance import conservation, gradients, linear, semilinear, steady
from benchmarks.result import Target, emit

PARTS = (steady, linear, semilinear, conservation, gradients)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    begin, figures = time.perf_counter(), []
    for part in PARTS:
        for measure in part.MEASUREMENTS:
            torch.manual_seed(0)
            figures += measure()
            print(f"{time.perf_counter() - begin:6.1f} s  {measure.__name__}", file=sys.stderr)
    missed = sum(not figure.reached for figure in figures)
    emit(
        "accuracy",
        [figure.row() for figure in figures],
        {f"figures outside their bars, of {len(figures)}": Target(missed, 0, "lower")},
        versions=("torch", "scipy", "numpy"),
        threads=1,
    )


if __name__ == "__main__":
    main()
