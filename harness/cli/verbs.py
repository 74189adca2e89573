"""What every verb of the command line does. Every heavy import is inside its verb, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import INTERRUPTED, OK, UsageError

if TYPE_CHECKING:
    from harness.data.inputs import Inputs
    from harness.data.load import Data
    from harness.report.facts import Invocation
    from harness.run.layout import Layout
    from harness.suite.cells import Cell
    from harness.suite.schema import Suite


class Asked(NamedTuple):
    """What the command line asked for, read and checked."""

    suite: Suite
    data: Data
    inputs: Inputs
    cells: list[Cell]
    layout: Layout
    folder: str
    partial: bool
    """Only some of the suite's cells were chosen."""


def ask(options: argparse.Namespace) -> Asked:
    """The suite that the command line names, with its data and cells. Raises UsageError for whatever is wrong."""
    from harness.data.documents import Corpus
    from harness.evaluation.ours import check_ours
    from harness.run.layout import Layout
    from harness.suite.cells import cells
    from harness.suite.file import SuiteFile
    from harness.suite.find import find_suite
    from harness.suite.select import select
    from harness.suite.smoke import smoke

    path = find_suite(options.suite)
    file = SuiteFile(path, options.overrides)
    suite = file.resolve()
    if options.smoke:
        suite = smoke(suite)
    suite, data, inputs = file.fitted(suite)
    try:
        if isinstance(data, Corpus):
            check_ours(suite.evaluation, data)
        made = cells(suite, data, path.parent)
    except UsageError as error:
        raise file.locate(error) from None
    chosen = select(made, options.expression)
    if not chosen:
        raise UsageError(f"-k '{options.expression}': no cell of '{suite.name}' matches")
    layout = Layout.choose(options.results, options.smoke)
    return Asked(suite, data, inputs, chosen, layout, str(path.parent.resolve()), bool(options.expression))


def plan(options: argparse.Namespace) -> int:
    from harness.run.price import Budget, price
    from harness.run.runner import RunOptions
    from harness.suite.estimate import table_machine
    from harness.suite.plan import plan_text

    if options.device in (None, "here") and (options.devices > 1 or options.fsdp or options.mfu):
        raise UsageError("--devices, --fsdp and --mfu are for a chip of the table: --device h200")
    if options.fsdp and options.devices == 1:
        raise UsageError("--fsdp: there is one device to share among; --devices N")
    asked = ask(options)
    chip = None
    if options.device not in (None, "here"):
        chip = table_machine(options.device, options.devices, options.fsdp, options.mfu)
    document = price(
        *asked[:5],
        RunOptions(jobs=options.jobs, retry_failed=True),
        Budget(hours=options.budget_hours, gibibytes=options.budget_memory),
        chip=chip,
        measure=options.device == "here",
    )
    print(json.dumps(document, indent=2) if options.json else plan_text(document))
    return OK


def run(options: argparse.Namespace) -> int:
    from harness.run.measure import measure_costs
    from harness.run.questions import check_lengths, check_questions
    from harness.run.runner import RunOptions, run_suite, will_run

    asked = ask(options)
    choice = RunOptions(
        jobs=options.jobs,
        fail_fast=options.fail_fast,
        retry_failed=options.retry_failed,
        force=options.force,
    )
    if needed := will_run(asked.cells, asked.layout, choice):
        check_lengths(asked.data, needed)
        check_questions(needed)
    if options.budget_hours is not None or options.budget_memory is not None:
        from harness.run.price import Budget, price

        price(*asked[:5], choice, Budget(hours=options.budget_hours, gibibytes=options.budget_memory))
    outcome = run_suite(asked.suite.name, asked.cells, asked.layout, choice, asked.folder)
    measured = False
    if outcome.code != INTERRUPTED:
        try:
            measured = measure_costs(
                asked.layout, asked.suite, asked.cells, asked.folder, smoke=options.smoke, force=options.force
            )
        except KeyboardInterrupt:
            outcome = replace(outcome, code=INTERRUPTED)
    if outcome.code == INTERRUPTED:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return outcome.code
    _say_answer(asked, news=bool(outcome.trained) or measured)
    if outcome.failed:
        print(
            f"\nfailed: {', '.join(outcome.failed)}; see harness status, try again with --retry-failed", file=sys.stderr
        )
    return outcome.code


def _say_answer(asked: Asked, news: bool) -> None:
    """The table, the verdict, and where to look next."""
    from harness.errors import InconclusiveError
    from harness.run.answer import answer

    try:
        print(answer(asked.layout, asked.suite, asked.cells, asked.partial, news))
    except InconclusiveError as error:
        print(f"harness: {error}", file=sys.stderr)


def status(options: argparse.Namespace) -> int:
    from harness.run.status import cell_states, status_text

    asked = ask(options)
    states = cell_states(asked.layout, asked.cells)
    if options.json:
        print(json.dumps({"suite": asked.suite.name, "cells": states}, indent=2))
    else:
        print(status_text(asked.suite.name, states))
    return OK


def compare(options: argparse.Namespace) -> int:
    from pathlib import Path

    from harness.compare.table import TableLayout, render
    from harness.errors import nearest
    from harness.run.answer import compare_cells

    if options.documents and options.format != "md":
        raise UsageError("--documents: a second table, for --format md; harness report has it too")

    asked = ask(options)
    if options.baseline is not None and options.baseline not in asked.suite.arms:
        raise UsageError(
            f"--baseline: no arm is called '{options.baseline}'{nearest(options.baseline, asked.suite.arms)}"
        )
    tracker = asked.layout.tracker()
    tables = compare_cells(
        asked.layout, tracker, asked.suite, asked.cells, options.baseline, options.match, options.force
    )
    shown = TableLayout(columns=options.columns, sort=options.sort, only_changed=options.only_changed)
    print(render(options.format, asked.suite.name, tables, shown))
    if options.documents:
        from harness.compare.tasks import tasks_markdown
        from harness.run.answer import compare_tasks

        print(f"\n{tasks_markdown(compare_tasks(asked.layout, asked.cells, tables))}")
    if options.plot is not None:
        from harness.compare.plots import loss_curves, plot_curves

        try:
            plot_curves(
                [(table, loss_curves(tracker, table.rows)) for table in tables], asked.suite.name, Path(options.plot)
            )
        except OSError as error:
            raise UsageError(f"--plot: cannot write {options.plot}: {error.strerror}") from error
    return OK


def report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from harness.errors import nearest
    from harness.report.make import write_report

    asked = ask(options)
    if options.baseline is not None and options.baseline not in asked.suite.arms:
        raise UsageError(
            f"--baseline: no arm is called '{options.baseline}'{nearest(options.baseline, asked.suite.arms)}"
        )
    path = write_report(
        asked.layout,
        asked.suite,
        asked.cells,
        _invocation(options),
        output=Path(options.output) if options.output else None,
        baseline=options.baseline,
        forced=options.force,
        partial=asked.partial,
    )
    print(f"report: {path}")
    return OK


def _invocation(options: argparse.Namespace) -> Invocation:
    from harness.report.facts import Invocation

    return Invocation(
        suite=options.suite,
        overrides=tuple(options.overrides),
        expression=options.expression,
        smoke=options.smoke,
        results=options.results,
    )


def evaluate(options: argparse.Namespace) -> int:
    from harness.run.evaluate import document, evaluate
    from harness.run.layout import Layout

    changes = {"tier": options.tier, "limit": options.limit, "num_fewshot": options.shots, "data": options.data}
    if options.tasks:
        changes["tasks"] = [name for word in options.tasks for name in word.split(",") if name]
        if not changes["tasks"]:
            raise UsageError("--tasks: names no task")
    layout = Layout.choose(options.results, options.smoke)
    given = {key: value for key, value in changes.items() if value is not None}
    code, found = evaluate(layout, options.targets, options.suite, given, options.jobs)
    answers = document(found)
    if options.json:
        print(json.dumps(answers, indent=2))
        return code
    from harness.compare.scores import scores_table

    arms: dict[str, list[dict[str, float]]] = {}
    for cell in answers["cells"]:
        if cell["scores"]:
            arms.setdefault(cell["arm"], []).append(cell["scores"])
    if arms:
        print(scores_table(arms))
        print(f"every question with its answer: {', '.join(str(one.folder) for one in found if one.folder.exists())}")
    if code == INTERRUPTED:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    return code


def listing(options: argparse.Namespace) -> int:
    from harness.suite.find import known, known_text

    found = known()
    print(json.dumps(found, indent=2) if options.json else known_text(found))
    return OK


def conform(options: argparse.Namespace) -> int:
    from harness.conform.report import conform

    return conform(
        options.target,
        options.settings,
        everything=options.all,
        peers=options.peers,
        as_json=options.json,
        markdown=options.markdown,
    )


def doctor(options: argparse.Namespace) -> int:
    from harness.doctor import checks, checks_text
    from harness.run.layout import Layout

    found = checks(Layout.choose(options.results, smoke=False))
    print(json.dumps(found, indent=2) if options.json else checks_text(found))
    return OK if all(check["ok"] for check in found) else 1
