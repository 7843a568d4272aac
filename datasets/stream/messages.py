"""What a worker and the process that trains say to each other: bytes, never pickled objects."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from datasets.stream.events import Assignment, Ended, Event, Failed, Frame

FRAME, ENDED, FAILED = b"F", b"E", b"X"  # of the worker
CREDITS, ASSIGN, REASSIGN, STOP = b"C", b"A", b"R", b"S"  # to it
MOST_TEXT = 8192  # bytes of what a client says of its failure
_PLACE = struct.Struct("<cIQII?")


def pack(
    kind: bytes, lane: int, simulation: int, number: int, slot: int = 0, head: bool = False
) -> bytes:
    """A worker's report of one frame, or of the end of a simulation."""
    return _PLACE.pack(kind, lane, simulation, number, slot, head)


def unpack(message: bytes) -> tuple[bytes, int, int, int, int, bool, str]:
    """Kind, lane, simulation, frame, slot, whether it has a head, and text."""
    return *_PLACE.unpack_from(message), message[_PLACE.size :].decode(errors="replace")


def report(event: Event, slot: int = 0) -> bytes:
    """An event without its arrays."""
    if isinstance(event, Frame):
        head = event.parameters is not None
        return pack(FRAME, event.lane, event.simulation, event.number, slot, head)
    if isinstance(event, Ended):
        return pack(ENDED, event.lane, event.simulation, 0)
    text = event.reason.encode()[:MOST_TEXT]
    return pack(FAILED, event.lane, event.simulation, event.number) + text


def event_of(
    message: bytes, arrays: Sequence[np.ndarray | None], release: Callable[[], None]
) -> Event:
    """The event of a report; `arrays` are those of a frame."""
    kind, lane, simulation, number, _, _, text = unpack(message)
    if kind == ENDED:
        return Ended(lane, simulation)
    if kind == FAILED:
        return Failed(lane, simulation, number, text)
    return Frame(lane, simulation, number, *arrays, release=release)


def credits(slots: Sequence[int]) -> bytes:
    return CREDITS + struct.pack(f"<{len(slots)}I", *slots)


def slots_of(message: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{(len(message) - 1) // 4}I", message[1:])


def orders(kind: bytes, lane: int, assignments: Sequence[Assignment]) -> bytes:
    """Work for a lane."""
    return kind + json.dumps([lane, [asdict(a) for a in assignments]]).encode()


def orders_of(message: bytes) -> tuple[int, list[Assignment]]:
    lane, assignments = json.loads(message[1:])
    return lane, [Assignment(**a) for a in assignments]


def plan_to_json(assignments: Mapping[int, Sequence[Assignment]], position: Sequence[int]) -> str:
    lanes = [[lane, [asdict(a) for a in some]] for lane, some in assignments.items()]
    return json.dumps({"lanes": lanes, "position": list(position)})


def plan_from_json(text: str) -> tuple[dict[int, list[Assignment]], tuple[int, int]]:
    plan = json.loads(text)
    lanes = {lane: [Assignment(**a) for a in some] for lane, some in plan["lanes"]}
    return lanes, tuple(plan["position"])
