"""What a large record costs, counted and not timed: reads of the record, and openings of the cells' files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_support import play

from harness.data.documents import Corpus, Document
from harness.run.answer import compare_cells
from harness.run.layout import Layout
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
