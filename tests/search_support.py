"""Searches without training: cells whose curves are planted, in an executor that keeps them step by step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import FAILED, INTERRUPTED, OK
from harness.run.celldir import write_json
from harness.run.layout import Layout
from harness.suite.cells import Cell

ARMS = ("residual", "dhc-n2")
BEST_LR, BEST_DECAY = {"residual": 3e-3, "hyper": 6e-3}, 0.1

STUDY = """\
name: planted
suite: tiny.yaml
arms: [residual, dhc-n2]
trials: 12
seeds: [1]
space:
  train.lr: {type: float, low: 1e-5, high: 1e-1, log: true}
  train.weight_decay: {type: float, low: 0.001, high: 1.0, log: true}
fresh: {top: 2, choose: [101, 102], report: [201, 202, 203]}
"""


def planted(cell: Cell, step: int) -> float:
    """A curve that falls towards a bowl around the type's BEST_LR and BEST_DECAY, lower by 0.1 for hyper-connections.
    Seeds move all of it by a little, so that pairs differ by nothing else."""
    train, kind = cell.config["train"], cell.config["connection"]["type"]
    bowl = math.log10(train["lr"] / BEST_LR[kind]) ** 2 + 0.2 * math.log10(train["weight_decay"] / BEST_DECAY) ** 2
    arm = 0.1 if kind == "hyper" else 0.0
    return 2.0 - arm + bowl + 0.001 * (cell.seed % 7) + 3.0 * math.exp(-3.0 * step / train["steps"])


@dataclass
class Working:
    cell: Cell
    step: int = 0
    stopped: bool = False


@dataclass
class Planted:
    """An executor: every look at it takes each of its cells on by a validation."""

    layout: Layout
    jobs: int = 1
    curve: Callable[[Cell, int], float] = planted
    fate: Callable[[Cell, int], int | str | None] = lambda cell, attempt: None
    """How an attempt ends otherwise than well: `diverged`, `error`, or the exit code of a worker that died."""
    workers: list[Working] = field(default_factory=list)
    steps: int = 0
    """All that were trained."""
    started: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    die_at: int | None = None
    """At this look the parent is lost."""

    @property
    def free(self) -> int:
        return self.jobs - len(self.workers)

    def start(self, cell: Cell) -> None:
        self.started.append(cell.name)
        self.attempts[cell.identity] = self.attempts.get(cell.identity, 0) + 1
        directory = self.layout.cell(cell)
        directory.update_status(state="running", attempts=directory.status()["attempts"] + 1)
        last = directory.journal.last("validation")
        self.workers.append(Working(cell, last["step"] if last else 0))

    def finished(self, timeout: float) -> list[tuple[Cell, int]]:
        self.looks += 1
        if self.looks == self.die_at:
            raise Lost
        ended = []
        for worker in list(self.workers):
            code = self._take_on(worker)
            if code is not None:
                self.workers.remove(worker)
                ended.append((worker.cell, code))
        return ended

    def _take_on(self, worker: Working) -> int | None:
        cell, directory = worker.cell, self.layout.cell(worker.cell)
        if worker.stopped:
            directory.update_status(state="stopped")
            return INTERRUPTED
        fate = self.fate(cell, self.attempts[cell.identity])
        if isinstance(fate, int):
            return fate
        if fate is not None:
            directory.update_status(state="failed", failure={"class": fate, "message": f"planted {fate}", "step": 1})
            return FAILED
        train = cell.config["train"]
        more = min(train["validate_every"], train["steps"] - worker.step)
        worker.step += more
        self.steps += more
        loss = self.curve(cell, worker.step)
        directory.journal.write("train", worker.step, {"train/loss": loss})
        directory.journal.write("validation", worker.step, {"validation/loss": loss})
        if worker.step < train["steps"]:
            return None
        metrics = {"validation/loss": loss, "cost/saved_activation_bytes": saved_bytes(cell), "cost/train_seconds": 1.0}
        write_json(directory.path / "result.json", {"metrics": metrics, "digests": {}})
        scores = {"metrics": {}, "stamps": {}, "settings": {}, "time": 0.0}
        write_json(directory.path / f"scores-{cell.evaluation}.json", scores)
        directory.update_status(state="done")
        directory.journal.close()
        return OK

    def stop(self, cells: Collection[Cell] | None = None) -> None:
        for worker in self.workers:
            if cells is None or any(worker.cell is cell for cell in cells):
                worker.stopped = True

    def kill(self) -> None:
        self.workers.clear()


Search = Callable[..., tuple[Any, Planted]]
"""The fixture: a study file and overrides; returns the answer and the executor of the trials."""


class Lost(BaseException):
    """Stands for kill -9: nothing after it is done by the parent."""


def saved_bytes(cell: Cell) -> float:
    """More streams keep more."""
    connection = cell.config["connection"]
    return 1000.0 * connection.get("rate", 1)


def trials_of(layout: Layout, study: str, arm: str) -> list[Any]:
    """Of one arm, as Optuna has them."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = layout.root / "search" / study / "optuna-journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=f"{study}/{arm}", storage=storage).get_trials()


def told(layout: Layout, study: str, arm: str) -> list[tuple[Any, ...]]:
    """Everything of the trials that were not given up that does not depend on the clock."""
    return [
        (trial.params, trial.values, trial.state.name, trial.intermediate_values)
        for trial in trials_of(layout, study, arm)
        if "harness.void" not in trial.user_attrs
    ]


def result_of(layout: Layout, study: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((layout.root / "search" / study / "result.json").read_text())["document"]
    return document


def write_study(folder: Path, text: str = STUDY, **replace: str) -> Path:
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def running(layout: Layout) -> list[str]:
    states = [trial.state.name for arm in ARMS for trial in trials_of(layout, "planted", arm)]
    return [state for state in states if state in ("RUNNING", "WAITING")]
