"""What arrives, in which order, and what becomes of simulations that fail."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from datasets.stream.engine import Engine, Plan
from datasets.stream.events import Assignment, Ended, Failed, Frame
from datasets.stream.rota import Rota
from datasets.stream.sampler import Sampler
from datasets.stream.study import Study


class StudyFailed(ValueError):
    """Too many simulations failed."""


class Arrival(NamedTuple):
    """A frame; `live` unless it was counted before and is here to remind of what went before."""

    frame: Frame
    live: bool


class Intake:
    """The frames of a study as they are counted: each (simulation, frame) once, none left out.

    In order the lanes have their turns one after another (`Rota`), so the sequence depends on the
    study alone and not on who computes it, how fast, or how often it had to begin again. Out of
    order, frames come as they are done.

    A simulation that fails is tried again; if it fails more than `retries` times at the same
    frame it is quarantined: its lane goes on with the next one and nothing takes its place. What
    it had given before stays. If that happens before anything has arrived, or to more than the
    share `tolerate` of the simulations, `StudyFailed` says what they were and why.

    The parameters of a simulation are chosen when the first frame of the one before it in its lane
    is counted, which is a place in the sequence and no time.
    """

    def __init__(
        self,
        study: Study,
        engine: Engine,
        sampler: Sampler,
        *,
        ordered: bool = True,
        retries: int = 2,
        tolerate: float = 0.05,
    ):
        self.study, self.engine, self.sampler, self.ordered = study, engine, sampler, ordered
        self.retries, self.tolerate = retries, tolerate
        self.counted = self.done = 0
        self.quarantined: dict[int, dict[str, Any]] = {}
        self.restarts = 0
        self._failures: dict[tuple[int, int], int] = {}
        self._lanes: dict[int, deque[Assignment]] = {}
        self._rota = Rota(study)

    def start(self) -> None:
        """Begin, or go on from a loaded state."""
        if not self._lanes:
            self._lanes = {
                self.study.lane(i): deque([self._choose(i)]) for i in self.study.firsts()
            }
        self.engine.start(self.study, self._plan())

    def forget(self) -> None:
        """Let everything be computed from its first frame again, for a consumer without memory."""
        for queue in self._lanes.values():
            if queue:
                queue[0] = replace(queue[0], first=0)

    def next(self) -> Arrival | None:
        """The next frame, None after the last one. It is good until it is released."""
        while (lane := self._turn()) is not None:
            event = self.engine.take(lane if self.ordered else None)
            if isinstance(event, Frame):
                return self._count(event)
            if isinstance(event, Ended):
                self.done += 1
                self._lanes[event.lane].popleft()
            else:
                self._mend(event)
        return None

    def _turn(self) -> int | None:
        """A lane that has something left."""
        while (lane := self._rota.turn()) is not None:
            if self._lanes.get(lane):
                return lane
            self._rota.finish(lane)
        return None

    def _count(self, frame: Frame) -> Arrival:
        queue = self._lanes[frame.lane]
        current = queue[0]
        if frame.simulation != current.simulation:
            raise RuntimeError(f"lane {frame.lane}: {frame.simulation} came, not {current}.")
        if frame.number < current.live:
            return Arrival(frame, live=False)
        if frame.number > current.live:
            raise RuntimeError(f"frame {frame.number} came, {current.live} was due.")
        done = frame.number + 1
        queue[0] = Assignment(frame.simulation, done, done, current.attempt, current.given)
        self.counted += 1
        if self.ordered:
            self._rota.next()
        else:
            self._rota.tick, self._rota.lane = self.counted // max(len(self._lanes), 1), 0
        self._extend(frame.lane)
        return Arrival(frame, live=True)

    def _extend(self, lane: int) -> None:
        """Choose what comes after the present simulation of a lane, once."""
        queue = self._lanes[lane]
        following = self.study.after(queue[-1].simulation)
        if len(queue) > 1 or following is None:
            return
        queue.append(self._choose(following))
        self.engine.assign(lane, queue[-1])

    def _choose(self, simulation: int) -> Assignment:
        return Assignment(simulation, given=self.sampler.choose(simulation))

    def _mend(self, failed: Failed) -> None:
        """Another attempt, or none."""
        place = failed.simulation, failed.number
        self._failures[place] = failures = self._failures.get(place, 0) + 1
        lane, self.restarts = self.study.lane(failed.simulation), self.restarts + 1
        queue = self._lanes[lane]
        if queue and queue[0].simulation == failed.simulation:
            current = queue[0]
            queue[0] = replace(current, attempt=current.attempt + 1)
            if failures > self.retries:
                self._quarantine(lane, failed)
        if failed.lost:
            self.engine.revive(self._plan())
        else:
            self.engine.reassign(lane, list(queue))

    def _quarantine(self, lane: int, failed: Failed) -> None:
        queue = self._lanes[lane]
        self.quarantined[failed.simulation] = {
            "frame": failed.number,
            "parameters": self.study.drawn(failed.simulation, queue.popleft().given),
            "reason": failed.reason,
        }
        if not queue and (following := self.study.after(failed.simulation)) is not None:
            queue.append(self._choose(following))
        number = len(self.quarantined)
        if self.counted == 0 or number > self.tolerate * self.study.count:
            some = "; ".join(map(self._describe, list(self.quarantined)[:3]))
            raise StudyFailed(
                f"{number} of {self.study.count} simulations failed {self.retries + 1} times each"
                f"{'' if self.counted else ' before the first frame arrived'}: {some}. Mend the "
                "solver or its parameters, or raise online.tolerate, the share of simulations "
                "that may be left out."
            )

    def _describe(self, simulation: int) -> str:
        entry = self.quarantined[simulation]
        listed = ", ".join(f"{name} {value:.6g}" for name, value in entry["parameters"].items())
        where = f"simulation {simulation}{f' ({listed})' if listed else ''}"
        return f"{where} at frame {entry['frame']}: {entry['reason'].rstrip('.')}"

    def _plan(self) -> Plan:
        return Plan({lane: tuple(q) for lane, q in self._lanes.items()}, self._rota.position)

    def state_dict(self) -> dict[str, Any]:
        return {
            "lanes": {lane: [asdict(a) for a in q] for lane, q in self._lanes.items()},
            "position": list(self._rota.position),
            "counted": self.counted,
            "done": self.done,
            "restarts": self.restarts,
            "failures": [[*place, count] for place, count in self._failures.items()],
            "quarantined": self.quarantined,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lanes = {
            int(lane): deque(Assignment(**a) for a in q) for lane, q in state["lanes"].items()
        }
        self._rota = Rota(self.study, position=tuple(state["position"]))
        self.counted, self.done = state["counted"], state["done"]
        self.restarts = state["restarts"]
        self._failures = {(i, k): count for i, k, count in state["failures"]}
        self.quarantined = dict(state["quarantined"])
