"""What `harness gate` and `harness gate calibrate` do. Every heavy import is inside, as in `verbs.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.verbs import Asked, ask
from harness.errors import INTERRUPTED, OK, UsageError, nearest

if TYPE_CHECKING:
    from harness.gate.findings import Layer
    from harness.gate.runs import Question


def _question(options: argparse.Namespace) -> tuple[Question, Path]:
    """What is to be gated, and the baseline's file."""
    from harness.gate.baseline import baseline_path
    from harness.gate.runs import Question
    from harness.suite.find import find_suite

    asked: Asked = ask(options)
    question = Question(
        suite=asked.suite,
        data=asked.data,
        path=find_suite(options.suite),
        overrides=tuple(options.overrides),
        results=asked.layout.root,
        jobs=options.jobs,
    )
    place = asked.layout.suite_place(asked.suite.name).name
    file = Path(options.baseline) if options.baseline else baseline_path(place)
    if not file.name:
        raise UsageError(f"--baseline: {file} is a folder")
    return question, file


def gate(options: argparse.Namespace) -> int:
    if options.accept != (options.reason is not None):
        raise UsageError('a baseline is accepted for a reason: --accept --reason "..."')
    if options.accept and not options.reason.strip():
        raise UsageError("--reason: says nothing; a baseline is reviewed like code")
    if options.accept and not options.reason.isprintable():
        raise UsageError("--reason: one line of printable characters")
    if options.as_anchor and not options.accept:
        raise UsageError("--as-anchor: writes the anchor, with --accept")
    if options.accept and options.anchor and not options.as_anchor:
        raise UsageError("--accept: writes the baseline; the anchor with --as-anchor")
    question, file = _question(options)
    try:
        return _accept(options, question, file) if options.accept else _judge(options, question, file)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _judge(options: argparse.Namespace, question: Question, file: Path) -> int:
    from harness.gate.output import check_writable, document, markdown, write_outputs
    from harness.gate.run import GateOptions, gate

    check_writable((options.markdown, options.json_file, options.junit, options.plot))
    chosen = GateOptions(
        baseline=file,
        layers=_layers(options.layers or "L0,L1,L2,L3"),
        explicit=options.layers is not None,
        anchor=Path(options.anchor) if options.anchor else None,
        relative=options.relative,
        stale_ok=options.stale_ok,
    )
    report = gate(question, chosen)
    write_outputs(
        report,
        markdown_file=options.markdown,
        json_file=options.json_file,
        junit_file=options.junit,
    )
    if options.plot is not None:
        from harness.gate.plot import plot_seeds

        plot_seeds(report, Path(options.plot))
    try:
        print(json.dumps(document(report), indent=2) if options.json else markdown(report), flush=True)
    except BrokenPipeError:  # the reader has seen enough; what was found stays what it is
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_code


def _accept(options: argparse.Namespace, question: Question, file: Path) -> int:
    from harness.gate.accept import accept
    from harness.gate.baseline import anchor_path

    if options.relative is not None:
        raise UsageError("--accept: a baseline is of the code at hand; without --relative")
    place = Path(options.anchor) if options.anchor else anchor_path(file) if options.as_anchor else file
    made = accept(question, place, options.reason.strip())
    count = sum(len(arm.seeds) for arm in made.arms.values())
    print(f"accepted: {place}: {len(made.arms)} arms, {count} runs; commit it with its reason: {made.reason}")
    return OK


def calibrate(options: argparse.Namespace) -> int:
    from harness.gate.baseline import noise_path
    from harness.gate.calibrate import calibrate
    from harness.gate.noise import noise_markdown

    question, file = _question(options)
    try:
        made = calibrate(question, noise_path(file))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(noise_markdown(made))
    print(f"calibrated: {noise_path(file)}")
    return OK


def _layers(text: str) -> tuple[Layer, ...]:
    from harness.gate.findings import LAYERS

    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in LAYERS:
            raise UsageError(f"--layers: no layer is called '{name}'{nearest(name, LAYERS)}")
    if not names:
        raise UsageError(f"--layers: names no layer; known: {', '.join(LAYERS)}")
    return tuple(layer for layer in LAYERS if layer in names)
