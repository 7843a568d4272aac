"""Simulations computed by jobs of a cluster, which leave their frames in a folder."""

import contextlib
import math
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from datasets.store import commit
from datasets.stream import messages
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Event, Failed, Frame
from datasets.stream.shard import MOST_HEAD, unpacked
from datasets.stream.spool import ALIVE, STUDY, Beat, Spool, remove
from datasets.stream.spool_job import compute
from datasets.stream.study import Study

ROOT = Path(__file__).parents[2]
FIRST_PATIENCE = 120.0  # seconds that a job that runs may take to begin
LOOK = 0.5  # seconds between two looks at a job that sends nothing
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "READY", "UNKNOWN")  # states of a job in a queue
INSTALL = (
    "submitit is not installed; `pip install submitit==1.5.4`, or `make .venv/extras` in the "
    "checkout."
)


class Submitit:
    """`jobs` jobs of SLURM, or of this machine (`executor="local"`), computing lanes w, w + jobs,
    ... of a study into a folder that they and this process see.

    Nothing listens on a port: frames are files, written whole, read in order and deleted when they
    are counted, and orders go the same way back. Frames that are not counted yet never take more
    than `most_bytes`; a job whose share of that is used up waits, so no frame is dropped. A job
    that ended, is silent or computes longer than `patience` seconds at one frame is cancelled, and
    another one is submitted with what it had not handed over, in a folder of its own: what the
    first may still write is never read. A job in the queue is waited for.

    `folder` gets a folder of this run, which `close` removes. `parameters` are submitit's:
    `timeout_min`, `mem_gb`, `slurm_partition`, ... A job that reached its time limit counts as
    lost, so it should be longer than `patience` and may be shorter than the run. Jobs whose run
    was killed end after `patience` seconds. They run in this environment, and import this
    checkout. submitit itself pickles the names of the function and of the folder.
    """

    def __init__(
        self,
        folder: str,
        jobs: int = 2,
        executor: Literal["slurm", "local"] = "slurm",
        *,
        most_bytes: float = 2e9,
        patience: float = 600.0,
        parameters: Mapping[str, Any] | None = None,
    ):
        if jobs < 1 or not patience > 0 or executor not in ("slurm", "local"):
            raise ValueError(
                f"jobs={jobs} must be at least 1, patience={patience} seconds more than 0, "
                f"executor={executor} slurm or local."
            )
        self.folder, self.jobs, self.executor = Path(folder).absolute(), jobs, executor
        self.most_bytes, self.patience = most_bytes, patience
        self.parameters = {"timeout_min": 240} | dict(parameters or {})
        self.spool: Path | None = None
        self._staff: list[_Client] = []
        self._before, self.waited = Effort(), 0.0

    def start(self, study: Study, plan: Plan) -> None:
        self._study, (_, meta) = study, study.make()
        jobs = min(self.jobs, study.lanes)
        numbers = 4 * (meta.in_channels + meta.out_channels) * math.prod(meta.grid.shape)
        least = 2 * (numbers + 8 * len(meta.parameters) + MOST_HEAD)
        self._share = int(self.most_bytes // jobs)
        if self._share < least:
            raise ValueError(
                f"online.engine.most_bytes={self.most_bytes:g} is too little for {jobs} jobs with "
                f"two frames each; set it to at least {jobs * least}."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.spool = Path(tempfile.mkdtemp(prefix="stream-", dir=self.folder))
        commit(self.spool / STUDY, study.to_json().encode())
        self._closed = threading.Event()
        self._touch()
        self._pulse = threading.Thread(target=self._live, daemon=True)
        self._pulse.start()
        self._executor = self._make_executor()
        self._staff = [_Client(self, number) for number in range(jobs)]
        self._submit(self._staff, plan)

    def take(self, lane: int | None) -> Event:
        begin, looked, pause = 0.0, 0.0, 0.001
        clients = self._staff if lane is None else [self._of(lane)]
        while True:
            for client in clients:
                queue = client.next(lane)
                if queue:
                    if begin:
                        self.waited += time.monotonic() - begin
                    return queue.popleft()
            now = time.monotonic()
            begin = begin or now
            if now - looked > LOOK:
                looked = now
                for client in clients:
                    if (failed := client.check()) is not None:
                        self.waited += time.monotonic() - begin
                        return failed
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def assign(self, lane: int, assignment: Assignment) -> None:
        self._of(lane).tell(messages.orders(messages.ASSIGN, lane, [assignment]))

    def reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        self._of(lane).tell(messages.orders(messages.REASSIGN, lane, assignments))

    def revive(self, plan: Plan) -> None:
        self._submit([client for client in self._staff if not client.alive], plan)

    def effort(self) -> Effort:
        for client in self._staff:
            client.look()
        return Effort(
            self._before.busy + sum(c.past.busy + c.beat.busy for c in self._staff),
            self._before.idle + sum(c.past.idle + c.beat.idle for c in self._staff),
        )

    def close(self) -> None:
        self._before = self.effort()
        for client in self._staff:
            client.spool.stop()
        deadline = time.monotonic() + 2.0
        for client in self._staff:
            client.end(deadline)
        self._staff = []
        if self.spool is not None:
            self._closed.set()
            self._pulse.join()
            remove(self.spool)
            self.spool = None

    def pids(self) -> list[int]:
        """Of the jobs that run, if they run on this machine."""
        for client in self._staff:
            client.look()
        return [c.beat.pid for c in self._staff if c.local and c.alive and c.beat.pid]

    def _of(self, lane: int) -> "_Client":
        return self._staff[lane % len(self._staff)]

    def _submit(self, clients: Sequence["_Client"], plan: Plan) -> None:
        """One array of jobs."""
        folders = [str(client.begin(plan)) for client in clients]
        share, patience = [self._share] * len(folders), [self.patience] * len(folders)
        with _environment():
            submitted = self._executor.map_array(compute, folders, share, patience)
        for client, job in zip(clients, submitted, strict=True):
            client.job = job

    def _make_executor(self) -> Any:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ValueError(INSTALL) from error
        try:
            executor = submitit.AutoExecutor(self.spool / "log", cluster=self.executor)
            executor.update_parameters(name="solver", **self.parameters)
        except RuntimeError as error:
            raise ValueError(
                f"online.engine.executor={self.executor}: {error}. Start the training where sbatch "
                "is, or use executor=local."
            ) from error
        except (NameError, ValueError, TypeError) as error:
            raise ValueError(f"online.engine.parameters={self.parameters}: {error}") from error
        return executor

    def _live(self) -> None:
        """Tell the jobs that somebody still wants their frames."""
        while not self._closed.wait(min(5.0, self.patience / 10)):
            with contextlib.suppress(OSError):
                self._touch()

    def _touch(self) -> None:
        (self.spool / ALIVE).write_text(str(time.time()))


class _Client:
    """One job, seen from the training."""

    def __init__(self, engine: Submitit, number: int):
        self._engine, self._number = engine, number
        self._generation = 0
        self.local = engine.executor == "local"
        self.alive, self.job = False, None
        self.beat, self.past = Beat(), Effort()

    def begin(self, plan: Plan) -> Path:
        """The folder of another generation of this job."""
        engine = self._engine
        mine = plan.share(self._number, len(engine._staff))
        self._generation += 1
        name = f"job-{self._number:04d}-{self._generation:04d}"
        self.spool = Spool(engine.spool / name)
        self.spool.begin(messages.plan_to_json(mine.assignments, mine.position))
        self.arrived: dict[int, deque[Event]] = {lane: deque() for lane in mine.assignments}
        self._place = mine.place(engine._study)
        self.past = Effort(self.past.busy + self.beat.busy, self.past.idle + self.beat.idle)
        self.beat = Beat()
        self._read = self._orders = 0
        self._heard = time.monotonic()
        self.alive = True
        return self.spool.folder

    def next(self, lane: int | None) -> deque[Event] | None:
        """A queue with an event of the lane, or of any if None; None if nothing has come."""
        while self.alive:
            queues = self.arrived.values() if lane is None else [self.arrived[lane]]
            for queue in queues:
                if queue:
                    return queue
            path = self.spool.shard(self._read + 1)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
            self._read += 1
            release = _Release(path)
            events = unpacked(data, release)
            release.left = sum(isinstance(event, Frame) for event in events)
            if not release.left:
                path.unlink(missing_ok=True)
            for event in events:
                self.arrived[event.lane].append(event)
        return None

    def tell(self, message: bytes) -> None:
        """If it is gone, it will be told by the plan it begins again with."""
        if self.alive:
            self._orders += 1
            commit(self.spool.order(self._orders), message)

    def look(self) -> None:
        """What it says of itself."""
        if not self.alive:
            return
        beat = self.spool.beat()
        if beat is not None and beat.count != self.beat.count:
            self.beat, self._heard = beat, time.monotonic()

    def check(self) -> Failed | None:
        """`Failed` if it is lost, and nothing is left to read."""
        self.look()
        patience, silent = self._engine.patience, time.monotonic() - self._heard
        if self.job.done():
            if self.spool.shard(self._read + 1).exists():
                return None
            return self._lost(f"its job {self.job.job_id} ended ({self.job.state}){self._words()}")
        if not self.beat.count:
            if self.job.state in WAITING:
                self._heard = time.monotonic()
            elif silent > max(patience, FIRST_PATIENCE):
                return self._lost(f"its job {self.job.job_id} did not begin in {silent:.0f} s")
        elif silent > patience + 1:
            return self._lost(f"its job {self.job.job_id} was silent for {patience:g} s")
        elif self.beat.at > patience:
            return self._lost(f"gave no frame for {patience:g} s")
        return None

    def end(self, deadline: float) -> None:
        """Cancel it if it has not ended by then."""
        if not self.alive:
            return
        self.alive = False
        self._await(deadline - time.monotonic())
        if self.local and self.beat.pid and not self.job.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.beat.pid, signal.SIGKILL)  # its controller ends with it
            self._await(2.0)
        if not self.job.done():
            self.job.cancel()
            if self.local:
                self._await(5.0)

    def _await(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.job.done() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _words(self) -> str:
        """The last line that it wrote to its standard error."""
        lines = (self.job.stderr() or "").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""

    def _lost(self, reason: str) -> Failed:
        """Late files of it stay in its folder, which nobody reads any more."""
        place = (self.beat.lane, self.beat.simulation, self.beat.number)
        self.spool.stop()
        self.end(time.monotonic())
        self.arrived = {lane: deque() for lane in self.arrived}
        remove(self.spool.folder, 1.0)
        return Failed(*(place if self.beat.count > 1 else self._place), reason, lost=True)


class _Release:
    """Deletes a shard when all its frames are released."""

    def __init__(self, path: Path):
        self._path, self.left = path, 0

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


@contextmanager
def _environment() -> Iterator[None]:
    """What jobs inherit: this checkout, one thread, no GPU."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
