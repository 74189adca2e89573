"""Whether two recorded cells may be compared at all: hardware, torch, code, data, tokenizer."""

from __future__ import annotations

import functools
import json
from typing import Any

from harness.tracking import Record

DATA, TOKENIZER = ("harness.digest.data", "harness.digest.valid"), ("harness.digest.tokenizer",)


def unlike(one: Record, other: Record) -> tuple[str, ...]:
    """What the two have differently, in words; nothing where they compare. What neither recorded is no difference,
    what one alone recorded is."""
    others = traits(other)
    return tuple(name for name, value in traits(one).items() if value != others[name])


def traits(record: Record) -> dict[str, Any]:
    """By name, what must be equal before numbers are held against each other."""
    tags = record.tags
    return {
        "hardware": hardware(record),
        "torch": recorded(record, "torch"),
        "code": code(record),
        "data": tuple(tags.get(name) for name in DATA),
        "tokenizer": tuple(tags.get(name) for name in TOKENIZER),
    }


def hardware(record: Record) -> str | None:
    """The GPUs that torch saw, or else the CPU; None where it was not recorded."""
    gpus, cpu = recorded(record, "gpus"), recorded(record, "cpu")
    return ", ".join(gpus) if gpus else cpu


def code(record: Record) -> str | None:
    """The digest of the code that decides numbers; of records that have none, the commit and whether it was changed."""
    found = recorded(record, "code")
    if not isinstance(found, dict):
        return found  # None, or cut off: a tag has an end
    if found.get("source"):
        return str(found["source"])
    return f"{found['commit']}{' (changed)' if found.get('dirty') else ''}" if found.get("commit") else None


def recorded(record: Record, name: str) -> Any:
    """An entry of the cell's environment; the bare text of one that was cut off, None of one that is not there."""
    text = record.tags.get(f"harness.env.{name}")
    return None if text is None else _value(text)


@functools.lru_cache(maxsize=256)
def _value(text: str) -> Any:
    """Of the few texts that a record has thousands of times."""
    try:
        return json.loads(text)
    except ValueError:  # cut off, for a tag has an end
        return text
