"""The record in MLflow, and the only file that speaks to it.

One MLflow run for every cell of a suite: parameters, curves, costs, scores, environment, digests; and one for the costs
of its arms beside each other, for every machine on which they were measured. What is written comes
from the cell's journal, line by line and at most once: a run remembers the last step that it has seen of every kind of
line, so replaying is idempotent, and a tracker that was down is caught up later.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import tracking_sqlite

BATCH = 1000
"""Metrics per request: MLflow's own limit over HTTP."""

TAG_CELL, TAG_BORN = "harness.cell", "harness.born"
TAG_SEEN, TAG_STATE = "harness.journal_seen", "harness.state"
TAG_SCORED = "harness.scored."
"""Before the label of a task: what exactly was asked, as JSON. Scores compare where these are equal."""
TAG_ASKED = "harness.asked."
"""Before an evaluation key: the run has its scores. A tag for each, because a tag has an end."""
TAGS = 90
"""Tags per request; MLflow's limit is 100."""
PAGE = 250
"""Runs per request of what is read: MLflow keeps all objects of a page, and larger ones are no faster."""
TAG_COSTS, TAG_MEASURED = "harness.costs", "harness.measured"
"""Of a run that is no cell's: the key of the costs that it records, and when they were measured."""
COSTS = "costs.json"
STATUS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""MLflow's word for how a cell's directory is."""
SCORES = "scores"
"""The kind of journal line that is seen by what was asked, not by step."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What identifies and describes the record of one cell."""

    experiment: str
    name: str
    cell: str
    born: str
    """When the cell's directory was made: a cell that is trained anew gets a run of its own."""
    tags: dict[str, str]
    params: dict[str, str]
    artifacts: tuple[Path, ...] = ()
    samples: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Of every evaluation key, the files with its samples."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One recorded cell, as `compare` reads it."""

    run_id: str
    cell: str
    evaluations: tuple[str, ...]
    """Keys under which it was scored."""
    tags: dict[str, str]
    metrics: dict[str, float]

    def was_asked(self, evaluation: str) -> bool:
        """Whether it was scored under what `evaluation` asks for."""
        return any(covers(key, evaluation) for key in self.evaluations)


def stamp_text(stamp: dict[str, Any]) -> str:
    """What was asked under a label, as the record has it."""
    return json.dumps(stamp, sort_keys=True)


def covers(scored: str, wanted: str) -> bool:
    """Whether scores under one evaluation key are what another asks for. A key is `<how>`, or `<how>-<documents>` of
    local documents; who does not say where these are (another shell, without HARNESS_EVAL_DATA) takes what is there."""
    return scored == wanted or ("-" not in wanted and scored.startswith(f"{wanted}-"))


@dataclass(frozen=True)
class Seen:
    """What of a cell's journal its run has: of every kind the lines up to a step, of scores those of some keys."""

    steps: dict[str, int] = field(default_factory=dict)
    evaluations: tuple[str, ...] = ()

    @classmethod
    def of(cls, tags: dict[str, str]) -> Seen:
        keys = (name.removeprefix(TAG_ASKED) for name in tags if name.startswith(TAG_ASKED))
        return cls(json.loads(tags.get(TAG_SEEN, "{}")), tuple(keys))

    def tags(self) -> dict[str, str]:
        return {TAG_SEEN: json.dumps(self.steps), **{f"{TAG_ASKED}{key}": "1" for key in self.evaluations}}

    def has(self, line: dict[str, Any]) -> bool:
        if line["kind"] == SCORES:
            return line["evaluation"] in self.evaluations
        return bool(line["step"] <= self.steps.get(line["kind"], -1))

    def with_lines(self, lines: Iterable[dict[str, Any]]) -> Seen:
        new = list(lines)
        steps = {line["kind"]: line["step"] for line in new if line["kind"] != SCORES}
        scored = [line["evaluation"] for line in new if line["kind"] == SCORES]
        return Seen({**self.steps, **steps}, tuple(dict.fromkeys((*self.evaluations, *scored))))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector of cycles. MLflow makes an object of every tag, parameter and metric; all are freed
    without it, and that it goes over them again and again took two thirds of the time of reading a large record."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def tracking_uri(results: Path) -> str:
    """MLFLOW_TRACKING_URI, or a sqlite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results.resolve() / 'mlflow.db'}"


class Tracker:
    """A connection to one MLflow store. MLflow is imported, and the store made, at the first use."""

    def __init__(self, uri: str, artifacts: Path | None = None):
        self.uri, self.artifacts = uri, artifacts
        self._client: Any = None
        self._experiments: dict[str, str] = {}
        self._runs: dict[tuple[str, str, str], tuple[str, Seen]] = {}

    def connect(self) -> Any:
        """The MLflow client. Raises whatever MLflow raises when the store cannot be reached."""
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            # A tracker that is down must cost seconds, not MLflow's default of minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
            # A file that is fetched is no news, and a bar of it no line of ours.
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            from mlflow.tracking import MlflowClient

            for name in ("mlflow", "alembic"):  # after the import, which sets levels of its own
                logging.getLogger(name).setLevel(logging.ERROR)
            with tracking_sqlite.made_by_one(self.uri):
                client = MlflowClient(tracking_uri=self.uri)
                client.search_experiments(max_results=1)  # makes and migrates a fresh sqlite file
            self._client = client
        return self._client

    def _known(self, name: str) -> str | None:
        """The id of an experiment that is there; None where there is none."""
        if name not in self._experiments:
            found = tracking_sqlite.experiment(self.uri, name)  # without MLflow, which takes seconds to import
            if found is None and (asked := self.connect().get_experiment_by_name(name)) is not None:
                found = asked.experiment_id
            if found is not None:
                self._experiments[name] = found
        return self._experiments.get(name)

    def _experiment(self, name: str) -> str:
        if self._known(name) is None:
            from mlflow.exceptions import MlflowException

            client = self.connect()
            local = self.uri.startswith("sqlite:") and self.artifacts is not None
            location = (self.artifacts / "artifacts").resolve().as_uri() if local and self.artifacts else None
            try:
                self._experiments[name] = client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another process was faster
                self._experiments[name] = client.get_experiment_by_name(name).experiment_id
        return self._experiments[name]

    def write(self, entry: Entry, lines: Iterable[dict[str, Any]], state: str) -> None:
        """Bring the run of `entry` up to date: the journal lines that it has not seen, and its state."""
        from mlflow.entities import Metric, RunTag

        client = self.connect()
        key = (entry.experiment, entry.cell, entry.born)
        if key not in self._runs:
            self._runs[key] = self._find(entry) or (self._create(entry), Seen())
        run_id, seen = self._runs[key]
        new = [line for line in lines if not seen.has(line)]
        metrics = [
            Metric(name, value, line["time"], line["step"]) for line in new for name, value in line["values"].items()
        ]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        for evaluation in dict.fromkeys(line["evaluation"] for line in new if line["kind"] == SCORES):
            for path in entry.samples.get(evaluation, ()):
                client.log_artifact(run_id, str(path), artifact_path=f"samples-{evaluation}")
        seen = seen.with_lines(new)
        self._runs[key] = (run_id, seen)
        if state in ("done", "failed"):
            for path in entry.artifacts:
                if path.exists():
                    client.log_artifact(run_id, str(path))
        if state in STATUS:
            client.set_terminated(run_id, STATUS[state])
        # Last, because it is what says that all the rest is there.
        everything = {**entry.tags, **seen.tags(), TAG_STATE: state}
        tags = [RunTag(name, value[:5000]) for name, value in everything.items()]
        for start in range(0, len(tags), TAGS):
            client.log_batch(run_id, tags=tags[start : start + TAGS])

    def _create(self, entry: Entry) -> str:
        from mlflow.entities import Param

        run_id = self.create_run(entry.experiment, entry.name, {TAG_CELL: entry.cell, TAG_BORN: entry.born})
        # Once: MLflow refuses to change a parameter, and a resumed cell may have another thread count.
        params = [Param(name, value[:6000]) for name, value in entry.params.items()]
        self.connect().log_batch(run_id, params=params)
        return run_id

    def _find(self, entry: Entry) -> tuple[str, Seen] | None:
        wanted = {TAG_CELL: entry.cell, TAG_BORN: entry.born}
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
        runs = self.connect().search_runs([self._experiment(entry.experiment)], query, max_results=1)
        return (runs[0].info.run_id, Seen.of(runs[0].data.tags)) if runs else None

    def read(self, experiment: str) -> list[Record]:
        """All records of an experiment, the oldest first; none where there is no such experiment."""
        known = self._known(experiment)
        if known is None:
            return []
        runs = tracking_sqlite.runs(self.uri, known)
        return [
            Record(
                run_id=run.run_id,
                cell=run.tags[TAG_CELL],
                evaluations=Seen.of(run.tags).evaluations,
                tags=run.tags,
                metrics=run.metrics,
            )
            for run in (self._asked(known) if runs is None else runs)
            if TAG_CELL in run.tags
        ]

    def _asked(self, experiment_id: str) -> list[tracking_sqlite.Run]:
        """The same by MLflow's interface, whatever the store."""
        runs: list[tracking_sqlite.Run] = []
        token = None
        while True:
            with _uncollected():
                page = self.connect().search_runs(
                    [experiment_id], max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
                )
                runs += [
                    tracking_sqlite.Run(run.info.run_id, dict(run.data.tags), dict(run.data.metrics)) for run in page
                ]
            token = page.token
            if not token:
                return runs

    def write_costs(
        self, experiment: str, document: dict[str, Any], tags: dict[str, str], metrics: dict[str, float]
    ) -> None:
        """The run of the costs with this key; measured anew, they take the place of the old ones in it."""
        from mlflow.entities import Metric, RunTag

        client, key, when = self.connect(), document["key"], document["when"]
        runs = self._costs_runs(experiment, f" = '{key}'")
        if runs and runs[0].data.tags.get(TAG_MEASURED) == when:
            return
        run_id = runs[0].info.run_id if runs else self.create_run(experiment, "costs", {TAG_COSTS: key})
        now = int(time.time() * 1000)
        values = [Metric(name, value, now, 0) for name, value in metrics.items()]
        for start in range(0, len(values), BATCH):
            client.log_batch(run_id, metrics=values[start : start + BATCH])
        client.log_dict(run_id, document, COSTS)
        client.set_terminated(run_id, "FINISHED")
        # Last, because it is what says that all the rest is there.
        everything = {**tags, TAG_MEASURED: when}
        client.log_batch(run_id, tags=[RunTag(name, value[:5000]) for name, value in everything.items()])

    def costs_measured(self, experiment: str) -> dict[str, str]:
        """Key -> when, of the costs that are recorded whole."""
        known = self._known(experiment)
        runs = None if known is None else tracking_sqlite.runs(self.uri, known, TAG_COSTS)
        asked = self._costs_runs(experiment, " != ''") if runs is None else []
        tags = [run.tags for run in runs or ()] + [run.data.tags for run in asked]
        return {one[TAG_COSTS]: one[TAG_MEASURED] for one in tags if TAG_MEASURED in one}

    def read_costs(self, experiment: str) -> list[dict[str, Any]]:
        """All documents of costs in an experiment, but for those whose file is not where the record says."""
        from mlflow.exceptions import MlflowException

        found = []
        for run in self._costs_runs(experiment, " != ''"):
            with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, ValueError, MlflowException):
                path = self.connect().download_artifacts(run.info.run_id, COSTS, folder)
                found.append(json.loads(Path(path).read_text(encoding="utf-8")))
        return found

    def _costs_runs(self, experiment: str, which: str) -> list[Any]:
        return self.runs(experiment, f"tags.`{TAG_COSTS}`{which}")

    def runs(self, experiment: str, query: str) -> list[Any]:
        """MLflow's runs of an experiment for which its query holds, the oldest first; none where there is none."""
        client, known = self.connect(), self._known(experiment)
        if known is None:
            return []
        runs: list[Any] = []
        token = None
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        while True:
            page = client.search_runs([known], query, max_results=1000, order_by=order, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def create_run(self, experiment: str, name: str, tags: dict[str, str]) -> str:
        """A new run; returns its id."""
        everything = {"mlflow.runName": name, **tags}
        made = self.connect().create_run(self._experiment(experiment), tags=everything, run_name=name)
        return str(made.info.run_id)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of one metric of one run, by step."""
        points = self.connect().get_metric_history(run_id, metric)
        return sorted({point.step: point.value for point in points}.items())

    def artifact(self, run_id: str, name: str) -> Path | None:
        """One file that a run keeps, fetched if it is elsewhere; None where the run has none of that name, or where
        it is not in the place that the record knows."""
        from mlflow.exceptions import MlflowException

        client = self.connect()
        with contextlib.suppress(OSError, MlflowException):
            if any(found.path == name for found in client.list_artifacts(run_id)):
                return Path(client.download_artifacts(run_id, name))
        return None

    def experiment_url_path(self, experiment: str) -> str:
        """The part of the MLflow UI's address that shows the experiment's runs."""
        return f"/#/experiments/{self._experiment(experiment)}/runs"
