"""From a suite's cells to its comparison: bring the record up to date, read it, say and draw what it shows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import InconclusiveError, UsageError, first_line
from harness.run.celldir import EXPERTS, HELD_OUT, CellDir, read_json, write_json
from harness.run.costs import machine_name, read_costs
from harness.run.layout import Layout
from harness.run.recording import catch_up
from harness.suite.cells import Cell, digest
from harness.suite.schema import Suite
from harness.tracking import Tracker, covers, stamp_text

if TYPE_CHECKING:
    from harness.compare.answers import Answers
    from harness.compare.documents import Windows
    from harness.compare.match import Match
    from harness.compare.results import Arm, Comparison
    from harness.compare.tasks import TaskResult


def answer(layout: Layout, suite: Suite, cells: Sequence[Cell], partial: bool, news: bool) -> str:
    """What `run` ends with: table, verdict, where to look next. Raises InconclusiveError as `compare_cells` does.

    Without `news` the text of the last time stands, if it was made from the same cells and tracker: importing MLflow
    to say the same again takes longer than everything else.
    """
    name, reported = suite.name, suite.reported_values()
    # What the table goes by and no cell is made of.
    twins = {arm: suite.twin_of(arm) for arm in suite.arms}
    rules = [{arm: suite.baseline_of(arm) for arm in suite.arms}, twins, suite.margin, suite.ladder]
    tracker, folder = layout.tracker(), layout.suite(name, partial)
    made = []
    for cell in cells:
        seen = layout.cell(cell).look()
        # The state too: another runner may have finished what was missing the last time.
        state = [seen.status.get("born"), seen.state(cell.evaluation), sorted(seen.scores)]
        made.append([cell.arm, cell.seed, cell.identity, cell.evaluation, *state])
    key = digest([__version__, str(layout.root), tracker.uri, rules, reported, made])
    saved = read_json(folder / "answer.json")
    if not news and saved and saved["key"] == key and all(Path(file).exists() for file in saved["files"]):
        return str(saved["text"])

    from harness.compare.table import to_markdown
    from harness.compare.words import verdict

    tables = compare_cells(layout, tracker, suite, cells)
    files = write_answer(tracker, name, tables, folder) + _write_expert_loads(layout, name, cells, folder)
    samples = [path for cell in cells if (path := layout.cell(cell).picture(cell.evaluation)).exists()]
    text = "\n".join(
        [
            to_markdown(tables),
            "",
            *(verdict(table) for table in tables),
            "",
            *([f"samples of every denoiser, such as {samples[0]}"] if samples else []),
            f"tables and curves: {', '.join(str(file) for file in files)}",
            f"every run with its curves: mlflow ui --backend-store-uri {tracker.uri}",
            f"   then http://127.0.0.1:5000{tracker.experiment_url_path(name)}",
        ]
    )
    write_json(folder / "answer.json", {"key": key, "files": [str(file) for file in files], "text": text})
    return text


def compare_cells(
    layout: Layout,
    tracker: Tracker,
    suite: Suite,
    cells: Sequence[Cell],
    baseline: str | None = None,
    match: Match = "tokens",
    forced: bool = False,
) -> list[Comparison]:
    """The suite's tables. `baseline` takes the place of the baseline of its own table; `match` and `forced` are
    `compare.results.View`'s. Raises InconclusiveError where the record cannot be read or has no finished cell, and
    UsageError for a file of the results folder that cannot."""
    name = suite.name
    if not layout.root.exists() and tracker.uri.startswith("sqlite:"):
        raise InconclusiveError(f"no cell of '{name}' is finished: there is no results folder {layout.root}")
    try:
        records, _ = catch_up(layout, tracker, name, cells)
        costs = read_costs(layout, tracker, suite, cells, baseline) or {"arms": {}}
    except UsageError:  # a file of ours that is named in it
        raise
    except Exception as error:  # whatever MLflow, its database or its server raises
        raise InconclusiveError(f"the record in MLflow at {tracker.uri} cannot be read: {first_line(error)}") from error
    from harness.compare.match import LOSS
    from harness.compare.results import Sources, View, Wanted
    from harness.compare.rows import comparisons

    wanted = [
        Wanted(
            cell.arm, cell.seed, cell.identity, cell.evaluation, _answers(layout, cell), windows_of(layout.cell(cell))
        )
        for cell in cells
    ]
    tables = comparisons(
        wanted,
        records,
        _arms(suite, baseline),
        View(
            match=match,
            forced=forced,
            margin=suite.margin,
            ladder=suite.ladder,
            remarks=_remarks(suite, cells, layout.smoke),
        ),
        Sources(costs=costs["arms"], machine=machine_name(costs), curve=lambda run: tracker.history(run, LOSS)),
        suite.reported_values(),
    )
    if not any(row.n for table in tables for row in table.rows):
        raise InconclusiveError(f"no cell of '{name}' is finished; see: harness status")
    return tables


def compare_tasks(layout: Layout, cells: Sequence[Cell], tables: Sequence[Comparison]) -> list[TaskResult]:
    """Every task that the cells of the tables' pairs were asked, document by document, from the kept answers."""
    from harness.compare.tasks import Answered, task_results
    from harness.evaluation import samples

    by_name = {(cell.arm, cell.seed): cell for cell in cells}

    @functools.cache
    def load(arm: str, seed: int, label: str) -> Answered | None:
        cell = by_name[arm, seed]
        directory = layout.cell(cell)
        found = {key: one for key, one in directory.all_scores().items() if label in one["stamps"]}
        for key in sorted(
            found, key=lambda key: (covers(key, cell.evaluation), float(found[key]["time"])), reverse=True
        ):
            path = directory.samples(key) / samples.file_name(label)
            if path.exists():
                return samples.read(path)[1]
        return None

    results = []
    for table in tables:
        labels = dict.fromkeys(name.rpartition("/")[0] for row in table.rows for name in row.scores)
        results += task_results(table, list(labels), load)
    return results


def _arms(suite: Suite, baseline: str | None) -> dict[str, Arm]:
    """The arms as a comparison knows them, with `baseline` in the place of the one whose table it is in."""
    from harness.compare.results import Arm

    replaced = None if baseline is None else suite.baseline_of(baseline)
    found = {}
    for name, arm in suite.arms.items():
        own = suite.baseline_of(name)
        start = [arm.model.identity(), arm.connection.output_init_factor()]
        found[name] = Arm(
            baseline=baseline if baseline is not None and own == replaced else own,
            unit=arm.model.unit(suite.data.KIND),
            start=digest(start),
            # Held against another arm than the suite's baseline, nothing was resized to match.
            twin_of=suite.twin_of(name) if baseline is None else None,
        )
    return found


def _remarks(suite: Suite, cells: Sequence[Cell], smoke: bool) -> tuple[str, ...]:
    """What the whole table must not be taken for."""
    remarks = []
    arms, seeds = {cell.arm for cell in cells}, {cell.seed for cell in cells}
    whole = len(suite.arms) * len(suite.seeds)
    if len({(cell.arm, cell.seed) for cell in cells}) < whole:
        remarks.append(
            f"a selection: {len(arms)} of {len(suite.arms)} arms, {len(seeds)} of {len(suite.seeds)} seeds; p is "
            "corrected for the arms that are here."
        )
    if smoke:
        remarks.append("a smoke run: the suite shrunk until it says nothing about its arms.")
    return tuple(remarks)


def windows_of(directory: CellDir) -> Windows | None:
    """A cell's losses on the pieces of the held-out side; None where it kept none. Raises UsageError for a file that no
    cell can have written."""
    from harness.compare.documents import Windows

    path = directory.path / HELD_OUT
    found = read_json(path)
    if found is None:
        return None
    try:
        return Windows(losses=tuple(map(float, found["losses"])), sizes=tuple(map(float, found["sizes"])))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: holds something else than held-out losses; move it aside") from error


def _answers(layout: Layout, cell: Cell) -> tuple[Answers, ...]:
    """All that the cell's directory has, the latest last, but for what its suite asks, which comes after all others."""
    from harness.compare.answers import Answers

    found = layout.cell(cell).all_scores()
    order = sorted(found, key=lambda key: (covers(key, cell.evaluation), float(found[key]["time"])))
    return tuple(
        Answers(
            found[key]["metrics"],
            {label: stamp_text(stamp) for label, stamp in found[key]["stamps"].items()},
        )
        for key in order
    )


def _runs(document: dict[str, Any]) -> dict[str, Any]:
    return {arm["arm"]: arm["runs"] for arm in document["arms"]}


def _write_expert_loads(layout: Layout, suite: str, cells: Sequence[Cell], folder: Path) -> list[Path]:
    """How busy the experts are, arm by arm, where there are any."""
    loads: dict[str, list[list[list[float]]]] = {}
    for cell in cells:
        if found := read_json(layout.cell(cell).path / EXPERTS):
            loads.setdefault(cell.arm, []).append(found["layers"])
    if not loads:
        return []
    from harness.compare.plots import plot_expert_loads

    picture = folder / "experts.png"
    plot_expert_loads(loads, suite, picture)
    return [picture]


def write_answer(tracker: Tracker, suite: str, tables: Sequence[Comparison], folder: Path) -> list[Path]:
    """The table in every form, and the curves, into `folder`; returns the files. A picture of the same runs stays:
    drawing takes longer than all the rest."""
    from harness.compare.table import render, to_json

    document = to_json(suite, tables)
    shown = folder / "table.json"
    same = shown.exists() and _runs(read_json(shown)) == _runs(document)
    files = []
    for form in ("md", "csv", "json"):
        path = folder / f"table.{form}"
        path.write_text(render(form, suite, tables) + "\n", encoding="utf-8")
        files.append(path)
    picture = folder / "loss.png"
    if not same or not picture.exists():
        from harness.compare.plots import loss_curves, plot_curves

        plot_curves([(table, loss_curves(tracker, table.rows)) for table in tables], suite, picture)
    return [*files, picture]
