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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

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


def experiment(uri: str, name: str) -> str | None:
    """The id of the experiment that is called so and not deleted; None where there is none, or no shortcut."""
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    found = _asked(uri, lambda store: store.execute(query, (name,)).fetchall())
    return str(found[0][0]) if found is not None and len(found) == 1 else None


def runs(uri: str, experiment_id: str, tagged: str | None = None) -> list[Run] | None:
    """The experiment's runs that are not deleted, of those with a tag of this name if one is given, the oldest first;
    None where there is no shortcut."""
    return _asked(uri, lambda store: _read(store, experiment_id, tagged))


Answer = TypeVar("Answer")


def _asked(uri: str, ask: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as store:
            if {name for (name,) in store.execute("SELECT version_num FROM alembic_version")} - KNOWN:
                return None
            store.execute("BEGIN")  # one state of all tables
            return ask(store)
    except sqlite3.Error:
        return None


def _read(store: sqlite3.Connection, experiment_id: str, tagged: str | None) -> list[Run]:
    of_experiment = "SELECT run_uuid FROM runs WHERE experiment_id = :experiment AND lifecycle_stage = 'active'"
    wanted = {"experiment": experiment_id, "tag": tagged}
    if tagged is not None:
        of_experiment += " AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = :tag)"
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    metrics: defaultdict[str, dict[str, float]] = defaultdict(dict)
    select = f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN ({of_experiment})"  # noqa: S608
    for run, key, text in store.execute(select, wanted):
        tags[run][key] = text
    select = f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({of_experiment})"  # noqa: S608
    for run, key, value, is_nan in store.execute(select, wanted):
        metrics[run][key] = math.nan if is_nan else float(value)
    order = f"{of_experiment} ORDER BY start_time, run_uuid"
    return [Run(run, tags[run], metrics[run]) for (run,) in store.execute(order, wanted)]
