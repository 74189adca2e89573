"""Files of the gate that lie in git: JSON with a format, a kind and a seal, so that whatever is wrong with one is one
clear line, and none is ever half written."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.errors import UsageError, nearest, shown
from harness.run.celldir import write_whole
from harness.settings import Settings

FORMAT = 1
LONG = 180
"""Characters that a line of the file has at most, but for a list."""

Content = TypeVar("Content", bound=Settings)


def is_there(path: Path) -> bool:
    """Raises UsageError for what cannot be the name of a file."""
    try:
        return bool(path.name) and path.exists()
    except OSError as error:
        raise UsageError(f"{shown(path)[:200]}: cannot be read: {error.strerror}") from error


def write_sealed(path: Path, kind: str, content: Settings) -> None:
    """Atomic. Raises UsageError where the file cannot be written."""
    body = content.model_dump(mode="json")
    document = {"kind": kind, "format": FORMAT, **body, "seal": _seal(kind, body)}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    # What is short is one line, so that a baseline reads as a diff. No text has a line end in it: JSON escapes them.
    for innermost in (r"\[[^\[\]{}]*\]", r"\{[^\[\]{}]*\}"):
        text = re.sub(innermost, lambda found: _short(found[0]), text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be written: {error.strerror}") from error


def read_sealed(path: Path, kind: str, content: type[Content], command: str) -> Content:
    """The content of a file that `write_sealed` wrote; `command` says what writes such a file. Raises UsageError for
    any other, which is left as it is."""
    place = shown(path)[:200]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [file.as_posix() for file in sorted(path.parent.glob("*.json"))] if path.parent.is_dir() else []
        raise UsageError(f"{place}: there is no such {kind}; {command} writes one{nearest(place, others)}") from None
    except OSError as error:
        raise UsageError(f"{place}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise UsageError(f"{place}: damaged or cut short: it is not JSON; take it from git again") from None
    if not isinstance(document, dict) or not {"kind", "format", "seal"} <= document.keys():
        raise UsageError(f"{place}: is no {kind}: {command} writes one")
    if document["kind"] != kind:
        raise UsageError(f"{place}: is a '{document['kind']}', and a '{kind}' is asked for")
    if document["format"] != FORMAT:
        raise UsageError(
            f"{place}: has format {document['format']}, and this version of the harness knows format {FORMAT}: "
            f"update it, or write the file anew with {command}"
        )
    body = {key: value for key, value in document.items() if key not in ("kind", "format", "seal")}
    if document["seal"] != _seal(kind, body):
        raise UsageError(
            f"{place}: was changed by hand or damaged: it does not match its seal; take it from git again, or write it "
            f"anew with {command}"
        )
    try:
        # Sealed JSON has lists where the content has tuples, and its keys are text.
        return content.model_validate_json(json.dumps(body))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {key}: {first['msg']}; write it anew with {command}") from None


def _short(text: str) -> str:
    """On one line, where that is not long. (A list of numbers always is.)"""
    line = re.sub(r"\n *", " ", text)
    return line if len(line) <= LONG or text.startswith("[") else text


def _seal(kind: str, body: dict[str, Any]) -> str:
    canonical = json.dumps([kind, FORMAT, body], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]
