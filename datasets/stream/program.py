"""Solvers that are programs of their own, in any language."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal

import numpy as np

from datasets.stream.child import Child
from datasets.stream.solver import Frame, Request, SimulationError


class Program:
    """An external program, started anew for every simulation.

    It reads from its standard input, as lines `name value` up to an empty line (`format="text"`),

        seed 7046029254386353131
        shape 64 64
        num_steps 20
        dt 0.05
        viscosity 0.0123
        ...                       one line for each parameter

    or as one line of JSON with the keys parameters, seed, shape, num_steps, dt. It writes
    `num_steps` + 1 frames to its standard output, without headers, and ends with exit code 0:

        time      one float64
        values    those of all fields in their order, `dtype`, C order: the last axis fastest

    all little-endian. Flush after a frame, or training waits for a full buffer. Its standard error
    is for messages: the last 4 KiB are part of every error.

    `command` is the program and its arguments; no shell reads it. `cwd` is the folder it runs in,
    null this one. A frame that is not there `patience` seconds after it was asked for ends the
    program: `SimulationError`, as for any other exit code, a signal, and half a frame. It runs
    with OMP_NUM_THREADS=1 and without a GPU; `[env, OMP_NUM_THREADS=4, ./solver]` changes that. It
    never outlives this process, or the thread that started it. Of processes that it starts
    itself, those of its process group are ended with it, but not when this process is killed
    by SIGKILL.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        format: Literal["text", "json"] = "text",
        dtype: Literal["float64", "float32"] = "float64",
        patience: float = 60.0,
        cwd: str | None = None,
    ):
        if isinstance(command, str) or not command or not all(command):
            raise ValueError(
                f"command={command!r} must be a list, the program and then its arguments."
            )
        if format not in ("text", "json") or dtype not in ("float64", "float32"):
            raise ValueError(
                f"format={format!r} must be text or json, dtype={dtype!r} float64 or float32."
            )
        if not patience > 0:
            raise ValueError(f"patience={patience} must be a positive number of seconds.")
        self.command, self.format, self.cwd = list(command), format, cwd
        self._dtype, self.patience = np.dtype(dtype).newbyteorder("<"), patience
        self.name = os.path.basename(command[0])

    def __call__(self, request: Request) -> Iterator[Frame]:
        try:
            child = Child(self.command, self.cwd)
        except (OSError, subprocess.SubprocessError) as error:
            raise SimulationError(
                f"{self.command[0]} cannot be started in {os.path.abspath(self.cwd or '.')}: "
                f"{error}. Compile it, or give its path in command."
            ) from error
        try:
            child.write(written(request, self.format))
            for number in range(request.num_steps + 2):  # one too many is for the caller to see
                frame = self._read(child, number, request)
                if frame is None:
                    return
                yield frame
        finally:
            child.close()

    def _read(self, child: Child, number: int, request: Request) -> Frame | None:
        """Frame number `number`; None when the program has ended well before it."""
        values = sum(map(prod, request.fields.values()))
        size = 8 + values * self._dtype.itemsize
        deadline = time.monotonic() + self.patience
        data = child.read(size, deadline)
        if len(data) == size:
            return self._frame(data, request)
        if (end := child.ended(deadline)) is None:
            text = (
                f"frame {number} did not come within {self.patience:g} s ({len(data)} of {size} "
                "bytes did), so it was ended. Raise patience if it is only slow."
            )
        elif end[1]:
            text = f"was killed by signal {end[0]} ({signal.strsignal(end[0])}) in frame {number}."
        elif end[0]:
            text = f"ended with exit code {end[0]} in frame {number}, expected 0."
        elif data:
            text = (
                f"ended in the middle of frame {number}, after {len(data)} of {size} bytes: a "
                f"float64 time and {values} values of {self._dtype.name}."
            )
        else:
            return None
        messages = child.messages()
        raise SimulationError(f"{self.name}: {text}" + f" It said: {messages}" * bool(messages))

    def _frame(self, data: bytes, request: Request) -> Frame:
        [moment] = np.frombuffer(data, "<f8", count=1)
        values, fields, first = np.frombuffer(data, self._dtype, offset=8), {}, 0
        for name, shape in request.fields.items():
            fields[name] = values[first : first + prod(shape)].reshape(shape)
            first += prod(shape)
        return float(moment), fields


def written(request: Request, format: str) -> bytes:
    """A request as a program reads it; numbers are exact."""
    if format == "json":
        record = request._asdict() | {"parameters": dict(request.parameters)}
        del record["fields"]
        return (json.dumps(record) + "\n").encode()
    shape = " ".join(map(str, request.shape))
    lines = {"seed": request.seed, "shape": shape, "num_steps": request.num_steps, "dt": request.dt}
    lines |= request.parameters
    return ("".join(f"{name} {value!s}\n" for name, value in lines.items()) + "\n").encode()
