"""What an optimizer says of itself, for the terminal and the report."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from sciml.evaluation.page import tally


class Method(Callback):
    """Prints the `summary()` of the optimizer before the first batch, if it has one, and keeps its
    `facts()`, plain values, as they are at the end. What failed on the way is printed then.
    """

    def __init__(self):
        self.facts: Mapping[str, Any] = {}

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            if hasattr(optimizer, "summary"):
                print(f"curvature {optimizer.summary()}")

    def on_train_end(self, trainer: Trainer, task: LightningModule) -> None:
        for optimizer in trainer.optimizers:
            if hasattr(optimizer, "facts"):
                self.facts = optimizer.facts()
        if failures := self.facts.get("failures"):
            print(f"curvature failed for {tally(failures)}: train.log has the reasons")
