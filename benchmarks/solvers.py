"""Trajectories per second of our spectral steppers, exponax (JAX) and py-pde (numba).

    python -m benchmarks.solvers            64 trajectories of each equation, and single ones
    python -m benchmarks.solvers --quick    the smaller grids and fewer rounds

Burgers 1-D, Kuramoto-Sivashinsky 1-D and Kolmogorov flow 2-D on periodic grids. Ours and exponax
take the same grid, time step and method (ETDRK4); the errors of both are in the table, against
ours on twice as many points with a quarter of the step. exponax is compiled (jit of vmap of all
steps); what compiling takes is a column of its own.

py-pde has second-order differences and no
batches. One trajectory on its grid is timed, after compiling, with the faster of its adaptive
Runge-Kutta and LSODA; for a batch it is credited with a process per thread at no loss. Ours is
timed against it with the fewest points and steps of a list whose error is at most its error. Its
expressions hold no stream function, so it has no Navier-Stokes row.

All may use the same number of threads, and take turns; ratios are medians over rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.result import Target, emit
from solvers import (
    Axis,
    Burgers,
    Fourier,
    Grid,
    Kolmogorov,
    KuramotoSivashinsky,
    NavierStokes,
    SemiLinear,
)

THREADS = 2
PERIODIC = ("periodic", "periodic")
TWO_PI = 2 * torch.pi


@dataclass(frozen=True)
class Case:
    """One problem: ours on n points with so many steps, and the same of the other two codes."""

    name: str
    grid: Grid
    steps: int
    ours: Callable[[Grid, int], SemiLinear]
    exponax: Callable[[int, int], object]  # points, steps -> one step
    py_pde: str = ""  # u_t as it writes it
    points: int = 0  # of its grid
    sign: float = 1.0  # exponax's vorticity is minus ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # JAX counts these
    torch.set_num_threads(THREADS)
    import jax

    jax.config.update("jax_enable_x64", True)
    rows, targets, rounds = [], {}, 5 if quick else 9
    for case in cases(quick):
        equation = case.ours(case.grid, case.steps)
        for dtype, batch in ((torch.float64, 1), (torch.float64, 64), (torch.float32, 64)):
            u = start(case.grid, batch).to(dtype)
            found, ratio = against_exponax(case, equation, u, rounds)
            rows += found
            if dtype == torch.float64 and batch == 64:
                what = f"{case.name}, batch 64, times as fast as exponax"
                targets[what] = Target(ratio, 1.0, "higher")
        if case.py_pde:
            found, ratio = against_py_pde(case, rounds)
            rows += found
            what = f"{case.name}, batch 64, at equal error times as fast as py-pde"
            targets[what] = Target(ratio, 10.0, "higher")
    versions = ("torch", "numpy", "exponax", "jax", "py-pde", "numba")
    emit("solvers", rows, targets, versions=versions, threads=THREADS)


def cases(quick: bool) -> list[Case]:
    from exponax import stepper

    sizes = [(256, 64)] if quick else [(256, 64), (1024, 128)]
    return [case for n, m in sizes for case in sized(n, m, stepper)]


def sized(n: int, m: int, stepper) -> list[Case]:
    """The three equations on n points and on m x m; py-pde beside the smaller ones."""

    def line(length: float) -> Grid:
        return Grid((Axis("x", n, 0.0, length, PERIODIC, "left"),))

    square = Grid(tuple(Axis(name, m, 0.0, TWO_PI, PERIODIC, "left") for name in "xy"))
    forcing = Kolmogorov(4, -1.0)
    return [
        Case(
            f"Burgers 1-D, {n} points",
            line(TWO_PI),
            100,
            lambda g, s: Burgers(g, viscosity=0.1, dt=1.0, substeps=s),
            lambda k, s: stepper.Burgers(
                1, TWO_PI, k, 1.0 / s, diffusivity=0.1, conservative=True, order=4
            ),
            "-u * d_dx(u) + 0.1 * laplace(u)" if n == 256 else "",
            128,
        ),
        Case(
            f"Kuramoto-Sivashinsky 1-D, {n} points",
            line(64.0),
            100,
            lambda g, s: KuramotoSivashinsky(g, dt=5.0, substeps=s, conservative=True),
            lambda k, s: stepper.KuramotoSivashinskyConservative(1, 64.0, k, 5.0 / s, order=4),
            "-u * d_dx(u) - laplace(u + laplace(u))" if n == 256 else "",
            128,
        ),
        Case(
            f"Navier-Stokes 2-D, {m} x {m} points",
            square,
            20,
            lambda g, s: NavierStokes(
                g, viscosity=0.02, drag=0.1, dt=0.4, substeps=s, forcing=forcing
            ),
            lambda k, s: stepper.KolmogorovFlowVorticity(
                2, TWO_PI, k, 0.4 / s, diffusivity=0.02, drag=-0.1, injection_mode=4, order=4
            ),
            sign=-1.0,
        ),
    ]


def start(grid: Grid, batch: int, modes: int = 3) -> Tensor:
    """[batch, 1, *space], the same waves on any size of grid."""
    generator, x = torch.Generator().manual_seed(0), grid.mesh()
    phases = TWO_PI * torch.rand(64, modes, grid.ndim, generator=generator, dtype=torch.float64)
    u = torch.zeros(batch, 1, *grid.shape, dtype=torch.float64)
    for k in range(1, modes + 1):
        for axis in range(grid.ndim):
            phase = phases[:batch, k - 1, axis].view(-1, 1, *[1] * grid.ndim)
            u += torch.sin(TWO_PI * k * x[axis] / grid.axes[axis].length + phase) / k
    return u


def against_exponax(
    case: Case, equation: SemiLinear, u: Tensor, rounds: int
) -> tuple[list[dict], float]:
    """A row of each, and the median ratio of their times over alternating rounds."""
    import exponax
    import jax

    step = case.exponax(case.grid.shape[0], case.steps)
    if u.dtype == torch.float32:
        step = jax.tree_util.tree_map(_single, step)
    run = jax.jit(jax.vmap(exponax.RepeatedStepper(step, case.steps)))
    v = jax.numpy.asarray(case.sign * u.numpy())
    begin = time.perf_counter()
    run.lower(v).compile()
    compiling = time.perf_counter() - begin
    theirs = case.sign * torch.from_numpy(np.array(run(v))).double()
    with torch.no_grad():
        mine = equation(u).double()
        exact = reference(case, min(len(u), 4))
        seconds = [
            (_timed(lambda: equation(u)), _timed(lambda: run(v).block_until_ready()))
            for _ in range(rounds)
        ]
    rows = [
        _row(case.name, code, u, statistics.median(found), _error(values, exact), compiled)
        for code, values, found, compiled in (
            ("ours", mine[: len(exact)], [s[0] for s in seconds], 0.0),
            ("exponax", theirs[: len(exact)], [s[1] for s in seconds], compiling),
        )
    ]
    return rows, statistics.median(theirs / ours for ours, theirs in seconds)


def against_py_pde(case: Case, rounds: int) -> tuple[list[dict], float]:
    """The same with as little work of ours as makes its error."""
    import pde

    grid = case.grid.resized((case.points,))
    time_span = case.ours(grid, 1).dt
    exact = Fourier(case.grid.resized([2 * n for n in case.grid.shape]))
    fine = case.ours(exact.grid, 4 * case.steps)(start(exact.grid, 1))
    # py-pde's points are cell centres: begin with the waves there, and compare there
    shift = torch.exp(exact.derivative(0) * grid.spacing[0] / 2)
    shifted = exact.inverse(exact.transform(fine) * shift)
    wanted = exact.resample(shifted, grid)
    values = Fourier(grid).inverse(
        Fourier(grid).transform(start(grid, 1))
        * torch.exp(Fourier(grid).derivative(0) * grid.spacing[0] / 2)
    )
    box = pde.CartesianGrid([(0.0, grid.axes[0].length)], [case.points], periodic=True)
    state = pde.ScalarField(box, values[0, 0].numpy())
    equation = pde.PDE({"u": case.py_pde})
    best = None
    for solver in (
        pde.solvers.RungeKuttaSolver(equation, backend="numba", adaptive=True, tolerance=1e-5),
        pde.ScipySolver(equation, backend="numba", method="LSODA", rtol=1e-5, atol=1e-5),
    ):
        copy = state.copy()
        begin = time.perf_counter()
        step = solver.make_stepper(copy, dt=1e-5)
        step(copy, 0.0, 1e-4)
        compiling = time.perf_counter() - begin
        copy = state.copy()
        seconds = _timed(lambda step=step, copy=copy: step(copy, 0.0, time_span))
        if best is None or seconds < best[0]:
            found = torch.from_numpy(np.array(copy.data))[None, None]
            best = seconds, step, _error(found, wanted), compiling
    _, step, error, compiling = best
    ours, small, small_error = cheapest(case, error)
    u = start(small, 64)
    with torch.no_grad():
        ours(u)
        seconds = [
            (_timed(lambda: ours(u)), _timed(lambda: step(state.copy(), 0.0, time_span)))
            for _ in range(rounds)
        ]
    mine, theirs = (statistics.median(s[i] for s in seconds) for i in range(2))
    rows = [
        _row(
            f"{case.name.split(',')[0]}, {small.shape[0]} points", "ours", u, mine, small_error, 0.0
        ),
        _row(
            f"{case.name.split(',')[0]}, {case.points} points",
            "py-pde",
            u[:1],
            theirs,
            error,
            compiling,
        ),
    ]
    return rows, statistics.median(64 / THREADS * b / a for a, b in seconds)


def cheapest(case: Case, error: float) -> tuple[SemiLinear, Grid, float]:
    """Ours with the fewest points times steps whose error is at most `error`."""
    tries = [(n, s) for n in (32, 48, 64, 96, 128, 192, 256) for s in (5, 10, 20, 40, 80, 160)]
    whole = Fourier(case.grid.resized([2 * n for n in case.grid.shape]))
    exact = case.ours(whole.grid, 4 * case.steps)(start(whole.grid, 1))
    for n, steps in sorted(tries, key=lambda pair: pair[0] * pair[1]):
        grid = case.grid.resized((n,))
        equation = case.ours(grid, steps)
        u = equation.advance(start(grid, 1))
        if u.isfinite().all() and _error(u, whole.resample(exact, grid)) <= error:
            return equation, grid, _error(u, whole.resample(exact, grid))
    raise RuntimeError(f"{case.name}: no grid of ours reaches the error {error:.2e}.")


def reference(case: Case, batch: int) -> Tensor:
    """Ours on twice as many points with a quarter of the step, at the points of the case."""
    grid = case.grid.resized([2 * n for n in case.grid.shape])
    u = case.ours(grid, 4 * case.steps)(start(grid, batch))
    return u[(..., *[slice(None, None, 2)] * grid.ndim)]


def _row(name: str, code: str, u: Tensor, seconds: float, error: float, compiling: float) -> dict:
    return {
        "equation": name,
        "code": code,
        "precision": str(u.dtype).removeprefix("torch."),
        "batch": len(u),
        "trajectories / s": len(u) / seconds,
        "relative error": error,
        "compile s": compiling,
    }


def _single(leaf):
    """A coefficient in single precision; anything that is no array as it is."""
    kinds = {"float64": "float32", "complex128": "complex64"}
    kind = str(getattr(leaf, "dtype", ""))
    return leaf.astype(kinds[kind]) if kind in kinds else leaf


def _error(found: Tensor, exact: Tensor) -> float:
    difference = (found - exact).flatten(1).norm(dim=1)
    return (difference / exact.flatten(1).norm(dim=1)).max().item()


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
