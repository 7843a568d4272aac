"""Simulations that were recorded, given again."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Ended, Event, Failed, Frame
from datasets.stream.recording import REST, Recording
from datasets.stream.study import Study


class Replay:
    """The engine that solves nothing: frames come from a `Recording`, in the order of the rota as
    from any engine, or, where frames were taken as they came, in the order in which they did.
    """

    def __init__(self, recording: Recording):
        self.waited = 0.0
        self._recording = recording
        self._rows = {simulation: row for row, simulation in enumerate(recording.samples)}

    def start(self, study: Study, plan: Plan) -> None:
        steady = study.make()[1].num_frames is None
        kind = ShardedSource if steady else ShardedTrajectories
        self._stored = kind(self._recording.path, "train")
        self._study, self._steady = study, steady
        self._queues = {lane: deque(a) for lane, a in plan.assignments.items()}
        self._frames: dict[int, tuple[int, np.ndarray, np.ndarray, np.ndarray]] = {}
        self._next: dict[int, int] = {}
        self._arrivals = self._recording.arrivals().tolist()
        self._place = 0

    def take(self, lane: int | None) -> Event:
        return self._event(lane) if lane is not None else self._as_they_came()

    def assign(self, lane: int, assignment: Assignment) -> None:
        self._queues[lane].append(assignment)

    def reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        self._queues[lane] = deque(assignments)
        self._next.pop(lane, None)

    def revive(self, plan: Plan) -> None:
        """Nothing is ever lost."""

    def effort(self) -> Effort:
        return Effort()

    def close(self) -> None:
        pass

    def _event(self, lane: int) -> Event:
        current = self._queues[lane][0]
        states, constants, parameters = self._solution(lane, current.simulation)
        number = self._next.setdefault(lane, current.first)
        if number < len(states):
            self._next[lane] += 1
            head = (constants, parameters) if number == current.first else (None, None)
            return Frame(lane, current.simulation, number, states[number], *head)
        if number == self._study.frames:
            self._queues[lane].popleft()
            del self._next[lane]
            return Ended(lane, current.simulation)
        reason = self._recording.left_out.get(current.simulation, "it was not recorded")
        return Failed(lane, current.simulation, number, reason)

    def _as_they_came(self) -> Event:
        for lane in self._behind():
            return self._event(lane)
        simulation, number = self._arrivals[self._place]
        event = self._event(self._study.lane(simulation))
        if isinstance(event, Frame) and event.number == number:
            self._place += 1
        return event

    def _behind(self) -> Iterator[int]:
        """Lanes that have an end to report before the next arrival can come."""
        if self._place < len(self._arrivals):
            simulation, _ = self._arrivals[self._place]
            lane = self._study.lane(simulation)
            if self._queues[lane][0].simulation != simulation:
                yield lane
        else:
            yield from (lane for lane, queue in self._queues.items() if queue)

    def _solution(self, lane: int, simulation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States [t, c, *space], constant fields and parameters of what a lane is at."""
        if self._frames.get(lane, (None,))[0] != simulation:
            self._frames[lane] = (simulation, *self._read(simulation))
        return self._frames[lane][1:]

    def _read(self, simulation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        row, meta = self._rows.get(simulation), self._stored.metadata
        if row is None:
            states, numbers = self._rest(simulation)
            return states, np.zeros((meta.in_channels, *meta.grid.shape), np.float32), numbers
        if self._steady:
            batch = self._stored.__getitems__([row])
            return (
                batch.target.numpy(),
                batch.input[0].numpy(),
                batch.parameters[0].double().numpy(),
            )
        states = self._stored.read(row, slice(None)).numpy()
        constants = self._stored.constants(row).numpy()
        return states, constants, self._stored.parameters(row).double().numpy()

    def _rest(self, simulation: int) -> tuple[np.ndarray, np.ndarray]:
        folder, meta = self._recording.path / REST, self._stored.metadata
        path = folder / f"{simulation}.npy"
        if not path.is_file():
            empty = np.zeros((0, meta.out_channels, *meta.grid.shape), np.float32)
            return empty, np.zeros(len(meta.parameters))
        numbers = np.load(folder / f"{simulation}-parameters.npy", allow_pickle=False)
        return np.load(path, allow_pickle=False), numbers
