"""Only classes meant to be configured are ever called by a configuration."""

import subprocess

import pytest
from hydra.utils import instantiate as hydra_instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from datasets.build import FOREIGN, ROOMS, check_target, instantiate
from sciml.losses import RelativeL2
from sciml.models import FNO
from sciml.tasks import OneCycle

LISTED = """
os.system os.popen os.execv os.remove os._exit posix.system pty.spawn subprocess.run
subprocess.Popen subprocess.check_output subprocess.getoutput builtins.eval builtins.exec
builtins.open builtins.__import__ builtins.compile builtins.print pickle.load pickle.loads
marshal.loads shelve.open joblib.load dill.load cloudpickle.load numpy.load numpy.save
numpy.fromfile torch.load torch.save torch.hub.load torch.jit.load torch.classes.load_library
torch.ops.load_library torch.utils.cpp_extension.load torch.package.PackageImporter pathlib.Path
pathlib.Path.write_text pathlib.Path.touch shutil.rmtree shutil.copy tempfile.mkdtemp
functools.partial functools.reduce operator.methodcaller itertools.starmap importlib.import_module
importlib.reload runpy.run_path runpy.run_module code.interact ctypes.CDLL hydra.utils.instantiate
hydra.utils.call hydra.utils.get_method hydra._internal.utils._locate omegaconf.OmegaConf.load
yaml.load yaml.unsafe_load urllib.request.urlopen socket.socket requests.get
lightning.pytorch.callbacks.LambdaCallback lightning.LightningModule.load_from_checkpoint
logging.config.dictConfig sciml.models.torch.load sciml.models.fno.torch.load sciml.models.fno.FNO
sciml.models.neuralop.importlib.import_module sciml.run.run sciml.run.torch.load
sciml.runtime.run_folder.subprocess.run sciml.runtime.checkpoint_io.torch.load
sciml.evaluation.write_report sciml.losses.l2_norm sciml.losses.torch.load
sciml.tasks.OneCycle.__init__ datasets.build.importlib.import_module datasets.build.instantiate
datasets.store.shutil.rmtree datasets.store.commit datasets.generate.generate
datasets.import_module datasets.dataset.hashlib.new datasets.loader.torch.load
solvers.grid.torch.load solvers.grid.Grid.box solvers.torch.load train.main tests.helpers.train
conf.model sciml sciml. .sciml sciml..models sciml.models. sciml.models.FNO.forward
sciml.models.fno datasets solvers FNO
"""
PAYLOADS = LISTED.split()


@pytest.mark.parametrize(
    "target", [*PAYLOADS, "", " sciml.models.FNO", "sciml.models.FNO ", "sciml/models.FNO"]
)
def test_payload_is_refused(target):
    with pytest.raises(ValueError, match="_target_"):
        check_target(target)
    with pytest.raises(ValueError, match="_target_"):
        instantiate({"_target_": target})


@pytest.mark.parametrize("target", [None, 3, True, ["os.system"], {"a": 1}, ("os.system",), print])
def test_target_that_is_no_string_is_refused(target):
    with pytest.raises(ValueError, match="not allowed"):
        check_target(target)


def test_there_are_enough_payloads():
    assert len(set(PAYLOADS)) >= 40


identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
WORDS = ["torch", "load", "os", "system", "FNO", "models", "grid", "_", "__all__", "utils"]
names = st.one_of(st.sampled_from(WORDS), identifiers)


@given(st.sampled_from(ROOMS), st.lists(names, max_size=4))
def test_only_exported_classes_of_our_packages_pass(room, parts):
    target = ".".join((room, *parts))
    try:
        check_target(target)
    except ValueError as error:
        assert "_target_" in str(error)
    else:
        package, _, name = target.rpartition(".")
        assert name in __import__(package, fromlist=["__all__"]).__all__


@given(st.one_of(st.text(max_size=40), st.lists(names, min_size=1, max_size=5).map(".".join)))
def test_nothing_else_passes(target):
    if target in FOREIGN or target.split(".")[0] in ROOMS:
        return
    with pytest.raises(ValueError, match="not allowed"):
        check_target(target)


def nested(payload: dict) -> list:
    """The payload at many depths of a configuration that is otherwise in order."""
    good = {"_target_": "sciml.tasks.OneCycle"}
    return [
        payload,
        good | {"warmup": payload},
        good | {"_args_": [payload]},
        good | {"warmup": [[{"a": [payload]}]]},
        good | {"warmup": {"a": {"b": {"c": (1, payload)}}}},
        good | {"warmup": {"_target_": "sciml.models.FNO", "width": payload}},
        good | {"_partial_": True, "warmup": payload},
        good | {"_recursive_": False, "warmup": payload},
        good | {"warmup": OmegaConf.create([payload])},
        good | {"warmup": OmegaConf.create({"a": [payload]})},
    ]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("as_config", [False, True], ids=["dict", "OmegaConf"])
def test_payload_is_found_wherever_it_hides(tmp_path, number, as_config):
    marker = tmp_path / "ran"
    config = nested({"_target_": "pathlib.Path.touch", "_args_": [str(marker)]})[number]
    if as_config:
        config = OmegaConf.create(config)
    with pytest.raises(ValueError, match=r"'pathlib.Path.touch' is not allowed"):
        instantiate(config)
    assert not marker.exists()


@pytest.mark.parametrize("target", ["pathlib.Path.touch", "numpy.save", "builtins.open"])
def test_hydra_alone_would_have_run_it(tmp_path, target):
    """The control: Hydra's own list forbids some names; it cannot know them all."""
    marker = tmp_path / "ran.npy"
    payload = {
        "pathlib.Path.touch": {"_args_": [marker]},
        "numpy.save": {"file": str(marker), "arr": 1},
        "builtins.open": {"file": str(marker), "mode": "w"},
    }[target]
    with pytest.raises(ValueError, match="not allowed"):
        instantiate({"_target_": target, **payload})
    assert not marker.exists()
    hydra_instantiate({"_target_": target, **payload})
    assert marker.exists()


def test_a_target_through_an_interpolation_is_checked_as_it_will_be_called(tmp_path):
    config = OmegaConf.create(
        {
            "who": "pathlib.Path",
            "model": {"_target_": "${who}.touch", "_args_": [str(tmp_path / "ran")]},
        }
    )
    with pytest.raises(ValueError, match=r"'pathlib.Path.touch' is not allowed"):
        instantiate(config.model)
    assert not (tmp_path / "ran").exists()


ESCAPED = "\\${oc.create:'{_target_: pathlib.Path.touch, _args_: [MARKER]}'}"


@pytest.mark.parametrize("escape", [ESCAPED, ESCAPED.removeprefix("\\")], ids=["escaped", "plain"])
@pytest.mark.parametrize("as_config", [False, True], ids=["dict", "OmegaConf"])
def test_hydra_resolves_nothing_a_second_time(tmp_path, escape, as_config):
    """An interpolation in a plain mapping, or an escaped one in a configuration."""
    marker = tmp_path / "ran"
    config = {"_target_": "sciml.tasks.OneCycle", "x": [escape.replace("MARKER", str(marker))]}
    with pytest.raises(ValueError):
        instantiate(OmegaConf.create(config) if as_config else config)
    assert not marker.exists()


def test_hydra_alone_resolves_it_again(tmp_path):
    """The control."""
    payload = ESCAPED.removeprefix("\\").replace("MARKER", str(tmp_path / "ran"))
    payload = payload.replace("[", "[{_target_: pathlib.Path, _args_: [").replace("]", "]}]")
    hydra_instantiate({"_target_": "builtins.dict", "x": payload})
    assert (tmp_path / "ran").exists()


def test_a_resolver_that_changes_its_mind_is_asked_once(tmp_path):
    answers = iter(["sciml.losses.RelativeL2", "pathlib.Path.touch"])
    OmegaConf.register_new_resolver("fickle", lambda: next(answers), replace=True)
    try:
        built = instantiate(OmegaConf.create({"_target_": "${fickle:}"}))
    finally:
        OmegaConf.clear_resolver("fickle")
    assert isinstance(built, RelativeL2)
    assert next(answers) == "pathlib.Path.touch"


def test_exported_names_that_are_no_classes_are_refused(monkeypatch):
    import sciml.losses

    monkeypatch.setattr(sciml.losses, "__all__", [*sciml.losses.__all__, "run"])
    monkeypatch.setattr(sciml.losses, "run", subprocess.run, raising=False)
    with pytest.raises(ValueError, match="not a class that sciml.losses exports"):
        check_target("sciml.losses.run")


def test_it_builds_what_is_allowed():
    assert isinstance(
        instantiate({"_target_": "sciml.losses.RelativeL2", "floor": 1e-6}), RelativeL2
    )
    assert isinstance(instantiate(OmegaConf.create({"_target_": "sciml.tasks.OneCycle"})), OneCycle)
    model = instantiate(
        {"_target_": "sciml.models.FNO", "width": 4, "modes": 2},
        in_channels=1,
        out_channels=1,
        ndim=1,
    )
    assert isinstance(model, FNO)
    factory = instantiate({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5})
    assert factory(model.parameters()).param_groups[0]["lr"] == 0.5


def test_foreign_names_exist_and_are_classes():
    for name in sorted(FOREIGN):
        check_target(name)
        assert (
            hydra_instantiate({"_target_": name, "_partial_": True}).func.__name__
            == name.split(".")[-1]
        )


@pytest.mark.parametrize("config", [{"width": 3}, [], "sciml.models.FNO", None])
def test_what_describes_no_object_is_refused(config):
    with pytest.raises(ValueError, match="expected a mapping with _target_"):
        instantiate(config)


def test_what_the_program_sets_cannot_be_configured():
    with pytest.raises(ValueError, match="sciml.models.FNO: in_channels, ndim cannot be conf"):
        instantiate(
            {"_target_": "sciml.models.FNO", "ndim": 2, "in_channels": 1}, in_channels=1, ndim=2
        )


def test_wrong_arguments_name_the_target():
    with pytest.raises(ValueError, match=r"sciml.tasks.OneCycle.*warmpu"):
        instantiate({"_target_": "sciml.tasks.OneCycle", "warmpu": 0.1})
    with pytest.raises(ValueError, match="warmup=3 must lie between 0 and 1"):
        instantiate({"_target_": "sciml.tasks.OneCycle", "warmup": 3})
    with pytest.raises(ValueError, match="warmup=3 must lie"):
        instantiate(
            {
                "_target_": "datasets.Subset",
                "source": {"_target_": "sciml.tasks.OneCycle", "warmup": 3},
            }
        )
