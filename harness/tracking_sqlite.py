"""A shortcut past MLflow's objects for reading a large record from its own sqlite file.

MLflow makes an object of every parameter, tag and metric of every run, which for 10,000 cells is most of what `compare`
takes. What a comparison needs are tags and latest metrics, and these stand in two tables. The shortcut is taken only
for the schemas that it was held against (a test compares both ways); for any other, and for anything but a local file,
there is none, and MLflow's interface is asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KNOWN = frozenset({"dc11669786a5"})
"""Revisions of MLflow's schema (its alembic table) whose tables are read here."""


@contextlib.contextmanager
def made_by_one(uri: str) -> Iterator[None]:
    """While inside, no other process of ours makes or migrates the same sqlite file: MLflow's migrations break when two
    meet in a fresh one."""
    path = Path(uri.removeprefix("sqlite:///"))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # what can only be read is not made either
            if uri.startswith("sqlite:///"):
                file = stack.enter_context(path.with_name(f".{path.name}.lock").open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Run(NamedTuple):
    run_id: str
    tags: dict[str, str]
    metrics: dict[str, float]


def runs(uri: str, experiment_id: str) -> list[Run] | None:
    """The experiment's runs that are not deleted, the oldest first; None where there is no shortcut."""
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as store:
            if {name for (name,) in store.execute("SELECT version_num FROM alembic_version")} - KNOWN:
                return None
            store.execute("BEGIN")  # one state of all three tables
            return _read(store, experiment_id)
    except sqlite3.Error:
        return None


def _read(store: sqlite3.Connection, experiment_id: str) -> list[Run]:
    of_experiment = "run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active')"
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    metrics: defaultdict[str, dict[str, float]] = defaultdict(dict)
    wanted = (experiment_id,)
    for run, key, text in store.execute(f"SELECT run_uuid, key, value FROM tags WHERE {of_experiment}", wanted):  # noqa: S608
        tags[run][key] = text
    select = f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {of_experiment}"  # noqa: S608
    for run, key, value, is_nan in store.execute(select, wanted):
        metrics[run][key] = math.nan if is_nan else float(value)
    order = (
        "SELECT run_uuid FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
    )
    return [Run(run, tags[run], metrics[run]) for (run,) in store.execute(order, wanted)]
