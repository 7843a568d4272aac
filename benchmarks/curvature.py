"""What second-order methods cost: time of a training step and memory of the state, over AdamW's.

    python -m benchmarks.curvature [--methods kfac,ekfac,...] [--threads 2]
    python -m benchmarks.curvature --quick        fewer rounds

A step is zero_grad, forward, backward and the optimizer's step as `python train.py` makes it, with
the default settings of each method, on random fields: blocks of 50 steps, which hold one inversion
and five samples of the curvature. Methods take turns; ratios are medians over rounds of the ratio
to AdamW's block in the same round. State is what `state_dict` holds, in bytes.
"""

import argparse
import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.models import composed
from benchmarks.result import Target, emit
from datasets.normalize import Normalizer
from datasets.schema import Batch, Field, Metadata
from sciml.losses import RelativeL2
from sciml.models import build_model
from sciml.runtime.allocator import keep_freed_memory
from sciml.tasks import Constant, Supervised
from sciml.tasks.build import optimizer_factory
from solvers.grid import Grid

BLOCK, ROUNDS = 50, 5


class Case(NamedTuple):
    """One field in, one out."""

    overrides: list[str]
    batch: int
    shape: tuple[int, ...]
    bar: float


FNO = ["model=fno", "model.width=32", "model.depth=4"]
CASES = {
    "fno (16, 64^2, 32, 12)": Case([*FNO, "model.modes=12"], 16, (64, 64), 1.2),
    "fno (32, 128, 32, 16)": Case([*FNO, "model.modes=16"], 32, (128,), 1.35),
    "deeponet (64, 128)": Case(["model=deeponet"], 64, (128,), 1.6),
}
METHODS = {
    "kfac": ["curvature=kfac"],
    "ekfac": ["curvature=ekfac"],
    "soap": ["optimizer=soap"],
    "muon": ["optimizer=muon"],
}
STATE_BARS = {"kfac": 3.0, "ekfac": 1.2}


class Learner:
    """A training that goes on block by block."""

    def __init__(self, case: Case, overrides: list[str]):
        config = composed([*case.overrides, *overrides, "name=cost"])
        grid = Grid.box(case.shape, boundary="periodic", points="left")
        fields = (Field("a"),), (Field("u"),)
        metadata = Metadata("random", *fields, grid)
        torch.manual_seed(0)
        shape = (case.batch, 1, *case.shape)
        a, u = torch.randn(shape), torch.randn(shape)
        self.batch = Batch(a, u, torch.empty(case.batch, 0), grid.mesh())
        plain = Normalizer(torch.zeros(1), torch.ones(1))
        self.task = Supervised(
            build_model(config.model, metadata),
            metadata,
            loss=RelativeL2(),
            optimizer=optimizer_factory(config),
            schedule=Constant(),
            input_normalizer=plain,
            target_normalizer=plain,
        )
        self.task.log = lambda *arguments, **options: None
        self.optimizer = self.task.make_optimizer()

    def closure(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.task.training_step(self.batch, 0)
        loss.backward()
        return loss

    def block(self) -> float:
        """Seconds."""
        start = time.perf_counter()
        for _ in range(BLOCK):
            self.optimizer.step(self.closure)
        return time.perf_counter() - start

    def state_bytes(self) -> int:
        state = self.optimizer.state_dict()
        held = tensors([state["state"], state.get("curvature", {})])
        return sum(t.nbytes for t in held)


def tensors(state: Any) -> list[Tensor]:
    """All of a nested state but counters."""
    if isinstance(state, Tensor):
        return [state] if state.numel() > 1 else []
    if isinstance(state, dict):
        state = list(state.values())
    return [t for part in state for t in tensors(part)] if isinstance(state, list) else []


def rows_of(name: str, case: Case, methods: list[str], rounds: int) -> list[dict]:
    overrides = {"adamw": ["curvature=none"]} | {m: METHODS[m] for m in methods}
    learners = {m: Learner(case, o) for m, o in overrides.items()}
    for learner in learners.values():
        learner.block()
    taken: dict[str, list[float]] = {m: [] for m in learners}
    for _ in range(rounds):
        for method, learner in learners.items():
            taken[method].append(learner.block())
    rows = []
    for method, learner in learners.items():
        pairs = zip(taken[method], taken["adamw"], strict=True)
        rows.append(
            {
                "case": name,
                "method": method,
                "ms per step": 1e3 * statistics.median(taken[method]) / BLOCK,
                "over AdamW": statistics.median(a / b for a, b in pairs),
                "state over AdamW": learner.state_bytes() / learners["adamw"].state_bytes(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()  # as `train.py` does
    methods, rounds = asked.methods.split(","), 1 if asked.quick else ROUNDS
    rows = [r for n, case in CASES.items() for r in rows_of(n, case, methods, rounds)]
    held = {}
    for row in rows:
        name, method = row["case"], row["method"]
        if method == "kfac":
            held[f"{name}, step with kfac"] = Target(row["over AdamW"], CASES[name].bar, "lower")
        if method in STATE_BARS:
            held[f"{name}, state of {method}"] = Target(
                row["state over AdamW"], STATE_BARS[method], "lower"
            )
    emit("curvature", rows, held, threads=asked.threads)


if __name__ == "__main__":
    main()
