"""What a run prints while it trains."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import RenderableType
from rich.text import Text


def progress(more: Callable[[], Mapping[str, str]] = dict) -> Callback:
    """A progress bar on a terminal, one line per epoch anywhere else; `more` names what is shown
    besides.
    """
    return Bar(more) if sys.stdout.isatty() else EpochLines(more)


class Bar(RichProgressBar):
    """Lightning's bar with the loss of the last step and the validation error, and nothing else
    of its own; what is shown besides has a line below.
    """

    def __init__(self, more: Callable[[], Mapping[str, str]]):
        super().__init__()
        self._more = more

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None:
            self.progress.get_renderables = self._lines

    def _lines(self) -> Iterable[RenderableType]:
        yield from type(self.progress).get_renderables(self.progress)
        if more := self._more():
            yield Text("  ".join(f"{name} {value}" for name, value in more.items()), style="dim")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, str]:
        shown = {"loss": "train/loss_step", "validation": "val/relative_l2"}
        found = trainer.progress_bar_metrics
        return {name: f"{found[key]:.4f}" for name, key in shown.items() if key in found}


class EpochLines(Callback):
    """`epoch  3/20  train 0.0512  validation 0.0436  41 s`, the loss and the relative L2 error."""

    def __init__(self, more: Callable[[], Mapping[str, str]]):
        self._more = more

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        metrics = trainer.callback_metrics
        train, valid = (
            float(metrics.get(k, "nan")) for k in ("train/loss_epoch", "val/relative_l2")
        )
        width = len(str(trainer.max_epochs))
        more = "".join(f"  {name} {value}" for name, value in self._more().items())
        print(
            f"epoch {trainer.current_epoch + 1:{width}}/{trainer.max_epochs}  train {train:.4f}  "
            f"validation {valid:.4f}  {time.monotonic() - self._start:.0f} s{more}",
            flush=True,
        )
