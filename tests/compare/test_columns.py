"""Which columns are shown, in which order rows stand, and what is bold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from compare_support import compared, study

from harness.compare.columns import choose, columns, order, pair_columns
from harness.compare.results import ArmResult, Comparison, View, Wanted
from harness.compare.table import TableLayout, render, to_markdown
from harness.errors import UsageError
from harness.tracking import Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)


@pytest.fixture
def table(rows: list[ArmResult]) -> Comparison:
    return study(rows)


def test_columns_are_chosen_by_key_and_the_arm_always_stands_first(table: Comparison) -> None:
    assert [column.key for column in choose(table, ("delta", "rho", "delta"))] == ["arm", "delta", "rho"]
    text = to_markdown([table], TableLayout(columns=("verdict", "cloze/acc")))
    assert [cell.strip() for cell in text.splitlines()[0].strip("|").split("|")] == ["arm", "verdict", "cloze acc"]


def test_an_unknown_column_is_an_error_with_the_nearest(table: Comparison) -> None:
    with pytest.raises(UsageError, match=r"--columns: no column is called 'verdickt'; did you mean 'verdict'\?"):
        choose(table, ("verdickt",))
    with pytest.raises(UsageError, match=r"--sort: no column is called 'losss'; did you mean 'loss'\?"):
        order(table, "-losss")


def test_a_column_that_no_row_has_is_there_for_whoever_asks_and_not_otherwise(table: Comparison) -> None:
    assert "peak_bytes" not in {column.key for column in choose(table)}
    text = to_markdown([table], TableLayout(columns=("peak_bytes", "both"), sort="peak_bytes"))
    assert [cell.strip() for cell in text.splitlines()[3].strip("|").split("|")] == ["dhc", "–", "–"]
    assert "both" not in {column.key for column in pair_columns(table)}


def test_rows_are_sorted_by_a_columns_number_and_the_unknown_come_last(table: Comparison) -> None:
    assert [row.arm for row in order(table, "delta")] == ["dhc", "dfc", "residual"]
    assert [row.arm for row in order(table, "-delta")] == ["dfc", "dhc", "residual"]
    assert order(table, "-saved_bytes")[0].arm == "dhc"
    assert [row.arm for row in order(table, "arm")] == ["dfc", "dhc", "residual"]
    assert [row.arm for row in order(table, None)] == ["residual", "dhc", "dfc"]
    assert '"arm": "dhc"' in render("json", "s", [table], TableLayout(sort="delta")).split("\n      },")[0]


def test_columns_in_which_no_row_differs_can_be_left_out(table: Comparison) -> None:
    shown = [column.key for column in choose(table, None, only_changed=True)]
    assert "speed" in shown
    assert not {"seeds", "params", "bpb", "ppl", "cloze/acc"} & set(shown), "equal in every row"
    assert shown[0] == "arm"
    alone = study(table.rows[:1])
    assert [column.key for column in choose(alone, None, only_changed=True)] == ["arm"]


def test_every_column_has_a_text_for_every_row_and_keys_are_unique(table: Comparison) -> None:
    known = columns(table)
    assert len({column.key for column in known}) == len(known)
    assert all(isinstance(column.text(row), str) and column.text(row) for column in known for row in table.rows)


def test_bold_is_the_group_that_is_not_told_apart_from_the_best_not_the_smallest_number(
    record: Make, wanted: list[Wanted]
) -> None:
    losses = {"residual": (3.0, 3.1, 2.9, 3.05), "dhc": (2.5, 2.61, 2.4, 2.55), "dfc": (2.52, 2.57, 2.43, 2.53)}
    records = [record(arm, s, validation__loss=losses[arm][s - 1]) for arm in losses for s in SEEDS]
    found = compared(wanted, records, "residual")
    assert found.bold == {"dhc", "dfc"}
    lines = {
        line.split("|")[1].strip(): line
        for line in to_markdown([found]).split("\n\n")[0].splitlines()
        if line.startswith("| ")
    }
    assert "**2.5150" in lines["dhc"]
    assert "**2.5125" in lines["dfc"]
    assert "**" not in lines["residual"]


def test_nothing_is_bold_where_nothing_is_told_apart(record: Make, wanted: list[Wanted]) -> None:
    noise = {"residual": (3.0, 3.1, 2.9, 3.05), "dhc": (3.1, 2.9, 3.0, 3.04), "dfc": (2.95, 3.12, 2.93, 3.01)}
    records = [record(arm, s, validation__loss=noise[arm][s - 1]) for arm in noise for s in SEEDS]
    assert compared(wanted, records, "residual").bold == set()
    one = compared(wanted, [record(arm, 1) for arm in noise], "residual")
    assert one.bold == set(), "one seed tells nothing apart"


def test_what_is_no_pair_of_the_baseline_is_not_best_for_its_lower_loss(record: Make, wanted: list[Wanted]) -> None:
    """A run four times as long, say, whose batches are therefore others."""
    losses = {"residual": (3.0, 3.1, 2.9, 3.05), "dhc": (2.5, 2.61, 2.4, 2.55), "dfc": (2.1, 2.2, 2.0, 2.15)}

    def made(**longer: str) -> list[Record]:
        return [
            record(arm, s, validation__loss=losses[arm][s - 1], **(longer if arm == "dfc" else {}))
            for arm in losses
            for s in SEEDS
        ]

    assert compared(wanted, made(), "residual").bold == {"dfc"}
    found = compared(wanted, made(digest="others"), "residual")
    assert found.bold == {"dhc"}
    alone = compared([cell for cell in wanted if cell.arm != "dhc"], made(digest="others"), "residual")
    assert alone.bold == set()


def test_losses_at_the_ends_of_runs_are_not_bold_at_equal_time(record: Make, wanted: list[Wanted]) -> None:
    records = [record(arm, s) for arm in ("residual", "dhc", "dfc") for s in SEEDS]
    assert compared(wanted, records, "residual").bold
    assert not compared(wanted, records, "residual", view=View(match="time")).bold


def test_marks_of_an_interleaved_speed_are_its_interval(table: Comparison) -> None:
    rows = [replace(row, throughput_interval=(0.45, 0.55), measured=True) for row in table.rows[:2]]
    text = to_markdown([study([*rows, table.rows[2]], measured_on="that CPU", hardware=("this CPU",))])
    assert "0.50 [0.45, 0.55]" in text
    assert "1.00 (as run)" in text, "one that was not measured with the others"
    assert "measured interleaved on that CPU, ratio of medians [95% over rounds], which is not what the cells" in text
    assert "which is not" not in to_markdown([study(rows, measured_on="a CPU", hardware=("a CPU",))])
    assert "not interleaved" in to_markdown([table])
    assert "as run" not in to_markdown([table])
