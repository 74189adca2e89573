"""Documents as they come become a packed corpus: sides by a fixed hash, no content on two of them, order by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
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
PIECE_BYTES = 2**20


def position(name: str) -> float:
    """In [0, 1): where a document stands when sides are drawn."""
    return int.from_bytes(hashlib.sha256(SPLIT_VERSION + name.encode()).digest()[:8]) / 2**64


def blocks(document: Document) -> Iterator[Document]:
    """A document in blocks of about 16 KiB cut at line ends, named by place and content: text that is added at the end
    of a document moves none of the others to another side."""
    start = number = 0
    data = document.data
    while start < len(data):
        end = data.find(b"\n", start + BLOCK_BYTES, start + 2 * BLOCK_BYTES)
        if end >= 0:
            end += 1
        elif len(data) <= start + 2 * BLOCK_BYTES:
            end = len(data)
        else:  # a text without line ends: between two characters then
            end = start + BLOCK_BYTES
            while data[end] & 0xC0 == 0x80:
                end -= 1
        block = data[start:end]
        yield Document(f"{number:06d}/{hashlib.sha256(block).hexdigest()[:16]}", block)
        start, number = end, number + 1


def same_words(data: bytes) -> bytes:
    """Hash of a content without regard to white space: what makes two documents the same. Empty for a blank one."""
    digest, gap, blank = hashlib.sha256(), b"", True
    for start in range(0, len(data), PIECE_BYTES):  # a list of all words of a large document takes 15 times its size
        piece = data[start : start + PIECE_BYTES]
        if words := piece.split():
            digest.update((b" " if piece[:1].isspace() and not blank else gap) + b" ".join(words))
            blank = False
        gap = b" " if piece[-1:].isspace() and not blank else b""
    return b"" if blank else digest.digest()[:16]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    side: str | None
    """None where a hash of the name decides."""
    start: int
    """Where the name begins; the text follows it."""
    size: int
    """Bytes of text."""
    content: bytes
    """SHA-256"""
    words: bytes

    @property
    def span(self) -> tuple[int, int, int]:
        middle = self.start + len(self.name.encode())
        return self.start, middle, middle + self.size


class Packer:
    """Writes documents into `folder` as they come; order, sides and copies are settled by `finish`. `in_blocks`: where
    sides are drawn and different documents are few, they are cut into blocks of lines."""

    def __init__(self, folder: Path, in_blocks: bool = False):
        self.folder, self.in_blocks = folder, in_blocks
        self._file = (folder / TEXT).open("wb")
        self._entries: list[_Entry] = []

    def add(self, document: Document, side: str | None = None) -> None:
        """Blank documents are left out."""
        words = same_words(document.data)
        if not words:
            return
        start = self._file.tell()
        self._file.write(document.name.encode())
        self._file.write(document.data)
        content = hashlib.sha256(document.data).digest()
        self._entries.append(_Entry(document.name, side, start, len(document.data), content, words))

    def finish(self, name: str, valid_share: float, test_share: float, sources: Any = None) -> dict[str, Any]:
        """The meta data of the finished corpus."""
        self._file.close()
        drawn = not any(entry.side for entry in self._entries)
        whole_copies = self._cut() if self.in_blocks and drawn else 0
        kept, copies = _without_copies(self._entries, valid_share, test_share)
        copies["on_one_side"] += whole_copies
        sides: dict[str, list[_Entry]] = {side: [] for side in SIDES}
        for side, entry in kept:
            sides[side].append(entry)
        _fill(sides["train"], sides["valid"], wanted=drawn)
        if test_share:
            _fill(sides["train"], sides["test"], wanted=len(sides["train"]) > 1)
        for side, entries in sides.items():
            entries.sort(key=lambda entry: entry.name)
            spans: NDArray[np.int64] = np.array([entry.span for entry in entries], dtype=np.int64).reshape(-1, 3)
            np.save(self.folder / f"{side}.npy", spans)
        contents = {side: ((entry.name, entry.content.hex()) for entry in entries) for side, entries in sides.items()}
        meta = {"name": name, "digests": combined_digests(name, contents), "report": {}}
        corpus = opened(self.folder, meta)
        meta["report"] = {
            "documents": {side: len(entries) for side, entries in sides.items()},
            "bytes": {side: sum(entry.size for entry in entries) for side, entries in sides.items()},
            "copies_removed": copies,
            "overlap": {
                side: overlap(getattr(corpus, side), corpus.train)
                for side in ("valid", "test")
                if getattr(corpus, side)
            },
            **({"sources": sources} if sources is not None else {}),
        }
        return meta

    def _cut(self) -> int:
        """The documents become their blocks where they are few; how many were copies of others. All are written before
        that is known, for together they may be larger than memory."""
        first: dict[bytes, _Entry] = {}
        for entry in self._entries:
            if entry.words not in first or entry.name < first[entry.words].name:
                first[entry.words] = entry
        if not 0 < len(first) < WHOLE_DOCUMENTS_FROM:
            return 0
        copies, self._entries = len(self._entries) - len(first), []
        whole = (self.folder / TEXT).rename(self.folder / "whole.bin")
        with whole.open("rb") as text, (self.folder / TEXT).open("wb") as self._file:
            for entry in first.values():
                _, start, end = entry.span
                text.seek(start)
                for block in blocks(Document(entry.name, text.read(end - start))):
                    self.add(block)
        whole.unlink()
        return copies


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
