"""No code out of files, no network, no traces outside the run folder."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, watched

UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "joblib",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
MAY_BE_NAMED = {"pickle.UnpicklingError", "pickle.PicklingError"}
SOURCES = [
    path
    for folder in ("solvers", "datasets", "sciml")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "train.py"]


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe(text: str) -> Iterator[str]:
    """Lines that can run code out of a file, or hand a string to an interpreter."""
    tree = ast.parse(text)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES:
            names = {f"{node.module}.{name.name}" for name in node.names}
            if names - MAY_BE_NAMED:
                yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            for name in node.names:
                root = name.name.split(".")[0]
                if root in UNSAFE_MODULES and name.asname is not None:
                    yield ast.unparse(node)
                elif root in UNSAFE_MODULES:
                    used = {ast.unparse(a) for a in attributes if ast.unparse(a.value) == root}
                    yield from sorted(used - MAY_BE_NAMED)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: keyword.value for keyword in node.keywords}
            if (
                called in UNSAFE_CALLS
                or called.endswith("yaml.load")
                or called.endswith("torch.load")
                and not is_constant(options.get("weights_only"), True)
                or "allow_pickle" in options
                and not is_constant(options["allow_pickle"], False)
                or is_constant(options.get("shell"), True)
            ):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles(path):
    assert list(unsafe(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "import pickle\npickle.load(file)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pickle.loads(b'')",
        "import pickle as p",
        "from pickle import loads",
        "from joblib import load",
        "import dill\ndill.load(file)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_the_search_finds(line):
    assert list(unsafe(line))


def test_the_search_allows():
    text = (
        "import pickle\nfrom pickle import UnpicklingError\ntorch.load(path, weights_only=True)\n"
    )
    text += "np.load(path, allow_pickle=False)\nmodel.eval()\nsubprocess.run(['git'])\n"
    text += "try:\n    pass\nexcept pickle.UnpicklingError:\n    pass\n"
    assert list(unsafe(text)) == []


QUIET = (
    "socket.__new__",
    "socket.gethostname",  # part of the name of TensorBoard's file
    "socket.bind ('::1', 0)",  # urllib3 tries, on import, whether this machine has IPv6
)


def events(watcher: Path) -> list[str]:
    """What a watched process did, without what neither calls nor listens."""
    lines = re.sub(r"\(<socket.socket .*?>, ", "", (watcher / "events").read_text()).splitlines()
    return [line for line in lines if not line.startswith(QUIET)]


def test_a_run_listens_to_nobody_and_calls_nobody(finished):
    path, outcome = finished
    assert outcome.code == 0
    found = events(path.parents[2] / "watcher")
    programs = {line.split("'")[1] for line in found if line.startswith("subprocess.Popen")}
    assert [line for line in found if not line.startswith("subprocess.Popen")] == []
    assert programs <= {"git", "uname", "fc-list"}


def test_a_run_leaves_nothing_outside_its_folder(finished):
    path, _ = finished
    working = path.parents[2]
    assert {item.name for item in working.iterdir()} == {"runs", "watcher"}
    assert list((working / "watcher" / "home").iterdir()) == []


BUILD = """
import sys
from sciml.models import Neuralop
for name in ("FNO", "TFNO"):
    Neuralop(1, 1, 1, architecture=name, settings={"n_modes": 4, "hidden_channels": 4})
assert "neuralop" in sys.modules
"""


def test_neuralop_brings_no_wandb_folder_and_no_words(tmp_path):
    watcher, working = tmp_path / "watcher", tmp_path / "working"
    watcher.mkdir(), working.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **watched(watcher)}
    environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    for name in [name for name in environment if name.startswith("WANDB")]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=working, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(working.iterdir()) == []
    assert list((watcher / "home").iterdir()) == []
    assert [line for line in events(watcher) if not line.startswith("subprocess.Popen")] == []


def test_the_watcher_sees_connections(tmp_path):
    """The control: a call that fails is seen nevertheless."""
    code = "import socket, subprocess\nsocket.socket().connect_ex(('127.0.0.1', 9))\n"
    code += "socket.socket().bind(('127.0.0.1', 0))\nsubprocess.run(['true'])\n"
    environment = {**os.environ, **watched(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    seen = [line.split()[0] for line in events(tmp_path)]
    assert seen == ["socket.connect", "socket.bind", "subprocess.Popen"]
