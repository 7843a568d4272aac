"""Our FNO and neuraloperator 2.0.0's, the same architecture and weights: speed and memory.

    python -m benchmarks.fno                two threads, all sizes
    python -m benchmarks.fno --quick        small sizes, one of them compiled
    python -m benchmarks.fno --threads 1

A training step is zero_grad, forward, mean of squares, backward, Adam; ours takes
Adam(fused=True), which refuses the library's complex parameters, so that it takes Adam. Both run in
one process and take turns; ratios are medians over rounds, of wall-clock time. "compiled" is ours
under torch.compile against the library as it is, with "bf16" under bfloat16 autocast as well: that
is a gain only on processors with bfloat16 units, and only there is it a target.

Peak memory is that of one training step in a process of its own, above what is in use before it,
the latter with gradients and the state of the optimiser; the median of three processes.
"difference" of the two codes is in the 2-norm, of outputs or of all gradients taken as one vector,
whichever is larger; "gradient error" is that of each against our code in double precision.

"limit" is what the ratio would be if the products and GELUs of our code, counted as they run, went
at the rates of a large product and of numbers in the cache, measured in the same rounds, and
everything else took no time: no code that does this arithmetic in this precision can be faster.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.arithmetic import limit, timed
from benchmarks.neuralop_weights import copy_weights
from benchmarks.result import Target, emit
from sciml.models import FNO, Neuralop
from solvers.grid import Grid

CODES = ("ours", "neuraloperator")
PRECISION = ("difference", "our gradient error", "neuraloperator's")


class Case(NamedTuple):
    """Both networks: four layers, one field in, one out."""

    batch: int
    shape: tuple[int, ...]
    width: int
    modes: int

    @property
    def name(self) -> str:
        grid = " x ".join(map(str, self.shape))
        return f"{grid}, batch {self.batch}, width {self.width}, modes {self.modes}"


CASES = (
    Case(16, (64, 64), 32, 12),
    Case(8, (128, 128), 32, 16),
    Case(16, (32, 32), 32, 8),
    Case(4, (210, 210), 32, 12),
    Case(32, (1024,), 64, 16),
    Case(2, (32, 32, 32), 16, 6),
)
QUICK = (Case(8, (64, 64), 32, 12), Case(16, (32, 32), 32, 8), Case(16, (1024,), 64, 16))
# (training, inference): the bar of the median over the cases, the least of any case, the stretch.
BARS = {"fp32": ((1.7, 2.1), 1.5, None), "compiled": ((2.0, 2.0), None, 2.6)}
BARS["compiled bf16"] = ((2.4, 2.4), None, 3.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # one measurement, by itself
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = QUICK if options.quick else CASES
    if options.memory:
        code, number = options.memory.split(",")
        print(json.dumps(memory(cases[int(number)], code)))
        return
    units = bfloat16_units()
    variants = ["fp32", "compiled", *(["compiled bf16"] if units else [])]
    rows, ratios = [], {}
    for number, case in enumerate(cases):
        kept = {
            code: statistics.median(peak(number, code, options) for _ in range(3)) for code in CODES
        }
        ratios.setdefault("memory", []).append(kept["ours"] / kept["neuraloperator"])
        for variant in variants:
            if variant == "fp32" or not options.quick or number == 1:
                row, speed = against_neuralop(case, variant, 5 if options.quick else 9)
                ratios.setdefault(variant, []).append(speed)
                plain = variant == "fp32"
                row |= {f"{code}: MiB": kept[code] if plain else None for code in CODES}
                found = agreement(case) if plain else (None,) * 3
                rows.append(row | dict(zip(PRECISION, found, strict=True)))
                print(case.name, variant, speed, file=sys.stderr, flush=True)
    emit(
        "fno",
        rows,
        targets(ratios, rows),
        versions=("torch", "neuraloperator"),
        threads=options.threads,
    )
    if not units:
        print("no bfloat16 rows: this processor has no bfloat16 units", file=sys.stderr)


def targets(ratios: dict[str, list], rows: list[dict]) -> dict[str, Target]:
    """Medians over the cases, and the worst of them."""
    held = {}
    for variant, (bars, least, stretch) in BARS.items():
        for speeds, what, bar in zip(
            zip(*ratios.get(variant, []), strict=True),
            ("training", "inference"),
            bars,
            strict=False,
        ):
            middle = statistics.median(speeds)
            held[f"{what}, {variant}, times as fast, median"] = Target(middle, bar, "higher")
            if least:
                held[f"{what}, {variant}, least of all"] = Target(min(speeds), least, "higher")
            if stretch:
                held[f"{what}, {variant}, stretch"] = Target(middle, stretch, "higher")
    held["memory of a step, largest share"] = Target(max(ratios["memory"]), 0.35, "lower")
    largest = max(row["difference"] or 0.0 for row in rows)
    held["agreement of outputs and gradients"] = Target(largest, 1e-5, "lower")
    own = max(row["our gradient error"] or 0.0 for row in rows)
    held["our gradients against double precision"] = Target(own, 1e-5, "lower")
    return held


def against_neuralop(
    case: Case, variant: str, rounds: int
) -> tuple[dict[str, object], tuple[float, float]]:
    """A row, and how many times as fast ours is in training and in inference."""
    plain = variant == "fp32"  # a compiled call cannot be counted, and has the same arithmetic
    models, a = pair(case)
    calls = list(models)
    if not plain:
        torch._dynamo.reset()  # a case does not count against the next one's recompilations
        calls[0] = torch.compile(models[0], fullgraph=True)
    half = (variant == "compiled bf16", False)
    steps = [
        training(call, model, a, fused=i == 0, half=half[i])
        for i, (call, model) in enumerate(zip(calls, models, strict=True))
    ]
    maps = [inference(call, a, half=half[i]) for i, call in enumerate(calls)]
    row, speeds = {"case": case.name, "variant": variant}, []
    for what, both in (("train", steps), ("infer", maps)):
        for call in (*both, *both):
            call()
        times = [[timed(call) for call in both] for _ in range(rounds)]
        speeds.append(statistics.median(theirs / ours for ours, theirs in times))
        row |= {
            f"{what}: ours ms": 1e3 * statistics.median(ours for ours, _ in times),
            f"{what}: neuraloperator ms": 1e3 * statistics.median(theirs for _, theirs in times),
            f"{what}: times as fast": speeds[-1],
            f"{what}: limit": limit(*both, rounds) if plain else None,
        }
    return row, tuple(speeds)


def pair(case: Case) -> tuple[tuple[FNO, nn.Module], Tensor]:
    """Ours and the library's with the same weights, and an input."""
    torch.manual_seed(0)
    ndim, grid = len(case.shape), Grid.box(case.shape, points="left")
    settings = {"n_modes": 2 * case.modes, "hidden_channels": case.width, "n_layers": 4}
    theirs = Neuralop(1, 1, ndim, architecture="FNO", settings=settings).model
    ours = FNO(1, 1, ndim, grid=grid, width=case.width, modes=case.modes, padding=0.0)
    copy_weights(ours, theirs)
    return (ours, theirs), torch.randn(case.batch, 1, *case.shape)


def training(call: Callable, model: nn.Module, a: Tensor, *, fused: bool, half: bool):
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = call(a).square().mean()
        loss.backward()
        optimizer.step()

    return step


def inference(call: Callable, a: Tensor, *, half: bool):
    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            call(a)

    return run


def agreement(case: Case) -> tuple[float, float, float]:
    """The larger of the relative differences of the outputs and of all gradients, and how far the
    gradients of each are from those in double precision.
    """
    (ours, theirs), a = pair(case)
    exact = copy.deepcopy(ours).double()
    u, v, w = (model(x) for model, x in ((ours, a), (theirs, a), (exact, a.double())))
    for output in (u, v, w):
        output.square().mean().backward()
    image = copy.deepcopy(ours)
    with torch.no_grad():
        for p in theirs.parameters():  # their gradients in our layout
            p.copy_(p.grad)
    copy_weights(image, theirs)
    found = [p.grad for p in ours.parameters()]
    others, right = [*image.parameters()], [p.grad for p in exact.parameters()]
    difference = max(apart([u], [v]), apart(found, others))
    return difference, apart(found, right), apart(others, right)


def apart(xs: Iterable[Tensor], ys: Iterable[Tensor]) -> float:
    """Relative distance in the 2-norm of tensors taken as one vector, in double precision."""
    x, y = (torch.cat([t.detach().double().flatten() for t in ts]) for ts in (xs, ys))
    return float((x - y).norm() / y.norm())


def memory(case: Case, code: str) -> float:
    """Peak of a training step in MiB above what was resident before it, in this process."""
    models, a = pair(case)
    index = CODES.index(code)
    training(models[index], models[index], a[:1], fused=index == 0, half=False)()
    step = training(models[index], models[index], a, fused=index == 0, half=False)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    step()
    return (_status("VmHWM") - before) / 1024


def peak(number: int, code: str, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks.fno", "--memory", f"{code},{number}"]
    command += ["--threads", str(options.threads), *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def bfloat16_units() -> bool:
    flags = Path("/proc/cpuinfo").read_text()
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1])


if __name__ == "__main__":
    main()
