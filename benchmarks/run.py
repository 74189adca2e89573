"""All quick benchmarks by one command, beside the table that was last accepted.

    python benchmarks/run.py                  # some ten minutes on two cores
    python benchmarks/run.py --only startup
    python benchmarks/run.py --accept         # then commit results/reference/benchmarks.json

Every figure is a ratio of things that were measured in turn, so that the machine's mood is in both of its sides; each
benchmark is a process of its own. Figures are compared with those of the same machine: `told apart` is a figure that
lies outside the other's 95% interval, and the other outside its own. It reports, and ends with 0 whatever it finds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.bench.rounds import paired_ratio
from harness.compare.markdown import grid
from harness.run.celldir import read_json, write_json
from harness.run.environment import code, cpu_model, gpus

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "results" / "reference" / "benchmarks.json"
FORMAT = 1
COUNTED = 0.005
"""Share by which a figure that is counted, not timed, may differ: resident memory comes in pages."""
SUITE = """\
name: asked-again
baseline: residual
seeds: 1
arms: {residual: {connection: residual}, dhc-n2: {connection: {type: hyper, rate: 2}}}
model: {layers: 2, width: 16, heads: 2, context: 64}
data: {corpus: stdlib}
train: {steps: 5, batch_size: 2, lr: 1e-3, validate_every: 5, validation_tokens: 256, checkpoint_every: 5}
evaluation: {tasks: []}
"""


@dataclass(frozen=True)
class Figure:
    """A ratio and its 95% interval."""

    value: float
    low: float
    high: float


Figures = dict[str, Figure]


def connections(rounds: int) -> Figures:
    """`harness bench` on its usual preset."""
    document = json.loads(_harness("bench", "--rounds", str(rounds), "--json"))
    found: Figures = {}
    for row in document["arms"][1:]:
        name = f"{document['preset']}/{row['arm']}"
        found[f"{name}/time"] = Figure(row["time_ratio"], *row["time_ratio_ci"])
        for what in ("saved_bytes", "peak_memory"):
            if (value := row[f"{what}_ratio"]) is not None:
                found[f"{name}/{what}"] = _counted(value)
    return found


def training_loop(rounds: int) -> Figures:
    """A step of `harness run` over one of a bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "loop.json"
        _run(
            [
                sys.executable,
                str(ROOT / "benchmarks" / "training_loop.py"),
                "--rounds",
                str(rounds),
                "--json",
                str(file),
            ]
        )
        found = json.loads(file.read_text(encoding="utf-8"))
    names = [key.removesuffix("/low") for key in found if key.endswith("/low")]
    return {f"loop/{name}": Figure(*(found[f"{name}{end}"] for end in ("", "/low", "/high"))) for name in names}


def startup(rounds: int) -> Figures:
    """What a person waits for before anything happens, over a start of Python: help, a plan, a finished suite asked
    again."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "asked-again.yaml"
        suite.write_text(SUITE, encoding="utf-8")
        again = ("run", str(suite), "--results", str(Path(folder) / "results"))
        _harness(*again)
        asked = {"help": ("--help",), "plan": ("plan", "suites/quickstart.yaml"), "finished suite": again}
        seconds: dict[str, list[float]] = {name: [] for name in ("python", *asked)}
        for _ in range(rounds):
            seconds["python"].append(_seconds(lambda: _run([sys.executable, "-c", "pass"])))
            for name, words in asked.items():
                seconds[name].append(_seconds(lambda words=words: _harness(*words)))
    for name in asked:
        _say(f"{name}: {statistics.median(seconds[name]):.2f} s")
    found: Figures = {}
    for name in asked:
        ratio, interval = paired_ratio(seconds[name], seconds["python"])
        found[f"startup/{name}"] = Figure(ratio, *(interval or (ratio, ratio)))
    return found


BENCHMARKS: dict[str, tuple[Callable[[int], Figures], int]] = {
    "startup": (startup, 7),
    "connections": (connections, 9),
    "training_loop": (training_loop, 7),
}
"""Name -> (benchmark, its rounds)."""


def machine() -> str:
    """Whose figures may be compared with each other's."""
    return f"{', '.join(gpus()) or cpu_model()}, {os.cpu_count()} cores"


def known(path: Path) -> dict[str, Any]:
    """By machine, what was accepted there."""
    found = read_json(path)
    return dict(found["machines"]) if found else {}


def accept(path: Path, here: str, now: Figures) -> None:
    """Write the figures as this machine's; what was not measured this time stays, and so does every other machine's."""
    machines = known(path)
    kept = machines.get(here, {}).get("figures", {})
    machines[here] = {
        "when": datetime.now(UTC).date().isoformat(),
        "commit": code()["commit"],
        "torch": metadata.version("torch"),
        "figures": {**kept, **{name: asdict(figure) for name, figure in now.items()}},
    }
    write_json(path, {"format": FORMAT, "machines": machines})


def verdict(now: Figure, then: Figure) -> str:
    """Whether the two are told apart."""
    apart = not then.low <= now.value <= then.high and not now.low <= then.value <= now.high
    return ("more" if now.value > then.value else "less") if apart else "the same"


def comparison(now: Figures, then: Mapping[str, Figure], judged: bool) -> str:
    """The table; without verdicts where `then` is another machine's."""
    rows = [["figure", "now [95%]", "then [95%]", "now / then", "told apart"]]
    for name, figure in now.items():
        old = then.get(name)
        ratio = f"{figure.value / old.value:.3f}" if old else "–"
        rows.append([name, _shown(figure), _shown(old), ratio, verdict(figure, old) if old and judged else "–"])
    return "\n".join(grid(rows, {1, 2, 3}))


def _shown(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _counted(value: float) -> Figure:
    return Figure(value, value * (1 - COUNTED), value * (1 + COUNTED))


def _harness(*words: str) -> str:
    return _run([sys.executable, "-m", "harness", *words])


def _run(command: list[str]) -> str:
    """What it printed. What it complained of is shown where it failed, which ends everything."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: code {done.returncode}\n{done.stderr}")
    return done.stdout


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="this one; may be given several times")
    parser.add_argument("--accept", action="store_true", help=f"write {TABLE.relative_to(ROOT)}")
    options = parser.parse_args()
    now: Figures = {}
    for name in options.only or BENCHMARKS:
        _say(f"{name} ...")
        benchmark, rounds = BENCHMARKS[name]
        now |= benchmark(rounds)
    here, machines = machine(), known(TABLE)
    other = next(iter(machines), None)
    table = machines.get(here) or (machines[other] if other else None)
    then = {name: Figure(**figure) for name, figure in table["figures"].items()} if table else {}
    about = "nothing was accepted yet"
    if table:
        where = "here" if here in machines else f"on {other}, which says nothing of this machine"
        about = f"then: {table['when']}, commit {str(table['commit'])[:12]}, torch {table['torch']}, {where}"
    print(f"{here}, torch {metadata.version('torch')}; {about}\n\n{comparison(now, then, judged=here in machines)}")
    if options.accept:
        accept(TABLE, here, now)
        print(f"\naccepted: {TABLE.relative_to(ROOT)}; commit it with its reason")


if __name__ == "__main__":
    main()
