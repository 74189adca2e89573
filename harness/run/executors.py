"""Where cells run. Local: one process each, forked from a server that has imported the heavy packages once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver as forkserver
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from harness.errors import HarnessError
from harness.run.cell import work
from harness.run.layout import Layout
from harness.suite.cells import Cell

PRELOAD = ["harness.training.fit", "harness.evaluation.score", "harness.evaluation.lm", "lm_eval.evaluator", "datasets"]
"""Seven to ten seconds of imports, paid once instead of once a cell. None of them starts a thread or touches CUDA."""

# No bars first, then no network.
QUIET = ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


POLL_SECONDS = 0.1
"""How soon a wish to end is seen."""


class Working(Protocol):
    """Something that works on a cell."""

    @property
    def cell(self) -> Cell: ...


class Executor(Protocol):
    """Where cells run."""

    @property
    def workers(self) -> Sequence[Working]: ...

    @property
    def free(self) -> int:
        """How many more cells may be started."""
        ...

    def start(self, cell: Cell) -> None: ...

    def finished(self, timeout: float) -> list[tuple[Cell, int]]:
        """(cell, exit code) of the workers that ended, after waiting at most `timeout` seconds for one; a negative
        code is the signal that killed the worker."""
        ...

    def stop(self, cells: Collection[Cell] | None = None) -> None:
        """Ask the workers of these cells, or all, to save and end."""
        ...

    def kill(self) -> None: ...


@dataclass(frozen=True)
class Worker:
    cell: Cell
    process: BaseProcess


def server() -> ForkServerContext:
    """What starts processes in the server; it is started, or started again if it died, with Ctrl-C ignored from its
    first moment: the terminal sends it to the whole process group, and a server that dies of it takes the run's exit
    codes along."""
    # The server takes its environment when it starts: no progress bars in the logs, no look for a network, and large
    # pages of memory, with which a step at a width of 256 takes 0.93 of its time on a CPU (docs/performance.md).
    for name in QUIET:
        os.environ.setdefault(name, "1")
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context


def answer_of(target: Callable[..., None], arguments: Sequence[Any], say: str = "", name: str = "its process") -> Any:
    """What `target(connection, *arguments)` sends by the connection, in a process forked from the server; `say` is told
    on standard error when it begins. Raises HarnessError where the process, called `name`, ends without a word, and
    KeyboardInterrupt when asked to end, with the process gone."""
    context = server()  # first: while it looks after its server, a Ctrl-C would be lost
    with asked_to_end() as asked:
        if say:
            print(say, file=sys.stderr, flush=True)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(sender, *arguments))
        process.start()
        sender.close()
        found: Any = None
        silent = False
        try:
            while not asked() and not receiver.poll(POLL_SECONDS):
                pass
            if not asked():
                found = receiver.recv()
        except EOFError:
            silent = True
            process.join()
        finally:
            process.terminate()
            process.join()
            receiver.close()
    if asked():
        raise KeyboardInterrupt
    if silent:
        raise HarnessError(f"{name} ended with code {process.exitcode}")
    return found


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """While inside, Ctrl-C and SIGTERM are only noted, for whoever looks. An exception in their place could rise in a
    finalizer, where Python drops it, and the wish to end would be lost."""
    noted: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _frame: noted.append(got)) for number in numbers}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LocalExecutor:
    """At most `jobs` cells at a time, each in a process of its own: clean peaks, clean random state, crash-proof."""

    def __init__(self, layout: Layout, jobs: int, relative_to: str | None):
        self.layout, self.jobs, self.relative_to = layout, jobs, relative_to
        self.context = server()
        self.workers: list[Worker] = []

    @property
    def free(self) -> int:
        return self.jobs - len(self.workers)

    def start(self, cell: Cell) -> None:
        server()
        path = str(self.layout.cell(cell).path)
        process = self.context.Process(target=work, args=(cell.config, cell.evaluation, path, self.relative_to))
        process.start()
        self.workers.append(Worker(cell, process))

    def finished(self, timeout: float) -> list[tuple[Cell, int]]:
        wait([worker.process.sentinel for worker in self.workers], timeout)
        ended = [worker for worker in self.workers if worker.process.exitcode is not None]
        self.workers = [worker for worker in self.workers if worker not in ended]
        return [(worker.cell, worker.process.exitcode or 0) for worker in ended]

    def stop(self, cells: Collection[Cell] | None = None) -> None:
        for worker in self.workers:
            if cells is None or worker.cell in cells:
                worker.process.terminate()

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
