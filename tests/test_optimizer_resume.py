"""Runs with any of the optimizers go on bit by bit, with pairs and with complex parameters."""

import pytest

from sciml.runtime.interruption import Interrupted
from tests.test_resume import MODELS, STOP, losses, same_weights, train  # noqa: F401

OPTIMIZERS = {
    "soap": ["optimizer=soap", "optimizer.factor_period=2", "optimizer.basis_period=4"],
    "muon": ["optimizer=muon"],
    "adahessian": ["optimizer=adahessian", "optimizer.hessian_period=3"],
    "lbfgs": ["optimizer=lbfgs", "optimizer.max_iter=3", "optimizer.history_size=4"],
    "mfac": ["curvature=mfac", "curvature.window=6"],
}
COMPLEX = [*MODELS["neuralop_tfno"], "model.settings.n_layers=1"]  # genuinely complex parameters


@pytest.mark.parametrize("model", ["fno", "complex"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_continued_run_is_bitwise_the_same(train, optimizer, model):  # noqa: F811
    overrides = [*(MODELS["fno"] if model == "fno" else COMPLEX), *OPTIMIZERS[optimizer]]
    whole = train("whole", *overrides)
    with pytest.raises(Interrupted) as stopped:
        train("stopped", *overrides, stop_at=STOP)
    checkpoint = stopped.value.checkpoint
    continued = train("continued", *overrides, f"ckpt_path={checkpoint}")
    expected, found = losses(whole), losses(continued)
    assert found and found == {step: expected[step] for step in found}
    assert same_weights(continued, whole, "last.ckpt")
