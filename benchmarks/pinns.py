"""Second-order training of multilayer perceptrons by the equation alone, at equal time.

    python -m benchmarks.pinns [--problems poisson_2d,...] [--seconds 60] [--keep runs/pinns]

min 1/2 mean over random points inside (residual)^2 + 1/2 mean over random points on the sides (u -
truth)^2, new points at each step, for a perceptron d - 64 - 64 - 48 - 48 - 1 with tanh, in float64
on one thread: the problems and the network of Dangel, Mueller & Zeinhofer 2024 (arXiv:2405.15603).
Derivatives are carried forward (`JetLinear`). Each training of a problem takes the same processor
seconds of its own thread, `SECONDS` without `--seconds`; schedules go by the share of them that has
passed. Settings are those with the lowest loss on other points after a fifth of the time with the
seed 3, eight trials each of AdamW and K-FAC, some of them with fewer points for more steps, and
four of `newton_cg`, some of them with fewer points for the curvature; then seeds 0, 1 and 2 give
the relative L2 error at 10,000 points, which selects nothing.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.curvature_gain import Record
from benchmarks.result import Target, emit, half_width
from sciml.curvature import KFAC, NewtonCG
from sciml.gauss_newton import Expansion, Term
from sciml.layers import JetLinear
from sciml.runtime.run_folder import ROOT

SEEDS, TUNING_SEED, WIDTHS = (0, 1, 2), 3, (64, 64, 48, 48)
BAR = 0.1
SECONDS = {"poisson_2d": 60.0, "poisson_5d": 200.0, "heat_4d": 200.0}


class Equation(NamedTuple):
    """On the unit cube of `ndim` coordinates, time the last of them where it `evolves`:
    Lap u + source = 0, or u_t = diffusivity Lap u.
    """

    ndim: int
    truth: Callable[[Tensor], Tensor]
    source: Callable[[Tensor], Tensor] | None
    diffusivity: float
    inside: int
    sides: int

    def fewer(self, points: int | None) -> "Equation":
        """With at most so many points inside, and the same share of those on the sides."""
        inside = min(points or self.inside, self.inside)
        return self._replace(inside=inside, sides=-(-self.sides * inside // self.inside))


PI = math.pi
EQUATIONS = {
    "poisson_2d": Equation(
        2,
        lambda x: (PI * x).sin().prod(-1),
        lambda x: 2 * PI**2 * (PI * x).sin().prod(-1),
        1.0,
        900,
        120,
    ),
    "poisson_5d": Equation(
        5,
        lambda x: (PI * x).cos().sum(-1),
        lambda x: PI**2 * (PI * x).cos().sum(-1),
        1.0,
        3000,
        500,
    ),
    "heat_4d": Equation(
        5,
        lambda x: (-x[..., -1]).exp() * (2 * x[..., :-1]).sin().sum(-1),
        None,
        0.25,
        3000,
        500,
    ),
}


class Perceptron(nn.Module):
    """u with its first derivatives and its Laplacian over `space` coordinates: [1 + d + 1, b]."""

    def __init__(self, ndim: int, space: int):
        super().__init__()
        self.space = space
        sizes = (ndim, *WIDTHS, 1)
        self.layers = nn.ModuleList(
            JetLinear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The jet at points x [b, d]."""
        b, d = x.shape
        first = torch.eye(d, dtype=x.dtype)[:, None].expand(d, b, d)
        jet = torch.cat((x[None], first, torch.zeros_like(x)[None]))
        for layer in self.layers[:-1]:
            jet = self._tanh(layer(jet))
        return self.layers[-1](jet)[..., 0]

    def value(self, x: Tensor) -> Tensor:
        """u alone."""
        y = x[None]
        for layer in self.layers[:-1]:
            y = layer(y).tanh()
        return self.layers[-1](y)[0, :, 0]

    def _tanh(self, jet: Tensor) -> Tensor:
        z, first, laplacian = jet[0], jet[1:-1], jet[-1]
        value = z.tanh()
        slope = 1 - value.square()
        bend = -2 * value * slope * first[: self.space].square().sum(0)
        return torch.cat((value[None], slope * first, (slope * laplacian + bend)[None]))


class Learner:
    """The loss on points that change from step to step."""

    def __init__(self, equation: Equation, seed: int):
        torch.manual_seed(seed)
        self.equation = self.given = equation
        evolves = equation.source is None
        self.space = equation.ndim - evolves
        self.model = Perceptron(equation.ndim, self.space).double()
        self.generator = torch.Generator().manual_seed(seed)
        self.draw()

    def take(self, points: int | None) -> None:
        """From the next draw on fewer points."""
        self.equation = self.given.fewer(points)

    def draw(self) -> None:
        e, generator = self.equation, self.generator
        self.x = torch.rand(e.inside, e.ndim, generator=generator, dtype=torch.float64)
        s = torch.rand(e.sides, e.ndim, generator=generator, dtype=torch.float64)
        count = 2 * self.space + (e.source is None)  # sides of the cube, and the start
        side = torch.randint(0, count, (e.sides,), generator=generator)
        rows, axis = torch.arange(e.sides), torch.clamp(side // 2, max=e.ndim - 1)
        s[rows, axis] = (side % 2).double()
        self.s = s

    def expansion(self, samples: int | None = None) -> Expansion:
        """Of the points, or of the first `samples` inside and the same share of those on sides."""
        e = self.equation.fewer(samples)
        x, s = self.x[: e.inside], self.s[: e.sides]
        jet = self.model(x)
        change = e.diffusivity * jet[-1]
        residual = change + e.source(x) if e.source is not None else jet[-2] - change
        sides = self.model.value(s) - e.truth(s)
        value = residual.square().mean() / 2 + sides.square().mean() / 2
        terms = [Term(r[:, None], torch.ones(1, 1).to(r) / len(r)) for r in (residual, sides)]
        return Expansion(value, terms)

    @torch.no_grad()
    def error(self) -> float:
        generator = torch.Generator().manual_seed(12345)
        x = torch.rand(10_000, self.equation.ndim, generator=generator, dtype=torch.float64)
        truth = self.equation.truth(x)
        return float((self.model.value(x) - truth).norm() / truth.norm())


def method(name: str, settings: dict, learner: Learner) -> torch.optim.Optimizer:
    base = torch.optim.AdamW(
        learner.model.parameters(), lr=settings.get("lr", 1.0), weight_decay=0.0
    )
    rest = {k: v for k, v in settings.items() if k not in ("lr", "points")}
    if name == "adamw":
        return base
    rest.setdefault("samples", None)  # K-FAC's own choice would be a few of the points
    optimizer = {"kfac": KFAC, "newton_cg": NewtonCG}[name](base, **rest)
    optimizer.attach(learner.model, learner.expansion)
    return optimizer


RATES, POINTS = (1e-3, 3e-3, 1e-2, 3e-2), 1000
OFTEN = {"factor_period": 5, "inverse_period": 5}
MORE = [{"lr": lr, "points": POINTS} for lr in RATES[2:]]
MOST = [{"lr": lr, "points": POINTS // 4} for lr in RATES[1:]]
TRIALS = {
    "adamw": [*({"lr": lr} for lr in RATES), *MORE, *MOST[:2]],  # the third diverges
    "kfac": [
        {**OFTEN, "damping": 1e-4, **trial}
        for trial in (
            *({"lr": lr} for lr in RATES[2:]),
            *MORE,
            *MOST[1:],
            *({**trial, "kl_clip": 3e-3} for trial in MOST[1:]),
        )
    ],
    "newton_cg": [
        {"preconditioner": "kfac", "max_iterations": 100, **more}
        for more in (
            {"damping": 1e-4, "progress": 1e-3},
            {"damping": 1e-2, "progress": 1e-3},
            {"damping": 1e-1, "progress": 5e-3, "samples": POINTS},
            {"damping": 1e-1, "progress": 1e-2, "samples": POINTS},
        )
    ],
}


def trained(equation: Equation, name: str, settings: dict, seed: int, seconds: float) -> dict:
    """Error and loss after so many seconds; the rate falls by a cosine for first-order steps."""
    torch.set_num_threads(1)
    learner = Learner(equation, seed)
    learner.take(settings.get("points"))
    optimizer = method(name, settings, learner)
    peaks = [group["lr"] for group in optimizer.param_groups]
    start, steps, share = time.thread_time(), 0, 0.0
    while share < 1:
        if name != "newton_cg":
            factor = min(1.0, share / 0.02) * (1 + math.cos(PI * share)) / 2
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        learner.draw()

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = learner.expansion().value
            value.backward()
            return value

        loss = float(optimizer.step(closure).detach())
        if not loss < 1e12:
            return {"error": math.inf, "loss": math.inf, "steps": steps}
        steps += 1
        share = (time.thread_time() - start) / seconds
    learner.take(None)
    learner.generator.manual_seed(777 + seed)  # other points choose the settings
    learner.draw()
    with torch.no_grad():
        loss = float(learner.expansion().value)
    return {"error": learner.error(), "loss": loss, "steps": steps}


def row(problem: str, name: str, seconds: float, record: Record) -> dict:
    equation = EQUATIONS[problem]

    def run(settings: dict, seed: int, seconds: float) -> dict:
        return record.get(
            lambda: trained(equation, name, settings, seed, seconds),
            problem=problem,
            method=name,
            settings=settings,
            seed=seed,
            seconds=seconds,
        )

    best = min(TRIALS[name], key=lambda s: run(s, TUNING_SEED, seconds / 5)["loss"])
    found = [run(best, seed, seconds) for seed in SEEDS]
    errors = [f["error"] for f in found]
    return {
        "problem": problem,
        "seconds": round(seconds),
        "method": name,
        "relative L2 error": statistics.fmean(errors),
        "± 95 %": half_width(errors),
        "loss": statistics.fmean(f["loss"] for f in found),
        "steps": round(statistics.fmean(f["steps"] for f in found)),
        "settings": json.dumps(best).replace('"', ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", default=",".join(EQUATIONS))
    parser.add_argument("--methods", default=",".join(TRIALS))
    parser.add_argument("--seconds", type=float, help="of a training, for all problems")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "pinns")
    asked = parser.parse_args()
    record, rows, held = Record(asked.keep / "pinns.jsonl"), [], {}
    for problem in asked.problems.split(","):
        seconds = asked.seconds or SECONDS[problem]
        found = [row(problem, m, seconds, record) for m in asked.methods.split(",")]
        rows += found
        errors = {r["method"]: r["relative L2 error"] for r in found}
        curved = {m: e for m, e in errors.items() if m != "adamw"}
        if "adamw" in errors and curved:
            best = min(curved, key=curved.get)
            held[f"{problem}: {best}, error over that of adamw"] = Target(
                curved[best] / errors["adamw"], BAR, "lower"
            )
        print(rows[-len(found) :], file=sys.stderr, flush=True)
    emit("pinns", rows, held, threads=1)


if __name__ == "__main__":
    main()
