"""The windows of one solution in numbers."""

import numpy as np

from datasets.windows import Windows


class WindowTable:
    """Which frames and which time belong to each of the P windows of a solution, by their number in
    `windows`, those of a `Template`.

    `kept` [k] are the frames that some window uses, `frames` [P, history + horizon] says where
    among these each window has its own, and `clock` [P] is its lead time, or its time, float32;
    None if it has none. Windows of one stride lie side by side: `begins` and `counts` [S].
    """

    def __init__(self, windows: Windows):
        self.windows = windows
        start, stride = np.array([windows.place(i)[1:] for i in range(len(windows))]).T
        frames = start[:, None] + stride[:, None] * np.arange(windows.history + windows.horizon)
        self.kept, places = np.unique(frames, return_inverse=True)
        self.frames = places.reshape(frames.shape)
        _, self.begins, self.counts = np.unique(stride, return_index=True, return_counts=True)
        self.clock: np.ndarray | None = None
        times = windows.trajectories.times(0)
        if windows.history == 0:
            self.clock = times[start].astype(np.float32)
        elif windows.leads:
            last = start + (windows.history - 1) * stride
            self.clock = (times[last + stride] - times[last]).astype(np.float32)

    def __len__(self) -> int:
        return len(self.frames)
