"""The command line: verbs and options. Every heavy import is inside its verb, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness import __version__
from harness.errors import INTERRUPTED, OK, HarnessError, UsageError

if TYPE_CHECKING:
    from harness.data.inputs import Inputs
    from harness.data.load import Data
    from harness.run.layout import Layout
    from harness.suite.cells import Cell
    from harness.suite.schema import Suite

EPILOG = """\
SUITE is a file, or the name of one in suites/. Settings follow it as key=value, dotted and typed by the schema:
train.steps=100 train.lr=3e-4 arms.dhc-n4.connection.rate=8 seeds=[1,2]
exit codes: 0 ok, 1 a cell or a check failed, 2 usage or configuration, 3 nothing to answer from, 130 interrupted"""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    # argparse takes all positionals where it meets the first; settings may also stand after the options.
    stray = [word for word in rest if word.startswith("-") or "=" not in word]
    if stray or (rest and "overrides" not in known):
        parser.error(f"unrecognized arguments: {' '.join(stray or rest)}")
    if "overrides" in known:
        known.overrides += rest
    try:
        code: int = known.verb(known)
        sys.stdout.flush()
        return code
    except HarnessError as error:
        print(f"harness: {error}" if "\n" not in str(error) else f"harness:\n{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Benchmark and ablate the connections of deep networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, function: object, text: str, suite: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog=EPILOG if suite else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(verb=function)
        if name not in ("list", "conform"):
            added.add_argument("--results", metavar="DIR", help="results folder (default: $HARNESS_RESULTS or results)")
        if suite:
            added.add_argument("suite", metavar="SUITE")
            added.add_argument("overrides", metavar="key=value", nargs="*", default=[])
            added.add_argument(
                "-k", dest="expression", metavar="EXPR", help="only the cells that match, such as 'dhc and not seed=1'"
            )
            added.add_argument(
                "--smoke",
                action="store_true",
                help="the suite shrunk by fixed rules (docs/suites.md); its results are kept apart",
            )
        return added

    plan = verb("plan", _plan, "show the cells of a suite and what they cost")
    plan.add_argument("--json", action="store_true")
    plan.add_argument(
        "--device", metavar="NAME", help="estimate the hours on a chip, such as h200; or measure a short step: here"
    )
    plan.add_argument("--devices", type=_positive, default=1, metavar="N", help="chips that share a cell (default: 1)")
    plan.add_argument("--fsdp", action="store_true", help="weights and optimiser state in parts over the devices")
    plan.add_argument("--mfu", type=_share, metavar="X", help="share of the chip's dense peak to reckon with")
    plan.add_argument("--jobs", "-j", type=_positive, default=1, metavar="N", help="cells at a time (default: 1)")
    run = verb("run", _run, "train and score what is missing, then compare")
    run.add_argument("--jobs", "-j", type=_positive, default=1, metavar="N", help="cells at a time (default: 1)")
    run.add_argument("--fail-fast", action="store_true", help="stop at the first failed cell")
    run.add_argument("--retry-failed", action="store_true", help="try the failed cells again")
    run.add_argument(
        "--force", action="store_true", help="train the chosen cells anew; what they had is moved aside, not deleted"
    )
    for priced in (plan, run):
        priced.add_argument(
            "--budget-hours", type=_above_zero, metavar="H", help="refuse (exit 2) where more hours are to be expected"
        )
        priced.add_argument(
            "--budget-memory", type=_above_zero, metavar="GIB", help="refuse (exit 2) where tensors need more memory"
        )
    status = verb("status", _status, "show how far every cell is")
    status.add_argument("--json", action="store_true")
    compare = verb("compare", _compare, "print the comparison table")
    compare.add_argument("--format", choices=("md", "csv", "json"), default="md")
    compare.add_argument("--json", action="store_const", dest="format", const="json", help="short for --format json")
    compare.add_argument("--baseline", metavar="ARM", help="compare with this arm instead of the suite's baseline")
    compare.add_argument("--plot", metavar="FILE", help="also draw the loss curves into this PNG file")
    conform = verb("conform", _conform, "hold an implementation of a connection against the laws", suite=False)
    conform.add_argument("target", metavar="TARGET", nargs="?", help="a type, a tag such as dhc-n4, or a peer")
    conform.add_argument("settings", metavar="key=value", nargs="*", help="settings of the type, or rate=N of a peer")
    conform.add_argument("--all", action="store_true", help="every type of ours")
    conform.add_argument("--peers", action="store_true", help="every adapter to another package that is installed")
    conform.add_argument("--json", action="store_true")
    conform.add_argument("--markdown", metavar="FILE", help="also write the report into this file")
    ask = verb("evaluate", _evaluate, "ask trained cells again, without training", suite=False)
    ask.add_argument(
        "targets",
        metavar="CELL|ARM",
        nargs="+",
        help="a cell by name (dhc-n4-s1) or folder, or an arm with all its seeds",
    )
    ask.add_argument("--suite", metavar="NAME", help="the suite that is meant, where several have such an arm")
    ask.add_argument("--tasks", metavar="TASK", nargs="+", help="ours and lm-eval's, instead of the suite's")
    ask.add_argument("--tier", choices=("fast", "full"), help="the first 100 documents of every task, or all")
    ask.add_argument("--limit", type=_positive, metavar="N", help="the first N documents of every task")
    ask.add_argument("--shots", type=_count, metavar="K", help="solved examples before every question")
    ask.add_argument("--data", metavar="DIR", help="folder with the tasks' documents (default: HARNESS_EVAL_DATA)")
    ask.add_argument("--jobs", "-j", type=_positive, default=1, metavar="N", help="cells at a time (default: 1)")
    ask.add_argument("--smoke", action="store_true", help="cells that were trained with --smoke")
    ask.add_argument("--json", action="store_true")
    listing = verb("list", _list, "list suites, connections, scales, corpora and tasks", suite=False)
    listing.add_argument("--json", action="store_true")
    doctor = verb("doctor", _doctor, "check the installation, the results folder and the tracker", suite=False)
    doctor.add_argument("--json", action="store_true")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return int(text)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def _share(text: str) -> float:
    if (value := _above_zero(text)) > 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share of 1")
    return value


def _ask(options: argparse.Namespace) -> Asked:
    from harness.data.documents import Corpus
    from harness.data.load import inputs_of, load_data
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
    try:
        data = load_data(suite.data, path.parent)
        if isinstance(data, Corpus):
            check_ours(suite.evaluation, data)
        made = cells(suite, data, path.parent)
    except UsageError as error:
        raise file.locate(error) from None
    inputs = inputs_of(data)
    file.check_inputs(suite, inputs)
    chosen = select(made, options.expression)
    if not chosen:
        raise UsageError(f"-k '{options.expression}': no cell of '{suite.name}' matches")
    layout = Layout.choose(options.results, options.smoke)
    return Asked(suite, data, inputs, chosen, layout, str(path.parent.resolve()), bool(options.expression))


def _plan(options: argparse.Namespace) -> int:
    from harness.run.price import Budget, price
    from harness.run.runner import RunOptions
    from harness.suite.estimate import table_machine
    from harness.suite.plan import plan_text

    if options.device in (None, "here") and (options.devices > 1 or options.fsdp or options.mfu):
        raise UsageError("--devices, --fsdp and --mfu are for a chip of the table: --device h200")
    if options.fsdp and options.devices == 1:
        raise UsageError("--fsdp: there is one device to share among; --devices N")
    asked = _ask(options)
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


def _run(options: argparse.Namespace) -> int:
    from harness.run.questions import check_questions
    from harness.run.runner import RunOptions, run_suite, will_run

    asked = _ask(options)
    choice = RunOptions(
        jobs=options.jobs,
        fail_fast=options.fail_fast,
        retry_failed=options.retry_failed,
        force=options.force,
    )
    if needed := will_run(asked.cells, asked.layout, choice):
        check_questions(needed)
    if options.budget_hours is not None or options.budget_memory is not None:
        from harness.run.price import Budget, price

        price(*asked[:5], choice, Budget(hours=options.budget_hours, gibibytes=options.budget_memory))
    outcome = run_suite(asked.suite.name, asked.cells, asked.layout, choice, asked.folder)
    if outcome.code == INTERRUPTED:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return outcome.code
    _say_answer(asked, news=bool(outcome.trained))
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


def _status(options: argparse.Namespace) -> int:
    from harness.run.status import cell_states, status_text

    asked = _ask(options)
    states = cell_states(asked.layout, asked.cells)
    if options.json:
        print(json.dumps({"suite": asked.suite.name, "cells": states}, indent=2))
    else:
        print(status_text(asked.suite.name, states))
    return OK


def _compare(options: argparse.Namespace) -> int:
    from pathlib import Path

    from harness.compare.table import render
    from harness.errors import nearest
    from harness.run.answer import compare_cells

    asked = _ask(options)
    if options.baseline is not None and options.baseline not in asked.suite.arms:
        raise UsageError(
            f"--baseline: no arm is called '{options.baseline}'{nearest(options.baseline, asked.suite.arms)}"
        )
    tracker = asked.layout.tracker()
    tables = compare_cells(asked.layout, tracker, asked.suite, asked.cells, options.baseline)
    print(render(options.format, asked.suite.name, tables))
    if options.plot:
        from harness.compare.plots import loss_curves, plot_curves

        try:
            plot_curves(
                [(table, loss_curves(tracker, table.rows)) for table in tables], asked.suite.name, Path(options.plot)
            )
        except OSError as error:
            raise UsageError(f"--plot: cannot write {options.plot}: {error.strerror}") from error
    return OK


def _evaluate(options: argparse.Namespace) -> int:
    from harness.run.evaluate import document, evaluate
    from harness.run.layout import Layout

    changes = {"tier": options.tier, "limit": options.limit, "num_fewshot": options.shots, "data": options.data}
    if options.tasks:
        changes["tasks"] = [name for word in options.tasks for name in word.split(",") if name]
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


def _list(options: argparse.Namespace) -> int:
    from harness.suite.find import known, known_text

    found = known()
    print(json.dumps(found, indent=2) if options.json else known_text(found))
    return OK


def _conform(options: argparse.Namespace) -> int:
    from harness.conform.report import conform

    return conform(
        options.target,
        options.settings,
        everything=options.all,
        peers=options.peers,
        as_json=options.json,
        markdown=options.markdown,
    )


def _doctor(options: argparse.Namespace) -> int:
    from harness.doctor import checks, checks_text
    from harness.run.layout import Layout

    found = checks(Layout.choose(options.results, smoke=False))
    print(json.dumps(found, indent=2) if options.json else checks_text(found))
    return OK if all(check["ok"] for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
