"""What of a search is brought to MLflow, and how it is called there (docs/record.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.errors import first_line
from harness.run.layout import Layout
from harness.run.recording import replay
from harness.search.facts import TrialFacts
from harness.search.file import Study
from harness.search.objectives import OBJECTIVES
from harness.search.result import SearchResult
from harness.suite.cells import Cell, digest
from harness.tracking import TAG_BORN, TAG_STATE, Tracker
from harness.tracking_search import TAG_PARENT, TAG_TRIAL, StudyTracker, TrialEntry


class StudyRecord:
    """Writes trials and their cells; used from one thread."""

    def __init__(self, study: Study, layout: Layout, tracker: Tracker, key: str, warn: Callable[[str], None]):
        self.study, self.layout, self.tracker, self.warn = study, layout, tracker, warn
        self.experiment = experiment_of(study.settings.name)
        self._trials = StudyTracker(tracker, self.experiment, study.settings.name, key)

    def write(self, item: tuple[Cell, str | None] | TrialFacts) -> None:
        """A trial that is over; or a cell, with its trial. Raises what MLflow raises."""
        if isinstance(item, TrialFacts):
            self._trials.write_trial(_entry(item, self.study.settings.objective))
            return
        cell, trial = item
        tags = {TAG_PARENT: self._trials.trial_run(trial), TAG_TRIAL: trial} if trial else {}
        replay(self.layout, self.tracker, self.experiment, cell, tags)

    def finish(self, result: SearchResult, files: Sequence[Path], complete: bool) -> bool:
        """All trials and cells that are not there yet, and what the study has come to; whether it could be written. A
        tracker that is down is said once."""
        trials = [trial for arm in result.arms for trial in arm.trials]
        try:
            self.tracker.connect()
            for trial in trials:
                self._trials.write_trial(_entry(trial, result.objectives))
            self._catch_up(trials)
            self._trials.finish(_params(self.study), _metrics(result), _tags(result), files, complete)
        except Exception as error:
            self.warn(
                f"MLflow at {self.tracker.uri} does not answer ({type(error).__name__}: {first_line(error)}); what it "
                "missed is written when the search is asked again"
            )
            return False
        return True

    def _catch_up(self, trials: Sequence[TrialFacts]) -> None:
        """The trials' cells whose record is not as their directories are."""
        known = {
            (record.cell, record.tags.get(TAG_BORN)): record.tags.get(TAG_STATE)
            for record in self.tracker.read(self.experiment)
        }
        for trial in trials:
            for cell in self.study.cells_of(trial.arm, trial.number, trial.params):
                seen = self.layout.cell(cell).look()
                if known.get((cell.identity, str(seen.status.get("born", "")))) != seen.state(cell.evaluation):
                    self.write((cell, f"{trial.arm}/{trial.number}"))


def experiment_of(study: str) -> str:
    """Where the record keeps a study: apart from a suite of the same name."""
    return f"search/{study}"


def study_key(study: Study, storage: str, born: str) -> str:
    """Names the study's run: the same study in another storage, or in one that was made anew, is another one."""
    return digest([study.settings.name, storage, born])


def _entry(trial: TrialFacts, objectives: Sequence[str]) -> TrialEntry:
    values = dict(zip(objectives, trial.values, strict=True)) if trial.values else {}
    return TrialEntry(
        key=f"{trial.arm}/{trial.number}",
        ended=trial.ended,
        params={"arm": trial.arm, **{name: json.dumps(value) for name, value in trial.params.items()}},
        metrics={**{f"objective/{name}": value for name, value in values.items()}, "search/steps": float(trial.steps)},
        curve=trial.curve,
        curve_name=OBJECTIVES[objectives[0]].metric,
        tags={
            "harness.arm": trial.arm,
            "harness.cells": ", ".join(trial.cells),
            "harness.own_setting": json.dumps(trial.own),
            **({"harness.trial_failure": trial.failure} if trial.failure else {}),
        },
    )


def _params(study: Study) -> Mapping[str, str]:
    settings = study.settings.model_dump(mode="json", exclude={"trials"})  # which may grow: it is a metric
    return {name: json.dumps(value) if not isinstance(value, str) else value for name, value in settings.items()}


def _metrics(result: SearchResult) -> dict[str, float]:
    found = {}
    for one in result.compared():
        arm = one.found.arm.replace("+", ".")  # MLflow's names have no +
        found[f"search/trials/{arm}"] = float(len(one.found.trials))
        found[f"search/steps/{arm}"] = float(one.found.steps)
        if one.found.chosen is not None:
            found[f"best/search/{arm}"] = one.found.chosen.trial.value
        for name, estimate in (("best", one.best), ("own", one.own), ("gained", one.gained), ("delta", one.delta)):
            if estimate is not None:
                found[f"{name}/fresh/{arm}"] = estimate.mean
        for parameter, share in one.found.importances.items():
            found[f"importance/{arm}/{parameter}"] = share
    return found


def _tags(result: SearchResult) -> dict[str, str]:
    best = {one.arm: one.chosen.trial.params for one in result.arms if one.chosen}
    return {"harness.best": json.dumps(best)}
