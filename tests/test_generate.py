"""Generation: the same bytes however it is run, and one clear line when it stops."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from datasets import ShardedSource
from datasets.generate import generate, run
from datasets.manifest import NAME, Manifest
from datasets.recipe import sample_generator
from datasets.shards import GenerationError, plan
from datasets.workers import ordered
from solvers import Darcy
from tests.tiny_recipe import COUNTS, content, make_tiny

ROOT = Path(__file__).parents[1]
DARCY_COUNTS = {"train": 70, "valid": 7, "test": 7}
SMALL = ["num_samples=70", "resolution=8", "pde.random_field.num_modes=5"]


def darcy(*overrides: str):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("generate", overrides=[*SMALL, *overrides])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Darcy on 8 x 8, made in this process: 2 + 1 + 1 shards."""
    root = tmp_path_factory.mktemp("small")
    return generate(darcy().pde, root, DARCY_COUNTS, resolution=8, progress=False)


def command(root: Path, *arguments: str, **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "datasets.generate", *SMALL, f"root={root}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=environment, **pipes, **options)


def running(group: int) -> list[str]:
    """Processes of a process group that have not ended; state and group are fields 3 and 5."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(path.parent.name)
    return found


def test_one_process_or_two_give_the_same_bytes(small, tmp_path):
    """The command, with two worker processes, against this process."""
    process = command(tmp_path, "num_workers=2")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    folder = tmp_path / small.name
    assert output.strip() == str(folder)
    assert content(folder) == content(small)
    for data in content(folder).values():
        assert str(tmp_path).encode() not in data
        assert os.uname().nodename.encode() not in data
    assert set(tmp_path.iterdir()) == {folder}


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_committed_and_the_command_goes_on(tmp_path):
    """The whole foreground group gets the signal, as from a terminal; nothing is left running."""
    longer = ["num_samples=6000", "num_workers=1"]  # it must not be done before the signal
    process = command(tmp_path, *longer, process_group=0)
    while process.poll() is None and not list(tmp_path.glob("*/data/train/*.h5")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"interrupted: \d+ of \d+ shards are committed", errors)
    assert "Traceback" not in errors
    assert not running(group=process.pid)
    command(tmp_path, *longer).communicate(timeout=120)
    counts = {"train": 6000, "valid": 600, "test": 600}
    whole = generate(darcy().pde, tmp_path / "whole", counts, resolution=8, progress=False)
    assert content(tmp_path / whole.name) == content(whole)


@pytest.mark.slow
def test_workers_end_when_the_parent_is_killed(tmp_path):
    """Nothing can be sent by a process that gets SIGKILL: its workers have to notice."""
    process = command(tmp_path, "num_samples=20000", "num_workers=2", process_group=0)
    while process.poll() is None and not list(tmp_path.glob("*/data/train/*.h5")):
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while running(group=process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(group=process.pid)
    [folder] = tmp_path.iterdir()
    assert all(Manifest(folder).verify(shard) for shard in Manifest(folder).shards)


def test_interruption_is_told_and_continued(tmp_path, capsys):
    whole = make_tiny(tmp_path / "whole")

    def interrupt(folder, num_bytes, calls=iter(range(9))):  # noqa: B008
        if next(calls) == 3:
            raise KeyboardInterrupt

    with patch("datasets.shards.require_space", interrupt), pytest.raises(KeyboardInterrupt):
        make_tiny(tmp_path)
    errors = capsys.readouterr().err
    assert "interrupted: 3 of 5 shards are committed in " in errors
    assert "run the same command again to go on" in errors
    with pytest.raises(ValueError, match="0 of 3 valid samples are there"):
        ShardedSource(tmp_path / whole.name, "valid")
    assert content(make_tiny(tmp_path)) == content(whole)


def test_what_is_there_is_not_made_again(small):
    with patch("datasets.shards.ShardMaker.__call__", side_effect=AssertionError):
        again = generate(darcy().pde, small.parent, DARCY_COUNTS, resolution=8, num_workers=2)
        assert again == small
        statistics = small / "stats.yaml"
        text = statistics.read_bytes()
        statistics.unlink()
        generate(darcy().pde, small.parent, DARCY_COUNTS, resolution=8, num_workers=2)
    assert statistics.read_bytes() == text


def test_the_command_in_the_manifest_names_the_data_set(small, tmp_path):
    """What `remedy` tells the user to run has the same hash; changed entries are the user's to
    repeat.
    """
    header = Manifest(small).header
    arguments = header.command.removeprefix("python -m datasets.generate ").split()
    config = darcy(*arguments, f"root={tmp_path}", "num_workers=0")
    assert run(config) == 0
    assert (tmp_path / header.folder / NAME).exists()


def test_numbers_are_those_of_the_solver(small):
    batch = ShardedSource(small, "train", dtype=torch.float64).__getitems__(range(70))
    assert batch.input.unique().tolist() == [3.0, 12.0]
    solver = Darcy(ShardedSource(small, "train").metadata.grid, tolerance=1e-10)
    error = (solver(batch.input) - batch.target).norm() / batch.target.norm()
    assert error < 1e-6


def test_a_sample_is_the_same_problem_on_every_grid(small, tmp_path):
    """The permeability of sample i is one function: its fine and coarse cells agree at shared
    points.
    """
    fine = generate(
        darcy().pde, tmp_path, {"train": 0, "valid": 0, "test": 7}, resolution=24, progress=False
    )
    coarse = ShardedSource(small, "test").__getitems__(range(7)).input
    tripled = ShardedSource(fine, "test").__getitems__(range(7)).input
    assert torch.equal(tripled[..., 1::3, 1::3], coarse)


def test_header_and_hash_tell_what_was_made(small):
    header = Manifest(small).header
    assert (header.name, header.seed, header.shape) == ("darcy", 0, [8, 8])
    assert header.counts == DARCY_COUNTS
    assert header.recipe["coefficient"] == {"_target_": "solvers.TwoValued", "high": 12, "low": 3}
    shard = Manifest(small).shards[0]
    assert shard.solver["name"] == "Darcy" and shard.solver["version"] == 1
    assert shard.solver["parameters"]["tolerance"] == 1e-8
    assert 0 < shard.residual <= 1e-8
    assert Manifest(small).metadata.provenance["source"].startswith("Li et al. 2021")

    def name(*overrides, counts=DARCY_COUNTS, **options):
        config = darcy(*overrides).pde
        return plan(config, counts, **{"resolution": 8, "seed": 0, **options})[0].folder

    assert name() == small.name
    assert name("pde.provenance.source=elsewhere") == small.name
    others = {
        name(seed=1),
        name(resolution=9),
        name(counts={**DARCY_COUNTS, "test": 8}),
        name("pde.coefficient.high=13"),
        name("pde.version=2"),
    }
    assert len(others) == 5 and small.name not in others


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**70), index=st.integers(0, 2**30 - 1))
def test_streams_depend_on_seed_split_and_index_alone(seed, index):
    def draw(*key):
        return torch.randn(4, generator=sample_generator(*key)).tolist()

    first = draw(seed, "train", index)
    assert first == draw(seed, "train", index)
    others = [
        draw(seed, "valid", index),
        draw(seed, "test", index),
        draw(seed, "train", (index + 1) % 2**30),
        draw(seed + 1, "train", index),
    ]
    assert first not in others


def test_no_two_samples_of_a_data_set_share_a_stream():
    """The control: torch looks at 32 bits of a seed, so hashes of 64 bits collide."""
    draw = [torch.rand(1, generator=torch.Generator().manual_seed(s)) for s in (7, 7 + 2**32)]
    assert torch.equal(*draw)
    seeds = {
        sample_generator(0, split, index).initial_seed()
        for split in COUNTS
        for index in (*range(3000), 2**30 - 1)
    }
    assert len(seeds) == 3 * 3001 and max(seeds) < 2**32
    with pytest.raises(ValueError, match="a split holds samples 0 to"):
        sample_generator(0, "train", 2**30)


@pytest.mark.parametrize(
    "spoil, reason",
    [
        ("nan", "field 'u' holds NaN or infinity."),
        ("overflow", "field 'u' holds NaN or infinity."),
        ("unconverged", "its residual 1.0e-03 is above the tolerance 1.0e-08."),
        ("raise", "ArithmeticError: the pump has stopped"),
    ],
)
def test_a_sample_that_fails_is_named_and_not_written(tmp_path, spoil, reason):
    with pytest.raises(GenerationError) as failure:
        make_tiny(tmp_path, spoil=spoil)
    assert str(failure.value) == f"valid sample 2 cannot be made: {reason}"
    [folder] = tmp_path.iterdir()
    assert len(Manifest(folder).shards) == 3
    assert not list((folder / "data/valid").iterdir())


def test_samples_that_fail_only_together_are_named_together(tmp_path):
    with pytest.raises(GenerationError, match="train samples 0 to 4 fail together.*too many"):
        make_tiny(tmp_path, spoil="raise together")


@pytest.mark.parametrize(
    "overrides, complaint",
    [
        (["num_samples=0", "num_valid=0", "num_test=0"], "asks for none"),
        (["num_samples=-1"], "each a number >= 0, got {'train': -1"),
        (["num_samples=many"], "each a number >= 0, got {'train': 'many'"),
        (["num_test=1.5"], "'test': 1.5"),
        (["resolution=0"], "resolution=0: darcy takes one number, or 2 numbers"),
        (["resolution=[8,8,8]"], "darcy takes one number"),
        (["resolution=fine"], "darcy takes one number"),
        (["seed=-1"], "seed=-1 must be a whole number >= 0"),
        (["num_workers=-1"], "num_workers=-1 must be a whole number >= 0"),
        (["+pde.solver.speed=3"], "solver: .*unexpected keyword argument 'speed'"),
        (["+pde.speed=3"], "SteadyRecipe.*unexpected keyword argument 'speed'"),
        (["pde.solver._target_=os.system"], "_target_ 'os.system' is not allowed"),
        (["pde.fields=[]"], "fields: expected that of the coefficient"),
        (["pde.grid.axes.0.points=left"], "needs a grid with points='cells'"),
    ],
)
def test_configuration_errors_are_one_line(tmp_path, capsys, overrides, complaint):
    assert run(darcy(f"root={tmp_path}", *overrides)) == 1
    errors = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*{complaint}.*\n", errors), errors


def test_counts_default_to_a_tenth():
    config = darcy("num_samples=25", "num_test=4")
    with patch("datasets.generate.generate", return_value="folder") as made:
        assert run(config) == 0
    assert made.call_args.args[2] == {"train": 25, "valid": 2, "test": 4}
    with patch("datasets.generate.generate", side_effect=KeyboardInterrupt):
        assert run(config) == 130


def test_something_that_is_no_recipe_is_refused():
    config = OmegaConf.create({"_target_": "solvers.Axis", "name": "x", "size": 3})
    with pytest.raises(ValueError, match="solvers.Axis is not a Recipe"):
        plan(config, COUNTS, resolution=8, seed=0)


def test_help_does_not_wait_for_torch():
    program = "import sys, datasets.generate; assert not {'torch', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def _square(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_a_worker_that_dies_is_an_error_not_a_wait():
    results = ordered(_square, [2, -1], 1)
    with pytest.raises(ChildProcessError, match="a worker process died .*fewer workers"):
        list(results)


def test_a_worker_that_dies_is_told_with_what_is_there(tmp_path):
    def die(function, items, num_workers):
        yield function(items[0])
        raise ChildProcessError("a worker process died")

    with patch("datasets.workers.ordered", die), pytest.raises(OSError) as failure:
        make_tiny(tmp_path)
    assert str(failure.value).startswith("a worker process died; 1 of 5 shards are committed in")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["num_samples=2,3", "-m"], "error: -m: a command makes one data set"),
        (["pde.name=../x"], "error: name='../x': a data set is named by letters"),
        (["root=null"], "error: root=None must be the path of a folder"),
    ],
)
def test_what_makes_no_data_set_here_is_refused(tmp_path, arguments, expected):
    process = command(tmp_path / "data", *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(expected)
    assert list(tmp_path.rglob("*")) == []
