"""A search in MLflow: a run for the study, below it one for every trial, below these the runs of their cells."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.tracking import BATCH, TAGS, Tracker

TAG_STUDY, TAG_TRIAL, TAG_ENDED = "harness.study", "harness.trial", "harness.trial_ended"
TAG_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True)
class TrialEntry:
    """What is recorded of a trial that is over."""

    key: str
    """`<arm>/<number>`."""
    ended: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: Mapping[int, float] = field(default_factory=dict)
    """By step, of the metric `curve_name`."""
    curve_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class StudyTracker:
    """One study in one experiment. All that it writes can be written again without being there twice. Every method
    raises what MLflow raises."""

    def __init__(self, tracker: Tracker, experiment: str, name: str, key: str):
        self.tracker, self.experiment, self.name, self.key = tracker, experiment, name, key
        self._study: str | None = None
        self._trials: dict[str, str] = {}
        self._ended: set[str] = set()

    def study_run(self) -> str:
        """The id of the study's run."""
        if self._study is None:
            self._study = self._one({TAG_STUDY: self.key}, self.name)
            for run in self._search({TAG_PARENT: self._study}):
                if (trial := run.data.tags.get(TAG_TRIAL)) is not None:
                    self._trials.setdefault(trial, run.info.run_id)
                    if TAG_ENDED in run.data.tags:
                        self._ended.add(trial)
        return self._study

    def trial_run(self, key: str) -> str:
        """The id of a trial's run."""
        study = self.study_run()
        if key not in self._trials:
            self._trials[key] = self._one({TAG_PARENT: study, TAG_TRIAL: key}, key.replace("/", "-t"))
        return self._trials[key]

    def has(self, key: str) -> bool:
        """Whether the trial is recorded whole."""
        self.study_run()
        return key in self._ended

    def write_trial(self, trial: TrialEntry) -> None:
        """Record a trial that is over, once."""
        from mlflow.entities import Metric, Param, RunTag

        if self.has(trial.key):
            return
        client, run_id, now = self.tracker.connect(), self.trial_run(trial.key), int(time.time() * 1000)
        params = [Param(name, value[:6000]) for name, value in trial.params.items()]
        metrics = [Metric(name, value, now, 0) for name, value in trial.metrics.items()]
        metrics += [Metric(trial.curve_name, value, now, step) for step, value in sorted(trial.curve.items())]
        client.log_batch(run_id, params=params)
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        client.set_terminated(run_id, "FAILED" if trial.ended == "failed" else "FINISHED")
        # Last, because it is what says that all the rest is there.
        client.log_batch(run_id, tags=[RunTag(k, v[:5000]) for k, v in {**trial.tags, TAG_ENDED: trial.ended}.items()])
        self._ended.add(trial.key)

    def finish(
        self,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Sequence[Path],
        complete: bool,
    ) -> None:
        """What the whole study has come to."""
        from mlflow.entities import Metric, Param, RunTag

        client, run_id, now = self.tracker.connect(), self.study_run(), int(time.time() * 1000)
        known = client.get_run(run_id).data.params  # MLflow refuses to change one
        new = [Param(name, value[:6000]) for name, value in params.items() if name not in known]
        client.log_batch(run_id, params=new)
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        every = [RunTag(name, value[:5000]) for name, value in tags.items()]
        for start in range(0, len(every), TAGS):
            client.log_batch(run_id, tags=every[start : start + TAGS])
        for path in files:
            if path.exists():
                client.log_artifact(run_id, str(path))
        for given_up in self._trials.keys() - self._ended:  # by a parent that died or was interrupted
            client.set_terminated(self._trials[given_up], "KILLED")
        client.set_terminated(run_id, "FINISHED" if complete else "FAILED")

    def _search(self, tags: Mapping[str, str]) -> list[Any]:
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return self.tracker.runs(self.experiment, query)

    def _one(self, tags: Mapping[str, str], name: str) -> str:
        """The run with these tags, made where there is none; of two that parents make at once the older stays."""
        if not self._search(tags):
            made = self.tracker.create_run(self.experiment, name, dict(tags))
            if (first := str(self._search(tags)[0].info.run_id)) != made:
                self.tracker.connect().delete_run(made)
            return first
        return str(self._search(tags)[0].info.run_id)
