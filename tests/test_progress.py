"""What a run prints while it trains."""

import re
import sys

import pytest

from tests.helpers import main
from tests.streams import COUNTS, PLATE

SMALL = (*PLATE, COUNTS, "model=fully_connected", "model.hidden=[8]", "curvature=none")
RUN = ("optimizer=adamw", "online=inproc", "online.clients=4", "online.buffer.capacity=16")
STREAM = re.compile(r"simulations \d+/10  buffer \d+ %  samples/s \d+  reuse [\d.]+  waits \d+ %")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stream_has_a_line_of_its_own(tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    chosen = (*SMALL, *RUN, "trainer.max_epochs=1", f"data_dir={tmp_path}/data")
    done = main(*chosen, f"hydra.run.dir={tmp_path}/run", "batch_size=4", capsys=capsys)
    assert done.code == 0, done.err
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.out)
    lines = [line for line in re.split(r"[\r\n]+", text) if STREAM.search(line)]
    assert lines
    if terminal:
        assert all(STREAM.match(line) for line in lines)  # below the bar, not wrapped beside it
        assert "loss: 0." in text
    else:
        assert lines[-1].startswith("epoch 1/1  train ")
