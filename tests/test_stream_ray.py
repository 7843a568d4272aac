"""Ray computes what one process does, whatever becomes of its actors and nodes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets.stream import Faults, Ray
from datasets.stream.engine import Plan
from datasets.stream.ray_session import on_loopback
from tests.helpers import ROOT, equal, weights
from tests.streams import arrivals, crashing, study
from tests.test_stream_faults import taken
from tests.test_stream_resume import train  # noqa: F401

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # of IPv4, and as IPv6


@pytest.fixture(scope="module")
def expected():
    return arrivals(study())


def processes() -> set[int]:
    """Of Ray."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if b"site-packages/ray/" in command or b"ray::" in command:
                found.add(int(path.parent.name))
    return found


def parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def sockets(pid: int) -> set[str]:
    """Inodes of what a process has open."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(path).removeprefix("socket:[").removesuffix("]"))
    return found


def listening() -> dict[str, str]:
    """Address in hexadecimal, by inode, of TCP sockets that listen."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found[words[9]] = words[1].partition(":")[0]
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = processes()
    yield
    deadline = time.monotonic() + 10
    while (left := processes() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left and not ray.is_initialized()


@pytest.mark.parametrize("workers, ahead", [(2, 3), (1, 1), (3, 32)])
def test_actors_deliver_what_one_process_computes(expected, workers, ahead):
    engine, most = Ray(workers, ahead), []
    assert arrivals(study(), engine, every=lambda _: most.extend(engine.outstanding())) == expected
    assert max(most) <= ahead and engine.effort().busy > 0


def test_an_actor_that_is_killed_costs_nothing(expected):
    engine, killed = Ray(2, 4), []

    def kill(count):
        if count in (5, 20, 40):
            killed.append(engine.pids()[-1])
            os.kill(killed[-1], signal.SIGKILL)

    assert arrivals(study(), engine, every=kill) == expected and len(set(killed)) == 3


def test_out_of_order_too_every_frame_arrives_once(expected):
    engine = Ray(2, 4)

    def kill(count):
        if count == 20:
            os.kill(engine.pids()[0], signal.SIGKILL)

    assert sorted(arrivals(study(), engine, every=kill, ordered=False)) == sorted(expected)


def test_a_node_that_is_removed_costs_nothing():
    """In a process of its own: one that had other sessions before is refused its actors."""
    command = "from tests.test_stream_ray import remove_a_node; remove_a_node()"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def remove_a_node() -> None:
    """Two nodes with one CPU each; the actor of the second goes on beside that of the first."""
    expected = arrivals(study())
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}
    with on_loopback():
        cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        second = cluster.add_node(**node)
    try:
        engine, nodes = Ray(2, 4, address=cluster.address), {}

        def remove(count):
            pids = [client.pid for client in engine._staff if client.pid]
            nodes[count] = {parent(pid) for pid in pids}
            if count == 20:
                cluster.remove_node(second, allow_graceful=False)
                deadline = time.monotonic() + 30  # an actor outlives its node a little
                while all(Path(f"/proc/{pid}").exists() for pid in pids):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)

        assert arrivals(study(), engine, every=remove) == expected
        assert len(nodes[20]) == 2 and len(nodes[len(expected)]) == 1
    finally:
        cluster.shutdown()


@pytest.mark.parametrize("kind", ["nan", "raises"])
def test_a_simulation_that_fails_is_left_out(kind):
    found, intake = taken(study(faults=Faults(**{kind: [1, 5]})), Ray(2, 4), tolerate=0.2)
    expected = {(i, k) for i in range(10) for k in range(1 if i in (1, 5) else 7)}
    assert set(found) == expected and len(found) == len(expected)
    assert set(intake.quarantined) == {1, 5} and intake.restarts == 6


def test_a_client_that_hangs_is_killed_tried_again_and_left_out():
    engine = Ray(1, 16, patience=1.0)
    found, intake = taken(study(faults=Faults(hang=[2])), engine, retries=1, tolerate=0.2)
    assert set(found) == {(i, k) for i in range(10) for k in range(1 if i == 2 else 7)}
    assert len(found) == len(set(found)) and intake.restarts == 2
    assert "gave no frame for 1 s" in intake.quarantined[2]["reason"]


def test_a_slow_client_is_waited_for(expected):
    made = study(faults=Faults(slow=[1, 2], delay=0.3))
    assert arrivals(made, Ray(1, 16, patience=1.0)) == expected


def test_a_solver_that_ends_its_process_is_named(tmp_path):
    """The frame too, after the first time: which of several it was is not known then."""
    made = study(problem=crashing(tmp_path))
    _, intake = taken(made, Ray(2, 16), retries=1, tolerate=0.5)
    assert intake.quarantined and {one["frame"] for one in intake.quarantined.values()} == {3}
    assert all("actor is gone" in one["reason"] for one in intake.quarantined.values())


def test_it_listens_on_the_loopback_interface_alone():
    found = []

    def look(count):
        if count == 20:
            mine = {inode for pid in processes() for inode in sockets(pid)}
            found.extend(address for inode, address in listening().items() if inode in mine)

    arrivals(study(), Ray(2, 4), every=look)
    assert found and set(found) <= LOOPBACK


def test_a_run_ends_with_the_weights_that_one_process_gives(train):  # noqa: F811
    one = train("one", "online=inproc")
    many = train("many", "online=ray", "online/faults=kills", "online.faults.kills=2")
    assert equal(weights(one), weights(many))


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="pip install ray==2.60.0"):
        Ray().start(study(), Plan({}))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="ahead=0 must be at least 1"):
        Ray(1, 0)
    with pytest.raises(ValueError, match="address=127.0.0.1:9: there is no Ray cluster"):
        Ray(address="127.0.0.1:9").start(study(), Plan({}))
