"""What all trials of a study have in common: kept with them, and the same whenever they are gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.data.load import digests_of
from harness.search.file import Study
from harness.suite.cells import IDENTITY_VERSION

VERSION = 1
KEYS = {"data": "suite", "arm": "suite", "streams": "suite"}
"""Of a rule, the key of the study file that decides it, where it has another name."""


def rules_of(study: Study, arm: str) -> dict[str, Any]:
    """By name, of one arm."""
    settings, own = study.settings, study.suite.arms[arm]
    return {
        "version": [VERSION, IDENTITY_VERSION],
        "space": {
            name: parameter.model_dump(mode="json", exclude={"arms"}, exclude_defaults=True)
            for name, parameter in study.space.parameters(arm).items()
        },
        "objective": list(settings.objective),
        "seeds": list(settings.seeds),
        "sampler": dict(settings.sampler),
        "seed": settings.seed,
        "arm": {
            "connection": own.connection.model_dump(mode="json"),
            "model": own.model.identity(),
            "train": own.train.identity(study.suite.data.KIND),
        },
        "data": {**digests_of(study.data), **study.suite.data.identity()},
        "streams": study.suite.streams.model_dump(mode="json"),
        "pruner": study.pruner(arm),  # last: by default it follows from what stands above
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str] | None:
    """(rule, what was and what is) of the first that differs, else None."""
    for rule in dict.fromkeys((*before, *now)):
        for name, was, value in _differences(before.get(rule), now.get(rule), ""):
            return rule, f"{name.lstrip('.') or rule} was {_text(was)}, is {_text(value)}"
    return None


def _differences(before: Any, now: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield name, before, now


def _text(value: Any) -> str:
    return "not there" if value is None else str(value)
