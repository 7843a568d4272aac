"""Darcy flow in batches against SciPy's sparse direct solver.

    python -m benchmarks.darcy            64 problems at 421 x 421
    python -m benchmarks.darcy --quick    64 problems at 129 x 129

-div(a grad u) = 1 on the unit square, u = 0 on the walls, a in {12, 3} by the sign of a Gaussian
field (alpha 2, tau 3). Both solve the same five-point equations. Ours is timed from a to u with
everything in between, to a relative residual of 1e-10. For SciPy, the assembly of the sparse matrix
is timed apart from `splu` and its solve, which use the faster of two column orderings, tried first.
Both may use the same number of threads; as SuperLU takes one, ours is also timed with one.

The two take turns in one process, 16 problems a round; ratios are medians over rounds. Peak memory
is how much the high-water mark of a fresh process rises while it solves one round, factors included
(VmHWM in /proc/self/status; the mark of getrusage starts at that of the parent process).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from benchmarks.result import Target, emit
from solvers import Darcy, GaussianRandomField, Grid, TwoValued

THREADS = 2
ROUNDS = 4
PER_ROUND = 16
ORDERINGS = ("COLAMD", "MMD_AT_PLUS_A")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", choices=("ours", *ORDERINGS), help="print peak memory only")
    arguments = parser.parse_args()
    size = 129 if arguments.quick else 421
    torch.set_num_threads(THREADS)
    if arguments.memory:
        print(memory_growth(arguments.memory, permeability(size, PER_ROUND)))
        return

    warm_up = permeability(size, 1)
    solve_ours(warm_up)
    orderings = {name: solve_scipy(warm_up, name)[2] for name in ORDERINGS}
    ordering = min(orderings, key=orderings.get)
    rounds = [
        one_round(permeability(size, PER_ROUND, first_seed=PER_ROUND * i), ordering)
        for i in range(ROUNDS)
    ]

    def median(key: Callable[[dict], float]) -> float:
        return statistics.median(map(key, rounds))

    memory = {who: measured_apart(who, arguments.quick) for who in ("ours", ordering)}
    rows = [
        {
            "solver": solver,
            "problems": f"{ROUNDS * PER_ROUND} x {size}^2",
            "ms per problem": 1000 / PER_ROUND * median(key),
            "peak memory MB": memory[who],
            "iterations": max(r["iterations"] for r in rounds) if who == "ours" else "direct",
            "relative residual": max(r[f"residual of {who}"] for r in rounds),
        }
        for solver, key, who in (
            (f"ours, {THREADS} threads", lambda r: r["ours"], "ours"),
            ("ours, 1 thread", lambda r: r["ours, 1 thread"], "ours"),
            (f"scipy splu {ordering}, solve", lambda r: r["solve"], ordering),
            ("scipy, assembly and solve", lambda r: r["solve"] + r["assembly"], ordering),
        )
    ]
    emit(
        "darcy",
        rows,
        {
            "times as fast as scipy's solve": Target(
                median(lambda r: r["solve"] / r["ours"]), 1.0, "higher"
            ),
            "times as fast as scipy's assembly and solve": Target(
                median(lambda r: (r["solve"] + r["assembly"]) / r["ours"]), 1.0, "higher"
            ),
            "on 1 thread, times as fast as scipy's solve": Target(
                median(lambda r: r["solve"] / r["ours, 1 thread"]), 1.0, "higher"
            ),
            "largest relative difference of u": Target(
                max(r["difference"] for r in rounds), 1e-8, "lower"
            ),
        },
        versions=("torch", "scipy", "numpy"),
        threads=THREADS,
    )


def permeability(size: int, count: int, first_seed: int = 0) -> Tensor:
    """[count, 1, size, size] in {12, 3}."""
    field = GaussianRandomField(alpha=2.0, tau=3.0, num_modes=257)
    generators = [torch.Generator().manual_seed(first_seed + i) for i in range(count)]
    return TwoValued(high=12.0, low=3.0)(field.sample(generators, Grid.box((size, size))))[:, None]


def one_round(a: Tensor, ordering: str) -> dict[str, float]:
    """Seconds of both solvers on the same problems, and how far apart their answers are."""
    start = time.perf_counter()
    u, info = solve_ours(a)
    ours = time.perf_counter() - start
    torch.set_num_threads(1)
    start = time.perf_counter()
    solve_ours(a)
    single = time.perf_counter() - start
    torch.set_num_threads(THREADS)
    reference, assembly, solve = solve_scipy(a, ordering)
    residual = Darcy(Grid.box(a.shape[2:])).residual(a, reference)
    return {
        "ours": ours,
        "ours, 1 thread": single,
        "assembly": assembly,
        "solve": solve,
        "iterations": info.iterations.max().item(),
        "residual of ours": info.residual.max().item(),
        f"residual of {ordering}": residual.flatten(1).norm(dim=1).max().item() / a.shape[2],
        "difference": _relative(u - reference, reference),
    }


def solve_ours(a: Tensor):
    """u and the Info of [b, 1, size, size]."""
    return Darcy(Grid.box(a.shape[2:]), tolerance=1e-10).solve(a)


def solve_scipy(a: Tensor, ordering: str) -> tuple[Tensor, float, float]:
    """u, the seconds of assembly, and those of factorisation and substitution."""
    u, assembly, solve = torch.empty_like(a), 0.0, 0.0
    spacing = (1 / a.shape[2], 1 / a.shape[3])
    for i, sample in enumerate(a[:, 0].numpy()):
        start = time.perf_counter()
        matrix = assemble(sample, spacing)
        b = np.full(sample.size, spacing[0] * spacing[1])
        assembled = time.perf_counter()
        x = scipy.sparse.linalg.splu(matrix, permc_spec=ordering).solve(b)
        solve += time.perf_counter() - assembled
        assembly += assembled - start
        u[i, 0] = torch.from_numpy(x.reshape(sample.shape))
    return u, assembly, solve


def assemble(a: np.ndarray, spacing: tuple[float, float]) -> scipy.sparse.csc_matrix:
    """The matrix of -div(a grad .) times the cell area: harmonic faces, Dirichlet walls."""
    nx, ny = a.shape
    across_x, across_y = spacing[1] / spacing[0], spacing[0] / spacing[1]
    x = 2 * across_x / (1 / a[1:] + 1 / a[:-1])
    y = 2 * across_y / (1 / a[:, 1:] + 1 / a[:, :-1])
    diagonal = np.zeros_like(a)
    diagonal[1:] += x
    diagonal[:-1] += x
    diagonal[:, 1:] += y
    diagonal[:, :-1] += y
    for end in (0, -1):
        diagonal[end] += 2 * across_x * a[end]
        diagonal[:, end] += 2 * across_y * a[:, end]
    y = np.pad(y, ((0, 0), (0, 1))).ravel()[:-1]  # no link from the end of a row to the next row
    bands = [diagonal.ravel(), -x.ravel(), -x.ravel(), -y, -y]
    return scipy.sparse.diags(bands, [0, ny, -ny, 1, -1], shape=(nx * ny, nx * ny), format="csc")


def measured_apart(who: str, quick: bool) -> float:
    """`memory_growth` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.darcy", "--memory", who, *["--quick"] * quick]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return float(done.stdout)


def memory_growth(who: str, a: Tensor) -> float:
    """MB by which the high-water mark of this process rises while it solves for all of a."""
    before = _high_water_mb()
    if who == "ours":
        solve_ours(a)
    else:
        solve_scipy(a, who)
    return _high_water_mb() - before


def _high_water_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    [mark] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(mark) / 1024


def _relative(error: Tensor, exact: Tensor) -> float:
    return (error.flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max().item()


if __name__ == "__main__":
    main()
