"""Documents in files of one's own: plain text, JSON lines, Parquet. What is wrong is named by file and line."""

from __future__ import annotations

import codecs
import contextlib
import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.documents import Document
from harness.data.places import folders
from harness.errors import UsageError, close, nearest, shown

ROWS_AT_ONCE = 1024
AT_ONCE = 2**20

Row = dict[str, Any]


def found_files(patterns: Iterable[str], key: str, relative_to: Path | None) -> list[Path]:
    """The files that the patterns name, looked for below `relative_to`, then below the working directory. Raises
    UsageError for a pattern without files."""
    paths: list[Path] = []
    for pattern in patterns:
        for place in folders(relative_to):
            # The place itself is no pattern, whatever signs its name has.
            matches = [pattern] if os.path.isfile(place / pattern) else _matches(pattern, place)
            if chosen := [place / match for match in matches if os.path.isfile(place / match)]:
                break
        else:
            raise UsageError(f"{key}: {missing(pattern, relative_to)}")
        paths += chosen
    # By a link to a folder that it lies in, a pattern finds the same files again and again.
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def missing(name: str, relative_to: Path | None) -> str:
    """What to say of a file that is not there, with the nearest that is."""
    beside: list[str] = []
    for place in folders(relative_to):
        with contextlib.suppress(OSError, ValueError):
            if os.path.isdir(place / name):
                return f"{shown(name)} is a folder; name its files: {shown(Path(name) / '*')}"
            beside += [entry.name for entry in (place / name).parent.iterdir() if entry.is_file()]
    return f"no such file: {shown(name)}{shown(close(Path(name).name, beside))}"


def _matches(pattern: str, place: Path) -> list[str]:
    try:
        return sorted(glob.glob(pattern, root_dir=place, recursive=True))
    except (OSError, ValueError):  # a NUL, or a name longer than names can be
        return []


def named_by_content(data: bytes) -> Document:
    """The same text under another path, or in another place of a file, is the same document."""
    return Document(hashlib.sha256(data).hexdigest()[:16], data)


def read_documents(path: Path, field: str, key: str) -> Iterator[Document]:
    """A document a row of a file of rows (`rows_of`), else one of the whole file. Raises UsageError for a file that
    cannot be read, is empty or no UTF-8, and for a row without `field`."""
    rows = rows_of(path, key, only=field)
    if rows is None:
        yield named_by_content(_plain(path, key))
        return
    about, count = f"{key}: {shown(path)}", 0
    for number, row in rows:
        if field not in row:
            raise UsageError(f"{about}:{number}: no field '{field}'{shown(nearest(field, row))}; data.field names it")
        if not isinstance(row[field], str):
            raise UsageError(f"{about}:{number}: the field '{field}' holds no text but {_short(row[field])}")
        try:
            data = row[field].encode()
        except UnicodeEncodeError:
            raise UsageError(f"{about}:{number}: the field '{field}' holds half a character") from None
        count += 1
        yield named_by_content(data)
    if not count:
        raise UsageError(f"{about} is empty")


def rows_of(path: Path, key: str, only: str | None = None) -> Iterator[tuple[int, Row]] | None:
    """(line or row number from 1, row) of a file of rows: .jsonl, .jsonl.gz, .json (one list), .parquet. None for any
    other kind of file. Of columns that are stored apart, `only` the one that is wanted is read, where it is there."""
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path, key)
    if name.endswith(".json"):
        return _json_list(path, key)
    if name.endswith(".parquet"):
        return _parquet(path, key, only)
    return None


def _plain(path: Path, key: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{key}: cannot read {shown(path)}: {error.strerror}") from error
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), AT_ONCE):
        try:
            decoder.decode(data[start : start + AT_ONCE], final=start + AT_ONCE >= len(data))
        except UnicodeDecodeError as error:
            place = start + error.start + min(AT_ONCE, len(data) - start) - len(error.object)
            raise UsageError(f"{key}: {shown(path)} is not UTF-8 (byte {place})") from error
    if not data or data.isspace():
        raise UsageError(f"{key}: {shown(path)} is empty")
    return data


def _json_lines(path: Path, key: str) -> Iterator[tuple[int, Row]]:
    open_file: Callable[..., Any] = gzip.open if path.name.lower().endswith(".gz") else open
    number = 0
    try:
        with open_file(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(line, f"{key}: {shown(path)}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{key}: cannot read {shown(path)} after line {number}: {_reason(error)}") from error


def _row(text: bytes, place: str) -> Row:
    try:
        row = json.loads(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 (byte {error.start} of the line)") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{place}: not JSON: {error.msg} (character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{place}: a row must be a JSON object, not {_short(row)}")
    return row


def _json_list(path: Path, key: str) -> Iterator[tuple[int, Row]]:
    about = f"{key}: {shown(path)}"
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{key}: cannot read {shown(path)}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise UsageError(f"{about}{f':{line}' if line else ''}: not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{about}: a .json file must be a list of objects; one object a line is .jsonl")
    yield from enumerate(rows, start=1)


def _parquet(path: Path, key: str, only: str | None) -> Iterator[tuple[int, Row]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            columns = [only] if only in file.schema_arrow.names else None
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise UsageError(f"{key}: cannot read {shown(path)} after row {number}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong, in a line."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return shown(text if len(text) <= 40 else f"{text[:37]}...")
