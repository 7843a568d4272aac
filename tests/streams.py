"""Small streams of a heated plate for tests."""

from contextlib import closing
from dataclasses import replace

from datasets.build import instantiate
from datasets.dataset import Generated
from datasets.stream import AsDrawn, Inproc, Online
from datasets.stream.engine import Engine
from datasets.stream.intake import Intake
from datasets.stream.study import Study
from tests.helpers import compose

PLATE = ("data=heated_plate", "data.resolution=8", "data.pde.num_steps=6")
CRASHES = """\
import os

import numpy as np

def solve(parameters, shape, num_steps, dt):
    for k in range(num_steps + 1):
        if k == 3 and parameters["mass"] < 5:
            os.kill(os.getpid(), 9)
        yield k * dt, {name: np.full(shape, k + parameters["mass"]) for name in FIELDS}
""".replace("FIELDS", "('displacement', 'velocity')")
COUNTS = "data.counts={train: 10, valid: 3, test: 3}"


def generated(folder, *overrides: str, problem=PLATE) -> Generated:
    """The plate as a data set that is stored."""
    settings = [*problem, COUNTS, "data.num_workers=0", f"data_dir={folder}", *overrides]
    return instantiate(compose(settings).data)


def study(
    *overrides: str, lanes: int = 4, stagger: bool = True, faults=None, problem=PLATE
) -> Study:
    problem = generated("nowhere", *overrides, problem=problem).problem()
    made = Study(
        problem.recipe,
        problem.shape,
        problem.seed,
        problem.count,
        lanes,
        stagger=stagger,
        faults=faults.plain if faults is not None else {},
    )
    return replace(made, frames=made.make()[1].num_frames)


def crashing(folder) -> tuple[str, ...]:
    """Data whose solver ends its process at frame 3 of some simulations."""
    (folder / "solver.py").write_text(CRASHES)
    settings = f"{{name: crashing, num_steps: 6, solver: {{path: {folder}/solver.py}}}}"
    return ("data=python", f"data.pde={settings}", "data.resolution=8")


def online(folder, *overrides: str, problem=PLATE, **injected) -> Online:
    """The plate as a stream, by this process unless said otherwise."""
    chosen = [*problem, COUNTS, "data.num_workers=0", f"data_dir={folder}", *overrides]
    config = compose([*chosen, "online=inproc"] if "online=local" not in chosen else chosen)
    settings = {"batch_size": 4, "epochs": 1, "seed": 0, **injected}
    return instantiate(config.online, dataset=instantiate(config.data), **settings)


def arrivals(made: Study, engine: Engine | None = None, *, every=None, **settings) -> list[tuple]:
    """(simulation, frame, bytes) of everything that is counted; `every` is called after each with
    the number so far.
    """
    engine, found = engine or Inproc(), []
    intake = Intake(made, engine, AsDrawn(), **settings)
    with closing(engine):
        intake.start()
        while (arrival := intake.next()) is not None:
            frame = arrival.frame
            found.append((frame.simulation, frame.number, frame.state.tobytes()))
            frame.release()
            if every is not None:
                every(len(found))
    return found


def recorded(folder):
    """The folder of a stream that was recorded."""
    made = online(folder, f"online.tee={folder}/tee")
    with closing(made):
        for _ in made.loader():
            pass
    return folder / "tee"
