"""`-k EXPR` chooses cells by parts of their name and by settings, with and, or, not and parentheses."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.documents import Corpus
from harness.errors import UsageError
from harness.suite.cells import Cell, cells
from harness.suite.file import load_suite
from harness.suite.select import select

QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.yaml"
ALL = [f"{arm}-s{seed}" for seed in (1, 2, 3, 4) for arm in ("residual", "shc-n2", "dhc-n4", "sfc-m2", "dfc-m2")]


@pytest.fixture
def made(corpus: Corpus) -> list[Cell]:
    return cells(load_suite(QUICKSTART), corpus)


def of(arm: str, *seeds: int) -> list[str]:
    return [f"{arm}-s{seed}" for seed in seeds or (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        (None, ALL),
        ("", ALL),
        ("dhc", of("dhc-n4")),
        ("DHC", of("dhc-n4")),
        ("dhc-n4-s1", of("dhc-n4", 1)),
        ("hc and not dhc", of("shc-n2")),
        ("residual or dhc-n4-s2", ["residual-s1", "residual-s2", "dhc-n4-s2", "residual-s3", "residual-s4"]),
        ("residual and seed=1 or dhc and seed=2", ["residual-s1", "dhc-n4-s2"]),
        ("residual and (seed=1 or dhc) and not seed=2", ["residual-s1"]),
        ("(residual or dhc) and seed=3", ["residual-s3", "dhc-n4-s3"]),
        ("not (residual or rate=2)", of("dhc-n4")),
        ("not not residual", of("residual")),
        ("rate=4", of("dhc-n4")),
        ("type=hyper and dynamic=false", of("shc-n2")),
        ("type=frac and dynamic=True", of("dfc-m2")),
        ("arm=dfc-m2", of("dfc-m2")),
        ("arm=dfc", []),
        ("layers=12 and lr=0.002 and seed=4", [name for name in ALL if name.endswith("s4")]),
        ("seed=11", []),
        ("nothing", []),
    ],
)
def test_an_expression_chooses_cells_in_their_order(made: list[Cell], expression: str | None, names: list[str]) -> None:
    assert [cell.name for cell in select(made, expression)] == names


@pytest.mark.parametrize(
    "expression",
    ["dhc and", "or dhc", "dhc dfc", "(dhc", "dhc)", "not", "()", "and", "dhc or or dfc", "residual or (", " "],
)
def test_an_expression_that_does_not_parse_is_refused_in_a_line(made: list[Cell], expression: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(made, expression)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"-k '{expression}': unexpected or missing: ")
    assert "\n" not in str(caught.value)
