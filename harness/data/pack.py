"""Documents as they come become a packed corpus: sides by a fixed hash, no content on two of them, order by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.documents import SIDES, TEXT, Document, combined_digests, opened
from harness.data.overlap import overlap

SPLIT_VERSION = b"connection-harness split 1\0"
"""Part of the hash that decides the side of a document; changing it changes every corpus."""

BLOCK_BYTES = 16 * 1024
WHOLE_DOCUMENTS_FROM = 20
"""Fewer documents than these are split by blocks of lines instead of whole, else one side might be empty."""


def position(name: str) -> float:
    """In [0, 1): where a document stands when sides are drawn."""
    return int.from_bytes(hashlib.sha256(SPLIT_VERSION + name.encode()).digest()[:8]) / 2**64


def blocks(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents whole if they are many, else in blocks of about 16 KiB cut at line ends."""
    coming = iter(documents)
    first: dict[bytes, Document] = {}
    for document in coming:
        first.setdefault(document.data, document)
        if len(first) >= WHOLE_DOCUMENTS_FROM:
            return chain(first.values(), coming)
    return chain.from_iterable(_cut(document) for document in first.values())


def _cut(document: Document) -> Iterator[Document]:
    start = number = 0
    data = document.data
    while start < len(data):
        end = data.find(b"\n", start + BLOCK_BYTES)
        end = len(data) if end < 0 else end + 1
        if end > start + 2 * BLOCK_BYTES:  # a text without line ends: between two characters then
            end = start + BLOCK_BYTES
            while data[end] & 0xC0 == 0x80:
                end -= 1
        yield Document(f"{document.name}/{number:06d}", data[start:end])
        start, number = end, number + 1


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    side: str | None
    """None where a hash of the name decides."""
    span: tuple[int, int, int]
    content: str
    """SHA-256"""
    words: bytes
    """Hash of the content without regard to white space: what makes two documents the same."""


class Packer:
    """Writes documents into `folder` as they come; order, sides and copies are settled by `finish`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = (folder / TEXT).open("wb")
        self._entries: list[_Entry] = []

    def add(self, document: Document, side: str | None = None) -> None:
        """Blank documents are left out."""
        words = document.data.split()
        if not words:
            return
        start, name = self._file.tell(), document.name.encode()
        middle = start + len(name)
        self._file.write(name + document.data)
        content = hashlib.sha256(document.data).hexdigest()
        same = hashlib.sha256(b" ".join(words)).digest()[:16]
        self._entries.append(_Entry(document.name, side, (start, middle, middle + len(document.data)), content, same))

    def finish(self, name: str, valid_share: float, test_share: float, sources: Any = None) -> dict[str, Any]:
        """The meta data of the finished corpus."""
        self._file.close()
        kept, copies = _without_copies(self._entries, valid_share, test_share)
        sides: dict[str, list[_Entry]] = {side: [] for side in SIDES}
        for side, entry in kept:
            sides[side].append(entry)
        _fill(sides["train"], sides["valid"], wanted=not any(entry.side for entry in self._entries))
        if test_share:
            _fill(sides["train"], sides["test"], wanted=len(sides["train"]) > 1)
        for side, entries in sides.items():
            entries.sort(key=lambda entry: entry.name)
            spans: NDArray[np.int64] = np.array([entry.span for entry in entries], dtype=np.int64).reshape(-1, 3)
            np.save(self.folder / f"{side}.npy", spans)
        contents = {side: [(entry.name, entry.content) for entry in entries] for side, entries in sides.items()}
        meta = {"name": name, "digests": combined_digests(name, contents), "report": {}}
        corpus = opened(self.folder, meta)
        meta["report"] = {
            "documents": {side: len(entries) for side, entries in sides.items()},
            "bytes": {side: sum(entry.span[2] - entry.span[1] for entry in entries) for side, entries in sides.items()},
            "copies_removed": copies,
            "overlap": {
                side: overlap(getattr(corpus, side), corpus.train)
                for side in ("valid", "test")
                if getattr(corpus, side)
            },
            **({"sources": sources} if sources is not None else {}),
        }
        return meta


def _without_copies(
    entries: list[_Entry], valid_share: float, test_share: float
) -> tuple[list[tuple[str, _Entry]], dict[str, int]]:
    """(side, entry) of the documents that stay, and how many copies went: of a text on several sides the copy that
    stays is the one furthest from training, else the first by name."""

    def side(entry: _Entry) -> str:
        if entry.side is not None:
            return entry.side
        place = position(entry.name)
        return "valid" if place < valid_share else "test" if place < valid_share + test_share else "train"

    def rank(entry: _Entry) -> tuple[int, str]:
        return (-SIDES.index(entry.side) if entry.side is not None else 0), entry.name

    best: dict[bytes, _Entry] = {}
    for entry in entries:
        if entry.words not in best or rank(entry) < rank(best[entry.words]):
            best[entry.words] = entry
    kept = [(side(entry), entry) for entry in best.values()]
    gone = [entry for entry in entries if best[entry.words] is not entry]
    across = sum(side(entry) != side(best[entry.words]) for entry in gone)
    return kept, {"on_one_side": len(gone) - across, "on_two_sides": across}


def _fill(train: list[_Entry], side: list[_Entry], wanted: bool) -> None:
    """A side that the hash left empty gets one document."""
    if wanted and not side and len(train) > 1:
        first = min(train, key=lambda entry: position(entry.name))
        train.remove(first)
        side.append(first)
