"""Documents in files of one's own: plain text, JSON lines, Parquet. What is wrong is named by file and line."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.documents import Document
from harness.errors import UsageError, nearest

ROWS_AT_ONCE = 1024

Row = dict[str, Any]


def found_files(patterns: Iterable[str], key: str, relative_to: Path | None) -> list[Path]:
    """The files that the patterns name, looked for below `relative_to`, then below the working directory. Raises
    UsageError for a pattern without files."""
    paths: list[Path] = []
    for pattern in patterns:
        places = [relative_to / pattern] if relative_to is not None else []
        found: list[Path] = []
        for place in [*places, Path(pattern)]:
            matches = [str(place)] if place.is_file() else sorted(glob.glob(str(place), recursive=True))
            found = [Path(match) for match in matches if Path(match).is_file()]
            if found:
                break
        if not found:
            raise UsageError(f"{key}: no such file: {pattern}")
        paths += found
    return paths


def named_by_content(data: bytes) -> Document:
    """The same text under another path, or in another place of a file, is the same document."""
    return Document(hashlib.sha256(data).hexdigest()[:16], data)


def read_documents(path: Path, field: str, key: str) -> Iterator[Document]:
    """A document a row of .jsonl (or .jsonl.gz) and .parquet, else one of the whole file. Raises UsageError for a file
    that cannot be read, is empty or no UTF-8, and for a row without `field`."""
    rows = rows_of(path, key)
    if rows is None:
        yield named_by_content(_plain(path, key))
        return
    count = 0
    for number, row in rows:
        if field not in row:
            raise UsageError(f"{key}: {path}:{number}: no field '{field}'{nearest(field, row)}; data.field names it")
        if not isinstance(row[field], str):
            raise UsageError(f"{key}: {path}:{number}: the field '{field}' holds no text but {_short(row[field])}")
        try:
            data = row[field].encode()
        except UnicodeEncodeError:
            raise UsageError(f"{key}: {path}:{number}: the field '{field}' holds half a character") from None
        count += 1
        yield named_by_content(data)
    if not count:
        raise UsageError(f"{key}: {path} is empty")


def rows_of(path: Path, key: str) -> Iterator[tuple[int, Row]] | None:
    """(line or row number from 1, row) of a file of rows: .jsonl, .jsonl.gz, .json (one list), .parquet. None for any
    other kind of file."""
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _json_lines(path, key)
    if name.endswith(".json"):
        return _json_list(path, key)
    if name.endswith(".parquet"):
        return _parquet(path, key)
    return None


def _plain(path: Path, key: str) -> bytes:
    try:
        data = path.read_bytes()
        data.decode()
    except OSError as error:
        raise UsageError(f"{key}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{key}: {path} is not UTF-8 (byte {error.start})") from error
    if not data.strip():
        raise UsageError(f"{key}: {path} is empty")
    return data


def _json_lines(path: Path, key: str) -> Iterator[tuple[int, Row]]:
    open_file: Callable[..., Any] = gzip.open if path.name.lower().endswith(".gz") else open
    number = 0
    try:
        with open_file(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _row(line, f"{key}: {path}:{number}")
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{key}: cannot read {path} after line {number}: {reason}") from error


def _row(text: bytes, place: str) -> Row:
    try:
        row = json.loads(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 (byte {error.start} of the line)") from error
    except ValueError as error:
        raise UsageError(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{place}: a row must be a JSON object, not {_short(row)}")
    return row


def _json_list(path: Path, key: str) -> Iterator[tuple[int, Row]]:
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{key}: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise UsageError(f"{key}: {path}{f':{line}' if line else ''}: not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{key}: {path}: a .json file must be a list of objects; one object a line is .jsonl")
    yield from enumerate(rows, start=1)


def _parquet(path: Path, key: str) -> Iterator[tuple[int, Row]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise UsageError(f"{key}: cannot read {path} after row {number}: {str(error).splitlines()[0]}") from error


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
