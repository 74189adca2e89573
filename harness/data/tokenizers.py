"""Tokenizers: text to token ids and back, and how many bytes of text every token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.unsignedinteger[Any]]
"""uint16, or uint32 for a large vocabulary."""
Counts = NDArray[np.uint32]


class Tokenizer(Protocol):
    """Ids below `vocabulary`; `boundary` stands before every document (and before an empty context), and no text has
    it. `digest` names the tokenizer by what it does."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def boundary(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, of many texts at a time."""
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...
    def arrays(self, texts: Sequence[str], counted: bool) -> list[tuple[Tokens, Counts]]:
        """Of every text, its tokens and, where they are to be `counted`, the bytes of text that each stands for, which
        add up to the text's own (else none)."""
        ...


def token_type(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest type that holds every token."""
    return np.uint16 if vocabulary <= 2**16 else np.uint32


class ByteTokenizer:
    """Token i < 256 is the byte i; 256 is the boundary."""

    vocabulary = 257
    boundary = 256
    digest = "bytes"

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def arrays(self, texts: Sequence[str], counted: bool) -> list[tuple[Tokens, Counts]]:
        found: list[tuple[Tokens, Counts]] = []
        for text in texts:
            codes = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)
            found.append((codes, np.ones(len(codes) if counted else 0, dtype=np.uint32)))
        return found
