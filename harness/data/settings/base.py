"""What the settings of all data share."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, Literal

from harness.settings import Settings

Kind = Literal["text", "symbols", "images"]
"""`symbols`: sequences of made-up tokens, some of which are to be answered (synthetic diagnostics)."""


class DataSettings(Settings, ABC):
    """Where examples come from, and how they become batches. `corpus` chooses the class."""

    KIND: ClassVar[Kind]
    IDENTITY: ClassVar[frozenset[str]] = frozenset()
    """Keys that decide the numbers of a run and do not show in the digest of the data."""

    corpus: str

    def identity(self) -> dict[str, Any]:
        """What decides the numbers of a run besides the digests of the data."""
        return self.model_dump(mode="json", include=set(self.IDENTITY))

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong) when the keys do not fit together, else None."""
        return None
