"""The report of a suite, made anew only when something that it shows has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import UsageError, shown
from harness.report.facts import Invocation
from harness.run import costs
from harness.run.celldir import DIAGNOSTICS, HELD_OUT, read_json, write_json
from harness.run.layout import Layout
from harness.suite.cells import Cell, digest
from harness.suite.schema import Suite

PAGE, KEY = "report.html", "report.json"
"""The page; and beside it what it was made from, and its files."""


def write_report(
    layout: Layout,
    suite: Suite,
    cells: Sequence[Cell],
    invocation: Invocation,
    *,
    output: Path | None = None,
    baseline: str | None = None,
    forced: bool = False,
    partial: bool = False,
) -> Path:
    """Write the page, by default `report/report.html` in the suite's folder (of a selection's, with `partial`), and its
    figures beside it; returns its path. In its default place it is made only where something has changed since the last
    time: otherwise MLflow is not even imported.

    Raises InconclusiveError without a finished cell, UsageError where the page cannot be written.
    """
    key, before = "", NEVER
    if output is None and layout.root.exists():
        key = key_of(layout, suite, cells, invocation, baseline, forced)
        folder = _folder(layout, suite, partial)
        before = read_json(folder / KEY) or NEVER
        if before["key"] == key and all((folder / name).exists() for name in before["files"]):
            return folder / PAGE
    from harness.report.gather import gather

    facts = gather(layout, suite, cells, invocation, baseline, forced)
    from harness.report.write import write_page

    path = output or _folder(layout, suite, partial) / PAGE
    files = [str(file.relative_to(path.parent)) for file in write_page(facts, path)]
    if output is None:
        for name in set(before["files"]) - set(files):
            (path.parent / name).unlink(missing_ok=True)
        write_json(path.parent / KEY, {"key": key, "files": files})
    return path


NEVER: dict[str, Any] = {"key": None, "files": []}


def _folder(layout: Layout, suite: Suite, partial: bool) -> Path:
    try:
        folder = layout.suite(suite.name, partial) / "report"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        where = shown(error.filename or layout.root)
        raise UsageError(f"{where}: cannot be made: {error.strerror}; --output names another file") from error
    return folder


def key_of(
    layout: Layout,
    suite: Suite,
    cells: Sequence[Cell],
    invocation: Invocation,
    baseline: str | None,
    forced: bool,
) -> str:
    """Of everything that the page shows, and of the code that shows it."""
    made = []
    for cell in cells:
        directory = layout.cell(cell)
        seen = directory.look()
        files = [_stamp(directory.path / name) for name in (DIAGNOSTICS, HELD_OUT)]
        state = [seen.status.get("born"), seen.state(cell.evaluation), sorted(seen.scores)]
        made.append([cell.arm, cell.seed, cell.identity, cell.evaluation, *state, *files])
    of_suite = [
        layout.tracker().uri,
        suite.model_dump(mode="json"),
        _stamp(layout.suite_place(suite.name) / costs.FILE),
    ]
    return digest([__version__, _code(), str(layout.root), *of_suite, asdict(invocation), baseline, forced, made])


def _stamp(path: Path) -> list[int] | None:
    """Whether a file is there, and still the same; files are replaced whole, so it need not be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def _code() -> str:
    """Of the packages that make the page: another version of them makes another one."""
    package = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for name in ("compare", "report"):
        for path in sorted((package / name).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]
