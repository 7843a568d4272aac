"""What benchmarks/online.py trains: three problems, and the ways in which their data arrive."""

from dataclasses import dataclass

ONE_CYCLE = "task.schedule.warmup=0.02"


@dataclass(frozen=True)
class Problem:
    """`simulations` N give `samples` each; S = reuse N samples / batch_size steps are the budget.
    `rates` are the learning rates that every row is tried with; `bars` say how much lower the error
    of the reservoir is to be than that of a tenth of the simulations, and how much higher, at most,
    than that of all of them.
    """

    data: tuple[str, ...]
    model: tuple[str, ...]
    simulations: int
    samples: int
    capacity: int
    clients: int
    rates: tuple[float, ...]
    bars: tuple[float, float] | None
    held_out: tuple[int, int] = (64, 100)
    reuse: int = 4
    batch_size: int = 32
    epochs: int = 10

    @property
    def steps(self) -> int:
        return self.reuse * self.simulations * self.samples // self.batch_size


PLAIN = ("curvature=none", "optimizer=adamw", "+optimizer.fused=true", "threads=1", ONE_CYCLE)
PROBLEMS = {
    "heat": Problem(
        ("data=heated_plate",),
        ("model=fully_connected", "model.hidden=[256,256]", *PLAIN),
        simulations=480,
        samples=50,
        capacity=1200,
        clients=20,
        rates=(1e-3, 2e-3, 4e-3, 8e-3),
        bars=(0.30, 0.40),
    ),
    "burgers": Problem(
        ("data=burgers_decay",),
        ("model=fno", "model.width=16", "model.modes=16", "model.depth=3", *PLAIN),
        simulations=640,
        samples=20,
        capacity=640,
        clients=16,
        rates=(3e-3, 6e-3, 1.2e-2, 2.4e-2),
        bars=(0.25, 0.25),
    ),
    "navier_stokes": Problem(  # the forced flow, without the decay of what it begins with
        ("data=navier_stokes_1e-3", "data.resolution=32", "data.pde.num_steps=20")
        + ("data.pde.stepper.substeps=16", "data.pde.initial.num_modes=21", "data.window.first=5"),
        ("model=fno", "model.width=16", "model.modes=8", "model.depth=3", *PLAIN),
        simulations=160,
        samples=15,
        capacity=160,
        clients=8,
        rates=(3e-3, 6e-3, 1.2e-2),
        bars=None,
        held_out=(16, 32),
        batch_size=16,
    ),
}


@dataclass(frozen=True)
class Row:
    """How the samples of a training arrive: from a stream with a buffer, or made before (None), of
    `share` N simulations, each drawn `reuse` times or as often as the budget allows (None).
    """

    buffer: str | None
    share: float = 1.0
    reuse: int | None = None
    stagger: bool = True

    def count(self, problem: Problem) -> int:
        return round(self.share * problem.simulations)

    def data(self, problem: Problem) -> list[str]:
        """Where the samples come from when nothing is recorded."""
        valid, test = problem.held_out
        counts = f"{{train: {self.count(problem)}, valid: {valid}, test: {test}}}"
        return [*problem.data, f"data.counts={counts}"]

    def overrides(self, problem: Problem) -> list[str]:
        """All the rest."""
        chosen = [*problem.model, f"batch_size={problem.batch_size}"]
        if self.buffer is None:
            drawn = self.count(problem) * problem.samples
            return [*chosen, f"trainer.max_epochs={problem.steps * problem.batch_size // drawn}"]
        rows = problem.capacity // (problem.samples if self.buffer == "pairs" else 1)
        return [
            *chosen,
            f"trainer.max_epochs={problem.epochs}",
            "online=inproc",
            f"online/buffer={self.buffer}",
            f"online.buffer.capacity={rows}",
            f"online.clients={problem.clients}",
            f"online.reuse={self.reuse or problem.reuse}",
            f"online.stagger={str(self.stagger).lower()}",
        ]


ROWS = {
    "tenth": Row(None, share=0.1),
    "all": Row(None),
    "reservoir": Row("reservoir"),
    "history": Row("history"),
    "quota": Row("quota"),
    "batch_reservoir": Row("batch_reservoir"),
    "pairs": Row("pairs"),
    "fifo": Row("fifo", reuse=1),
    "firo": Row("firo", reuse=1),
    "fifo_4": Row("fifo", share=4, reuse=1),
    "firo_4": Row("firo", share=4, reuse=1),
    "reservoir_together": Row("reservoir", stagger=False),
    "quota_together": Row("quota", stagger=False),
    "fifo_4_together": Row("fifo", share=4, reuse=1, stagger=False),
    "firo_4_together": Row("firo", share=4, reuse=1, stagger=False),
}
