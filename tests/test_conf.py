"""Every configuration file composes and builds what it describes, and every key is read."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from omegaconf import OmegaConf

from datasets.build import check_target, described, instantiate
from solvers.grid import Grid
from tests.helpers import ROOT, TINY, compose
from tests.streams import recorded
from tests.test_foreign_data import SETS
from tests.tiny_recipe import make_tiny

CONF = ROOT / "conf"
GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name != "hydra"
}
MODELS = GROUPS["model"]
FEW_MODES = {
    "fno": ("model.width=4", "model.modes=3", "model.depth=2"),
    "neuralop_fno": ("model.settings.n_modes=4", "model.settings.hidden_channels=4"),
    "neuralop_tfno": ("model.settings.n_modes=4", "model.settings.hidden_channels=4"),
    "neuralop_uno": (
        "model.settings.hidden_channels=4",
        "model.settings.uno_out_channels=[4,4,4,4,4]",
        "model.settings.uno_n_modes=[4,4,4,4,4]",
    ),
}
FOREIGN = {
    choice: lambda path, make=make, more=more: [f"path={make(path)}", *more]
    for choice, make, more in SETS.values()
} | {
    "stored": lambda path: [f"path={make_tiny(path)}", "data.window=null"],
    "replay": lambda path: [f"path={recorded(path)}"],
}


def build_model(name: str, shape: tuple[int, ...], channels: tuple[int, int], overrides=()):
    grid = Grid.box(shape, boundary="periodic", points="left")
    config = compose([f"model={name}", *overrides])
    ins, outs = channels
    return instantiate(config.model, in_channels=ins, out_channels=outs, ndim=len(shape), grid=grid)


def learns(model: torch.nn.Module, shape: tuple[int, ...], channels: tuple[int, int]) -> None:
    """One forward and backward pass: the right shape, and a finite gradient for every parameter."""
    u = model(torch.randn(2, channels[0], *shape))
    assert u.shape == (2, channels[1], *shape)
    u.square().mean().backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None]
    assert lacking == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_built_from_metadata(name):
    channels = (2, 2) if name == "neuralop_codano" else (2, 1)
    learns(build_model(name, (32, 32), channels), (32, 32), channels)


@pytest.mark.parametrize("shape", [(16,), (8, 8, 8)], ids=["1d", "3d"])
@pytest.mark.parametrize("name", sorted(FEW_MODES))
def test_models_in_one_and_three_dimensions(name, shape):
    learns(build_model(name, shape, (1, 2), FEW_MODES[name]), shape, (1, 2))


@pytest.mark.parametrize(
    "asked, method",
    [
        ([], "KFAC"),
        (["model=tfno"], None),
        (["data=burgers", "optimizer.lr=1e-3"], "KFAC"),
        (["curvature.floor=0.1"], "KFAC"),
        (["curvature=none"], None),
        (["model=tfno", "curvature=kfac"], "KFAC"),
        (["curvature=ekfac"], "EKFAC"),
        (["model=deeponet"], None),
        (["model=unet", "curvature=kfac"], "KFAC"),
        (["model=mgno"], None),
        *(([f"optimizer={name}"], None) for name in GROUPS["optimizer"] if name != "adamw"),
        *(([f"experiment={name}"], None) for name in GROUPS["experiment"]),
        (["experiment=burgers", "curvature=kfac"], "KFAC"),
        (["task=physics"], None),
        (["task=rollout", "data=navier_stokes_1e-3"], None),
        (["task=rollout", "data=navier_stokes_1e-3", "curvature=mkor"], "MKOR"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else str(x),
)
def test_the_method_follows_the_measured_table_unless_it_is_chosen(asked, method):
    """K-FAC for the models, the task and the optimizer that docs/curvature.md has figures of."""
    target = compose(asked).curvature.get("_target_")
    assert target == (None if method is None else f"sciml.curvature.{method}")


@pytest.mark.parametrize(
    "asked, optimizer, lr",
    [
        ([], "AdamW", 4e-3),
        (["model=deeponet"], "AdamW", 4e-3),
        (["model=tfno"], "SpectralMuon", 2e-2),
        (["model=tfno", "curvature=ekfac"], "AdamW", 4e-3),
        (["model=tfno", "task=physics"], "AdamW", 4e-3),
        (["model=unet"], "SpectralMuon", 5e-3),
        (["model=mgno", "data=burgers"], "SpectralMuon", 5e-3),
        (["model=mgno", "curvature=none", "optimizer.lr=1e-3"], "SpectralMuon", 1e-3),
        (["model=mgno", "optimizer=adamw"], "AdamW", 4e-3),
        (["model=unet", "optimizer=muon"], "SpectralMuon", 2e-2),
        (["model=unet", "task=physics"], "AdamW", 4e-3),
        (["model=unet", "task=rollout", "data=navier_stokes_1e-3"], "AdamW", 4e-3),
        *(
            (["model=mgno", f"curvature={name}"], "AdamW", 4e-3)
            for name in GROUPS["curvature"]
            if name != "none"
        ),
        *(([f"experiment={name}", "model=unet"], "AdamW", None) for name in GROUPS["experiment"]),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else str(x),
)
def test_the_optimizer_follows_the_measured_table_unless_it_is_chosen(asked, optimizer, lr):
    """Muon for the models and the task that docs/curvature.md has figures of, AdamW where K-FAC and
    its like take their lengths from it.
    """
    found = compose(asked).optimizer
    assert found["_target_"].rpartition(".")[2] == optimizer
    assert lr in (None, found.lr)


def test_channels_are_never_written_in_yaml():
    for path in CONF.rglob("model/*.yaml"):
        assert not re.search(r"\b(in|out)_channels\s*:", path.read_text()), path.name


@pytest.mark.parametrize("name", GROUPS["optimizer"])
def test_every_optimizer_makes_a_step(name):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = instantiate(compose([f"optimizer={name}"]).optimizer)([weight])

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (weight < 1).all()


@pytest.mark.parametrize("name", GROUPS["trainer"])
def test_every_trainer_is_built(name, tmp_path):
    config = compose([f"trainer={name}"]).trainer
    trainer = instantiate(config, default_root_dir=str(tmp_path), logger=False)
    assert isinstance(trainer, Trainer)
    assert trainer.max_epochs == config.max_epochs


REFUSED = {  # on pairs of arrays, and why
    "rollout": "a steady map has no steps",
    "physics": "files do not say which equation",
}


@pytest.mark.parametrize("name", GROUPS["task"])
def test_every_task_is_built(name, arrays):
    """On pairs of arrays, or refused for what they lack."""
    from sciml.tasks.build import build_task

    config = compose([*arrays, *TINY, f"task={name}"])
    dataset = instantiate(config.data)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            build_task(config, dataset)
        return
    assert build_task(config, dataset)(torch.randn(3, 1, 12, 12)).shape == (3, 1, 12, 12)


@pytest.mark.parametrize("name", ["supervised", "rollout", "physics"])
def test_every_task_is_built_for_solutions_over_time(name, tmp_path):
    from sciml.tasks.build import build_task

    overrides = ["data=burgers", f"data_dir={tmp_path}", "data.resolution=16", f"task={name}"]
    overrides += ["data.counts={train: 2, valid: 1, test: 1}", "data.num_workers=0"]
    overrides += ["data.pde.stepper.dt=0.01", "+data.pde.tail=null", "data.pde.num_steps=4"]
    config = compose([*TINY, *overrides, "data.window.horizon=2"])
    task = build_task(config, instantiate(config.data))
    assert task(torch.randn(3, 1, 16)).shape == (3, 2, 16)


@pytest.mark.parametrize("name", GROUPS["data"])
def test_every_data_set_is_built(name, arrays, tmp_path):
    overrides = [f"data={name}", f"data_dir={tmp_path}"]
    if name == "arrays":
        overrides = arrays
    elif name == "neuralop_pt":
        for part, count in (("train", 120), ("test", 10)):
            pairs = {"x": torch.rand(count, 6, 6), "y": torch.rand(count, 6, 6)}
            torch.save(pairs, tmp_path / f"{part}.pt")
            overrides.append(f"data.{part}={tmp_path / part}.pt")
    elif name in FOREIGN:
        overrides += FOREIGN[name](tmp_path / "made")
    dataset = instantiate(compose(overrides).data)
    assert callable(dataset.source)
    assert callable(dataset.facts)


@pytest.mark.parametrize(
    "choice", [f"{group}={name}" for group, names in GROUPS.items() for name in names]
)
def test_every_choice_composes_to_allowed_targets(choice, arrays):
    paths = [line for line in arrays if not line.startswith("data=")]
    group = choice.partition("=")[0]
    missing = {"data=arrays": paths, "data=neuralop_pt": ["data.train=a.pt", "data.test=b.pt"]}
    missing |= {f"data={name}": ["path=a"] for name in FOREIGN}
    missing["data=trajectories"] = ["path=a.npy", "dt=0.1"]
    overrides = [f"+{choice}" if group == "pde" else choice, *missing.get(choice, ())]
    composed = OmegaConf.to_container(compose(overrides), resolve=True)
    targets = [mapping["_target_"] for mapping in described(composed)]
    assert len(targets) >= 6
    for target in targets:
        check_target(target)


def test_the_generator_s_configuration_composes():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in GROUPS["pde"]:
            config = compose("generate", [f"pde={name}"])
            check_target(config.pde._target_)


def unread(keys: list[str], root: Path) -> list[str]:
    """Keys of config.yaml that no line of the program and no other configuration file asks for."""
    files = [root / "train.py", *(root / "sciml").rglob("*.py"), *(root / "conf").rglob("*.yaml")]
    text = "\n".join(path.read_text() for path in files)
    return [k for k in keys if not re.search(rf"\bconfig\.{k}\b|\$\{{{k}\}}", text)]


def test_every_key_is_read():
    groups = {*GROUPS, "defaults", "hydra"}
    keys = [str(key) for key in OmegaConf.load(CONF / "config.yaml") if key not in groups]
    assert len(keys) > 8
    assert unread(keys, ROOT) == []
    assert unread(["seed", "nobody_reads_this"], ROOT) == ["nobody_reads_this"]


def test_every_documented_task_composes():
    text = (ROOT / "docs" / "tasks.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("python train.py task=")]
    assert len(lines) >= 8
    for line in lines:
        assert compose(shlex.split(line, comments=True)[2:]).task.loss


def test_every_documented_window_composes():
    text = (ROOT / "docs" / "data.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("python train.py data=")]
    settings = [shlex.split(line, comments=True)[2:] for line in lines if "window" in line]
    assert settings
    for overrides in settings:
        assert compose(overrides).data.window.history
