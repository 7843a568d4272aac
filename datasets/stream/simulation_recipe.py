"""Recipes whose samples a solver from outside computes."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.recipe import Recipe, Solution
from datasets.schema import Field, Metadata
from datasets.simulation import Simulation
from datasets.stream.solver import Frame, Request, SimulationError, Solver
from solvers.distributions import Distribution
from solvers.grid import Grid

TAKEN = ("seed", "shape", "num_steps", "dt", "parameters")  # names in a request
TOLERANCE = 1e-6  # of a time, in steps
END = object()


class SimulationRecipe(Recipe):
    """Solutions over time from a solver of your own: a `PythonSolver` or a `Program`.

    `parameters` are drawn per sample, then a seed of 63 bits for what else is random; the solver
    gives `num_steps` + 1 frames at t = 0, dt, 2 dt ... on the points of `grid`, whose sizes give
    way to the resolution. `fields` are names, units and components of the state.

    Every frame is checked: names and shapes of the fields, the time to 1e-6 dt, no NaN, no
    absolute value above `largest`, as many frames as were asked for. `SimulationError` says what
    came. How accurate the solution is, nobody checks: the `residual` of such a data set is 0.
    Frames are stored as float32.

    Raise `version` when the solver changes: a data set is known by its configuration, which does
    not see the code of the solver. A configuration with such a recipe runs what it names.
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        solver: Solver,
        *,
        fields: Sequence[Mapping[str, Any]],
        num_steps: int,
        dt: float,
        version: int,
        provenance: Mapping[str, str],
        parameters: Mapping[str, Distribution] | None = None,
        largest: float = 1e10,
    ):
        if num_steps < 1 or not dt > 0 or not largest > 0:
            raise ValueError(
                f"num_steps={num_steps} must be at least 1, dt={dt} and largest={largest} positive."
            )
        self.name, self.grid, self.ndim = name, grid, grid.ndim
        self.fields = tuple(Field(**field) for field in fields)
        names = [field.name for field in self.fields]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"fields: expected different names, at least one, got {names}.")
        self.parameters = dict(parameters or {})
        for parameter in self.parameters:
            if not re.fullmatch(r"\w+", parameter) or parameter in TAKEN:
                raise ValueError(
                    f"parameters: {parameter!r} must consist of letters, digits and _, and be none "
                    f"of {', '.join(TAKEN)}; rename it."
                )
        self.num_steps, self.dt, self.largest = num_steps, dt, largest
        self.provenance, self._solver = dict(provenance), solver
        self.solver = {"name": solver.name, "version": version, "parameters": {"dt": dt}}

    def metadata(self, shape: Sequence[int]) -> Metadata:
        return Metadata(
            name=self.name,
            input_fields=(),
            target_fields=self.fields,
            grid=self.grid.resized(shape),
            parameters=tuple(self.parameters),
            dt=self.dt,
            num_frames=1 + self.num_steps,
            provenance={**self.provenance, "solver": self.solver["name"]},
        )

    def simulate(
        self,
        generator: torch.Generator,
        shape: Sequence[int],
        given: Mapping[str, float] | None = None,
    ) -> Simulation:
        """The sample of this generator; `given` replaces drawn parameters by name.

        The solver starts with the first frame that is asked for, and is ended when `frames` is
        closed or exhausted.
        """
        unknown = sorted(set(given or ()) - set(self.parameters))
        if unknown:
            raise ValueError(
                f"{self.name} has no parameters {unknown}; it has {sorted(self.parameters)}."
            )
        numbers = {name: float(p.sample([generator])) for name, p in self.parameters.items()}
        numbers |= {name: float(x) for name, x in (given or {}).items()}
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        space = self.grid.resized(shape).shape
        shapes = {f.name: (f.components,) * (f.components > 1) + space for f in self.fields}
        request = Request(numbers, seed, space, self.num_steps, self.dt, shapes)
        return Simulation(numbers, torch.empty(0, *space), self._frames(request))

    def solve(self, generators: Sequence[torch.Generator], shape: Sequence[int]) -> Solution:
        trajectories, numbers = [], []
        for generator in generators:
            simulation = self.simulate(generator, shape)
            trajectories.append(torch.stack(list(simulation.frames)))
            numbers.append(simulation.parameters)
        parts = torch.stack(trajectories).split([f.components for f in self.fields], dim=2)
        return Solution(
            {
                field.name: part if field.components > 1 else part[:, :, 0]
                for field, part in zip(self.fields, parts, strict=True)
            },
            torch.zeros(len(generators), dtype=torch.float64),
            1.0,
            {
                name: torch.tensor([n[name] for n in numbers], dtype=torch.float64)
                for name in self.parameters
            },
        )

    def _frames(self, request: Request) -> Iterator[Tensor]:
        """The checked frames, [c, *space]; the last is given when the solver has ended well."""
        with closing(self._solver(request)) as frames:
            for step in range(1 + self.num_steps):
                came = next(frames, END)
                if came is END:
                    raise self._error(
                        f"ended after {step} frames, expected {1 + self.num_steps}: those at "
                        f"t = 0, {self.dt:g} ... {self.num_steps * self.dt:g}."
                    )
                frame = self._checked(came, step, request)
                if step == self.num_steps and next(frames, END) is not END:
                    raise self._error(
                        f"gives more than the {1 + self.num_steps} frames that were asked for; end "
                        f"it at t = {self.num_steps * self.dt:g}."
                    )
                yield frame

    def _checked(self, came: Frame, step: int, request: Request) -> Tensor:
        """Frame number `step`, [c, *space], copied: the solver may go on in the same memory."""
        if not (isinstance(came, tuple) and len(came) == 2 and isinstance(came[1], Mapping)):
            raise self._error(
                f"frame {step} is {type(came).__name__}, expected a time and a mapping of fields."
            )
        time, fields = came
        try:
            late = abs(float(time) - step * self.dt)
        except (TypeError, ValueError):
            late = math.nan
        if not late <= TOLERANCE * self.dt:
            raise self._error(
                f"the time of frame {step} is {time}, expected {step * self.dt:g}: frames lie "
                f"dt = {self.dt:g} apart and begin at 0."
            )
        if set(fields) != set(request.fields):
            raise self._error(
                f"frame {step} has the fields {sorted(map(str, fields))}, expected "
                f"{sorted(request.fields)}."
            )
        parts = []
        for name, shape in request.fields.items():
            array = np.asarray(fields[name])
            if array.shape != shape or array.dtype.kind not in "fiu":
                raise self._error(
                    f"field {name!r} of frame {step} is {array.dtype} {array.shape}, expected real "
                    f"numbers {shape}."
                )
            if not (np.abs(array) <= self.largest).all():
                raise self._error(
                    f"field {name!r} of frame {step} holds NaN, infinity or numbers above "
                    f"largest={self.largest:g}: the solution blew up. Take smaller steps, narrow "
                    "the parameters, or raise largest."
                )
            parts.append(array.reshape(-1, *request.shape))
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))

    def _error(self, text: str) -> SimulationError:
        return SimulationError(f"{self._solver.name}: {text}")
