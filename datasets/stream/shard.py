"""Events in a file: a few frames, and what happened between them."""

import json
import math
import struct
from collections.abc import Callable, Sequence

import numpy as np

from datasets.stream import messages
from datasets.stream.events import Event, Frame

_LENGTH = struct.Struct("<I")
KINDS = ("<f4", "<f4", "<f8")  # of state, constants and parameters
MOST_HEAD = 16384  # bytes of the header of a shard of one frame, at most


def packed(events: Sequence[Event]) -> bytes:
    """The length of a JSON header, the header, and the arrays one after another. The header lists
    every event as a report in hexadecimal and the shapes of its arrays.
    """
    rows, blocks = [], []
    for event in events:
        shapes: list[Sequence[int] | None] = []
        if isinstance(event, Frame):
            parts = (event.state, event.constants, event.parameters)
            for part, kind in zip(parts, KINDS, strict=True):
                shapes.append(None if part is None else part.shape)
                if part is not None:
                    blocks.append(np.ascontiguousarray(part, kind).tobytes())
        rows.append([messages.report(event).hex(), shapes])
    head = json.dumps(rows).encode()
    return b"".join((_LENGTH.pack(len(head)), head, *blocks))


def unpacked(data: bytes, release: Callable[[], None]) -> list[Event]:
    """The events of a shard; arrays are views of `data`. ValueError if it is not a whole one."""
    try:
        [length] = _LENGTH.unpack_from(data)
        place = _LENGTH.size + length
        events: list[Event] = []
        for text, shapes in json.loads(data[_LENGTH.size : place]):
            arrays: list[np.ndarray | None] = []
            for shape, kind in zip(shapes, KINDS[: len(shapes)], strict=True):
                if shape is None:
                    arrays.append(None)
                    continue
                count = math.prod(shape)
                arrays.append(np.frombuffer(data, kind, count, place).reshape(shape))
                place += arrays[-1].nbytes
            events.append(messages.event_of(bytes.fromhex(text), arrays, release))
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(f"not a shard of frames: {error}") from error
    if place != len(data):
        raise ValueError(f"a shard of frames of {place} bytes holds {len(data)}.")
    return events
