"""What a large record costs, counted and not timed: reads of the record, and openings of the cells' files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_support import play

from harness.data.documents import Corpus, Document
from harness.run.answer import compare_cells
from harness.run.layout import Layout
from harness.run.status import cell_states
from harness.suite.cells import Cell, cells
from harness.suite.file import load_suite
from harness.suite.schema import Suite

CORPUS = Corpus("fake", (Document("a", b"train"),), (Document("b", b"valid"),))


@pytest.fixture
def study(tiny_suite: Callable[..., Path]) -> Callable[[int], tuple[Suite, list[Cell]]]:
    """A suite of so many cells in two arms."""

    def make(count: int) -> tuple[Suite, list[Cell]]:
        suite = load_suite(tiny_suite(), [f"seeds={count // 2}"])
        return suite, cells(suite, CORPUS)

    return make


@pytest.fixture
def opened(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often every file of the cells was opened."""
    found: Counter[str] = Counter()
    real = io.open

    def counted(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).startswith(str(layout.root / "cells")):
            found[str(file)] += 1
        return real(file, *arguments, **options)

    monkeypatch.setattr(io, "open", counted)
    return found


def test_status_opens_every_file_of_a_cell_at_most_once(
    layout: Layout, study: Callable[[int], tuple[Suite, list[Cell]]], opened: Counter[str]
) -> None:
    _, made = study(40)
    for number, cell in enumerate(made):
        play(layout, cell, state=("done", "failed")[number // 2 % 2])
    totals = []
    for count in (20, 40):
        opened.clear()
        states = cell_states(layout, made[:count])
        assert Counter(state["state"] for state in states) == {"done": count // 2, "failed": count // 2}
        assert set(opened.values()) == {1}
        totals.append(opened.total())
    assert totals[1] == 2 * totals[0] > 0


def test_compare_opens_twice_as_many_files_for_twice_the_cells_and_none_often(
    layout: Layout, study: Callable[[int], tuple[Suite, list[Cell]]], opened: Counter[str]
) -> None:
    suite, made = study(40)
    for cell in made:
        play(layout, cell)
    tracker = layout.tracker()
    compare_cells(layout, tracker, suite, made)
    totals = []
    for count in (20, 40):
        opened.clear()
        [table] = compare_cells(layout, tracker, suite, made[:count])
        assert [row.n for row in table.rows] == [count // 2, count // 2]
        assert max(opened.values()) <= 2, "to see what the record lacks, and for the scores"
        totals.append(opened.total())
    assert totals[1] == 2 * totals[0] > 0


def test_compare_reads_a_record_that_lacks_nothing_once_and_twice_where_it_wrote(
    layout: Layout, study: Callable[[int], tuple[Suite, list[Cell]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, made = study(4)
    for cell in made:
        play(layout, cell)
    tracker = layout.tracker()
    read, reads = tracker.read, []

    def counted(experiment: str) -> Any:
        reads.append(experiment)
        return read(experiment)

    monkeypatch.setattr(tracker, "read", counted)
    for expected in (2, 1):
        reads.clear()
        [table] = compare_cells(layout, tracker, suite, made)
        assert [row.n for row in table.rows] == [2, 2]
        assert reads == ["tiny"] * expected
