"""How many samples arrive for every batch that is drawn."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limiter:
    """Fixes the pace of a training to that of its stream.

    Of `samples` N in all, each is drawn `reuse` r times on average in batches of `batch_size` B:

        steps = epochs floor(r N / (B epochs))
        batch k = 0, 1, ... is drawn once n(k) = min(N, ceil(w + (k + 1) B / r)) samples are in

    with the `watermark` w, so that the number of steps, and with it every schedule of learning
    rates, is known before the first sample arrives, and all ranks of a training that divide a
    study among them stop together. After the last sample has come the remaining r w draws are made
    from what there is. [Cassirer et al. 2021, arXiv:2102.04736, section 3.3, call it samples per
    insert.] Samples are counted in what a row of the buffer holds, its `unit`.
    """

    samples: int
    watermark: int
    reuse: float
    batch_size: int
    epochs: int = 1
    unit: str = "samples"

    def __post_init__(self):
        if self.watermark < 1:
            raise ValueError(
                f"online.watermark={self.watermark} must be at least 1: normalisers are fitted to "
                "the samples that are in by then."
            )
        if self.watermark > self.samples:
            raise ValueError(
                f"online.watermark={self.watermark}: only {self.samples} {self.unit} will ever "
                "arrive; lower it, or ask for more simulations (data.counts.train)."
            )
        if self.steps < 1:
            raise ValueError(
                f"{self.samples} {self.unit} drawn {self.reuse:g} times each do not fill "
                f"{self.epochs} epochs with batches of {self.batch_size}: lower trainer.max_epochs "
                "or batch_size, or ask for more simulations (data.counts.train)."
            )

    @property
    def steps(self) -> int:
        """Batches in all."""
        return self.epochs * int(self.samples * self.reuse // (self.batch_size * self.epochs))

    def arrived(self, batch: int) -> int:
        """Samples that are in before a batch is drawn."""
        return min(
            self.samples, math.ceil(self.watermark + (batch + 1) * self.batch_size / self.reuse)
        )
