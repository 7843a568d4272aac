"""Solver output that streams into training while it is computed."""

from datasets.stream.faults import Faults
from datasets.stream.inproc import Inproc
from datasets.stream.local import Local
from datasets.stream.sampler import AsDrawn

__all__ = ["AsDrawn", "Faults", "Inproc", "Local"]
