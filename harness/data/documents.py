"""Documents on three sides, packed into one file and memory-mapped: what a corpus is once it has been read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from harness.data.tokenizers import ByteTokenizer, Tokenizer

SIDES = ("train", "valid", "test")
TEXT = "text.bin"


@dataclass(frozen=True)
class Document:
    """`name` is unique in its corpus and independent of the machine; `data` is UTF-8."""

    name: str
    data: bytes


class Documents(Sequence[Document]):
    """Documents of one side in a packed file. `spans` is (K, 3): where name and text begin, and where the text ends."""

    def __init__(self, text: NDArray[np.uint8], spans: NDArray[np.int64]):
        self._text, self._spans = text, spans

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Document, ...]: ...
    def __getitem__(self, index: int | slice) -> Document | tuple[Document, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        name, start, end = (int(place) for place in self._spans[index])
        return Document(self._text[name:start].tobytes().decode(), self._text[start:end].tobytes())

    @property
    def size(self) -> int:
        """Bytes of text."""
        return int((self._spans[:, 2] - self._spans[:, 1]).sum())


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents to train on, held-out ones (validation during training) and ones that nothing sees before scoring, each
    in the order of their names; no content is on two sides. `tokenizer` makes tokens of them."""

    name: str
    train: Sequence[Document]
    valid: Sequence[Document]
    test: Sequence[Document] = ()
    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)
    digests: Mapping[str, str] | None = None
    """Known digests of the corpus and its sides; by default they are computed."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What was found when the corpus was made: duplicates, overlap of the sides, sources."""

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return self.digests or side_digests(self.name, {side: getattr(self, side) for side in SIDES})

    @property
    def digest(self) -> str:
        """SHA-256 over sides, names and contents."""
        return self._digests["corpus"]

    def side_digest(self, side: str) -> str:
        """SHA-256 over the names and contents of one side."""
        return self._digests[side]

    @property
    def train_bytes(self) -> int:
        return size_of(self.train)

    @property
    def valid_bytes(self) -> int:
        return size_of(self.valid)

    @property
    def judged(self) -> Sequence[Document]:
        """What tasks are made from: the test side, or the held-out one where there is no test side."""
        return self.test or self.valid


def size_of(documents: Sequence[Document]) -> int:
    """Bytes of text."""
    return documents.size if isinstance(documents, Documents) else sum(len(document.data) for document in documents)


def side_digests(name: str, sides: Mapping[str, Iterable[Document]]) -> dict[str, str]:
    contents = {
        side: ((document.name, hashlib.sha256(document.data).hexdigest()) for document in documents)
        for side, documents in sides.items()
    }
    return combined_digests(name, contents)


def combined_digests(name: str, contents: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Digests of the corpus and its sides from (name, SHA-256) of all documents. An empty test side does not count."""
    whole, sides = hashlib.sha256(name.encode()), {}
    for side in SIDES:
        digest = hashlib.sha256(side.encode())
        for document, content in contents.get(side, ()):
            digest.update(f"\0{document}\0{content}".encode())
            whole.update(f"\0{side}\0{document}\0{content}".encode())
        sides[side] = digest.hexdigest()
    return {"corpus": whole.hexdigest(), **sides}


def opened(folder: Path, meta: Mapping[str, Any]) -> Corpus:
    """The packed corpus in `folder`, memory-mapped."""
    path = folder / TEXT
    text = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint8)
    plain = text.view(np.ndarray)  # slices of a memmap that are memmaps again cost more than the bytes they hold
    train, valid, test = (
        Documents(plain, np.load(folder / f"{side}.npy", mmap_mode="r").view(np.ndarray)) for side in SIDES
    )
    return Corpus(meta["name"], train, valid, test, digests=meta["digests"], report=meta["report"])


def texts(documents: Iterable[Document]) -> Iterator[str]:
    """The documents' texts, decoded."""
    for document in documents:
        yield document.data.decode()
