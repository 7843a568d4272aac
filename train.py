"""Train, evaluate and report: `python train.py model=fno data=darcy`; `python train.py --help`
for the rest.
"""

import logging
import math
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from datasets.command_line import COMPLAINTS, explain
from datasets.hydra_guard import install
from sciml.runtime.interruption import Interrupted
from sciml.runtime.run_folder import RunFolder, repeating

# torch and Lightning are imported where they are needed: --help and a mistyped option answer at
# once.
log = logging.getLogger("train")
failures: list[Exception] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(config: DictConfig) -> float:
    """One run in Hydra's output folder; returns its test error, NaN if it failed.

    A failure is recorded in the folder and in `failures`, so that a sweep goes on with its next
    job.
    """
    settings = HydraConfig.get()
    logging.captureWarnings(True)
    last = Path(settings.runtime.output_dir).absolute() / "checkpoints" / "last.ckpt"

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(signal.Signals(number), last)

    before = signal.signal(signal.SIGTERM, stop)  # while it trains, `SignalWatch` has its own
    try:
        folder = RunFolder(Path(settings.runtime.output_dir))
        try:
            if settings.mode == RunMode.MULTIRUN:
                folder.command = repeating(["train.py", *settings.overrides.task])
            folder.write_config(config, list(settings.overrides.task), settings.runtime.choices)
            from sciml.run import run

            figures = run(config, folder)
        except (Exception, Interrupted, KeyboardInterrupt) as error:
            log.exception("failed")
            if isinstance(error, OSError) and error.strerror and error.filename is None:
                error.filename = str(folder.path)  # writing to a full disk does not say where
            folder.write_failure(error)
            report_failure(folder)
            raise
        return next(value for key, value in figures.items() if key.endswith("/relative_l2"))
    except Exception as error:
        failures.append(error)
        if settings.mode == RunMode.MULTIRUN:
            print(f"job {settings.job.num} failed: {describe(error)}", file=sys.stderr)
        return math.nan
    finally:
        signal.signal(signal.SIGTERM, before)


def report_failure(folder: RunFolder) -> None:
    """The report of a run that ended early, if it came as far as its data and model."""
    if not (folder.path / "run.json").is_file():
        return
    from sciml.evaluation.report import write_report

    try:
        print(f"report  {write_report(folder.path)}", flush=True)
    except (Exception, KeyboardInterrupt):  # whatever it is, the error that ended the run counts
        log.exception("no report")


def describe(error: BaseException) -> str:
    return explain(error) if isinstance(error, COMPLAINTS) else str(error)


def main() -> None:
    """Run Hydra; every foreseen failure is one line on stderr and an exit code, anything else a
    traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here as they are
    ConfigStore.__deepcopy__ = lambda store, memo: store  # Hydra copies it 90 times for --help
    logging.raiseExceptions = False  # a full disk ends the log, not the run's last words
    warnings.filterwarnings("ignore", module="lightning")
    install()
    try:
        job()
        if failures:
            raise failures[0]
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signal)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except COMPLAINTS as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
