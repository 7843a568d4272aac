"""The largest memory that a run held."""

import resource
import sys
from pathlib import Path

from sciml.runtime.allocator import give_back

PROCESS = Path("/proc/self")


class PeakMemory:
    """Largest resident set since this object was made, in MB (10^6 bytes).

    Where the kernel cannot start the count afresh (it takes /proc/self/clear_refs of Linux), it
    is that of the process since its start, which in a sweep includes the jobs before.
    """

    def __init__(self):
        give_back()  # what earlier jobs of a sweep freed is not of this run
        try:
            (PROCESS / "clear_refs").write_text("5")  # 5 resets the peak, proc_pid_clear_refs(5)
            self.since_start = False
        except OSError:
            self.since_start = True

    def megabytes(self) -> float:
        if not self.since_start:
            for line in (PROCESS / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
