"""Cells worked off in worker processes, whoever hands them out: a suite that has a list, or a search that has not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from harness.errors import FAILED, INTERRUPTED, OK
from harness.run.cell import BUSY
from harness.run.celldir import CellDir, State, failure_tail
from harness.run.executors import Executor
from harness.run.layout import Layout
from harness.run.progress import Progress
from harness.suite.cells import Cell

RECORD_EVERY_SECONDS = 10.0
"""How often the curves of running cells are brought to the tracker."""


class Source(Protocol):
    """Who hands out cells and hears how they ended. All is called from one thread."""

    @property
    def done(self) -> int:
        """Pieces of work that are finished, for the progress."""
        ...

    @property
    def halt(self) -> bool:
        """Start nothing more and ask what runs to save and end."""
        ...

    @property
    def open(self) -> bool:
        """Whether cells may still come."""
        ...

    def next(self) -> Cell | None:
        """A cell to start now, None where there is none at the moment."""
        ...

    def watch(self) -> Sequence[Cell]:
        """Cells that run and are to save and end; asked again and again."""
        ...

    def busy(self, cell: Cell, state: State) -> None:
        """Another process has the cell, or had it."""
        ...

    def ended(self, cell: Cell, state: State) -> str | None:
        """The worker of the cell has ended; what to say of it, None for the usual."""
        ...


class Loop:
    """Starts what the source hands out as long as there is room, shows and records what runs, and heeds Ctrl-C."""

    def __init__(
        self,
        layout: Layout,
        source: Source,
        executor: Executor,
        progress: Progress,
        record: Callable[[Cell], None],
        poll: float = 0.5,
    ):
        self.layout, self.source, self.executor = layout, source, executor
        self.progress, self.record, self.poll = progress, record, poll
        self.interrupted = self.stopping = False
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
        self.stopping = True
        self.executor.stop()

    def run(self) -> None:
        announced = False
        while (self.source.open and not self.stopping) or self.executor.workers:
            while not self.stopping and self.executor.free and (cell := self.source.next()) is not None:
                self.executor.start(cell)
            if self.interrupted and not announced:
                self.progress.say("interrupted: saving (again to stop at once)")
                announced = True
                self.executor.stop()  # again: a worker may have been starting when the signal came
            for cell, code in self.executor.finished(self.poll):
                self._ended(cell, code)
            if stopped := self.source.watch():
                self.executor.stop(stopped)
            if self.source.halt and not self.stopping:
                self._stop()
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
                self.record(worker.cell)

    def _ended(self, cell: Cell, code: int) -> None:
        directory = self.layout.cell(cell)
        # The exit code of a worker comes through the server; when that dies, the worker itself may still be at work.
        if code == BUSY or (code not in (OK, FAILED, INTERRUPTED) and directory.busy()):
            self.source.busy(cell, directory.state(cell.evaluation))
            return
        if code not in (OK, FAILED, INTERRUPTED) and not self.stopping:
            cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"worker ended with code {code}"
            failure = {"class": "killed", "message": cause, "step": None, "tail": failure_tail(directory.log)}
            directory.update_status(state="failed", ended=time.time(), failure=failure)
        state = directory.state(cell.evaluation)
        self.record(cell)
        text = self.source.ended(cell, state)
        self.progress.finished(text or said(cell, state, directory), self.source.done)


def said(cell: Cell, state: State, directory: CellDir) -> str:
    """How a cell ended, in a line."""
    status = directory.status()
    if state == "done":
        seconds = (status.get("ended") or time.time()) - (status.get("started") or time.time())
        loss = (directory.result() or {})["metrics"]["validation/loss"]
        return f"{cell.name} done in {_clock(seconds)}, validation loss {loss:.4f}"
    if state == "failed":
        failure = status["failure"]
        return f"{cell.name} FAILED ({failure['class']}): {failure['message']}"
    return f"{cell.name} stopped, saved"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
