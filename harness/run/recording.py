"""From cell directories into the tracker: beside the run in a thread, or afterwards for whatever is missing."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from harness.errors import first_line
from harness.run import costs
from harness.run.celldir import DATA, DIAGNOSTICS, EXPERTS, HELD_OUT, TOKENIZER, read_json
from harness.run.layout import Layout
from harness.suite.cells import Cell, by_identity
from harness.tracking import TAG_BORN, TAG_SCORED, TAG_STATE, Entry, Record, Tracker, stamp_text

ARTIFACTS = ("config.json", "environment.json", "stdout.log", EXPERTS, DATA, TOKENIZER, DIAGNOSTICS, HELD_OUT)
"""Files of a cell's directory that the record keeps a copy of, where they are."""


def entry(layout: Layout, suite: str, cell: Cell) -> Entry:
    """The record of one cell, from what its directory says now."""
    directory = layout.cell(cell)
    status, result = directory.status(), directory.result() or {}
    environment: dict[str, Any] = read_json(directory.path / "environment.json") or {}
    failure = status.get("failure") or {}
    scores = directory.all_scores()
    # Of a label that was asked twice, the later.
    stamps = {
        label: stamp
        for one in sorted(scores.values(), key=lambda one: float(one["time"]))
        for label, stamp in one["stamps"].items()
    }
    tags = {
        "harness.suite": suite,
        "harness.arm": cell.arm,
        "harness.seed": str(cell.seed),
        "harness.folder": cell.folder,
        "harness.attempts": str(status["attempts"]),
        **{f"harness.digest.{name}": value for name, value in (result.get("digests") or {}).items()},
        **{f"harness.digest.{name}": value for name, value in cell.config["digests"].items()},
        **{f"{TAG_SCORED}{label}": stamp_text(stamp) for label, stamp in stamps.items()},
        **{f"harness.env.{name}": json.dumps(value) for name, value in environment.items()},
        **{f"harness.failure.{name}": str(value) for name, value in failure.items() if name != "tail"},
    }
    params = dict(_flat(cell.config))
    params["seed"] = str(cell.seed)
    return Entry(
        experiment=suite,
        name=cell.name,
        cell=cell.identity,
        born=str(status.get("born", "")),
        tags=tags,
        params=params,
        artifacts=(*(directory.path / name for name in ARTIFACTS), *map(directory.picture, scores)),
        samples={key: tuple(sorted(directory.samples(key).glob("*"))) for key in scores},
    )


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flat(below, f"{prefix}{key}.")
    else:
        yield prefix[:-1], json.dumps(value) if isinstance(value, list) else str(value)


def replay(layout: Layout, tracker: Tracker, suite: str, cell: Cell, tags: Mapping[str, str] | None = None) -> None:
    """Write into the tracker what it has not seen of one cell, with tags besides its own. Idempotent; raises what the
    tracker raises."""
    directory = layout.cell(cell)
    state = directory.state(cell.evaluation)
    if state != "todo":
        made = entry(layout, suite, cell)
        tracker.write(replace(made, tags={**made.tags, **(tags or {})}), directory.journal.lines(), state)


def catch_up(layout: Layout, tracker: Tracker, suite: str, cells: Iterable[Cell]) -> tuple[list[Record], int]:
    """Replay the finished and failed cells that the record does not have so, and the measured costs of the suite's
    arms; returns the suite's record as it is then, and how many cells there were. What lacked none is read once."""
    records = tracker.read(suite)
    recorded = {(record.cell, record.tags.get(TAG_BORN)): record for record in records}
    missing = 0
    for cell in by_identity(cells).values():
        seen = layout.cell(cell).look()
        state = seen.state(cell.evaluation)
        record = recorded.get((cell.identity, str(seen.status.get("born", ""))))
        known = set(record.evaluations) if record else set()
        same = record is not None and record.tags.get(TAG_STATE) == state and known >= seen.scores.keys()
        if state in ("done", "failed") and not same:
            replay(layout, tracker, suite, cell)
            missing += 1
    if measured := costs.documents(layout, suite):
        known_costs = tracker.costs_measured(suite)
        for document in measured:
            if known_costs.get(document["key"]) != document["when"]:
                tracker.write_costs(suite, document, _costs_tags(suite, document), costs.metrics(document))
    return (tracker.read(suite) if missing else records), missing


def _costs_tags(suite: str, document: dict[str, Any]) -> dict[str, str]:
    machine = {f"harness.env.{name}": json.dumps(value) for name, value in document["machine"].items()}
    return {"harness.suite": suite, **machine}


Item = TypeVar("Item")


class Recorder(threading.Thread, Generic[Item]):
    """Records in the background, with `write`, what is submitted. A tracker that fails is reported once and stops
    nothing: what it missed stays in the journals for `catch_up`."""

    def __init__(self, tracker: Tracker, write: Callable[[Item], None], warn: Callable[[str], None]):
        super().__init__(daemon=True)
        self.tracker, self.write, self.warn = tracker, write, warn
        self.error: str | None = None
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self.start()

    def submit(self, item: Item) -> None:
        if self.error is None:
            self._queue.put(item)

    def close(self) -> None:
        """Wait until everything submitted is written, or the tracker has failed."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        try:
            self.tracker.connect()
            while (item := self._queue.get()) is not None:
                self.write(item)
        except Exception as error:
            self.error = f"{type(error).__name__}: {first_line(error)}"
            self.warn(
                f"MLflow at {self.tracker.uri} does not answer ({self.error}); the run goes on, and what it missed is "
                "replayed from the journals by the next run, compare or search"
            )
