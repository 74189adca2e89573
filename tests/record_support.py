"""Directories and journals of cells that nothing trained."""

from __future__ import annotations

from typing import Any

from harness.run.celldir import write_json
from harness.run.layout import Layout
from harness.suite.cells import Cell
from harness.tracking import Entry

ENTRY = Entry(
    experiment="study",
    name="dhc-s1",
    cell="c0ffee",
    born="1",
    tags={"own": "tag"},
    params={"lr": "0.1"},
)
Line = dict[str, Any]


def journal(count: int, first: int = 0, kind: str = "train", **extra: Any) -> list[Line]:
    return [
        {"kind": kind, "step": n + 1, "time": 1000 + n, "values": {"loss": 5.0 - n / 10}, **extra}
        for n in range(first, first + count)
    ]


def play(layout: Layout, cell: Cell, state: str = "done", loss: float = 3.0, born: int = 7) -> None:
    """The directory of a cell as its worker leaves it."""
    directory = layout.cell(cell)
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.update_status(state=state, attempts=1, born=born, failure=None)
    directory.journal.write("train", 1, {"train/loss": loss + 1})
    directory.journal.write("validation", 2, {"validation/loss": loss})
    if state == "done":
        directory.journal.write("scores", 2, {"eval/cloze/acc": 0.5}, evaluation=cell.evaluation)
        write_json(directory.path / "result.json", {"metrics": {"validation/loss": loss}, "digests": {"batches": "b1"}})
        write_json(directory.path / f"scores-{cell.evaluation}.json", {"metrics": {}, "stamps": {}, "time": 1.0})
        write_json(directory.path / "config.json", cell.config)
    directory.journal.close()
