"""`python train.py`: a foreseen mistake is one line and an exit code; a stopped run goes on."""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sciml import run as run_module
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.tasks import Supervised
from tests.helpers import (
    ROOT,
    TINY,
    Outcome,
    main,
    save_pairs,
    smooth_pairs,
    tensor_bytes,
    train,
)


def refused(outcome: Outcome, *expected: str) -> str:
    """The one line on stderr, which holds all that is expected."""
    assert outcome.code in (1, 2)
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in outcome.out
    assert [words for words in expected if words not in line] == []
    return line


def the_run(folder: Path) -> Path:
    (path,) = (folder / "runs").glob("*/*")
    return path


def test_a_run_from_another_folder(finished):
    path, outcome = finished
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "data",
        "model",
        "curvature",
        "epoch",
        "epoch",
        "test",
        "report",
    ]
    assert "input -> target on 12 x 12" in lines[0]
    assert "fno-arrays" in lines[1]
    assert "KFAC: " in lines[2] and "parameters in Kronecker blocks" in lines[2]
    error = 100 * json.loads((path / "metrics.json").read_text())["test/relative_l2"]
    assert f"relative L2 error {error:.2f} % on 12x12 (4 samples)" in lines[5]
    assert lines[6].endswith(f"{path}/report.html")
    assert "command" in json.loads((path / "run.json").read_text())


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (
            ["model=fnoo"],
            ["model=fnoo: no such model; choose one of deeponet, ", "did you mean fno?"],
        ),
        (["data=zzz"], ["data=zzz: no such data; choose one of allen_cahn, "]),
        (["modell=fno"], ["modell: no such key", "did you mean model?"]),
        (
            ["optimizer.betas=[0.9,0.95]"],
            ["optimizer.betas: no such key", "write +optimizer.betas="],
        ),
        (["model=fno,neuralop_fno"], ["Ambiguous value", "several values need -m"]),
        (["--config-name=nope"], ["nope: there is no such configuration file"]),
        (["batchsize=3"], ["batchsize: no such key", "did you mean batch_size?", "--help"]),
        (["model.widht=3"], ["model.widht: no such key", "did you mean width?"]),
        (["trainer.maxepochs=3"], ["trainer.maxepochs: no such key", "did you mean max_epochs?"]),
        (["optimizer.learning_rate=3"], ["optimizer.learning_rate: no such key"]),
        (["model"], ["model: not of the form key=value"]),
        (["model.modes=[3"], ["model.modes=[3: not of the form key=value", "quote lists"]),
        (["data=arrays"], ["input is not given and has no default; add input=..."]),
        (["data=neuralop_pt"], ["data.train is not given and has no default; add data.train="]),
    ],
)
def test_a_mistyped_command_is_explained(folder, capsys, overrides, expected):
    outcome = main(*overrides, capsys=capsys)
    refused(outcome, *expected)
    assert outcome.code == 2


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["+model.widht=3"], ["sciml.models.FNO", "unexpected keyword argument 'widht'"]),
        (
            ["model.modes=9"],
            ["modes=(9, 9) needs at least (18, 18) points", "(12, 12)", "model.modes"],
        ),
        (["model=neuralop_fno"], ["n_modes=[24, 24] is more than the grid (12, 12) holds"]),
        (["ckpt_path=nothing.ckpt"], ["nothing.ckpt: no such checkpoint"]),
        (
            ["ckpt_path=https://host/a.ckpt"],
            ["https://host/a.ckpt: checkpoints are read from files only"],
        ),
        (["fit=false"], ["fit=false", "ckpt_path"]),
        (["fit=fales"], ["fit=fales must be true or false"]),
        (["batch_size=abc"], ["batch_size=abc must be a whole number"]),
        (["resolution=24"], ["resolution=24: the files hold the grid (12, 12) alone"]),
        (["data.ndim=3"], ["a.npy: expected [n, *space]", "3 space dimensions", "(40, 12, 12)"]),
        (["data.boundary=wall"], ["'wall'", "periodic"]),
        (["data.split.train=0.9"], ["sum to 1.100"]),
        (["model._target_=os.system"], ["'os.system' is not allowed"]),
        (["trainer.limit_train_batches=1.5"], ["trainer: ", "limit_train_batches"]),
        (["optimizer.lr=abc"], ["torch.optim.AdamW: lr=abc must be a number"]),
        (["trainer.max_epochs=abc"], ["lightning.Trainer: max_epochs=abc must be a whole number"]),
        (["model.width=abc"], ["sciml.models.FNO: width=abc must be a whole number"]),
    ],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_wrong_settings_are_explained(folder, capsys, arrays, overrides, expected):
    tiny = [line for line in TINY if not line.startswith("model") or "model=" not in overrides[0]]
    outcome = main(*arrays, *tiny, *overrides, capsys=capsys)
    line = refused(outcome, *expected)
    path = the_run(folder)
    failure = json.loads((path / "metrics.json").read_text())
    assert failure["status"] == "failed"
    assert line.removeprefix("error: ").split(";")[0] in failure["error"]
    assert "Traceback" in (path / "train.log").read_text()


def test_a_file_that_is_not_yaml_is_named(folder, capsys):
    path = folder / "elsewhere" / "model" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("width: 3\n  depth: [\n")
    outcome = main(f"--config-dir={path.parents[1]}", "model=mine", capsys=capsys)
    refused(outcome, f"{path}, line 2: not YAML (mapping values are not allowed here)")
    path.write_text("name: ${a.b${c}}\n")
    outcome = main(f"--config-dir={path.parents[1]}", "model=mine", capsys=capsys)
    refused(outcome, "an interpolation ${...} in the configuration is not well formed")


def bad_arrays(kind: str, folder: Path) -> list[str]:
    a, u = smooth_pairs()
    if kind == "channel last":
        a = np.stack([a, a], axis=-1)
    elif kind == "another grid":
        a = a[:, :10]
    elif kind == "another count":
        a = a[:30]
    elif kind == "NaN":
        a[7, 3, 2] = np.nan
    elif kind == "infinity":
        u[7, 3, 2] = -np.inf
    elif kind == "complex":
        u = u + 1j
    overrides = save_pairs(folder, a, u)
    if kind == "truncated":
        content = (folder / "a.npy").read_bytes()
        (folder / "a.npy").write_bytes(content[: len(content) // 2])
    elif kind == "missing":
        (folder / "u.npy").unlink()
    elif kind == "text":
        (folder / "a.npy").write_text("1 2 3")
    return overrides


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("channel last", ["a.npy: shape (40, 12, 12, 2) looks channel-last", "np.moveaxis"]),
        ("another grid", ["u.npy: expected (10, 12) points in space, found (12, 12)"]),
        ("another count", ["a.npy holds 30 samples", "u.npy holds 40"]),
        ("NaN", ["a.npy: sample 7, field 'input' holds NaN or infinity"]),
        ("infinity", ["u.npy: sample 7, field 'target' holds NaN or infinity"]),
        ("complex", ["u.npy: complex128 is not supported"]),
        (
            "truncated",
            ["a.npy: not a .npy file of numbers", "mmap length is greater than file size"],
        ),
        ("missing", ["u.npy: there is no such file"]),
        ("text", ["a.npy: not a .npy file of numbers"]),
    ],
)
def test_wrong_data_are_explained(folder, capsys, kind, expected):
    outcome = main(*bad_arrays(kind, folder), *TINY, capsys=capsys)
    refused(outcome, str(folder), *expected)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_nan_in_any_row_is_found_before_training(folder, capsys, parts, part):
    a, u = smooth_pairs()
    row = parts[part][1]
    a[row, 0, 0] = np.nan
    outcome = main(*save_pairs(folder, a, u), *TINY, "trainer.max_epochs=1", capsys=capsys)
    refused(outcome, f"a.npy: sample {row}, field 'input' holds NaN or infinity")
    assert not (the_run(folder) / "checkpoints").exists()


def test_the_checkpoint_of_another_model_is_explained(folder, capsys, arrays, finished):
    best = finished[0] / "checkpoints" / "best.ckpt"
    other = [*arrays, *TINY, "model.width=8", f"ckpt_path={best}"]
    outcome = main(*other, capsys=capsys)
    refused(outcome, str(best), "a run goes on with the settings", "model.width was", "config.yaml")
    outcome = main(*other, "fit=false", capsys=capsys)
    refused(
        outcome, str(best), "a checkpoint of another model", "has shape", "expected", "config.yaml"
    )
    tiny = ["batch_size=8", "model=neuralop_fno", "model.settings.n_modes=4"]
    outcome = main(*arrays, *tiny, f"ckpt_path={best}", "fit=false", capsys=capsys)
    refused(outcome, str(best), "a checkpoint of another model", "missing", "unknown")


def test_an_altered_checkpoint_is_explained(folder, capsys, arrays, finished):
    path = finished[0] / "checkpoints" / "best.ckpt"
    data = bytearray(path.read_bytes())
    start, length = max(tensor_bytes(path), key=lambda span: span[1])
    data[start + length // 2] ^= 1
    Path("altered.ckpt").write_bytes(data)
    outcome = main(*arrays, *TINY, "ckpt_path=altered.ckpt", "fit=false", capsys=capsys)
    refused(outcome, "altered.ckpt: ", "altered")


def test_a_used_folder_is_explained_and_left_alone(folder, capsys, arrays, finished):
    path = finished[0]
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    outcome = main(*arrays, *TINY, f"hydra.run.dir={path}", capsys=capsys)
    refused(outcome, f"{path} already holds a run (config.yaml, metrics.json)", "hydra.run.dir")
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_evaluation_from_the_command_line_repeats_the_figure(
    folder, capsys, arrays, finished, no_report
):
    path, outcome = finished
    best = path / "checkpoints" / "best.ckpt"
    again = main(*arrays, *TINY, "fit=false", f"ckpt_path={best}", capsys=capsys)
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[2] == outcome.out.splitlines()[5]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_is_explained(tmp_path, arrays):
    """Files may grow to 20 kB, which the configuration fits in and a checkpoint does not."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    outcome = train(*arrays, *TINY, "model.width=12", cwd=tmp_path, preexec_fn=limit)
    path = the_run(tmp_path)
    refused(outcome, "File too large", str(path))
    assert json.loads((path / "metrics.json").read_text())["status"] == "failed"
    assert list(path.rglob("*.ckpt*")) == []


def test_ctrl_c_stops_with_a_checkpoint_and_the_run_goes_on(folder, capsys, arrays, no_report):
    """As at a terminal: the signal reaches the whole process group in the middle of training."""
    epochs = 20
    command = [*arrays, *TINY, f"trainer.max_epochs={epochs}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = err.splitlines()
    last = the_run(folder) / "checkpoints" / "last.ckpt"
    assert line == f"interrupted by SIGINT; the same command with ckpt_path={last} goes on"
    assert json.loads((the_run(folder) / "metrics.json").read_text())["status"] == "interrupted"
    done = load_checkpoint(last)["global_step"]
    assert 0 < done < 4 * epochs

    going_on = main(*command, f"ckpt_path={last}", "hydra.run.dir=second", capsys=capsys)
    assert (going_on.code, going_on.err) == (0, "")
    assert load_checkpoint("second/checkpoints/last.ckpt")["global_step"] == 4 * epochs


def signal_at(monkeypatch, number: signal.Signals, step: int, times: int = 1) -> None:
    """Send this process a signal in the middle of a training step."""
    original = Supervised.training_step

    def training_step(task, batch, index):
        if task.global_step == step:
            for _ in range(times):
                signal.raise_signal(number)
        return original(task, batch, index)

    monkeypatch.setattr(Supervised, "training_step", training_step)


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)]
)
def test_signals_stop_with_their_exit_code(folder, capsys, arrays, monkeypatch, number, code):
    signal_at(monkeypatch, number, step=2)
    outcome = main(*arrays, *TINY, capsys=capsys)
    assert outcome.code == code
    (line,) = outcome.err.splitlines()
    last = the_run(folder) / "checkpoints" / "last.ckpt"
    assert line == f"interrupted by {number.name}; the same command with ckpt_path={last} goes on"
    assert load_checkpoint(last)["global_step"] == 3


def test_a_second_ctrl_c_stops_at_once(folder, capsys, arrays, monkeypatch):
    signal_at(monkeypatch, signal.SIGINT, step=2, times=2)
    outcome = main(*arrays, *TINY, capsys=capsys)
    assert (outcome.code, outcome.err) == (130, "interrupted by SIGINT; nothing was saved\n")
    assert json.loads((the_run(folder) / "metrics.json").read_text())["status"] == "interrupted"


def test_a_signal_during_validation_stops_after_it(folder, capsys, arrays, monkeypatch):
    original = Supervised.validation_step

    def validation_step(task, batch, index):
        if task.current_epoch == 0:
            signal.raise_signal(signal.SIGTERM)
        return original(task, batch, index)

    monkeypatch.setattr(Supervised, "validation_step", validation_step)
    outcome = main(*arrays, *TINY, capsys=capsys)
    last = the_run(folder) / "checkpoints" / "last.ckpt"
    assert outcome.code == 143
    assert (
        outcome.err == f"interrupted by SIGTERM; the same command with ckpt_path={last} goes on\n"
    )
    monkeypatch.setattr(Supervised, "validation_step", original)
    assert load_checkpoint(last)["global_step"] == 4
    assert main(*arrays, *TINY, f"ckpt_path={last}", "hydra.run.dir=b", capsys=capsys).code == 0


@pytest.mark.parametrize("stage", ["build_task", "_evaluate"])
def test_sigterm_outside_training_is_told(folder, capsys, arrays, monkeypatch, stage):
    original = getattr(run_module, stage)

    def call(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **options)

    monkeypatch.setattr(run_module, stage, call)
    before = signal.getsignal(signal.SIGTERM)
    outcome = main(*arrays, *TINY, "trainer.max_epochs=1", capsys=capsys)
    assert outcome.code == 143
    assert outcome.err.startswith("interrupted by SIGTERM; ")
    assert ("goes on" in outcome.err) == (stage == "_evaluate")
    assert json.loads((the_run(folder) / "metrics.json").read_text())["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_ends_early_has_a_report(folder, capsys, arrays, monkeypatch):
    signal_at(monkeypatch, signal.SIGTERM, step=6)
    outcome = main(*arrays, *TINY, capsys=capsys)
    assert f"report  {the_run(folder)}/report.html" in outcome.out
    page = (the_run(folder) / "report.html").read_text()
    assert "interrupted by SIGTERM" in page and "elative L2 error by epoch." in page


def test_signal_handlers_are_put_back(folder, capsys, arrays, monkeypatch, no_report):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    assert main(*arrays, *TINY, "trainer.max_epochs=1", capsys=capsys).code == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_what_nobody_foresaw_is_a_traceback(folder, capsys, arrays, monkeypatch):
    """A defect of the program must not look like a mistake of its user."""

    def broken(task, batch, index):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Supervised, "training_step", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(*arrays, *TINY, capsys=capsys)
    assert "ZeroDivisionError: a defect" in (the_run(folder) / "train.log").read_text()


def seconds_of(*arguments: str) -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True, cwd=ROOT)
    return time.monotonic() - start


def test_help_names_groups_keys_and_examples_without_torch(tmp_path):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    for line in (
        "data: allen_cahn, ",
        "model: deeponet, deeponet_cnn, deeponet_fourier, fno, fno_original",
        "optimizer: adahessian, adamw",
        "curvature: ekfac, kfac",
        "trainer: debug, default",
        "batch_size: ",
        "python train.py -m model=fno,neuralop_tfno seed=0,1",
    ):
        assert line in done.stdout
    assert "Hydra" not in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in imported
    for heavy in ("torch", "lightning", "numpy", "h5py", "matplotlib", "neuralop", "wandb"):
        assert heavy not in imported
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_option_is_answered_without_torch(tmp_path):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "model=fnoo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "| torch\n" not in done.stderr.replace("|     torch", "| torch")
    assert "error: model=fnoo: no such model" in done.stderr


def test_help_is_quick():
    """In units of this machine and its load: the time that `import hydra` takes."""
    ratios = [seconds_of("train.py", "--help") / seconds_of("-c", "import hydra") for _ in range(3)]
    assert statistics.median(ratios) < 4


def test_weights_from_torch_save_of_a_model_are_refused(folder, capsys, arrays):
    torch.save({"weight": torch.ones(3)}, "model.pt")
    outcome = main(*arrays, *TINY, "fit=false", "ckpt_path=model.pt", capsys=capsys)
    refused(outcome, "model.pt: not a checkpoint of a run, it has no state_dict")
