"""Where a suite's relative names are looked for."""

from __future__ import annotations

from pathlib import Path


def folders(relative_to: Path | None) -> list[Path]:
    """The suite file's folder, where there is one, then the working directory."""
    return [Path()] if relative_to is None else [relative_to, Path()]
