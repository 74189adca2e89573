"""No pair by accident: what must be equal before two cells are compared, what can be forced, and that all of it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from compare_support import compared

from harness.compare.likeness import unlike
from harness.compare.pairing import pair
from harness.compare.results import View, Wanted
from harness.compare.table import to_json, to_markdown
from harness.compare.words import notes
from harness.tracking import Record

Make = Callable[..., Record]
ENVIRONMENT = {
    "cpu": "Some CPU", "gpus": [], "torch": "2.13.0", "code": {"commit": "abc", "dirty": False, "source": "123"},
}  # fmt: skip
DIGESTS = {"data": "d", "valid": "v", "tokenizer": "t"}


def on(record: Record, digests: dict[str, str] | None = None, **environment: Any) -> Record:
    """The record with an environment and digests."""
    tags = {f"harness.env.{name}": json.dumps(value) for name, value in {**ENVIRONMENT, **environment}.items()}
    tags |= {f"harness.digest.{name}": value for name, value in {**DIGESTS, **(digests or {})}.items()}
    return replace(record, tags={**record.tags, **tags})


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"cpu": "Another CPU"}, "hardware"),
    ({"gpus": ["H100"]}, "hardware"),
    ({"torch": "2.12.0"}, "torch"),
    ({"code": {"commit": "abc", "dirty": False, "source": "456"}}, "code"),
    ({"digests": {"data": "other"}}, "data"),
    ({"digests": {"valid": "other"}}, "data"),
    ({"digests": {"tokenizer": "other"}}, "tokenizer"),
]


@pytest.mark.parametrize(("changes", "what"), OTHER)
def test_what_differs_is_named(record: Make, changes: dict[str, Any], what: str) -> None:
    assert unlike(on(record("dhc", 1), **changes), on(record("residual", 1))) == (what,)
    assert unlike(on(record("dhc", 1), **changes), on(record("residual", 1), **changes)) == ()


def test_another_commit_with_the_same_deciding_code_is_no_other_code(record: Make) -> None:
    docs = {"commit": "def", "dirty": True, "source": "123"}
    assert unlike(on(record("dhc", 1), code=docs), on(record("residual", 1))) == ()
    old = {"commit": "abc", "dirty": False}
    assert unlike(on(record("dhc", 1), code=old), on(record("residual", 1), code=old)) == ()
    assert unlike(on(record("dhc", 1), code={**old, "dirty": True}), on(record("residual", 1), code=old)) == ("code",)
    assert unlike(on(record("dhc", 1), code=old), on(record("residual", 1))) == ("code",), "known and not known"


def test_what_neither_recorded_is_no_difference(record: Make) -> None:
    assert unlike(record("dhc", 1), record("residual", 1)) == ()


def test_seeds_of_unlike_cells_are_left_out_unless_forced_and_then_marked(record: Make) -> None:
    arm = {1: on(record("dhc", 1)), 2: on(record("dhc", 2), cpu="Another CPU")}
    base = {seed: on(record("residual", seed)) for seed in (1, 2)}
    found = pair(arm, base)
    assert (found.seeds, found.left_out, found.forced) == ((1,), {2: "other hardware"}, {})
    found = pair(arm, base, forced=True)
    assert (found.seeds, found.left_out, found.forced) == ((1, 2), {}, {2: "other hardware"})


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("batches", "other batches or held-out data"),
        ("validation", "other batches or held-out data"),
        ("shared_weights", "other initial shared weights"),
    ],
)
@pytest.mark.parametrize("value", ["something else", None])
def test_batches_held_out_data_and_initial_weights_cannot_be_forced(
    record: Make, tag: str, reason: str, value: str | None
) -> None:
    odd = record("dhc", 1)
    tags = {name: text for name, text in odd.tags.items() if name != f"harness.digest.{tag}"}
    odd = replace(odd, tags=tags if value is None else {**tags, f"harness.digest.{tag}": value})
    for forced in (False, True):
        found = pair({1: odd}, {1: record("residual", 1)}, forced=forced)
        assert (found.seeds, found.left_out) == ((), {1: reason})


def test_digests_that_neither_has_prove_nothing(record: Make) -> None:
    bare = {seed: replace(record("dhc", seed), tags={"harness.state": "done"}) for seed in (1,)}
    assert pair(bare, bare).left_out == {1: "other batches or held-out data"}


def test_an_arm_whose_settings_give_it_other_weights_is_paired_by_data_and_marked(
    record: Make, wanted: list[Wanted]
) -> None:
    def wider(one: Record) -> Record:
        return replace(one, tags={**one.tags, "harness.digest.shared_weights": "wider"})

    records = [record("residual", s) for s in (1, 2, 3, 4)] + [wider(record("dhc", s)) for s in (1, 2, 3, 4)]
    table = compared(wanted, records, "residual", dhc={"start": "another width"})
    assert table.rows[1].pairing.by_data
    assert table.rows[1].pairs is not None
    assert table.rows[1].pairs.n == 4
    assert "‡" in to_markdown([table])
    assert to_json("s", [table])["arms"][1]["paired_by"] == "data"
    strict = compared(wanted, records, "residual")
    assert strict.rows[1].pairs is None
    said = "dhc: seed 1, 2, 3, 4 has other initial shared weights than the baseline: not paired."
    assert said in notes(strict)


def test_the_table_marks_what_was_forced_and_says_how_to(record: Make, wanted: list[Wanted]) -> None:
    records = [on(record("residual", s)) for s in (1, 2, 3, 4)]
    records += [on(record("dhc", s), **({"torch": "2.12.0"} if s == 2 else {})) for s in (1, 2, 3, 4)]
    table = compared(wanted, records, "residual")
    assert table.rows[1].pairs is not None
    assert table.rows[1].pairs.seeds == (1, 3, 4)
    assert "dhc: seed 2 has other torch than the baseline: not paired; --force compares them, marked." in notes(table)
    forced = compared(wanted, records, "residual", view=View(forced=True))
    assert forced.rows[1].pairs is not None
    assert forced.rows[1].pairs.n == 4
    line = next(line for line in to_markdown([forced]).splitlines() if line.startswith("| dhc"))
    assert "†" in line
    assert "dhc: seed 2 has other torch than the baseline, and was compared all the same." in notes(forced)
    assert to_json("s", [forced])["arms"][1]["forced_seeds"] == {"2": "other torch"}
    assert forced.hardware == ("Some CPU",)
