"""The channels of a sample as frames over time."""

from torch import Tensor

from datasets.schema import Frames


class Window:
    """Takes the channels of an input [b, in_channels, *space] apart as `frames` says.

    `states` is the number of channels of a frame that comes out, `constants` that of the input
    channels that are no frame. `evolves` says whether the output frames are later states of the
    last input frame, so that a model may predict the change: not so for a steady map, which is one
    frame without a time, nor where some of the state is given and not asked for.
    """

    def __init__(self, frames: Frames | None, in_channels: int, out_channels: int):
        self.frames = frames = frames or Frames(1, 1, in_channels)
        self.in_channels = in_channels
        self.constants = in_channels - frames.history * frames.channels
        self.states = out_channels // frames.horizon
        if self.constants < 0 or self.states * frames.horizon != out_channels:
            raise ValueError(
                f"{frames.history} frames in and {frames.horizon} out of {frames.channels} "
                f"channels do not fit {in_channels} input and {out_channels} target channels."
            )
        timed = frames.dt is not None or frames.lead is not None
        several = frames.history * frames.horizon > 1
        self.evolves = (timed or several) and self.states == frames.channels

    def split(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [b, history, channels, *space], the oldest first, and constants [b, m, *space]."""
        history, channels = self.frames.history, self.frames.channels
        past, constants = a.split((history * channels, self.constants), dim=1)
        return past.unflatten(1, (history, channels)), constants
