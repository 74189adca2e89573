"""What `harness status` and `harness compare` take with many finished cells, and whether that grows as the cells do.

    python benchmarks/record.py --cells 1000 3000 10000

Nothing is trained: one suite of twenty arms, cells' directories as a worker leaves them, and a record in sqlite. The
first cell of every arm goes through the real recording; the rows of all others are made by what made those (which is
asserted) and inserted at once, for MLflow writes about ten runs a second. Each verb is a process of its own; of the
rounds that counts which took a core the shortest. CPU seconds per 1,000 cells are beyond those of 40 cells, which are
the start; growth is theirs over those of the smallest number: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.data.load import load_data
from harness.run.environment import environment
from harness.run.layout import Layout
from harness.run.recording import entry, replay
from harness.suite.cells import Cell, cells
from harness.suite.file import SuiteFile
from harness.tracking import TAG_BORN, TAG_CELL, TAG_STATE, Seen

ARMS, NAME = 20, "many"
START = 2 * ARMS
"""Cells of the smallest suite, whose time is that of starting."""
SUITE = """\
name: {name}
baseline: residual
seeds: {seeds}
arms:
  residual: {{connection: residual}}
{arms}
model: {{layers: 2, width: 16, heads: 2, context: 64}}
data: {{corpus: text, files: [corpus.txt]}}
train: {{steps: 100, batch_size: 2, lr: 1e-3, warmup_steps: 2, validate_every: 20, validation_tokens: 256,
        log_every: 20, checkpoint_every: 100}}
evaluation: {{limit: 4}}
"""
TASKS = [f"task_{number}:100" for number in range(24)]
BORN = 1_795_000_000_000
Rows = dict[str, list[tuple[Any, ...]]]


def write_suite(folder: Path, count: int) -> Path:
    """A suite of `count` cells, beside its text."""
    rates = [(rate, dynamic) for rate in range(2, 2 + ARMS // 2) for dynamic in (True, False)][: ARMS - 1]
    arms = [
        f"  {'d' if dynamic else 's'}hc-n{rate}: "
        f"{{connection: {{type: hyper, rate: {rate}, dynamic: {str(dynamic).lower()}}}}}"
        for rate, dynamic in rates
    ]
    (folder / "corpus.txt").write_text("".join(f"The {n}th line of a text that nobody reads.\n" for n in range(20_000)))
    path = folder / f"{NAME}.yaml"
    path.write_text(SUITE.format(name=NAME, seeds=count // ARMS, arms="\n".join(arms)))
    return path


def cells_of(path: Path) -> list[Cell]:
    suite = SuiteFile(path, []).resolve()
    return cells(suite, load_data(suite.data, path.parent), path.parent)


def finish(layout: Layout, cell: Cell, number: int, machine: dict[str, Any]) -> None:
    """The directory of a cell that was trained and scored, but for its weights."""
    chance = random.Random(f"{cell.arm} {cell.seed}")  # noqa: S311
    directory = layout.cell(cell)
    directory.path.mkdir(parents=True)
    born = BORN + 1000 * number

    def lines() -> Iterable[dict[str, Any]]:
        for step in range(20, 101, 20):
            loss = 6.0 - step / 50 + chance.gauss(0, 0.02)
            train = {"loss": loss, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 4000.0, "tokens": 128.0 * step}
            yield {"kind": "train", "step": step, "values": {f"train/{name}": value for name, value in train.items()}}
            held_out = {"loss": loss, "bits_per_byte": loss / 0.69, "perplexity": 2.7**loss}
            values = {f"validation/{name}": value for name, value in held_out.items()}
            yield {"kind": "validation", "step": step, "values": values}
        costs = ("active_parameters", "connection_parameters", "flops_per_token", "parameters", "peak_rss_bytes",
                 "saved_activation_bytes", "tokens_per_second", "train_seconds", "training_flops")  # fmt: skip
        yield {"kind": "summary", "step": 100, "values": {f"cost/{name}": chance.uniform(1e3, 1e9) for name in costs}}
        scores = {f"eval/{task}/{name}": chance.random() for task in TASKS for name in ("acc", "acc_stderr")}
        yield {"kind": "scores", "step": 100, "values": scores, "evaluation": cell.evaluation}

    written = [{**line, "time": born + line["step"]} for line in lines()]
    last = {name: value for line in written for name, value in line["values"].items()}
    side = cell.config["digests"]["valid"]
    digests = {"batches": f"{cell.seed:064x}", "shared_weights": f"{cell.seed + 1:064x}", "validation": side}
    stamps = {task: {"documents": "0" * 16, "fewshot": 0, "lm_eval": "0.4.13", "version": 1.0} for task in TASKS}
    files = {
        "config.json": cell.config,
        "environment.json": machine,
        "data.json": {"digests": cell.config["digests"], "overlap": {}},
        "result.json": {
            "metrics": {name: value for name, value in last.items() if name.startswith(("cost/", "validation/"))},
            "digests": digests,
        },
        f"scores-{cell.evaluation}.json": {
            "metrics": {name: value for name, value in last.items() if name.startswith("eval/")},
            "stamps": stamps,
            "time": born / 1000,
        },
        "status.json": {
            "state": "done", "attempts": 1, "born": born, "started": born / 1000, "ended": born / 1000 + 60.0,
            "failure": None, "pid": 1,
        },
    }  # fmt: skip
    for name, content in files.items():  # not by write_json: ten thousand cells are not worth waiting for the disk
        (directory.path / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    directory.journal.path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in written))
    for name in ("stdout.log", "lease"):
        (directory.path / name).touch()


def rows_of(layout: Layout, cell: Cell, run: str) -> Rows:
    """What the recording leaves of a cell in MLflow's tables but that of runs."""
    found = entry(layout, NAME, cell)
    lines = layout.cell(cell).journal.lines()
    points = [
        (name, float(value), line["time"], line["step"], 0, run)
        for line in lines
        for name, value in line["values"].items()
    ]
    tags = {
        **found.tags, **Seen().with_lines(lines).tags(), "mlflow.runName": found.name, TAG_CELL: found.cell,
        TAG_BORN: found.born, TAG_STATE: "done",
    }  # fmt: skip
    return {
        "params": [(name, value, run) for name, value in found.params.items()],
        "tags": [(name, value, run) for name, value in tags.items()],
        "metrics": points,
        "latest_metrics": list({point[0]: point for point in points}.values()),
    }


COLUMNS = {
    "params": "key, value, run_uuid",
    "tags": "key, value, run_uuid",
    "metrics": "key, value, timestamp, step, is_nan, run_uuid",
    "latest_metrics": "key, value, timestamp, step, is_nan, run_uuid",
}


def record(layout: Layout, made: Sequence[Cell]) -> None:
    """All cells in the record: those of the first seed by the real recording, the others like them."""
    first, others = made[:ARMS], made[ARMS:]
    tracker = layout.tracker()
    for cell in first:
        replay(layout, tracker, NAME, cell)
    base = sqlite3.connect(layout.root / "mlflow.db")
    runs = dict(base.execute("SELECT value, run_uuid FROM tags WHERE key='harness.folder'").fetchall())
    for cell in first:
        for table, rows in rows_of(layout, cell, runs[cell.folder]).items():
            query = f"SELECT {COLUMNS[table]} FROM {table} WHERE run_uuid=?"  # noqa: S608
            there = sorted(base.execute(query, (runs[cell.folder],)))
            assert there == sorted(rows), f"the recording writes other {table} than this benchmark"
    base.row_factory = sqlite3.Row
    found = {row["run_uuid"]: dict(row) for row in base.execute("SELECT * FROM runs")}
    templates = {cell.arm: found[runs[cell.folder]] for cell in first}
    for number, cell in enumerate(others):
        run, template = uuid.uuid4().hex, templates[cell.arm]
        moved = {
            "run_uuid": run,
            "name": cell.name,
            "start_time": template["start_time"] + 1000 * number,
            "end_time": template["end_time"] + 1000 * number,
            "artifact_uri": template["artifact_uri"].replace(template["run_uuid"], run),
        }
        values = {**template, **moved}
        named = ", ".join(f":{name}" for name in values)
        base.execute(f"INSERT INTO runs ({', '.join(values)}) VALUES ({named})", values)  # noqa: S608
        for table, rows in rows_of(layout, cell, run).items():
            marks = ", ".join("?" * len(rows[0]))
            base.executemany(f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({marks})", rows)  # noqa: S608
    base.commit()
    base.close()


def timed(verb: Sequence[str], folder: Path, rounds: int) -> tuple[float, float, str]:
    """(seconds, seconds of a core, what it printed) of the process that took the fewest seconds of a core."""
    options = [str(folder / f"{NAME}.yaml"), "--results", str(folder / "results")]
    environ = {**os.environ, "HARNESS_CACHE": str(folder / "cache")}
    taken = []
    for _ in range(rounds):
        began, used = time.perf_counter(), _core_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "harness", *verb, *options], capture_output=True, text=True, check=True, env=environ
        )
        taken.append((_core_seconds() - used, time.perf_counter() - began, done.stdout))
    core, seconds, text = min(taken)
    return seconds, core, text


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(count: int, rounds: int, keep: Path | None) -> dict[str, tuple[float, float]]:
    """(seconds, seconds of a core) of both verbs with `count` cells."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary)) / str(count)
        layout = Layout(folder / "results")
        if not folder.exists():
            layout.prepare()
            os.environ["HARNESS_CACHE"] = str(folder / "cache")
            made = cells_of(write_suite(folder, count))
            machine = environment()
            for number, cell in enumerate(made):
                finish(layout, cell, number, machine)
            record(layout, made)
        *status, text = timed(["status", "--json"], folder, rounds)
        assert [cell["state"] for cell in json.loads(text)["cells"]] == ["done"] * count
        *compare, text = timed(["compare", "--format", "json"], folder, rounds)
        arms = json.loads(text)["arms"]
        assert [arm["n"] for arm in arms] == [count // ARMS] * ARMS
        assert all(len(arm["scores"]) == 2 * len(TASKS) for arm in arms)
        return {"status": (status[0], status[1]), "compare": (compare[0], compare[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 3000, 10_000], help=f"multiples of {ARMS}")
    parser.add_argument("--rounds", type=int, default=3, help="processes of a verb; the cheapest counts")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the results here, and take those that are there")
    options = parser.parse_args()
    if odd := [count for count in options.cells if count % ARMS or count <= START]:
        parser.error(f"--cells: {odd[0]} is no multiple of {ARMS} above {START}")
    found = {count: measure(count, options.rounds, options.keep) for count in (START, *sorted(options.cells))}
    print("| cells | " + " | ".join(f"{verb}, s | CPU s | per 1,000 | growth" for verb in ("status", "compare")) + " |")
    print("|" + "---|" * 9)
    first = min(options.cells)
    for count, verbs in found.items():
        line = [f"{count:,}"]
        for verb, (seconds, core) in verbs.items():
            each, least = ((found[n][verb][1] - found[START][verb][1]) / max(1, n - START) for n in (count, first))
            rates = [f"{1000 * each:.2f}", f"{each / least:.2f}"] if count > START else ["–", "–"]
            line += [f"{seconds:.1f}", f"{core:.1f}", *rates]
        print(f"| {' | '.join(line)} |")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\nThe largest process took {largest:,.0f} MiB.")


if __name__ == "__main__":
    main()
