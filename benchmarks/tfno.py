"""Seconds per training step and prediction of our TFNO and neuraloperator's, of the same form.

    python -m benchmarks.tfno            Darcy size, and the form of the Navier-Stokes runs
    python -m benchmarks.tfno --quick    Darcy size alone, fewer rounds

Four layers with a Tucker weight of rank 0.05 each, as many parameters on both sides, coordinates
as input channels, no padding, single precision, random fields. A training step is prediction, mean
square error, backward pass and AdamW; a prediction is made without gradients in evaluation mode.
The two take turns on the same number of threads; ratios are medians over rounds. The library's CP
and tensor-train forms are in the table for comparison. "limit" is the ratio if our products and
GELUs went at full speed and took all the time, see `benchmarks.fno`.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.arithmetic import limit, timed
from benchmarks.result import Target, emit
from sciml.models import TFNO, Neuralop, parameter_count
from solvers.grid import Grid

THREADS = 2
RANK = 0.05
DEPTH = 4
NAMES = {"tucker": "Tucker", "cp": "CP", "tensor_train": "TT"}


@dataclass(frozen=True)
class Case:
    """`points` per axis in two dimensions; `modes` of one sign, as ours counts them."""

    points: int
    width: int
    modes: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.points} x {self.points}, width {self.width}, {self.modes} modes"


SMALL = Case(64, 32, 12, 16)
LARGE = Case(128, 64, 32, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(THREADS)
    rows, targets, rounds = [], {}, 5 if quick else 11
    for case in (SMALL,) if quick else (SMALL, LARGE):
        for factorization in NAMES if case is SMALL else ("tucker",):
            found, ratios = compare(case, factorization, rounds)
            rows += found
            if factorization == "tucker":
                for what, ratio in ratios.items():
                    bar = f"TFNO {case.name}, {what}: times as fast as neuraloperator"
                    targets[bar] = Target(ratio, 2.0, "higher")
    emit("tfno", rows, targets, versions=("torch", "neuraloperator"), threads=THREADS)


def compare(case: Case, factorization: str, rounds: int) -> tuple[list[dict], dict[str, float]]:
    """A row for each of the two, and the median ratios of their times over alternating rounds."""
    generator = torch.Generator().manual_seed(0)
    a, u = torch.randn(2, case.batch, 1, case.points, case.points, generator=generator)
    models = {"ours": ours(case, factorization), "neuraloperator": theirs(case, factorization)}
    seconds, limits = {}, {}
    for what, make in (("training", training), ("inference", inference)):
        calls = {code: make(model, a, u) for code, model in models.items()}
        for call in calls.values():
            call()
        seconds[what] = [{code: timed(call) for code, call in calls.items()} for _ in range(rounds)]
        limits[what] = limit(*calls.values(), rounds)
    rows = [
        {
            "form": case.name,
            "weight": factorization,
            "code": code,
            "parameters": parameter_count(model),
            **{
                f"{what}, ms / sample": 1e3
                * statistics.median(taken[code] for taken in seconds[what])
                / case.batch
                for what in seconds
            },
            **{f"limit {w}": limits[w] if code == "ours" else None for w in limits},
        }
        for code, model in models.items()
    ]
    ratios = {
        what: statistics.median(t["neuraloperator"] / t["ours"] for t in taken)
        for what, taken in seconds.items()
    }
    return rows, ratios


def ours(case: Case, factorization: str) -> nn.Module:
    return TFNO(
        1,
        1,
        2,
        grid=Grid.box((case.points, case.points), points="left"),
        width=case.width,
        modes=case.modes,
        depth=DEPTH,
        padding=0.0,
        factorization=factorization,
        rank=RANK,
    )


def theirs(case: Case, factorization: str) -> nn.Module:
    settings = {
        "n_modes": 2 * case.modes,
        "hidden_channels": case.width,
        "n_layers": DEPTH,
        "factorization": NAMES[factorization],
        "rank": RANK,
    }
    return Neuralop(1, 1, 2, architecture="TFNO", settings=settings)


def training(model: nn.Module, a: Tensor, u: Tensor) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        (model(a) - u).square().mean().backward()
        optimizer.step()

    return step


def inference(model: nn.Module, a: Tensor, u: Tensor) -> Callable[[], object]:
    model.eval()
    return torch.no_grad()(lambda: model(a))


if __name__ == "__main__":
    main()
