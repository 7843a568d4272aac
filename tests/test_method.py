"""What an optimizer says of itself, before and after a training."""

from types import SimpleNamespace

import pytest

from sciml.evaluation.page import tally
from sciml.runtime.method import Method


class Optimizer:
    def __init__(self, failures: dict[str, int]):
        self.failures = failures

    def summary(self) -> str:
        return "KFAC: blocks for all"

    def facts(self) -> dict:
        return {"summary": self.summary(), "failures": self.failures}


@pytest.mark.parametrize("failures", [{}, {"lifting": 3, "gate": 1}])
def test_it_is_named_before_and_its_failures_after(failures, capsys):
    method, trainer = Method(), SimpleNamespace(optimizers=[Optimizer(failures), object()])
    method.on_train_start(trainer, None)
    assert capsys.readouterr().out == "curvature KFAC: blocks for all\n"
    method.on_train_end(trainer, None)
    told = "curvature failed for lifting (3), gate (1): train.log has the reasons\n"
    assert capsys.readouterr().out == (told if failures else "")
    assert method.facts["failures"] == failures


def test_first_order_optimizers_are_silent(capsys):
    method, trainer = Method(), SimpleNamespace(optimizers=[object()])
    method.on_train_start(trainer, None)
    method.on_train_end(trainer, None)
    assert capsys.readouterr().out == "" and method.facts == {}


@pytest.mark.parametrize(
    "counts, text",
    [
        ({"a": 1}, "a (1)"),
        ({"a": 1, "b": 2000, "c": 2}, "b (2,000), c (2), a (1)"),
        ({"a": 1, "b": 1, "c": 1, "d": 5, "e": 1}, "d (5), a (1), b (1) and 2 more"),
    ],
)
def test_a_tally_begins_with_the_largest(counts, text):
    assert tally(counts) == text
