"""From facts to files: the page, and every figure as SVG, PNG and CSV beside it."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError, shown
from harness.progress import Meter
from harness.report.chapters import CHAPTERS, Shown
from harness.report.drawing import Drawing, Drawn, Missing
from harness.report.facts import Facts, Study
from harness.report.page import page
from harness.report.svg import inline, png, svg
from harness.run.celldir import write_whole

FIGURES = "figures"


def figures_of(path: Path) -> Path:
    """Where a page's figures lie: pages of one folder have folders of their own, but for the usual page."""
    return path.parent / (FIGURES if path.stem == "report" else f"{path.stem}-{FIGURES}")


def write_page(facts: Facts, path: Path) -> list[Path]:
    """Write the page and its figures; returns all files, the page first. Every file is replaced whole.

    Raises UsageError where they cannot be written, before anything is drawn.
    """
    folder = figures_of(path)
    check_writable(path)
    families = [(chapter, family) for chapter in CHAPTERS for family in chapter.families]
    found: list[dict[str, list[Shown | Missing]]] = [{} for _ in facts.studies]
    files: list[Path] = []
    try:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        with Meter("report", len(families) * len(facts.studies), "kinds of figures") as meter:
            for number, study in enumerate(facts.studies):
                suffix = f"-{_slug(study.baseline)}" if len(facts.studies) > 1 else ""
                for chapter, family in families:
                    one = found[number].setdefault(chapter.key, [])
                    one += _draw(study, family, folder, suffix, files)
                    meter.add(1)
        write_whole(path, page(facts, found, folder.name).encode())
    except OSError as error:
        raise _unwritable(path, error) from error
    return [path, *files]


def _draw(
    study: Study,
    family: Callable[[Study], Drawn],
    folder: Path,
    suffix: str,
    files: list[Path],
) -> Sequence[Shown | Missing]:
    made: list[Shown | Missing] = []
    for drawing in family(study):
        if isinstance(drawing, Missing):
            made.append(drawing)
            continue
        shown, made_files = write_drawing(drawing, folder, drawing.name + suffix)
        files += made_files
        made.append(shown)
    return made


def write_drawing(drawing: Drawing, folder: Path, stem: str) -> tuple[Shown, list[Path]]:
    """A drawing as SVG, PNG and CSV in `folder`, each replaced whole; returns it as a page has it, and its files."""
    text = svg(drawing.figure)
    contents = {"svg": text.encode(), "png": png(drawing.figure), "csv": to_csv(drawing.rows).encode()}
    files = []
    for form, data in contents.items():
        files.append(folder / f"{stem}.{form}")
        write_whole(files[-1], data)
    shown = Shown(
        stem=stem, folder=folder.name, title=drawing.title, caption=drawing.caption, alt=drawing.alt,
        svg=inline(text, f"{stem}-", drawing.alt), size=drawing.size,
    )  # fmt: skip
    return shown, files


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Numbers with all their digits; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def check_writable(path: Path) -> None:
    """Raises UsageError where the page cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the report cannot be written to {shown(path)}: {error.strerror or error}; --output names another file"
    )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
