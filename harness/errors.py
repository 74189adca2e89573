"""Errors that a person is meant to read, and the exit code each one carries.

Everything raised on purpose derives from `HarnessError`; the command line prints its message on one line and exits
with its code. Any other exception is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OK, FAILED, USAGE, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130


class HarnessError(Exception):
    """A failure that is explained by its message; `exit_code` is what the process ends with."""

    exit_code = FAILED


class UsageError(HarnessError):
    """A wrong command line, suite file or environment: nothing has been run or changed."""

    exit_code = USAGE


class InconclusiveError(HarnessError):
    """There is not enough to answer from: no finished cell, or a tracker that cannot be read."""

    exit_code = INCONCLUSIVE


class DivergedError(HarnessError):
    """Training produced a loss that is not finite."""

    def __init__(self, step: int, loss: float):
        super().__init__(f"loss is {loss} at step {step}")
        self.step = step


def nearest(name: object, choices: Iterable[object]) -> str:
    """`"; did you mean 'x'?"`, or the list of choices where none of them is close."""
    known = [str(choice) for choice in choices]
    return close(name, known) or (f"; known: {', '.join(known)}" if known else "")


def close(name: object, choices: Iterable[object]) -> str:
    """`"; did you mean 'x'?"`, or nothing where none of the choices is close."""
    found = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def first_line(error: object) -> str:
    """What went wrong, in a line."""
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def shown(path: object) -> str:
    """A path as it stands in a message of one line: what cannot be printed is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(path))
