"""What is missing of a suite, done: skip the finished, resume the half-done, record the failed, go on."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from harness.connections.settings import AnyConnection
from harness.errors import FAILED, INTERRUPTED, OK, UsageError
from harness.models.settings import AnyModel
from harness.run.celldir import State
from harness.run.executors import LocalExecutor
from harness.run.layout import Layout
from harness.run.loop import Loop
from harness.run.members import remember
from harness.run.progress import make_progress
from harness.run.recording import Recorder, replay
from harness.suite.cells import Cell, by_identity, digest
from harness.training.settings import CHECKPOINT, TrainSettings

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
        prepare(layout, cell)
    progress, tracker = make_progress(len(wanted), options.jobs), layout.tracker()
    recorder = Recorder[Cell](tracker, lambda cell: replay(layout, tracker, suite, cell), progress.say)
    queue = _Queue(todo, len(wanted) - len(todo), options)
    loop = Loop(layout, queue, LocalExecutor(layout, options.jobs, relative_to), progress, recorder.submit)
    try:
        with loop.interruptible():
            loop.run()
    finally:
        recorder.close()
        progress.close()
    failed += queue.failed
    unfinished = any(layout.cell(cell).state(cell.evaluation) != "done" for cell in wanted.values())
    code = INTERRUPTED if loop.interrupted else FAILED if unfinished else OK
    return Outcome(code=code, trained=queue.trained, failed=failed)


def will_run(cells: list[Cell], layout: Layout, options: RunOptions) -> list[Cell]:
    """The cells that `run_suite` would start under these options, each once, in the order given."""
    wanted = list(by_identity(cells).values())
    if options.force:
        return wanted
    left_alone = ("done",) if options.retry_failed else ("done", "failed")
    return [cell for cell in wanted if layout.cell(cell).state(cell.evaluation) not in left_alone]


def check_devices(cells: list[Cell]) -> None:
    """A device or kernels that are not there are an error before anything runs. Imports torch only when they are asked
    for by name."""
    if any(cell.config["train"]["device"] == "cuda" for cell in cells):
        import torch

        if not torch.cuda.is_available():
            raise UsageError("train.device: 'cuda' is asked for, and torch sees no CUDA device here")
    fused = {digest(parts): parts for cell in cells if (parts := _parts(cell))["train"]["kernels"] == "fused"}
    if fused:
        from harness.training.recipe import path_for

        for parts in fused.values():
            path_for(
                TypeAdapter(AnyConnection).validate_python(parts["connection"]),
                TypeAdapter(AnyModel).validate_python(parts["model"]),
                TrainSettings.model_validate(parts["train"]),
            )


def _parts(cell: Cell) -> dict[str, Any]:
    """What decides whether a cell can have kernels."""
    return {key: cell.config[key] for key in ("connection", "model", "train")}


def prepare(layout: Layout, cell: Cell) -> None:
    """Make the cell's directory ready to be worked on."""
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


class _Queue:
    """A suite's cells, in order; those that another process has come again later."""

    def __init__(self, todo: Sequence[Cell], done: int, options: RunOptions):
        self.options, self.done, self.halt = options, done, False
        self.trained: list[str] = []
        self.failed: list[str] = []
        self._pending = collections.deque(todo)
        self._busy: set[str] = set()
        self._busy_until = 0.0

    @property
    def open(self) -> bool:
        return bool(self._pending)

    def next(self) -> Cell | None:
        if not self._pending or time.monotonic() < self._busy_until:
            return None
        return self._pending.popleft()

    def watch(self) -> Sequence[Cell]:
        return ()

    def busy(self, cell: Cell, state: State) -> None:
        """Looked at again after our own."""
        self._busy.add(cell.identity)
        if all(other.identity in self._busy for other in self._pending):
            self._busy_until = time.monotonic() + BUSY_PAUSE_SECONDS
        if state == "done":
            self.done += 1
        elif state == "failed" and not self.options.retry_failed:
            self.failed.append(cell.name)
        else:
            self._pending.append(cell)

    def ended(self, cell: Cell, state: State) -> str | None:
        if state == "done":
            self.done += 1
            self.trained.append(cell.name)
        elif state == "failed":
            self.failed.append(cell.name)
            self.halt = self.halt or self.options.fail_fast
        return None
