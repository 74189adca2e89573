"""Token shards: a side of a corpus as one row of tokens, memory-mapped, made once for a corpus and a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.cache import cache_folder
from harness.data.documents import Corpus, Document, side_digests, size_of
from harness.data.pieces import sections
from harness.data.store import built
from harness.data.tokenizers import Counts, Tokens, token_type
from harness.errors import UsageError
from harness.progress import Meter

SHARD_VERSION = 3
CHUNK_CHARS = 2 * 2**20
TOKENS, BYTES = "tokens.bin", "bytes.bin"


@dataclass(frozen=True, eq=False)
class Shard:
    """`tokens` of one side, the boundary before each document; of a side that is judged, the `bytes` of text that each
    stands for, which add up to the side's own: none for a boundary, unless its document begins with a long stretch that
    the tokenizer drops."""

    tokens: Tokens
    bytes: Counts


def shard(corpus: Corpus, side: str) -> Shard:
    """The tokens of `side` under the corpus's tokenizer, from the cache or made now. Raises UsageError where the cache
    cannot be written."""
    tokenizer = corpus.tokenizer
    name = f"{SHARD_VERSION}\0{corpus.side_digest(side)}\0{tokenizer.digest}"
    documents: Sequence[Document] = getattr(corpus, side)
    counted = side != "train"

    def make(folder: Path) -> dict[str, Any]:
        if side_digests(corpus.name, {side: documents})[side] != corpus.side_digest(side):
            raise UsageError(f"the cached text of '{corpus.name}' is damaged: delete {cache_folder() / 'corpora'}")
        dtype, count = token_type(tokenizer.vocabulary), 0
        boundary: Tokens = np.array([tokenizer.boundary], dtype)
        with (
            (folder / TOKENS).open("wb") as tokens_file,
            (folder / BYTES).open("wb") as bytes_file,
            Meter(f"tokens of '{corpus.name}' ({side})", size_of(documents), "B") as meter,
        ):
            waiting: Counts = np.zeros(0, np.uint32)
            for chunk in _chunks(documents):
                found = tokenizer.arrays([section for section, _ in chunk], counted)
                for (section, first), (tokens, lengths) in zip(chunk, found, strict=True):
                    if first:
                        tokens_file.write(boundary.tobytes())
                        bytes_file.write(waiting.tobytes())
                        waiting = np.zeros(int(counted), np.uint32)
                    if (tokens == tokenizer.boundary).any():
                        raise UsageError(
                            "data.tokenizer.boundary: the text itself has this token, such as for what the tokenizer "
                            "does not know; without a name the boundary is one more token"
                        )
                    tokens_file.write(tokens.astype(dtype).tobytes())
                    if len(lengths):
                        bytes_file.write(waiting.tobytes())
                        waiting = lengths
                    elif counted:  # nothing but what the tokenizer drops: it counts for the token before
                        waiting[-1] += len(section.encode())
                    count += int(first) + len(tokens)
                meter.add(sum(len(section.encode()) for section, _ in chunk))
            bytes_file.write(waiting.tobytes())
        return {"dtype": np.dtype(dtype).name, "tokens": count, "tokenizer": tokenizer.digest, "side": side}

    folder, meta = built("tokens", hashlib.sha256(name.encode()).hexdigest()[:24], make)
    return Shard(_mapped(folder / TOKENS, meta["dtype"]), _mapped(folder / BYTES, "uint32"))


def _mapped(path: Path, dtype: str) -> Any:
    if not path.stat().st_size:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _chunks(documents: Sequence[Document]) -> Iterator[list[tuple[str, bool]]]:
    """Sections of documents, and whether each is its document's first, as many at a time as several cores like."""
    chunk: list[tuple[str, bool]] = []
    size = 0
    for document in documents:
        for number, section in enumerate(sections(document.data)):
            chunk.append((section, number == 0))
            size += len(section)
            if size >= CHUNK_CHARS:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk
