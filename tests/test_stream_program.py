"""External programs: what they say arrives, what goes wrong is named, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.stream import Program
from datasets.stream.program import written
from datasets.stream.solver import Request, SimulationError
from tests.helpers import ROOT

REQUEST = Request({"a": 0.1, "b": -2e-30}, 2**62 + 1, (2, 3), 3, 0.1, {"u": (2, 3), "v": (2, 2, 3)})
SIZE = 8 + 18 * 8
HEAD = """\
import os, signal, struct, sys, time
open({pid!r}, "a").write(f"{{os.getpid()}}\\n")
def frame(k, kind="d"):
    values = struct.pack(f"<d18{{kind}}", k * 0.1, *(100 * k + i for i in range(18)))
    sys.stdout.buffer.write(values)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def program(tmp_path):
    """Makes a solver of the lines of a Python script, which notes its number in tmp_path/pid."""

    def make(text, **settings):
        script = tmp_path / "script.py"
        script.write_text(HEAD.format(pid=str(tmp_path / "pid")) + text)
        return Program([sys.executable, str(script)], **settings)

    return make


def alive(pid):
    """Whether a process is there; a zombie is, too."""
    return Path(f"/proc/{pid}").exists()


def gone(pid, seconds=10.0):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def started(folder):
    """The numbers of the processes that noted them."""
    return [int(line) for line in (folder / "pid").read_text().split()]


def test_frames_arrive_as_they_were_written(program, tmp_path):
    frames = list(program("for k in range(4): frame(k)")(REQUEST))
    assert [t for t, _ in frames] == [k * 0.1 for k in range(4)]
    for k, (_, fields) in enumerate(frames):
        values = 100 * k + np.arange(18.0)
        assert list(fields) == ["u", "v"]
        np.testing.assert_array_equal(fields["u"], values[:6].reshape(2, 3))
        np.testing.assert_array_equal(fields["v"], values[6:].reshape(2, 2, 3))
        assert fields["u"].dtype == "<f8"
    assert not alive(*started(tmp_path))


def test_single_precision_has_double_times(program):
    frames = list(program("for k in range(4): frame(k, 'f')", dtype="float32")(REQUEST))
    assert [t for t, _ in frames] == [k * 0.1 for k in range(4)]
    assert frames[3][1]["v"].dtype == "<f4" and frames[3][1]["v"][1, 1, 2] == 317


ECHO = "open({!r}, 'w').write(sys.stdin.read())\nfor k in range(4): frame(k)"


def test_the_request_as_text_and_as_json(program, tmp_path):
    path = tmp_path / "request"
    list(program(ECHO.format(str(path)))(REQUEST))
    seed = 2**62 + 1
    assert path.read_text() == (f"seed {seed}\nshape 2 3\nnum_steps 3\ndt 0.1\na 0.1\nb -2e-30\n\n")
    list(program(ECHO.format(str(path)), format="json")(REQUEST))
    assert path.read_text().count("\n") == 1 and json.loads(path.read_text()) == {
        "parameters": {"a": 0.1, "b": -2e-30},
        "seed": seed,
        "shape": [2, 3],
        "num_steps": 3,
        "dt": 0.1,
    }
    third = REQUEST._replace(parameters={"a": 1 / 3})
    assert float(written(third, "text").split()[-1]) == 1 / 3


def test_a_request_that_nobody_reads_is_no_error(program):
    assert len(list(program("os.close(0)\nfor k in range(4): frame(k)")(REQUEST))) == 4


def test_its_environment_and_folder(program, tmp_path):
    text = (
        "names = 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'PATH'\n"
        "print([os.environ[n] for n in names], os.getcwd(), os.getpgid(0) == os.getpid(),"
        " file=sys.stderr)\nsys.exit(1)"
    )
    with pytest.raises(SimulationError) as failure:
        list(program(text, cwd=str(tmp_path))(REQUEST))
    assert str(failure.value).endswith(f"{['1', '', os.environ['PATH']]} {tmp_path} True")


@pytest.mark.parametrize(
    "text, count, expected",
    [
        ("print('no memory', file=sys.stderr); sys.exit(3)", 0, "code 3 in frame 0.*said: no mem"),
        ("frame(0); frame(1); sys.exit(4)", 2, r"ended with exit code 4 in frame 2, expected 0\.$"),
        ("for k in range(4): frame(k)\nsys.exit(5)", 4, "exit code 5 in frame 4"),
        ("frame(0); os.kill(os.getpid(), 9)", 1, r"killed by signal 9 \(Killed\) in frame 1"),
        ("os.abort()", 0, r"killed by signal 6 \(Aborted\) in frame 0"),
        ("frame(0); os.write(1, bytes(60))", 1, "middle of frame 1, after 60 of 152 bytes: a flo"),
        ("os.write(1, bytes(60)); sys.exit(2)", 0, "exit code 2 in frame 0"),
        ("frame(0, 'f')", 0, "after 80 of 152 bytes: a float64 time and 18 values of float64"),
    ],
    ids=range(8),
)
def test_what_goes_wrong_is_named_and_nothing_is_left(program, tmp_path, text, count, expected):
    frames = program(text)(REQUEST)
    for _ in range(count):
        next(frames)
    with pytest.raises(SimulationError, match=expected):
        next(frames)
    assert not alive(*started(tmp_path))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("time.sleep(3600)", r"frame 1 did not come within 0.5 s \(0 of 152 bytes did\), so it wa"),
        ("os.write(1, bytes(7)); time.sleep(3600)", r"\(7 of 152 bytes did\)"),
        ("while True: os.write(2, b'still computing ' * 9)", "Raise patience.*computing$"),
        ("while True: os.write(1, b'0'); time.sleep(0.05)", "of 152 bytes did"),
        ("os.close(1); time.sleep(3600)", "frame 1 did not come within 0.5 s"),
        ("signal.signal(15, signal.SIG_IGN); time.sleep(3600)", "frame 1 did not come"),
    ],
    ids=range(6),
)
def test_a_program_that_hangs_is_ended(program, tmp_path, text, expected):
    solver = program(f"frame(0)\n{text}", patience=0.5)
    solver.patience = 30.0  # Python needs its time to start
    frames = solver(REQUEST)
    next(frames)
    solver.patience = 0.5
    begun = time.monotonic()
    with pytest.raises(SimulationError, match=expected):
        next(frames)
    assert time.monotonic() - begun < 5
    assert not alive(*started(tmp_path))


def test_a_slow_reader_does_not_make_a_program_late(program):
    """The time between frames that nobody asked for does not count."""
    solver = program("for k in range(4): frame(k)", patience=30.0)
    frames = solver(REQUEST)
    next(frames)
    solver.patience = 0.2
    time.sleep(0.5)
    assert len(list(frames)) == 3


def test_messages_do_not_stop_the_frames_and_their_end_is_kept(program):
    """More than a pipe holds, before and between frames."""
    text = (
        "for k in range(3):\n    os.write(2, b'x' * 300_000)\n    frame(k)\n"
        "os.write(2, b'y' * 200_000 + b' the end'); sys.exit(1)"
    )
    frames = program(text)(REQUEST)
    assert [next(frames)[0] for _ in range(3)] == [0.0, 0.1, 0.2]
    with pytest.raises(SimulationError, match="y the end$") as failure:
        next(frames)
    assert 4000 < len(str(failure.value)) < 4300


def test_a_frame_larger_than_a_pipe(program):
    request = REQUEST._replace(fields={"u": (400, 500)}, num_steps=1)
    text = "for k in (0, 1): os.write(1, b''), sys.stdout.buffer.write(bytes(8 * 200_001))"
    assert [f["u"].shape for _, f in program(text)(request)] == [(400, 500)] * 2


def test_a_program_that_writes_for_ever_is_stopped_after_one_frame_too_many(program, tmp_path):
    frames = list(program("while True: frame(0)")(REQUEST))
    assert len(frames) == 5
    assert not alive(*started(tmp_path))


def test_a_program_ends_when_nobody_listens(program, tmp_path):
    frames = program("while True: frame(0)")(REQUEST)
    next(frames)
    [pid] = started(tmp_path)
    assert alive(pid)
    frames.close()
    assert not alive(pid)


CHILD = (
    "import subprocess\n"
    "child = subprocess.Popen(['sleep', '3600'], stdout=subprocess.DEVNULL)\n"
    "open({!r}, 'a').write(f'{{child.pid}}\\n')\nframe(0)\n"
)


@pytest.mark.parametrize("end", ["time.sleep(3600)", "for k in (1, 2, 3): frame(k)"])
def test_what_the_program_started_ends_with_it(program, tmp_path, end):
    frames = program(CHILD.format(str(tmp_path / "pid")) + end)(REQUEST)
    next(frames)
    _, child = started(tmp_path)
    assert alive(child)
    if "sleep" in end:
        frames.close()
    else:
        assert len(list(frames)) == 3
    assert gone(child)


PARENT = """\
import sys, time
from tests.test_stream_program import REQUEST
from datasets.stream import Program
frames = Program([sys.executable, sys.argv[1]])(REQUEST)
next(frames)
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_no_program_survives_its_parent(program, tmp_path, how):
    program("frame(0)\ntime.sleep(3600)")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "script.py")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout.readline() == b"ready\n"
        [pid] = started(tmp_path)
        assert alive(pid)
        parent.send_signal(how)
        parent.wait()
    assert gone(pid)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda p: ["./nowhere"], r"^./nowhere cannot be started in .*No such file.* Compile it"),
        (lambda p: [str(p / "plain")], "plain cannot be started in .*Permission denied"),
        (lambda p: [str(p / "noise")], "noise cannot be started in .*Exec format error"),
    ],
    ids=range(3),
)
def test_what_cannot_be_started(tmp_path, make, expected):
    (tmp_path / "plain").write_text("")
    (tmp_path / "noise").write_bytes(b"\0noise")
    (tmp_path / "noise").chmod(0o755)
    with pytest.raises(SimulationError, match=expected):
        next(Program(make(tmp_path))(REQUEST))
    with pytest.raises(SimulationError, match="cannot be started in .*/no/folder"):
        next(Program(["true"], cwd=str(tmp_path / "no/folder"))(REQUEST))


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"command": "./a b"}, "command='./a b' must be a list"),
        ({"command": []}, r"command=\[\] must be a list"),
        ({"command": ["a"], "format": "xml"}, "format='xml' must be text or json"),
        ({"command": ["a"], "dtype": "int"}, "dtype='int' float64 or float32"),
        ({"command": ["a"], "patience": 0.0}, "patience=0.0 must be a positive number"),
    ],
)
def test_wrong_settings(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        Program(**arguments)
