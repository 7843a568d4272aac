"""Whose turn it is."""

from collections.abc import Collection

from datasets.stream.study import Study


class Rota:
    """The turns of some lanes of a study, all of them if not said otherwise: in every tick each
    lane that has begun and is not done has one, in the order of their numbers.

    The turns of some lanes are a part, in the same order, of the turns of all. That is why a
    worker that computes its lanes in its rota, and waits when its frames are not taken, can never
    wait for a consumer who waits for it.
    """

    def __init__(
        self, study: Study, lanes: Collection[int] | None = None, position: tuple[int, int] = (0, 0)
    ):
        self._study = study
        self._lanes = sorted(range(study.lanes) if lanes is None else lanes)
        self._open = {lane for lane in self._lanes if lane < study.count}
        self.tick, self.lane = position

    def turn(self) -> int | None:
        """The lane whose turn it is, None when all are done. It stays its turn until `next`."""
        while self._open:
            for lane in self._lanes:
                begun = self.tick >= self._study.offset(lane)
                if lane >= self.lane and lane in self._open and begun:
                    self.lane = lane
                    return lane
            self._advance()
        return None

    def next(self) -> None:
        """The turn is over."""
        self.lane += 1

    def finish(self, lane: int) -> None:
        """The lane has nothing more."""
        self._open.discard(lane)

    @property
    def position(self) -> tuple[int, int]:
        return self.tick, self.lane

    def _advance(self) -> None:
        self.tick, self.lane = self.tick + 1, 0
