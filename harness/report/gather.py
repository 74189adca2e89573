"""Everything that the page needs, from the record in MLflow first, and from the cells' directories for their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.compare.likeness import code, hardware, recorded
from harness.compare.match import FLOPS, LOSS, MATCHES, TOKENS, Match
from harness.compare.results import Comparison
from harness.compare.rows import mean_of
from harness.compare.tasks import TaskResult
from harness.errors import HarnessError
from harness.report.facts import Budget, Facts, Invocation, Made, Study
from harness.run.answer import compare_cells, compare_tasks
from harness.run.celldir import DIAGNOSTICS, read_json
from harness.run.costs import machine_name, read_costs
from harness.run.layout import Layout
from harness.suite.cells import Cell
from harness.suite.schema import Suite
from harness.tracking import TAG_STATE, Record, Tracker


class ReadOnce(Tracker):
    """A tracker that is asked the same many times, and asks its store once."""

    def __init__(self, tracker: Tracker):
        super().__init__(tracker.uri, tracker.artifacts)
        self._records: dict[str, list[Record]] = {}
        self._histories: dict[tuple[str, str], list[tuple[int, float]]] = {}

    def write(self, *entry: Any, **named: Any) -> None:
        self._records.clear()
        super().write(*entry, **named)

    def read(self, experiment: str) -> list[Record]:
        if experiment not in self._records:
            self._records[experiment] = super().read(experiment)
        return self._records[experiment]

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        if (run_id, metric) not in self._histories:
            self._histories[run_id, metric] = super().history(run_id, metric)
        return self._histories[run_id, metric]


def gather(
    layout: Layout,
    suite: Suite,
    cells: Sequence[Cell],
    invocation: Invocation,
    baseline: str | None = None,
    forced: bool = False,
) -> Facts:
    """Raises InconclusiveError as `compare_cells` does."""
    tracker = ReadOnce(layout.tracker())
    views: dict[Match, list[Comparison]] = {
        match: compare_cells(layout, tracker, suite, cells, baseline, match, forced) for match in MATCHES
    }
    records = {record.run_id: record for record in tracker.read(suite.name)}
    costs = read_costs(layout, tracker, suite, cells, baseline) or {}
    studies = []
    for place, table in enumerate(views["tokens"]):
        of_study = {match: tables[place] for match, tables in views.items()}
        tasks = compare_tasks(layout, cells, [table])
        studies.append(_study(layout, tracker, of_study, cells, records, costs.get("arms") or {}, tasks))
    more = [*(["--baseline", baseline] if baseline else []), *(["--force"] if forced else [])]
    return Facts(
        suite=suite.name,
        description=suite.description,
        about=_about(layout, suite, cells, studies),
        studies=studies,
        made=_made(layout, cells, views["tokens"], records, invocation),
        invocation=invocation,
        command=invocation.command("report", None, *more),
        measured=_measured(costs),
        smoke=invocation.smoke,
    )


def _measured(costs: Mapping[str, Any]) -> str:
    """Where, when and in which order the interleaved measurement took place, and whom it left out."""
    if not costs:
        return ""
    where = machine_name(costs) or "a machine that was not recorded"
    text = f"{where}, {costs.get('when')}; {costs.get('rounds')} rounds: {costs.get('order')}"
    skipped = "; ".join(f"{arm} {one.get('why')}" for arm, one in (costs.get("skipped") or {}).items())
    return f"{text}. Not measured: {skipped}" if skipped else text


def _study(
    layout: Layout,
    tracker: Tracker,
    views: Mapping[Match, Comparison],
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    costs: Mapping[str, Any],
    tasks: Sequence[TaskResult],
) -> Study:
    table = views["tokens"]
    done = {
        row.arm: {seed: records[run] for seed, run in sorted(row.runs.items()) if run in records} for row in table.rows
    }
    first = {cell.arm: cell for cell in reversed(cells)}
    by_name = {(cell.arm, cell.seed): cell for cell in cells}
    diagnostics: dict[str, dict[int, Any]] = {}
    for arm, seeds in done.items():
        for seed, record in seeds.items():
            if (found := diagnosed(layout, tracker, by_name[arm, seed], record.run_id)) is not None:
                diagnostics.setdefault(arm, {})[seed] = found
    return Study(
        views=views,
        losses={arm: {seed: record.metrics[LOSS] for seed, record in seeds.items()} for arm, seeds in done.items()},
        curves={
            arm: {seed: dict(tracker.history(record.run_id, LOSS)) for seed, record in seeds.items()}
            for arm, seeds in done.items()
            if seeds
        },
        budgets=budgets(table, done),
        settings={
            arm: {key: first[arm].config[key] for key in ("connection", "model", "train")}
            for arm in done
            if arm in first
        },
        diagnostics=diagnostics,
        costs={arm: cost for arm, cost in costs.items() if arm in done},
        tasks=tasks,
        spikes={
            f"{kind} spikes": {
                arm: [record.metrics[name] for record in seeds.values() if name in record.metrics]
                for arm, seeds in done.items()
            }
            for kind, name in (("loss", "stability/loss_spikes"), ("gradient", "stability/gradient_spikes"))
        },
    )


def budgets(table: Comparison, done: Mapping[str, Mapping[int, Record]]) -> dict[str, Budget]:
    """What a cell of every arm spent. Time is tokens over throughput, both relative to the baseline."""
    tokens = {arm: mean_of(seeds, TOKENS) for arm, seeds in done.items()}
    base = tokens.get(table.baseline)
    found = {}
    for row in table.rows:
        speed = 1.0 if row.arm == table.baseline else row.throughput_ratio
        mine = tokens[row.arm]
        time = mine / base / speed if mine is not None and base and speed else None
        found[row.arm] = Budget(tokens=mine, flops=mean_of(done[row.arm], FLOPS), time=time)
    return found


def diagnosed(layout: Layout, tracker: Tracker, cell: Cell, run_id: str) -> Any:
    """The cell's diagnostics, from its directory or else the copy that the record has; None where there are none, or
    where they cannot be read: a page without them is better than no page."""
    try:
        found = read_json(layout.cell(cell).path / DIAGNOSTICS)
        if found is None and not layout.cell(cell).path.exists():
            path = tracker.artifact(run_id, DIAGNOSTICS)
            found = read_json(path) if path is not None else None
    except HarnessError:
        return None
    return found if _drawable(found) else None


def _drawable(found: Any) -> bool:
    """Whether the figures find their way in it."""
    if not isinstance(found, dict) or not isinstance(found.get("steps") or [], list):
        return False
    return all(isinstance(step, dict) and "step" in step for step in found.get("steps") or [])


def _made(
    layout: Layout,
    cells: Sequence[Cell],
    tables: Sequence[Comparison],
    records: Mapping[str, Record],
    invocation: Invocation,
) -> list[Made]:
    """Arm by arm, in the suite's order."""
    runs = {(row.arm, seed): run for table in tables for row in table.rows for seed, run in row.runs.items()}
    latest = {record.cell: record for record in records.values()}
    places = {arm: place for place, arm in enumerate(dict.fromkeys(cell.arm for cell in cells))}
    found = []
    for cell in sorted(cells, key=lambda cell: places[cell.arm]):
        record = records.get(runs.get((cell.arm, cell.seed), "")) or latest.get(cell.identity)
        found.append(
            Made(
                arm=cell.arm,
                seed=cell.seed,
                state=record.tags.get(TAG_STATE, "") if record else str(layout.cell(cell).state(cell.evaluation)),
                folder=f"cells/{cell.folder}",
                command=invocation.command("run", f"arm={cell.arm} and seed={cell.seed}"),
                run_id=record.run_id if record else None,
                environment=environment_of(record) if record else {},
            )
        )
    return found


def environment_of(record: Record) -> dict[str, str]:
    """Python, torch, hardware and code of a recorded cell, in words."""
    made_by = recorded(record, "code")
    commit, changed = (made_by.get("commit"), made_by.get("dirty")) if isinstance(made_by, dict) else (None, False)
    words = {
        "python": recorded(record, "python"),
        "torch": recorded(record, "torch"),
        "hardware": hardware(record),
        "commit": f"{str(commit)[:12]}{', changed since' if changed else ''}" if commit else code(record),
    }
    return {name: str(value) for name, value in words.items() if value}


def _about(layout: Layout, suite: Suite, cells: Sequence[Cell], studies: Sequence[Study]) -> list[tuple[str, str]]:
    """What was trained, on what, how often, where and when."""
    data = suite.data.model_dump(mode="json")
    tokenizer = data.get("tokenizer")
    named = tokenizer.get("type") if isinstance(tokenizer, dict) else tokenizer
    text = suite.data.corpus + (f", tokens: {named}" if named else "")
    arms = [arm for name, arm in suite.arms.items() if any(cell.arm == name for cell in cells)]
    models = dict.fromkeys(f"{arm.model.type}, {arm.model.layers} layers, width {arm.model.width}" for arm in arms)
    training = dict.fromkeys(
        f"{arm.train.steps:,} steps of {arm.train.batch_size:,}, learning rate {arm.train.lr:g}" for arm in arms
    )
    tokens = next((study.table.tokens for study in studies if study.table.tokens), None)
    machines = dict.fromkeys(name for study in studies for name in study.table.hardware)
    finished = sum(row.n for study in studies for row in study.table.rows)
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(cell.seed for cell in cells))
    return [
        ("data", text),
        ("model", _some(list(models))),
        ("training", _some(list(training)) + (f"; {tokens:,.0f} tokens a cell" if tokens else "")),
        ("cells", f"{finished} of {len(cells)} finished; seeds {seeds}"),
        ("machine", _some(list(machines)) or "not recorded"),
        *([("trained", times)] if (times := _times(layout, cells)) else []),
    ]


def _some(texts: Sequence[str], most: int = 2) -> str:
    return "; ".join(texts[:most]) + (f"; and {len(texts) - most} more" if len(texts) > most else "")


def _times(layout: Layout, cells: Sequence[Cell]) -> str:
    """First start to last end, as the cells' directories have them."""
    states = [layout.cell(cell).status() for cell in cells]
    starts = [state["started"] for state in states if state.get("started")]
    ends = [state["ended"] for state in states if state.get("ended")]
    if not starts or not ends:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in (min(starts), max(ends)))
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if same else '%Y-%m-%d %H:%M'}} UTC"
