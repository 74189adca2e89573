"""The costs of a suite's arms, measured beside each other once on every machine, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, first_line
from harness.run.celldir import held
from harness.run.costs import Wanted, documents, fingerprint, has_all, keep, made_document, wanted_arms
from harness.run.executors import answer_of
from harness.run.layout import Layout
from harness.suite.cells import Cell, digest
from harness.suite.schema import Suite

BUDGET_SECONDS, SMOKE_SECONDS = 40.0, 3.0
"""For all arms of a suite together, where five rounds take no longer."""


def measure_costs(
    layout: Layout, suite: Suite, cells: Sequence[Cell], relative_to: str | None, *, smoke: bool, force: bool
) -> bool:
    """Measure what this machine has not measured yet of the arms of `cells`, or all anew with `force`; whether there is
    something new in `costs.json`. Whatever goes wrong is a line on standard error. Raises KeyboardInterrupt when asked
    to end, with nothing kept."""
    wanted = wanted_arms(suite, cells)
    if not wanted or any(layout.cell(cell).busy() for cell in cells):
        return False
    try:
        machine = fingerprint(wanted.values())
        here = [one for one in documents(layout, suite.name) if one["machine_key"] == digest(machine)]
        if not force and any(has_all(one, wanted) for one in here):
            return False
        with held(layout.root / "costs.lock") as alone:
            if not alone:
                print("costs are being measured by another run; the next run measures these", file=sys.stderr)
                return False
            document = _measure(
                layout, suite.name, wanted, machine, relative_to, SMOKE_SECONDS if smoke else BUDGET_SECONDS
            )
            keep(layout, suite.name, document)
    except Exception as error:
        reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {first_line(error)}"
        print(f"the costs of the arms could not be measured: {reason}", file=sys.stderr)
        return False
    for arm, row in document["skipped"].items():
        print(f"costs of {arm} not measured: {row['why']}", file=sys.stderr)
    return True


def _measure(
    layout: Layout,
    suite: str,
    wanted: Mapping[str, Wanted],
    machine: Mapping[str, Any],
    relative_to: str | None,
    seconds: float,
) -> dict[str, Any]:
    """The document. Raises HarnessError for what went wrong in the process that measures."""
    first: dict[str, str] = {}
    stands_for = {name: first.setdefault(arm.key, name) for name, arm in wanted.items()}
    configs = {name: wanted[name].config for name in first.values()}
    pairs = list(dict.fromkeys((stands_for[name], stands_for[arm.baseline]) for name, arm in wanted.items()))
    log = layout.suite(suite) / "costs.log"
    found = _in_a_process(configs, pairs, relative_to, seconds, log)
    if "error" in found:
        raise HarnessError(f"{found['error']}; log: {log}")
    if not found["skipped"]:
        log.unlink(missing_ok=True)
    return made_document(found, wanted, stands_for, machine, datetime.now(UTC).isoformat(timespec="milliseconds"))


def _in_a_process(
    configs: Mapping[str, dict[str, Any]],
    pairs: Sequence[tuple[str, str]],
    relative_to: str | None,
    seconds: float,
    log: Path,
) -> dict[str, Any]:
    """What `interleave.work` answers."""
    say = f"measuring the costs of {len(configs)} arms, interleaved"
    try:
        found: dict[str, Any] = answer_of(_work, (configs, pairs, relative_to, seconds, str(log)), say)
    except HarnessError as error:
        return {"error": str(error)}
    return found


def _work(*arguments: Any) -> None:
    from harness.run.interleave import work  # torch, in the worker alone

    work(*arguments)
