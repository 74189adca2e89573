"""One long piece of work as a person sees it: a bar on a terminal, plain lines now and then otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType

FIRST_SECONDS = 3.0
"""Work that is done sooner says nothing where there is no terminal."""
EVERY_SECONDS = 15.0


class Meter:
    """Counts `unit`s up to `total` (None where nobody knows it) on standard error."""

    def __init__(self, what: str, total: int | None, unit: str):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._next = time.monotonic() + FIRST_SECONDS
        self._said = 0
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc=what, unit=unit, unit_scale=True, leave=False, disable=False, file=sys.stderr,
                dynamic_ncols=True, delay=0.5,
            )  # fmt: skip

    def add(self, count: int) -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_SECONDS
            self._say()

    def _say(self) -> None:
        self._said = self.done
        share = f" of {self.total:,}" if self.total is not None else ""
        print(f"{self.what}: {self.done:,}{share} {self.unit}", file=sys.stderr, flush=True)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None and 0 < self._said < self.done:
            self._say()  # whoever has read a part is to read the whole
