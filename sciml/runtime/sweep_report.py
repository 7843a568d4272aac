"""The table at the end of a multirun; imported by Hydra at start-up, so it loads nothing heavy."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

WIDTH = 200  # of the table in a file or pipe, which has none


class SweepReport(Callback):
    """Prints one table over all jobs of a multirun, writes it as sweep.html, and exits with 1 if
    a job failed.
    """

    def on_multirun_end(self, config: DictConfig, **arguments: Any) -> None:
        from rich.console import Console

        from sciml.evaluation.sweep import read_sweep, sweep_table, write_sweep_report

        folder = Path(config.hydra.sweep.dir)
        Console(width=None if sys.stdout.isatty() else WIDTH).print(sweep_table(folder))
        print(f"sweep report: {write_sweep_report(folder)}")
        if any(job.status != "completed" for job in read_sweep(folder)):
            sys.exit(1)
