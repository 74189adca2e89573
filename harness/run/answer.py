"""From a suite's cells to its comparison: bring the record up to date, read it, say and draw what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.errors import InconclusiveError, first_line
from harness.run.celldir import EXPERTS, read_json, write_json
from harness.run.layout import Layout
from harness.run.recording import catch_up
from harness.suite.cells import Cell, digest
from harness.suite.schema import Suite
from harness.tracking import Tracker, covers, stamp_text

if TYPE_CHECKING:
    from harness.compare.answers import Answers
    from harness.compare.results import Comparison


def answer(layout: Layout, suite: Suite, cells: Sequence[Cell], partial: bool, news: bool) -> str:
    """What `run` ends with: table, verdict, where to look next. Raises InconclusiveError as `compare_cells` does.

    Without `news` the text of the last time stands, if it was made from the same cells and tracker: importing MLflow
    to say the same again takes longer than everything else.
    """
    name, reported = suite.name, suite.reported_values()
    baselines = {arm: suite.baseline_of(arm) for arm in suite.arms}
    tracker, folder = layout.tracker(), layout.suite(name, partial)
    made = []
    for cell in cells:
        seen = layout.cell(cell).look()
        # The state too: another runner may have finished what was missing the last time.
        state = [seen.status.get("born"), seen.state(cell.evaluation), sorted(seen.scores)]
        made.append([cell.arm, cell.seed, cell.identity, cell.evaluation, *state])
    key = digest([__version__, str(layout.root), tracker.uri, baselines, reported, made])
    saved = read_json(folder / "answer.json")
    if not news and saved and saved["key"] == key and all(Path(file).exists() for file in saved["files"]):
        return str(saved["text"])

    from harness.compare.table import to_markdown, verdict

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
    layout: Layout, tracker: Tracker, suite: Suite, cells: Sequence[Cell], baseline: str | None = None
) -> list[Comparison]:
    """The suite's tables. `baseline` takes the place of the baseline of its own table. Raises InconclusiveError where
    the record cannot be read or has no finished cell."""
    name = suite.name
    if not layout.root.exists() and tracker.uri.startswith("sqlite:"):
        raise InconclusiveError(f"no cell of '{name}' is finished: there is no results folder {layout.root}")
    try:
        records, _ = catch_up(layout, tracker, name, cells)
    except Exception as error:  # whatever MLflow, its database or its server raises
        raise InconclusiveError(f"the record in MLflow at {tracker.uri} cannot be read: {first_line(error)}") from error
    from harness.compare.results import Wanted, comparisons

    wanted = [Wanted(cell.arm, cell.seed, cell.identity, cell.evaluation, _answers(layout, cell)) for cell in cells]
    baselines = {arm: suite.baseline_of(arm) for arm in suite.arms}
    if baseline is not None:
        replaced = baselines[baseline]
        baselines = {arm: baseline if own == replaced else own for arm, own in baselines.items()}
    units = {name: arm.model.unit(suite.data.KIND) for name, arm in suite.arms.items()}
    tables = comparisons(wanted, records, baselines, units, suite.reported_values())
    if not any(row.n for table in tables for row in table.rows):
        raise InconclusiveError(f"no cell of '{name}' is finished; see: harness status")
    return tables


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
