"""How a run says that a signal ended it."""

import signal
from pathlib import Path


class Interrupted(BaseException):
    """A signal ended the training; `checkpoint` is where it can go on. It ends a sweep, too."""

    def __init__(self, number: signal.Signals, checkpoint: Path):
        self.signal, self.checkpoint = number, checkpoint
        further = f"the same command with ckpt_path={checkpoint} goes on"
        further = further if checkpoint.is_file() else "nothing was saved"
        super().__init__(f"interrupted by {number.name}; {further}")
