"""The search as the loop sees it: trials are drawn, their cells handed out, watched, pruned, and their values told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.run.celldir import CellDir, State
from harness.run.layout import Layout
from harness.run.runner import prepare
from harness.search.facts import TrialFacts, facts_of, settings_text
from harness.search.file import Study
from harness.search.objectives import OBJECTIVES
from harness.search.parents import BEAT_SECONDS
from harness.search.samplers import over_seeds
from harness.search.settings import Params
from harness.search.trials import CELLS, ENDED, FAILURE, SETTINGS, STEPS, TRIES, VOID, ArmTrials
from harness.suite.cells import Cell

if TYPE_CHECKING:
    import optuna

HALT_AFTER = 3
"""So many trials that fail one after another end the search."""
LOOK_SECONDS = 2.0
"""How long is waited where other parents have all that is left."""


@dataclass(eq=False)
class Active:
    """A trial that this parent works on, one cell after another."""

    arm: ArmTrials
    trial: optuna.Trial
    params: Params
    cells: list[Cell]
    tries: int
    place: int = 0
    """Of the cell whose turn it is."""
    begun: int = 0
    """So many of the cells have been asked for."""
    running: bool = False
    seen: int = 0
    """The last step of the first cell's curve that was judged."""
    found: list[dict[str, float]] = field(default_factory=list)
    """Metrics of the cells that are trained."""
    pruned: int | None = None
    """The step, or place, at which it was."""
    wait_until: float = 0.0
    alone: bool = False
    """Its cell found no memory beside others, which says nothing of its setting: it is tried by itself."""

    @property
    def name(self) -> str:
        return f"{self.arm.arm} trial {self.trial.number}"


class SearchSource:
    """Hands out the cells of trials, arm by arm in turn, until every arm has all of its trials."""

    def __init__(
        self,
        study: Study,
        arms: Sequence[ArmTrials],
        layout: Layout,
        say: Callable[[str, int], None],
        record: Callable[[TrialFacts], None],
    ):
        """`say` tells of a trial's end and how many there have been; `record` brings it to the record."""
        self.study, self.arms, self.layout = study, arms, layout
        self._say, self.record = say, record
        self.halt = False
        """Trial after trial has failed: whatever it is, it must not use up what the arms may have."""
        self.failure, self._in_a_row = "", 0
        self._active: list[Active] = []
        self._trial_of: dict[str, str] = {}
        self._objectives = [OBJECTIVES[name] for name in study.settings.objective]
        self._curve = not study.settings.several and self._objectives[0].curve
        self._look_at, self._beat_at, self._beats = 0.0, time.monotonic() + BEAT_SECONDS, 0

    @property
    def done(self) -> int:
        return sum(len(arm.ended()) for arm in self.arms)

    @property
    def open(self) -> bool:
        return bool(self._active) or not all(arm.done for arm in self.arms)

    def trial_of(self, cell: Cell) -> str | None:
        """`<arm>/<number>` of the trial that a cell was handed out for."""
        return self._trial_of.get(cell.name)

    def next(self) -> Cell | None:
        """A cell of a trial that is begun, else of a new one. What is trained already is taken as it is."""
        while True:
            now = time.monotonic()
            running = [one for one in self._active if one.running]
            if running and any(one.alone for one in self._active):
                return None
            waiting = [one for one in self._active if not one.running and now >= one.wait_until]
            for active in sorted(waiting, key=lambda one: not one.alone):
                if (cell := self._cell_of(active)) is not None:
                    return cell
            if now < self._look_at or not self._claim():
                return None

    def _claim(self) -> bool:
        """Begin a trial of the arm that has fewest; whether there was one to begin."""
        for arm in sorted(self.arms, key=lambda arm: len(arm.counting())):
            if (claimed := arm.claim()) is not None:
                self._active.append(self._begun(arm, *claimed))
                return True
        for arm in self.arms:
            arm.reap()
        self._look_at = time.monotonic() + (LOOK_SECONDS if self.open else 0.0)
        return False

    def _begun(self, arm: ArmTrials, trial: optuna.Trial, params: Params) -> Active:
        made = self.study.cells_of(arm.arm, trial.number, params)
        trial.set_user_attr(CELLS, [cell.folder for cell in made])
        trial.set_user_attr(SETTINGS, settings_text(params))
        self._trial_of |= {cell.name: f"{arm.arm}/{trial.number}" for cell in made}
        return Active(arm, trial, params, made, int(trial.user_attrs.get(TRIES, 0)))

    def _cell_of(self, active: Active) -> Cell | None:
        """The cell that the trial needs next; None where it has come to its end."""
        while active.place < len(active.cells):
            cell = active.cells[active.place]
            directory = self.layout.cell(cell)
            active.begun = active.place + 1
            if directory.result() is None:
                if _diverged(directory):
                    self._end(active, "diverged", directory)
                    return None
                if active.place == 0:  # a trial before it may have had the same cell, and been pruned
                    self._judge_curve(active, directory)
                if active.pruned is not None:
                    self._end(active, "pruned")
                    return None
                prepare(self.layout, cell)
                active.running = True
                return cell
            self._take(active, directory)
            if active.pruned is not None:
                self._end(active, "pruned")
                return None
        self._end(active, "complete")
        return None

    def _take(self, active: Active, directory: CellDir) -> None:
        """What a trained cell says; the trial may be pruned by it."""
        result = directory.result()
        assert result is not None
        if active.place == 0:
            self._judge_curve(active, directory)
        # After the last seed the trial is complete: nothing is saved by pruning it.
        last = active.place == len(active.cells) - 1
        if active.pruned is None and self._curve and not last and over_seeds(active.arm.pruner):
            self._judge(active, active.place, result["metrics"][self._objectives[0].metric])
        active.found.append(result["metrics"])
        active.place += 1

    def _judge_curve(self, active: Active, directory: CellDir) -> None:
        """Report what the first cell's curve has that was not seen yet, point by point: where a trial is pruned does
        not depend on how late anybody looks. The end of the curve is the trial's value, and nothing to prune by."""
        if not self._curve or over_seeds(active.arm.pruner) or active.pruned is not None:
            return
        last = directory.journal.last("validation")
        if last is None or last["step"] <= active.seen:
            return
        for line in directory.journal.lines():
            if line["kind"] == "validation" and active.seen < line["step"] < active.arm.steps_of(active.params):
                active.seen = line["step"]
                if self._judge(active, line["step"], line["values"][self._objectives[0].metric]):
                    return

    def _judge(self, active: Active, step: int, value: float) -> bool:
        """Report a value; whether the trial is pruned by it."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            active.trial.report(value, step)
            stop = active.trial.should_prune()
        except UpdateFinishedTrialError:  # another parent took this one for dead, and tries it again
            stop = True
        active.pruned = step if stop else None
        return stop

    def watch(self) -> Sequence[Cell]:
        if time.monotonic() >= self._beat_at:
            self._beat_at, self._beats = time.monotonic() + BEAT_SECONDS, self._beats + 1
            for active in self._active:
                active.arm.beat(active.trial, self._beats)
        stopped = []
        for active in self._active:
            if active.running and active.place == 0:
                cell = active.cells[0]
                self._judge_curve(active, self.layout.cell(cell))
                if active.pruned is not None:
                    stopped.append(cell)
        return stopped

    def busy(self, cell: Cell, state: State) -> None:
        active = self._of(cell)
        active.running, active.wait_until = False, time.monotonic() + LOOK_SECONDS
        if active.pruned is not None:
            self._end(active, "pruned")

    def ended(self, cell: Cell, state: State) -> str | None:
        active = self._of(cell)
        active.running = False
        directory = self.layout.cell(cell)
        if directory.result() is not None:
            self._take(active, directory)
        elif active.place == 0:  # what it did between the last look and its end
            self._judge_curve(active, directory)
        if active.pruned is not None:
            return self._end(active, "pruned", said=False)
        if active.place == len(active.cells):
            return self._end(active, "complete", said=False)
        if directory.result() is None and state == "failed":
            if _diverged(directory):
                return self._end(active, "diverged", directory, said=False)
            if _failure(directory) == "memory" and any(one.running for one in self._active):
                active.alone = True
                return f"{active.name}: no memory beside others, tried again alone"
            active.tries += 1
            if active.tries > self.study.settings.retries:
                return self._end(active, "failed", directory, said=False)
        return None

    def _of(self, cell: Cell) -> Active:
        return next(active for active in self._active if any(cell is one for one in active.cells))

    def _end(self, active: Active, how: str, directory: CellDir | None = None, said: bool = True) -> str:
        """Tell Optuna and the record how the trial ended. One that diverged is a bad setting, not a failure: like a
        pruned one it counts, keeps its curve, and samplers learn from it."""
        self._active.remove(active)
        values = None
        attributes: dict[str, Any] = {TRIES: active.tries, STEPS: self._steps(active)}
        if how == "complete":
            try:
                values = [self._value(active, objective.metric) for objective in self._objectives]
            except KeyError as error:
                how, attributes[FAILURE] = "failed", f"its cells have no {error.args[0]}"
        if directory is not None:
            failure = directory.status().get("failure") or {}
            attributes[FAILURE] = f"{failure.get('class')}: {failure.get('message')}"
        attributes[ENDED] = how
        state = "pruned" if how == "diverged" else how
        active.arm.tell(active.trial, values, state, attributes)
        frozen = active.arm.all()[active.trial.number]
        if VOID in frozen.user_attrs:
            return f"{active.name}: another parent has it"
        found = facts_of(active.arm, frozen)
        self.record(found)
        self.failure, self._in_a_row = found.failure, self._in_a_row + 1 if how == "failed" else 0
        self.halt = self._in_a_row >= HALT_AFTER
        text = f"{active.name} {found.said(self.study.settings.objective)} ({settings_text(active.params)})"
        if said:
            self._say(text, self.done)
        return text

    def _value(self, active: Active, metric: str) -> float:
        return sum(metrics[metric] for metrics in active.found) / len(active.found)

    def _steps(self, active: Active) -> int:
        """How far the trial's cells have been trained."""
        total = 0
        for cell in active.cells[: active.begun]:
            last = self.layout.cell(cell).journal.last("train")
            total += last["step"] if last else 0
        return total

    def give_up(self) -> None:
        """Of an interrupted search: what is not finished is tried again by whoever goes on."""
        for active in self._active:
            active.arm.give_up(active.arm.all()[active.trial.number], "interrupted", again=True)
        self._active.clear()


def _diverged(directory: CellDir) -> bool:
    return directory.status()["state"] == "failed" and _failure(directory) == "diverged"


def _failure(directory: CellDir) -> str | None:
    """The class of the last failure."""
    found: str | None = (directory.status().get("failure") or {}).get("class")
    return found
