"""Files in git: what comes back, and what is said of every file that is not what it should be. None is ever touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gate_support import baseline

from harness.errors import UsageError
from harness.gate.baseline import Baseline, anchor_path, changed_settings, differences, noise_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    baseline().write(path)
    return path


def test_a_baseline_comes_back_as_it_was(file: Path) -> None:
    assert Baseline.read(file, "tiny") == baseline()
    before = file.read_bytes()
    baseline().write(file)
    assert file.read_bytes() == before
    assert len(before) < 4096
    assert b"[ 5.0, 4.5, 4.25, 4.125 ]" in before, "a list of numbers is a line"


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def edited(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return edited


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "damaged or cut short"),
    "truncated": (lambda data: data[: len(data) // 2], "damaged or cut short"),
    "one byte short of its brace": (lambda data: data[:-2], "damaged or cut short"),
    "binary": (lambda data: bytes(range(256)), "damaged or cut short"),
    "nested": (lambda data: b"[" * 100_000, "damaged or cut short"),
    "other JSON": (lambda data: b'{"a": 1}', "is no gate baseline"),
    "a list": (lambda data: b"[1, 2]", "is no gate baseline"),
    "null": (lambda data: b"null", "is no gate baseline"),
    "another kind": (_edit(lambda one: one.update(kind="gate noise")), "is a 'gate noise'"),
    "a future format": (_edit(lambda one: one.update(format=2)), "has format 2, and this version of the harness knows"),
    "a format that is text": (_edit(lambda one: one.update(format="x")), "has format x"),
    "a loss by hand": (
        _edit(lambda one: one["arms"]["residual"]["seeds"]["1"].update(loss=2.5)), "changed by hand or damaged"
    ),
    "a reason by hand": (_edit(lambda one: one.update(reason="because")), "changed by hand or damaged"),
    "a seed taken out": (_edit(lambda one: one["arms"]["residual"]["seeds"].pop("2")), "changed by hand or damaged"),
    "a key too many": (_edit(lambda one: one.update(more=1)), "changed by hand or damaged"),
    "a seal by hand": (_edit(lambda one: one.update(seal="0" * 16)), "changed by hand or damaged"),
    "NaN": (_edit(lambda one: one["arms"]["residual"]["golden"].update(validation=float("nan"))), "changed by hand"),
    "a lone surrogate": (lambda data: data.replace(b"the first", b"\\ud800"), "changed by hand"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_clear_line_and_stays_as_it_is(file: Path, damage: str) -> None:
    spoil, message = DAMAGE[damage]
    file.write_bytes(spoil(file.read_bytes()))
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"tiny\.json") as error:
        Baseline.read(file, "tiny")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before


def test_a_sealed_file_with_the_wrong_content_names_the_key(tmp_path: Path) -> None:
    from harness.gate.sealed import write_sealed
    from harness.settings import Settings

    class Other(Settings):
        suite: str = "tiny"

    path = tmp_path / "tiny.json"
    write_sealed(path, "gate baseline", Other())
    with pytest.raises(UsageError, match="suite_digest: Field required"):
        Baseline.read(path, "tiny")


def test_a_foreign_baseline_and_a_missing_one_are_told_apart(file: Path) -> None:
    with pytest.raises(UsageError, match="is the baseline of the suite 'tiny', and 'other' is to be gated"):
        Baseline.read(file, "other")
    with pytest.raises(UsageError, match=r"no such gate baseline; .*--accept.*did you mean '.*tiny\.json'"):
        Baseline.read(file.with_name("tinny.json"), "tiny")
    with pytest.raises(UsageError, match="cannot be read"):
        Baseline.read(file.parent, "tiny")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(UsageError, match="cannot be written"):
        baseline().write(tmp_path / "a" / "b.json")


def test_companions_lie_beside_the_baseline() -> None:
    path = Path("results/baselines/ci.json")
    assert noise_path(path).as_posix() == "results/baselines/ci.noise.json"
    assert anchor_path(path).as_posix() == "results/baselines/ci.anchor.json"


def test_differences_name_the_key_and_both_values() -> None:
    assert differences({"torch": "2", "gpu": "x"}, {"torch": "1", "cpu": "y"}) == [
        "cpu y -> none", "gpu none -> x", "torch 1 -> 2"
    ]  # fmt: skip
    assert list(changed_settings({"a": {"b": [1, 2], "c": 1}}, {"a": {"b": [1, 2], "c": 2, "d": 3}})) == [
        "a.c 2 -> 1", "a.d 3 -> None"
    ]  # fmt: skip
