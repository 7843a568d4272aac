"""Text where a number belongs is refused before anything is built."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, get_type_hints

import pytest
import torch
from omegaconf import OmegaConf

from datasets.build import check_target, described, instantiate
from datasets.kinds import check_kinds, describe, fits
from datasets.shards import SIZES
from tests.helpers import ROOT

FITTING = [
    (3, int),
    (3, float),
    (0.5, float),
    (True, bool),
    ("a", str),
    ("a", Path),
    ("a", str | Path),
    (None, int | None),
    (None, Optional[int]),  # noqa: UP045
    (1e-3, float | torch.Tensor),
    ([1, 2], int | Sequence[int]),
    ([1, 2.5], tuple[float, float]),
    ([1, 2, 3], tuple[int, ...]),
    ([[1], [2, 3]], Sequence[Sequence[int]]),
    ([], list[int]),
    ({"a": 1}, Mapping[str, int | float]),
    ({"a": [1]}, Mapping[str, Any]),
    ("32-true", Literal[16, "32-true"]),
    ({"_target_": "solvers.Grid"}, torch.nn.Module),
    ("anything", Any),
    ("anything", object),
]
UNFIT = [
    ("abc", int),
    (2.0, int),
    (True, int),
    (1, bool),
    (0, str),
    (None, int),
    ("abc", float | torch.Tensor),
    ("abc", int | Sequence[int]),
    (["a"], int | Sequence[int]),
    ([1], tuple[float, float]),
    ([1], Mapping[str, int]),
    ({"a": "b"}, Mapping[str, int | float]),
    ({"a": 1}, int),
    ({"_target_": "solvers.Grid"}, int),
    ("16", Literal[16, "32-true"]),
    ("abc", torch.nn.Module),
    (3, Callable[[int], int]),
]


@pytest.mark.parametrize("value, hint", FITTING, ids=str)
def test_what_fits(value, hint):
    assert fits(value, hint)


@pytest.mark.parametrize("value, hint", UNFIT, ids=str)
def test_what_does_not_fit(value, hint):
    assert not fits(value, hint)


@pytest.mark.parametrize(
    "hint, words",
    [
        (int | None, "a whole number or null"),
        (int | Sequence[int], "a whole number or a list (each a whole number)"),
        (Sequence[Sequence[int]], "a list (each a list (each a whole number))"),
        (tuple[float, float], "a list of 2 entries (each a number)"),
        (float | torch.Tensor, "a number or Tensor"),
        (Literal["a", "b"], "a or b"),
        (bool, "true or false"),
        (Mapping[str, int], "Mapping"),
    ],
)
def test_words(hint, words):
    assert describe(hint) == words


class Sized:
    def __init__(self, width: int, other=None):
        self.width = width


def test_unannotated_and_unknown_arguments_pass():
    check_kinds("Sized", Sized, {"width": 3, "other": "x", "unknown": "y"})
    with pytest.raises(ValueError, match="Sized: width=wide must be a whole number"):
        check_kinds("Sized", Sized, {"width": "wide"})


@pytest.mark.parametrize(
    "target, name, value, expected",
    [
        ("torch.optim.AdamW", "lr", "abc", "lr=abc must be a number or Tensor"),
        ("lightning.Trainer", "max_epochs", "abc", "max_epochs=abc must be a whole number or null"),
        ("sciml.models.FNO", "width", "abc", "width=abc must be a whole number"),
        ("sciml.models.FNO", "width", None, "width=None must be a whole number"),
        (
            "sciml.models.FNO",
            "modes",
            ["a"],
            r"must be a whole number or a list \(each a whole number\)",
        ),
        ("sciml.tasks.OneCycle", "warmup", "abc", "warmup=abc must be a number"),
        ("sciml.models.FNO", "padding", math.inf, "padding=inf must be finite"),
        ("torch.optim.AdamW", "lr", math.nan, "lr=nan must be finite"),
    ],
)
def test_one_line_names_the_argument(target, name, value, expected):
    with pytest.raises(ValueError, match=f"{target}: .*{expected}"):
        instantiate({"_target_": target, "_partial_": True, name: value})
    with pytest.raises(ValueError, match=expected):  # also inside another object's description
        instantiate({"_target_": "torch.optim.SGD", "a": [{"_target_": target, name: value}]})


FILES = sorted(p for p in (ROOT / "conf").rglob("*.yaml") if "\n_target_: " in f"\n{p.read_text()}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_configured_class_has_annotations_that_can_be_read(path):
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    found = list(described({k: v for k, v in config.items() if k != "hydra"}))
    assert found
    for mapping in found:
        builder = check_target(mapping["_target_"])
        hints = get_type_hints(builder.__init__)
        known = {"_target_", "_partial_", "_recursive_", "defaults", *SIZES}
        assert set(mapping) - known <= hints.keys()
