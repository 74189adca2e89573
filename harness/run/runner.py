"""What is missing of a suite, done: skip the finished, resume the half-done, record the failed, go on."""

from __future__ import annotations

import collections
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.errors import FAILED, INTERRUPTED, OK, UsageError
from harness.run.cell import BUSY
from harness.run.celldir import failure_tail
from harness.run.executors import LocalExecutor
from harness.run.layout import Layout
from harness.run.members import remember
from harness.run.progress import Progress, make_progress
from harness.run.recording import Recorder
from harness.suite.cells import Cell, by_identity
from harness.training.settings import CHECKPOINT

RECORD_EVERY_SECONDS = 10.0
"""How often the curves of running cells are brought to the tracker."""
BUSY_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    jobs: int = 1
    fail_fast: bool = False
    retry_failed: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run of a suite ended: exit code, cells by what became of them."""

    code: int
    trained: list[str]
    failed: list[str]


def run_suite(suite: str, cells: list[Cell], layout: Layout, options: RunOptions, relative_to: str | None) -> Outcome:
    """Bring every cell to its end; cells are started in the order given. Raises UsageError before anything runs."""
    layout.prepare()
    check_devices(cells)
    wanted = by_identity(cells)
    if options.force:
        _move_aside(layout, list(wanted.values()))
    todo = will_run(cells, layout, options)
    states = {identity: layout.cell(cell).state(cell.evaluation) for identity, cell in wanted.items()}
    failed = [cell.name for identity, cell in wanted.items() if states[identity] == "failed" and cell not in todo]
    remember(layout, suite, cells, relative_to)
    if not todo:
        return Outcome(code=FAILED if failed else OK, trained=[], failed=failed)
    for cell in todo:
        _prepare(layout, cell)
    progress = make_progress(len(wanted), options.jobs)
    recorder = Recorder(layout, layout.tracker(), suite, progress.say)
    run = _Run(layout, options, progress, recorder, todo, len(wanted) - len(todo), relative_to)
    try:
        with run.interruptible():
            run.loop()
    finally:
        recorder.close()
        progress.close()
    failed += run.failed
    unfinished = any(layout.cell(cell).state(cell.evaluation) != "done" for cell in wanted.values())
    code = INTERRUPTED if run.interrupted else FAILED if unfinished else OK
    return Outcome(code=code, trained=run.trained, failed=failed)


def will_run(cells: list[Cell], layout: Layout, options: RunOptions) -> list[Cell]:
    """The cells that `run_suite` would start under these options, each once, in the order given."""
    wanted = list(by_identity(cells).values())
    if options.force:
        return wanted
    left_alone = ("done",) if options.retry_failed else ("done", "failed")
    return [cell for cell in wanted if layout.cell(cell).state(cell.evaluation) not in left_alone]


def check_devices(cells: list[Cell]) -> None:
    """A device that is not there is an error before anything runs. Imports torch only when one is asked for by name."""
    if any(cell.config["train"]["device"] == "cuda" for cell in cells):
        import torch

        if not torch.cuda.is_available():
            raise UsageError("train.device: 'cuda' is asked for, and torch sees no CUDA device here")


def _prepare(layout: Layout, cell: Cell) -> None:
    directory = layout.cell(cell)
    directory.path.mkdir(parents=True, exist_ok=True)
    status = directory.status()
    checkpoint = directory.path / CHECKPOINT
    if (status.get("failure") or {}).get("class") == "diverged":
        # From its checkpoint it would diverge again; whoever retries wants to see the whole run.
        checkpoint.unlink(missing_ok=True)
    anew = status["state"] == "failed" and not checkpoint.exists() and directory.result() is None
    if anew or "born" not in status:
        # A failed run that starts from nothing gets a record of its own: other code may give other numbers.
        directory.update_status(born=time.time_ns())


def _move_aside(layout: Layout, cells: list[Cell]) -> None:
    for cell in cells:
        directory = layout.cell(cell)
        if directory.busy():
            raise UsageError(f"--force: {cell.name} is running; stop it first")
        if directory.path.exists():
            directory.path.rename(directory.path.with_name(f"{directory.path.name}.old-{time.time_ns()}"))


class _Run:
    def __init__(
        self,
        layout: Layout,
        options: RunOptions,
        progress: Progress,
        recorder: Recorder,
        todo: list[Cell],
        done: int,
        relative_to: str | None,
    ):
        self.layout, self.options, self.progress, self.recorder = layout, options, progress, recorder
        self.pending = collections.deque(todo)
        self.done = done
        self.trained: list[str] = []
        self.failed: list[str] = []
        self.interrupted = self.stopping = False
        self.executor = LocalExecutor(layout, options.jobs, relative_to)
        self._busy: set[str] = set()
        self._busy_until = 0.0
        self._recorded = time.monotonic()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask the workers to save and end; a second one kills them."""

        def handle(*_: Any) -> None:
            if self.interrupted:
                self.executor.kill()
                return
            self.interrupted = True
            self._stop()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        """Start nothing more, and ask what runs to save and end."""
        self.stopping = True
        self.pending.clear()
        self.executor.stop()

    def loop(self) -> None:
        announced = False
        while self.pending or self.executor.workers:
            while self.pending and self.executor.free and time.monotonic() >= self._busy_until:
                self.executor.start(self.pending.popleft())
            if self.interrupted and not announced:
                self.progress.say("interrupted: saving (again to stop at once)")
                announced = True
                self.executor.stop()  # again: a worker may have been starting when the signal came
            for cell, code in self.executor.finished(timeout=0.5):
                self._ended(cell, code)
            self._show()

    def _show(self) -> None:
        states = []
        for worker in self.executor.workers:
            cell, directory = worker.cell, self.layout.cell(worker.cell)
            if scoring := directory.scoring_progress():
                states.append((f"{cell.name} asked", scoring["done"], scoring["total"], None))
                continue
            last = directory.journal.last("train")
            steps = cell.config["train"]["steps"]
            states.append(
                (cell.name, last["step"] if last else 0, steps, last["values"]["train/loss"] if last else None)
            )
        self.progress.running(states)
        if time.monotonic() - self._recorded >= RECORD_EVERY_SECONDS:
            self._recorded = time.monotonic()
            for worker in self.executor.workers:
                self.recorder.submit(worker.cell)

    def _ended(self, cell: Cell, code: int) -> None:
        directory = self.layout.cell(cell)
        # The exit code of a worker comes through the server; when that dies, the worker itself may still be at work.
        if code == BUSY or (code not in (OK, FAILED, INTERRUPTED) and directory.busy()):
            # Somebody else has it; look again later, after our own.
            self._busy.add(cell.identity)
            if all(other.identity in self._busy for other in self.pending):
                self._busy_until = time.monotonic() + BUSY_PAUSE_SECONDS
            state = directory.state(cell.evaluation)
            if state == "done":
                self.done += 1
            elif state == "failed" and not self.options.retry_failed:
                self.failed.append(cell.name)
            elif not self.stopping:
                self.pending.append(cell)
            return
        if code not in (OK, FAILED, INTERRUPTED) and not self.stopping:
            cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"worker ended with code {code}"
            failure = {"class": "killed", "message": cause, "step": None, "tail": failure_tail(directory.log)}
            directory.update_status(state="failed", ended=time.time(), failure=failure)
        state = directory.state(cell.evaluation)
        self.recorder.submit(cell)
        status = directory.status()
        seconds = (status.get("ended") or time.time()) - (status.get("started") or time.time())
        if state == "done":
            self.done += 1
            self.trained.append(cell.name)
            loss = (directory.result() or {})["metrics"]["validation/loss"]
            self.progress.finished(f"{cell.name} done in {_clock(seconds)}, validation loss {loss:.4f}", self.done)
        elif state == "failed":
            self.failed.append(cell.name)
            failure = status["failure"]
            self.progress.finished(f"{cell.name} FAILED ({failure['class']}): {failure['message']}", self.done)
            if self.options.fail_fast and not self.stopping:
                self._stop()
        else:
            self.progress.finished(f"{cell.name} stopped, saved", self.done)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
