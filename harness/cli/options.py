"""The options of every verb. What a verb does is in `verbs.py`."""

from __future__ import annotations

import argparse

from harness import __version__
from harness.cli import benching, gating, searching, verbs

CALIBRATE = "gate calibrate"

EPILOG = """\
SUITE is a file, or the name of one in suites/. Settings follow it as key=value, dotted and typed by the schema:
train.steps=100 train.lr=3e-4 arms.dhc-n4.connection.rate=8 seeds=[1,2]
exit codes: 0 ok, 1 a cell, a check or a gate failed, 2 usage or configuration, 3 inconclusive, or nothing to answer
from, 130 interrupted"""

BENCH_EPILOG = """\
A step is batch, forward, backward, clipping and AdamW. In every round each model is visited once, in an order drawn
anew; time and CPU time are ratios to the residual's of the same round, medians with a 95% interval. Peak memory: on a
GPU what its allocator had at most in a step; on a CPU the highest resident memory of a process of its own over making
the model and three steps, less what was resident before, with every large block mapped by itself so that what is freed
is given back. A preset is one of the bench's own or a scale of text, whose batch is halved until everything fits
(docs/bench.md).
exit codes: 0 ok, 1 an arm failed, 2 usage"""


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Benchmark and ablate the connections of deep networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    commands = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(
        name: str, function: object, text: str, suite: bool = True, selection: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=EPILOG if suite else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(verb=function)
        if name not in ("list", "conform", "bench"):
            added.add_argument("--results", metavar="DIR", help="results folder (default: $HARNESS_RESULTS or results)")
        if suite:
            added.add_argument("suite", metavar="SUITE")
            added.add_argument("overrides", metavar="key=value", nargs="*", default=[])
        if suite and not selection:
            added.set_defaults(expression=None, smoke=False)
        elif suite:
            added.add_argument(
                "-k", dest="expression", metavar="EXPR", help="only the cells that match, such as 'dhc and not seed=1'"
            )
            added.add_argument(
                "--smoke",
                action="store_true",
                help="the suite shrunk by fixed rules (docs/suites.md); its results are kept apart",
            )
        return added

    plan = verb("plan", verbs.plan, "show the cells of a suite and what they cost")
    plan.add_argument("--json", action="store_true")
    plan.add_argument(
        "--device", metavar="NAME", help="estimate the hours on a chip, such as h200; or measure a short step: here"
    )
    plan.add_argument("--devices", type=_positive, default=1, metavar="N", help="chips that share a cell (default: 1)")
    plan.add_argument("--fsdp", action="store_true", help="weights and optimiser state in parts over the devices")
    plan.add_argument("--mfu", type=_share, metavar="X", help="share of the chip's dense peak to reckon with")
    plan.add_argument("--jobs", "-j", type=_positive, default=1, metavar="N", help="cells at a time (default: 1)")
    run = verb("run", verbs.run, "train and score what is missing, then compare")
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
    status = verb("status", verbs.status, "show how far every cell is")
    status.add_argument("--json", action="store_true")
    compare = verb("compare", verbs.compare, "print the comparison table")
    compare.add_argument("--format", choices=("md", "csv", "json", "tex", "html"), default="md")
    compare.add_argument("--json", action="store_const", dest="format", const="json", help="short for --format json")
    compare.add_argument("--baseline", metavar="ARM", help="compare with this arm instead of the suite's baseline")
    compare.add_argument(
        "--match",
        choices=("tokens", "params", "flops", "time", "memory"),
        default="tokens",
        help="what is to be equal (docs/compare.md; default: tokens)",
    )
    compare.add_argument("--columns", type=_names, metavar="KEY,...", help="these columns, such as delta,verdict,rho")
    compare.add_argument("--sort", metavar="KEY", help="rows by a column, such as delta; --sort=-speed: largest first")
    compare.add_argument("--only-changed", action="store_true", help="leave out columns in which no row differs")
    compare.add_argument(
        "--force", action="store_true", help="also compare cells of other hardware, code or data, and mark them"
    )
    compare.add_argument(
        "--documents", action="store_true", help="then every task document by document, with McNemar's test"
    )
    compare.add_argument("--plot", metavar="FILE", help="also draw the loss curves into this PNG file")
    report = verb("report", verbs.report, "write one page that says whether the arms pay, with every figure")
    report.add_argument("--output", "-o", metavar="FILE", help="the page; figures/ is made beside it")
    report.add_argument("--baseline", metavar="ARM", help="compare with this arm instead of the suite's baseline")
    report.add_argument(
        "--force", action="store_true", help="also compare cells of other hardware, code or data, and mark them"
    )
    _gate(
        verb(
            "gate", gating.gate, "judge the code at hand against a baseline: did the models get worse?", selection=False
        )
    )
    noise = verb(
        CALIBRATE, gating.calibrate, "measure what a suite's losses vary by, and what a gate can see", selection=False
    )
    noise.add_argument("--baseline", metavar="FILE", help="beside which the calibration lies")
    noise.add_argument("--jobs", "-j", type=_positive, default=2, metavar="N", help="cells at a time (default: 2)")
    _search(
        verb(
            "search", searching.search, "search every arm's settings alike, and judge the best on fresh seeds",
            suite=False,
        )
    )  # fmt: skip
    conform = verb("conform", verbs.conform, "hold an implementation of a connection against the laws", suite=False)
    conform.add_argument("target", metavar="TARGET", nargs="?", help="a type, a tag such as dhc-n4, or a peer")
    conform.add_argument("settings", metavar="key=value", nargs="*", help="settings of the type, or rate=N of a peer")
    conform.add_argument("--all", action="store_true", help="every type of ours")
    conform.add_argument("--peers", action="store_true", help="every adapter to another package that is installed")
    conform.add_argument("--json", action="store_true")
    conform.add_argument("--markdown", metavar="FILE", help="also write the report into this file")
    _bench(verb("bench", benching.bench, "measure what connections cost beside the residual, all in turn", suite=False))
    ask = verb("evaluate", verbs.evaluate, "ask trained cells again, without training", suite=False)
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
    listing = verb("list", verbs.listing, "list suites, connections, scales, corpora and tasks", suite=False)
    listing.add_argument("--json", action="store_true")
    doctor = verb("doctor", verbs.doctor, "check the installation, the results folder and the tracker", suite=False)
    doctor.add_argument("--json", action="store_true")
    return parser


def _bench(bench: argparse.ArgumentParser) -> None:
    bench.epilog = BENCH_EPILOG
    bench.add_argument("--preset", metavar="NAME", help="shape (default: bench-d256 on a CPU, bench-d768 on a GPU)")
    bench.add_argument("--arms", metavar="TAG,...", help="connections beside the residual, such as dhc-n4,dfc-m4,mudd")
    bench.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    bench.add_argument("--peer", action="store_true", help="the package hyper-connections in the same run")
    bench.add_argument("--compile", action="store_true", help="then all compiled, beside a compiled residual (minutes)")
    bench.add_argument(
        "--kernels", choices=("auto", "plain", "fused", "both"), default="auto",
        help="how connections are computed (train.kernels); both: every arm twice",
    )  # fmt: skip
    bench.add_argument("--rounds", type=_positive, default=15, metavar="N", help="5 or more (default: 15)")
    bench.add_argument("--threads", type=_positive, metavar="N", help="of a CPU (default: all cores)")
    bench.add_argument("--json", action="store_true")
    bench.add_argument("--output", "-o", metavar="DIR", help="also write bench.json, bench.md and a picture")


def _gate(gate: argparse.ArgumentParser) -> None:
    gate.add_argument("--baseline", metavar="FILE", help="default: results/baselines/<suite>.json")
    gate.add_argument("--layers", metavar="L0,...", help="which rules (default: all; docs/gate.md)")
    gate.add_argument(
        "--relative", metavar="REV", help="compare with this commit, run beside the code at hand, instead of a file"
    )
    gate.add_argument("--anchor", metavar="FILE", help="of L3; default: <baseline>.anchor.json, where it is there")
    gate.add_argument("--stale-ok", action="store_true", help="use a calibration that is too old or of something else")
    gate.add_argument("--jobs", "-j", type=_positive, default=2, metavar="N", help="cells at a time (default: 2)")
    gate.add_argument("--markdown", metavar="FILE", help="also write the report into this file")
    gate.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    gate.add_argument("--json-file", metavar="FILE", help="also write it as JSON into this file")
    gate.add_argument("--junit", metavar="FILE", help="also as JUnit XML")
    gate.add_argument("--plot", metavar="FILE", help="also draw every seed's difference into this PNG file")
    gate.add_argument("--accept", action="store_true", help="judge nothing: train all seeds and write the baseline")
    gate.add_argument("--reason", metavar="TEXT", help="why the numbers are what they are; kept in the baseline")
    gate.add_argument("--as-anchor", action="store_true", help="with --accept: write the anchor of L3 instead")


def _search(search: argparse.ArgumentParser) -> None:
    search.add_argument("study", metavar="STUDY", help="a study file, such as suites/search/lr.yaml")
    search.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[],
        help="settings of the study: trials=20 set.train.steps=100 space.train.lr.high=1e-2",
    )  # fmt: skip
    search.add_argument("--trials", type=_positive, metavar="N", help="of every arm, earlier ones among them: trials=N")
    search.add_argument("--jobs", "-j", type=_positive, default=1, metavar="N", help="cells at a time (default: 1)")
    search.add_argument(
        "--storage", metavar="URL", help="of the trials, as Optuna takes it (default: a journal file in the results)"
    )
    search.add_argument("--retry-failed", action="store_true", help="try failed cells on the fresh seeds again")
    search.add_argument("--smoke", action="store_true", help="suite and study shrunk to a minute or two; kept apart")
    search.add_argument("--plan", action="store_true", help="show what it would train, and train nothing")
    search.add_argument("--json", action="store_true")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"'{text}' names no column")
    return names


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
