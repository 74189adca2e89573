"""The command line: verbs and options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harness.cli.options import CALIBRATE, make_parser
from harness.errors import INTERRUPTED, OK, HarnessError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    parser = make_parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:2] == CALIBRATE.split():  # a verb of two words
        words[:2] = [CALIBRATE]
    known, rest = parser.parse_known_args(words)
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
