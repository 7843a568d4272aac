"""The curves of the run that another one continues."""

import csv
import io
from pathlib import Path

from datasets.store import commit
from sciml.evaluation.run_folder import EARLIER, LOG


def take_curves(checkpoint: Path, step: int, folder: Path) -> None:
    """Write `earlier.csv`: what the run that wrote `checkpoint`, after `step` steps, had logged by
    then.

    That run's folder lies above the checkpoint's; it may itself have been a continuation. A
    checkpoint that does not lie in the `checkpoints` of a run brings no curves. Means over an
    epoch that was interrupted are those of its rest.
    """
    origin = checkpoint.parent.parent
    if checkpoint.parent.name != "checkpoints" or not (origin / "run.json").is_file():
        return
    rows = [row for name in (EARLIER, LOG) for row in _rows(origin / name)]
    rows = [row for row in rows if int(row["step"]) < step]
    if rows:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        commit(folder / EARLIER, text.getvalue().encode())


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
