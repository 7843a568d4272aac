"""Momentum-enabled Kronecker factors by rank-one updates, as an optimizer."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from sciml.curvature.blocked import BLOCK_SIZE
from sciml.curvature.capture import Fisher
from sciml.curvature.factored import Samples
from sciml.curvature.kfac import KFAC
from sciml.curvature.linear import Sharing
from sciml.curvature.rank_one import RankOne

WINDOW = 10  # passes whose mean loss is compared with that of as many before


class MKOR(KFAC):
    """`KFAC` with inverses by rank-one updates (`RankOne`) [Mozaffari et al. 2023,
    arXiv:2306.01685], as long as AdamW's steps. There are no inversions: factors and inverses are
    one, and `stabiliser_period` is how often inverses that grew too large are mended.

    With `fall_back`, MKOR-H, AdamW takes over for good once curvature no longer pays: when the
    logarithm of the loss, mean over ten passes, falls by less than that share of what it fell by
    from one ten to the next at best (null: never; 0.1 is a start). The paper switches on the
    change of the loss as well; its threshold is not given, and this rule is ours.
    """

    geometry = RankOne

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        damping: float = 1e-2,
        floor: float = 1e-2,
        factor_period: int = 10,
        stabiliser_period: int = 10,
        decay: float = 0.95,
        samples: Samples = None,
        fisher: Fisher = "monte_carlo",
        sharing: Sharing = "expand",
        exclude: Sequence[str] = (),
        block_size: int | None = BLOCK_SIZE,
        fall_back: float | None = None,
    ):
        if not (isinstance(stabiliser_period, int) and stabiliser_period >= 1):
            raise ValueError(
                f"MKOR: stabiliser_period={stabiliser_period} must be a whole number of at least 1."
            )
        super().__init__(
            optimizer,
            damping=damping,
            floor=floor,
            factor_period=factor_period,
            inverse_period=stabiliser_period,
            decay=decay,
            samples=samples,
            fisher=fisher,
            sharing=sharing,
            exclude=exclude,
            block_size=block_size,
        )
        if fall_back is not None and not 0 < fall_back < 1:
            raise ValueError(f"fall_back={fall_back} must lie between 0 and 1, or be null.")
        self.fall_back, self.has_fallen_back = fall_back, False
        self._losses: deque[float] = deque(maxlen=2 * WINDOW)
        self._fastest, self._since = 0.0, 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        if not self.has_fallen_back:
            passes = self.curvature.passes if self.curvature is not None else 0
            loss = super().step(closure)
            if self.fall_back is not None and self.curvature.passes > passes:
                self._judge()
            return loss
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._moments.update()
        self._moments.first_order()
        self.steps += 1
        return loss

    def _judge(self) -> None:
        """Compare the last passes with those before."""
        self._losses.append(self.curvature.loss)
        self._since += 1
        if len(self._losses) < 2 * WINDOW or self._since < WINDOW:
            return
        self._since = 0
        before, after = (
            torch.tensor(list(self._losses)[part], dtype=torch.float64).mean().log()
            for part in (slice(WINDOW), slice(WINDOW, None))
        )
        fell = float(before - after)
        self.has_fallen_back = self._fastest > 0 and fell < self.fall_back * self._fastest
        self._fastest = max(self._fastest, fell)

    def state_dict(self) -> dict:
        state = super().state_dict()
        if "curvature" in state:
            state["curvature"]["hybrid"] = {
                "has_fallen_back": self.has_fallen_back,
                "losses": list(self._losses),
                "fastest": self._fastest,
                "since": self._since,
            }
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        own = state_dict["curvature"]["hybrid"]
        self.has_fallen_back = own["has_fallen_back"]
        self._losses = deque(own["losses"], maxlen=2 * WINDOW)
        self._fastest, self._since = own["fastest"], own["since"]
