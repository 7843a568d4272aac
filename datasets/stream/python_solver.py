"""Solvers in a Python file of one's own."""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from datasets.stream.solver import Frame, Request, SimulationError

OFFERED = ("parameters", "seed", "shape", "num_steps", "dt")


class PythonSolver:
    """The generator function `name` of the Python file `path`, such as

        def solve(parameters, seed, shape, num_steps, dt):
            ...
            yield time, {"u": u}

    It takes any of these five arguments by their names (see `Request`) and yields the time and
    the fields by name, NumPy arrays [*space] or [components, *space]. What it yields is copied, so
    it may go on in the same arrays. The file is run when the first frame is asked for, once per
    process, with all that this process may do; what lies beside it cannot be imported by it. An
    error in it is a `SimulationError` with its line. Nothing stops a function that hangs: use a
    `Program` where that can happen.
    """

    def __init__(self, path: str, name: str = "solve"):
        self.path, self.function = Path(path), name
        self.name = self.path.stem

    def __call__(self, request: Request) -> Iterator[Frame]:
        path = self.path.absolute()
        try:
            function = getattr(_module(path), self.function, None)
        except FileNotFoundError as error:
            if error.filename != str(path):
                raise _located(path, error) from error
            raise SimulationError(
                f"{self.path}: there is no such file, looked for in {Path.cwd()}; give its path."
            ) from error
        except (Exception, SystemExit) as error:
            raise _located(path, error) from error
        if not callable(function):
            raise SimulationError(
                f"{path.name}: there is no function {self.function!r}; write it, or name another."
            )
        arguments = _arguments(path, function, request)
        try:
            frames = function(**arguments)
            if not isinstance(frames, Iterator):
                raise SimulationError(
                    f"{path.name}: {self.function} is not a generator, it returned "
                    f"{type(frames).__name__}; `yield` a time and the fields for every frame."
                )
            yield from frames
        except SimulationError:
            raise
        except (Exception, SystemExit) as error:
            raise _located(path, error) from error


@cache
def _module(path: Path) -> Any:
    spec = spec_from_file_location(f"solver in {path}", path)
    if spec is None:
        raise SimulationError(f"{path.name}: expected a Python file, its name ending in .py.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _arguments(path: Path, function: Callable, request: Request) -> dict[str, Any]:
    """Those of `OFFERED` that the function has."""
    known = inspect.signature(function).parameters
    lacking = [n for n, p in known.items() if n not in OFFERED and p.default is p.empty]
    if lacking:
        raise SimulationError(
            f"{path.name}: {function.__name__} asks for {', '.join(lacking)}; it can have "
            f"{', '.join(OFFERED)}."
        )
    offered = request._asdict() | {"parameters": dict(request.parameters)}
    return {name: offered[name] for name in OFFERED if name in known}


def _located(path: Path, error: BaseException) -> SimulationError:
    """What was raised in the file, with the last line of it that was run."""
    if isinstance(error, SimulationError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return SimulationError(f"{path.name}, line {error.lineno}: {text}")
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    place = f", line {lines[-1].lineno} ({lines[-1].line})" if lines else ""
    return SimulationError(f"{path.name}{place}: {text}")
