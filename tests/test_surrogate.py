"""A saved model: the same function when it is loaded, and nothing else is loaded."""

import json
import shutil

import pytest
import torch

from datasets.normalize import Normalizer
from datasets.schema import Field, Metadata
from sciml.models import FNO, Surrogate
from sciml.models.surrogate import digest
from solvers.grid import Grid

CONFIG = {"_target_": "sciml.models.FNO", "width": 6, "modes": 3, "depth": 2}


@pytest.fixture
def surrogate():
    torch.manual_seed(0)
    grid = Grid.box((12, 13))
    meta = Metadata("test", (Field("a"), Field("b")), (Field("u", "m"),), grid, provenance={"x": 1})
    model = FNO(2, 1, 2, grid=grid, width=6, modes=3, depth=2)
    numbers = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    return Surrogate(model, Normalizer(*numbers), Normalizer(*numbers[:, :1]), meta, CONFIG)


def test_loaded_is_bitwise_the_same(surrogate, tmp_path):
    a = torch.randn(3, 2, 12, 13)
    loaded = Surrogate.load(surrogate.save(tmp_path / "model"))
    assert torch.equal(loaded(a), surrogate(a))
    assert loaded.metadata == surrogate.metadata and not loaded.training
    expected = (
        3
        * surrogate.model(
            (a - torch.tensor([1.0, 2])[:, None, None]) / torch.tensor([3.0, 4])[:, None, None]
        )
        + 1
    )
    torch.testing.assert_close(loaded(a), expected)


def altered(key, value):
    """By someone who knows how the checksum is made."""

    def change(folder):
        about = json.loads((folder / "model.json").read_text())
        about[key] = value
        weights = (folder / "model.safetensors").read_bytes()
        about["sha256"] = digest(about["model"], about["metadata"], weights)
        (folder / "model.json").write_text(json.dumps(about))

    return change


def cut(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    "change, message",
    [
        (cut, "altered, the sha256 of model.safetensors"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.json").unlink(), "model.json: no such file"),
        (lambda f: (f / "model.json").write_text("{"), "model.json: not JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "not the description of a model"),
        (altered("format", 2), "not the description of a model in format 1"),
        (altered("model", None), "'model' is missing or not dict"),
        (altered("model", {}), "'model' has no _target_"),
        (altered("model", {"_target_": "os.system"}), "'os.system' is not allowed"),
        (altered("model", {**CONFIG, "depth": "x"}), "depth=x must be a whole number"),
        (altered("model", {"_target_": "sciml.models.Card"}), "Card is not a model"),
        (altered("model", {**CONFIG, "padding": float("nan")}), "padding=nan must be finite"),
        (altered("model", {**CONFIG, "width": 10**9}), "model.json: "),
        (altered("model", {**CONFIG, "depth": 3}), "does not fit the model"),
        (altered("model", {**CONFIG, "width": 8}), "does not fit the model"),
        (altered("metadata", {}), "metadata is not what Metadata.to_dict writes"),
    ],
)  # fmt: skip
def test_what_is_refused(surrogate, tmp_path, change, message):
    folder = surrogate.save(tmp_path / "model")
    Surrogate.load(folder)
    change(folder)
    with pytest.raises(ValueError, match=message):
        Surrogate.load(folder)


def test_an_altered_description_is_another_operator(surrogate, tmp_path):
    file = surrogate.save(tmp_path) / "model.json"
    text = file.read_text()
    for old, new in (
        ('"depth": 2', '"depth": 2, "padding": 0.5'),
        ('"upper": 1.0', '"upper": 2.0'),
    ):
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match="altered"):
            Surrogate.load(tmp_path)


def test_the_precision_is_kept(surrogate, tmp_path):
    surrogate.model.double()
    loaded = Surrogate.load(surrogate.save(tmp_path))
    assert next(loaded.model.parameters()).dtype == torch.float64
    a = torch.randn(3, 2, 12, 13, dtype=torch.float64)
    assert torch.equal(loaded(a), surrogate(a))


def test_a_run_leaves_its_model(complete, arrays):
    folder, figures = complete
    loaded = Surrogate.load(folder / "model")
    from datasets.build import instantiate
    from sciml.evaluation.evaluate import evaluate
    from tests.helpers import compose

    source = instantiate(compose(arrays).data).source("test")
    found, _ = evaluate(loaded, source, prefix="test", batch_size=8, like=torch.zeros(()))
    assert found["test/relative_l2"] == figures["test/relative_l2"]
    shutil.copytree(folder / "model", folder / "moved")
    Surrogate.load(folder / "moved")
