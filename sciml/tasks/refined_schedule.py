"""A learning-rate schedule from the gradients that an earlier run has seen."""

import csv
from pathlib import Path

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sciml.tasks.schedule import Following

LEAST = 50  # norms of a run, so that the first lies within the warm-up
NORM = "gradient/l1"  # sum of absolute values, a column of metrics.csv; not a curve by epoch


class RefinedSchedule:
    """The schedule that bounds the loss of the last iterate best for gradients like those of the
    run in the folder `of`, as a factor of lr whose largest value is 1:

        lr_t ~ w_t sum_(p > t) w_p,    w_t = 1 / median of |g|_1 around t

    [Defazio et al. 2023, arXiv:2310.07831, theorem 1 and section 3 on Adam, whose steps go with the
    1-norm; medians over the share `window` of the run]. Constant norms give the straight line from
    lr to zero; large gradients at the start give a warm-up, gradients that shrink towards the end a
    longer stay at large rates and a faster fall. During the share `warmup` of the steps rates go no
    higher than a straight line up to what they are at its end, which is not in the paper: a
    relative loss has gradients ten times smaller before anything is learned, and a peak of a few
    steps at the start would leave all other rates a tenth of lr. Where gradients stay small for
    longer than that, take a longer `warmup`. The other run may have had any
    number of steps. It should be like the one to come: same model, data, loss, batch size, and a
    learning rate that suited it.
    """

    def __init__(self, of: str, window: float = 0.1, warmup: float = 0.05):
        if not 0 < window < 1:
            raise ValueError(f"RefinedSchedule: window={window} must lie between 0 and 1.")
        if not 0 <= warmup < 1:
            raise ValueError(
                f"RefinedSchedule: warmup={warmup} must lie between 0 and 1, 1 left out."
            )
        self.of, self.window, self.warmup = Path(of), window, warmup

    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        factors = refined(recorded(self.of), total_steps, self.window, self.warmup)
        return Following(optimizer, factors.tolist())


def refined(norms: np.ndarray, steps: int, window: float = 0.1, warmup: float = 0.0) -> np.ndarray:
    """Factors [steps] for 1-norms [n] of gradients at equal distances through a run."""
    width = max(1, round(window * len(norms))) // 2
    padded = np.concatenate(
        (np.full(width, norms[0]), norms, norms[::-1][1 : width + 1]),
    )  # the first value again on the left, a mirror on the right, as in the paper
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=-1)
    places = (np.arange(steps) + 0.5) / steps
    w = 1 / np.interp(places, (np.arange(len(smooth)) + 0.5) / len(smooth), smooth)
    after = np.cumsum(w[::-1])[::-1] - w / 2  # half of its own: the last step is not nothing
    factors = w * after
    rising = int(warmup * steps)
    line = (np.arange(rising) + 1) / (rising + 1) * factors[rising]
    factors[:rising] = np.minimum(factors[:rising], line)
    return factors / factors.max()


def recorded(folder: Path) -> np.ndarray:
    """The norms that a run has logged, in the order of its steps."""
    found = {}
    for path in (folder / "earlier.csv", folder / "metrics.csv"):
        if path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get(NORM)]
            found |= {int(row["step"]): float(row[NORM]) for row in rows}
    norms = np.array([found[step] for step in sorted(found)])
    norms = norms[(norms > 0) & np.isfinite(norms)]
    if not folder.is_dir():
        raise ValueError(f"task.schedule.of={folder}: there is no such folder of a run.")
    if len(norms) < LEAST:
        raise ValueError(
            f"task.schedule.of={folder}: a refined schedule needs the folder of a run with at "
            f"least {10 * LEAST} steps, whose metrics.csv has gradients under {NORM}; found "
            f"{len(norms)} usable values. Train once with task/schedule=linear, then name that "
            "run's folder."
        )
    return norms
