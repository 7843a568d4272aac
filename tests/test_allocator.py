"""Freed memory is kept, and without asking for it is not."""

import os
import platform
import subprocess
import sys

import pytest

from sciml.runtime.allocator import keep_freed_memory
from tests.helpers import ROOT

COUNT = """
import resource, sys, torch
from sciml.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    fields = [torch.ones(2**21) for _ in range(8)]  # 8 MiB each
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_a_step_that_is_repeated_maps_no_new_pages():
    """Begun with thresholds that do not adapt, under which every field is mapped anew."""

    def faults(how):
        done = subprocess.run(
            [sys.executable, "-c", COUNT, how],
            cwd=ROOT,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    default = faults("default")
    assert default > 5000
    assert faults("keep") < default / 5


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
