"""Which parents of a study are alive: a trial whose parent is not must not stay running."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.run.celldir import held, is_held

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

PARENT, BEAT = "harness.parent", "harness.beat"
"""Attributes of a trial: who works on it, and a number that rises while that one lives."""
BEAT_SECONDS, STALE_SECONDS = 20.0, 120.0
"""How often it rises; and for how long it must have stood still, by the clock of whoever looks, to count as dead."""


class Parents:
    """This parent, and what it knows of the others. Those of the same results folder hold a lock there, which dies with
    them; of others that share a storage over the network, their trials' beat is watched."""

    def __init__(self, folder: Path, own_storage: bool):
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.own_storage = own_storage
        """Nobody from elsewhere writes into the storage."""
        self._folder = folder / "parents"
        self._seen: dict[int, tuple[Any, float]] = {}

    @classmethod
    def none(cls) -> Parents:
        """Nobody, for trials that no storage keeps."""
        return cls(Path(), own_storage=True)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """While inside, this parent can be seen to live."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / self.id
        with ExitStack() as stack:
            while not stack.enter_context(held(path)):  # another parent looks at this moment whether it is held
                time.sleep(0.01)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def dead(self, trial: FrozenTrial) -> bool:
        """Whether the parent of a running trial is known to be gone."""
        parent = trial.user_attrs.get(PARENT)
        if parent == self.id:
            return False
        if parent is not None and (self._folder / parent).exists():
            return not is_held(self._folder / parent)
        if self.own_storage and not self._others():
            return True
        beat, now = trial.user_attrs.get(BEAT), time.monotonic()
        known, since = self._seen.setdefault(trial._trial_id, (beat, now))
        if known != beat:
            self._seen[trial._trial_id] = (beat, now)
            return False
        return now - since >= STALE_SECONDS

    def _others(self) -> bool:
        """Whether another parent lives in the same folder."""
        return any(is_held(path) for path in self._folder.iterdir() if path.name != self.id)

    def forget_dead(self) -> None:
        """Remove what dead parents have left; once none of their trials runs any more. A young file may be that of a
        parent that is about to take its lock."""
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS and not is_held(path):
                    path.unlink()
