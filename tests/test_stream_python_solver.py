"""Solvers in a Python file: what they get, and what is said when they fail."""

import numpy as np
import pytest

from datasets.stream import PythonSolver
from datasets.stream.solver import Request, SimulationError

REQUEST = Request({"a": 0.5}, 7, (3,), 2, 0.1, {"u": (3,)})
GOOD = """\
import numpy as np

def solve(parameters, seed, shape):
    for k in range(3):
        yield k * 0.1, {"u": np.full(shape, parameters["a"] + k + seed)}
"""


@pytest.fixture
def solver(tmp_path):
    def make(text, name="solve", file="mine.py"):
        (tmp_path / file).write_text(text)
        return PythonSolver(str(tmp_path / file), name)

    return make


def test_frames_of_a_generator(solver):
    made = solver(GOOD)
    frames = list(made(REQUEST))
    assert made.name == "mine" and [t for t, _ in frames] == [0, 0.1, 0.2]
    np.testing.assert_array_equal(frames[2][1]["u"], np.full(3, 9.5))


def test_it_gets_what_it_names(solver):
    text = "def run(dt, shape, num_steps, more=1): yield dt, {'all': (shape, num_steps, more)}"
    assert list(solver(text, "run")(REQUEST)) == [(0.1, {"all": ((3,), 2, 1)})]


def test_parameters_are_its_own(solver):
    text = "def solve(parameters): yield 0, parameters.pop('a')"
    made = solver(text)
    assert list(made(REQUEST)) == list(made(REQUEST)) == [(0, 0.5)]


def test_the_file_is_run_once_and_when_it_is_asked(solver, tmp_path):
    note = tmp_path / "note"
    text = f"open({str(note)!r}, 'a').write('x')\n{GOOD}"
    made = solver(text)
    frames = made(REQUEST)
    assert not note.exists()
    list(frames)
    list(PythonSolver(str(tmp_path / "mine.py"))(REQUEST))
    assert note.read_text() == "x"


def test_files_of_one_name_are_different_modules(solver, tmp_path):
    (tmp_path / "other").mkdir()
    one, two = solver(GOOD), solver(GOOD.replace("a", "a"), file="other/mine.py")
    assert list(one(REQUEST)) and list(two(REQUEST))
    dataclass = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    x: int\n\ndef solve(): yield A(3).x, {}\n"
    )
    assert list(solver(dataclass, file="third.py")(REQUEST)) == [(3, {})]


def test_a_solver_is_closed_with_its_frames(solver, tmp_path):
    note = tmp_path / "note"
    text = (
        "def solve():\n    try:\n        while True: yield 0, {}\n"
        f"    finally: open({str(note)!r}, 'w')"
    )
    frames = solver(text)(REQUEST)
    next(frames)
    assert not note.exists()
    frames.close()
    assert note.exists()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("import numpy\nx = = 1", "^mine.py, line 2: SyntaxError: invalid syntax"),
        ("x = 1\nimport no_such_thing", r"^mine.py, line 2 \(import no_such_thing\): ModuleNotF"),
        ("open('/no/file')", r"^mine.py, line 1 .*FileNotFoundError: .*/no/file"),
        ("x = 1", "^mine.py: there is no function 'solve'; write it, or name another"),
        ("solve = 3", "^mine.py: there is no function 'solve'"),
        (
            "def solve(shape): return [1]",
            "^mine.py: solve is not a generator, it returned list; `y",
        ),
        ("def solve(shape): return None", "it returned NoneType"),
        ("def solve(u0): yield 1", "^mine.py: solve asks for u0; it can have parameters, seed"),
        (
            "def solve():\n    yield 1 / 0",
            r"^mine.py, line 2 \(yield 1 / 0\): ZeroDivisionError: d",
        ),
        ("import sys\ndef solve(): yield sys.exit(3)", "^mine.py, line 2 .*: SystemExit: 3"),
        ("import math\ndef solve():\n    f()\n    yield\ndef f():\n    math.sqrt(-1)", "line 6"),
        (
            "def solve(): yield next(iter([]))",
            "^mine.py.*: RuntimeError: generator raised StopIter",
        ),
    ],
    ids=range(12),
)
def test_what_goes_wrong_is_said_with_file_and_line(solver, text, expected):
    with pytest.raises(SimulationError, match=expected):
        list(solver(text)(REQUEST))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SimulationError, match="nowhere.py: there is no such file, looked for in /"):
        list(PythonSolver(str(tmp_path / "nowhere.py"))(REQUEST))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SimulationError, match="notes.txt: expected a Python file, its name ending"):
        list(PythonSolver(str(tmp_path / "notes.txt"))(REQUEST))
