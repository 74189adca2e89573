"""What `harness search` does. Every heavy import is inside, as in `verbs.py`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys

from harness.errors import INTERRUPTED, OK


def search(options: argparse.Namespace) -> int:
    from harness.run.layout import Layout
    from harness.search.file import StudyFile
    from harness.search.plan import plan, plan_text
    from harness.search.run import SearchOptions
    from harness.search.run import search as begin
    from harness.suite.find import find_suite

    overrides = [*options.overrides, *([f"trials={options.trials}"] if options.trials else [])]
    file = StudyFile(find_suite(options.study), overrides)
    study = file.resolve(options.smoke)
    if options.plan:
        planned = plan(study)
        print(json.dumps(planned, indent=2) if options.json else plan_text(planned))
        return OK
    choice = SearchOptions(jobs=options.jobs, storage=options.storage, retry_failed=options.retry_failed)
    try:
        answer = begin(file, study, Layout.choose(options.results, options.smoke), choice, _command(options))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(answer.document, indent=2) if options.json else answer.text)
    return answer.code


def _command(options: argparse.Namespace) -> str:
    """One line for a shell that asks the same again; without a password."""
    from harness.search.storage import masked

    words = ["harness", "search", options.study, *options.overrides]
    words += ["--trials", str(options.trials)] if options.trials else []
    words += ["--storage", masked(options.storage)] if options.storage else []
    words += ["--smoke"] if options.smoke else []
    words += ["--results", options.results] if options.results else []
    return shlex.join(words)
