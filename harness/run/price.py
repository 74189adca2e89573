"""What a run would train, priced, and held to budgets before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data.inputs import Inputs
from harness.data.load import Data
from harness.run.layout import Layout
from harness.run.runner import RunOptions, check_devices, will_run
from harness.suite.cells import Cell
from harness.suite.estimate import Machine, check_budget
from harness.suite.plan import plan
from harness.suite.schema import Suite


@dataclass(frozen=True, kw_only=True)
class Budget:
    """None is no limit."""

    hours: float | None = None
    gibibytes: float | None = None


def price(
    suite: Suite,
    data: Data,
    inputs: Inputs,
    cells: list[Cell],
    layout: Layout,
    options: RunOptions,
    budget: Budget,
    *,
    chip: Machine | None = None,
    measure: bool = False,
) -> dict[str, Any]:
    """The plan, with hours on `chip`, or measured here if they are asked for or have a budget. Raises UsageError where
    it is over the budget; memory is known without measuring, and is looked at first."""
    todo = will_run(cells, layout, options)
    # What is only to be scored costs no training.
    training = [cell for cell in todo if options.force or layout.cell(cell).result() is None]
    states = {cell.identity: str(layout.cell(cell).state(cell.evaluation)) for cell in cells}
    identities = {cell.identity for cell in training}

    def priced(machine: Machine | None) -> dict[str, Any]:
        document = plan(suite, inputs, data, cells, states, machine, options.jobs, identities)
        check_budget(None, document["memory_bytes"], None, budget.gibibytes)
        return document

    document = priced(chip)
    if measure or (chip is None and budget.hours is not None):
        check_devices(training)
        from harness.run.calibrate import this_machine

        document = priced(this_machine(suite, data, dict.fromkeys(cell.arm for cell in training)))
    check_budget(document["hours_todo"], 0, budget.hours, None)
    return document
