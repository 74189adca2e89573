"""Tokenizers of the `tokenizers` library: byte-pair encoding trained on the training text, and any tokenizer.json."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.documents import Corpus, size_of
from harness.data.files import missing
from harness.data.pieces import in_pieces, sections
from harness.data.places import folders
from harness.data.settings.tokenizers import BPESettings, FileSettings, TokenizerSettings
from harness.data.store import built
from harness.data.tokenizers import ByteTokenizer, Counts, Tokenizer, Tokens, token_type
from harness.errors import UsageError, nearest, shown
from harness.progress import Meter

RECIPE = "byte-level, GPT-2's words, no prefix space, long lines cut before a word"
"""Part of the key of every trained tokenizer; changed when the training is."""
FILE = "tokenizer.json"
MOST_TOKENS = 2**22
"""Of a file: a table of embeddings reaches to its largest id."""
UNUSED = ("truncation", "padding", "post_processor")
"""Parts of a file that no text is encoded with here."""


class BoundaryError(ValueError):
    """The token named as boundary cannot be one."""


class SubwordTokenizer:
    """Any tokenizer of the library. Special tokens of the file are not looked for in text, and none is added by itself;
    a tokenizer that draws its merges (arXiv 1910.13267) takes the best ones.

    `boundary` names the special token that stands before documents; without it the tokenizer gets one more than the
    file has. Raises ValueError for text that is no tokenizer, or has no such token.
    """

    def __init__(self, text: str, boundary: str | None = None):
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_str(text)
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"no tokenizer: {error}") from error
        self._library.encode_special_tokens = True
        self._library.no_padding()
        self._library.no_truncation()
        if getattr(self._library.model, "dropout", None):
            self._library.model.dropout = None
        size = self._library.get_vocab_size(with_added_tokens=True)
        known = self._library.get_vocab(with_added_tokens=True)
        # Ids need not be dense: the table of embeddings reaches to the largest.
        size = max(size, max(known.values(), default=-1) + 1)
        if size > MOST_TOKENS:
            raise ValueError(f"an id of {size - 1:,}, and the table of embeddings would reach to it")
        if boundary is not None and boundary not in (special := self._special()):
            ordinary = f"'{boundary}' is an ordinary token, which text can have"
            why = ordinary if boundary in known else f"no token '{boundary}'"
            raise BoundaryError(f"{why}{nearest(boundary, special)[:200]}")
        if boundary is not None and self._spelt(boundary):
            raise BoundaryError(f"'{boundary}' is found in text that spells it; without a name there is one more token")
        self.boundary = size if boundary is None else known[boundary]
        self.vocabulary = max(size, self.boundary + 1)
        self.text = text

    def _spelt(self, token: str) -> bool:
        """Whether text that spells the token has it."""
        try:
            return self._library.token_to_id(token) in self.encode(f"{token} {token}")
        except UsageError:  # no token for what it does not know
            return False

    def _special(self) -> list[str]:
        return [token.content for token in self._library.get_added_tokens_decoder().values() if token.special]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the file says of text, and which token the boundary is."""
        content = {key: value for key, value in json.loads(self.text).items() if key not in UNUSED}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(f"{self.boundary}\0{canonical}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [found.ids for found in self._library.encode_batch_fast(list(texts), add_special_tokens=False)]
        except Exception as error:  # plain ones: a vocabulary without a token for what it does not know
            raise UsageError(f"data.tokenizer: it cannot encode the text: {shown(error)}") from error

    def decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._library.decode([token for token in tokens if token != self.boundary], skip_special_tokens=False)
        )

    def arrays(self, texts: Sequence[str], counted: bool) -> list[tuple[Tokens, Counts]]:
        # In pieces: the library takes memory in proportion to a text, and several cores where there are several texts.
        pieces = [list(in_pieces(text)) for text in texts]
        ids = iter(self.encode_all([piece for one in pieces for piece in one]))
        found: list[tuple[Tokens, Counts]] = []
        for text, one in zip(texts, pieces, strict=True):
            listed = list(chain.from_iterable(islice(ids, len(one))))
            tokens: Tokens = np.array(listed, dtype=token_type(self.vocabulary))
            found.append((tokens, self._counts(text, one, tokens) if counted else np.zeros(0, dtype=np.uint32)))
        return found

    def _counts(self, text: str, pieces: list[str], tokens: Tokens) -> Counts:
        size = len(text.encode())
        if self._byte_lengths is not None:
            lengths = self._byte_lengths[tokens]
            if int(lengths.sum()) == size:
                return lengths
        lengths = np.concatenate([np.zeros(0, dtype=np.uint32), *map(self._covered, pieces)])
        if len(lengths):
            lengths[-1] += size - int(lengths.sum())  # a piece without a token, such as blanks that are dropped
        return lengths

    @cached_property
    def _byte_lengths(self) -> Counts | None:
        """(vocabulary,) bytes of every token of a byte-level vocabulary, which spells a byte as a character; None of
        any other kind."""
        if '"ByteLevel"' not in json.dumps(json.loads(self.text).get("pre_tokenizer")):
            return None
        lengths = np.zeros(self.vocabulary, dtype=np.uint32)
        for token, index in self._library.get_vocab(with_added_tokens=True).items():
            lengths[index] = len(token)
        lengths[self.boundary] = 0
        return lengths

    def _covered(self, text: str) -> Counts:
        """Bytes of `text` by token, from where the library says that each ends. What lies between two tokens (white
        space that a normaliser drops) counts for the second, and what follows the last one for that."""
        found = self._library.encode(text, add_special_tokens=False)
        if not found.ids:
            return np.zeros(0, dtype=np.uint32)
        widths = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        bytes_until = np.concatenate([[0], np.cumsum(1 + (widths > 0x7F) + (widths > 0x7FF) + (widths > 0xFFFF))])
        ends = np.maximum.accumulate(np.array([end for _, end in found.offsets], dtype=np.int64))
        ends[-1] = len(text)
        return np.diff(bytes_until[ends], prepend=0).astype(np.uint32)


def load_tokenizer(settings: TokenizerSettings, corpus: Corpus, relative_to: Path | None = None) -> Tokenizer:
    """The tokenizer that `settings` asks for; one that is trained comes from the cache where the same was trained on
    the same documents. Raises UsageError."""
    if isinstance(settings, BPESettings):
        return trained(settings, corpus)
    if isinstance(settings, FileSettings):
        return _from_file(settings, relative_to)
    return ByteTokenizer()


def trained(settings: BPESettings, corpus: Corpus) -> SubwordTokenizer:
    """Byte-pair encoding of the training documents, `settings.vocabulary` tokens with the boundary, or fewer where the
    text has no more pairs."""
    import tokenizers

    made_of = [RECIPE, tokenizers.__version__, corpus.side_digest("train"), settings.model_dump(mode="json")]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]

    def train(folder: Path) -> dict[str, Any]:
        (folder / FILE).write_text(_train(settings, corpus), encoding="utf-8")
        return {"recipe": made_of}

    folder, _ = built("tokenizers", key, train)
    return SubwordTokenizer((folder / FILE).read_text(encoding="utf-8"))


def _train(settings: BPESettings, corpus: Corpus) -> str:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary - 1,  # the boundary is one more
        min_frequency=settings.min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def pieces(meter: Meter) -> Iterator[str]:
        for document in corpus.train:
            for section in sections(document.data):
                yield from in_pieces(section)
            meter.add(len(document.data))

    with Meter(f"training {settings.vocabulary} tokens on '{corpus.name}'", size_of(corpus.train), "B") as meter:
        library.train_from_iterator(pieces(meter), trainer=trainer)
    return str(library.to_str())


def _from_file(settings: FileSettings, relative_to: Path | None) -> SubwordTokenizer:
    for folder in folders(relative_to):
        if not os.path.isfile(place := folder / settings.file):
            continue
        try:
            return SubwordTokenizer(place.read_text(encoding="utf-8"), settings.boundary)
        except (OSError, ValueError) as error:
            about = "boundary" if isinstance(error, BoundaryError) else "file"
            raise UsageError(f"data.tokenizer.{about}: {shown(place)}: {shown(error)}") from error
    raise UsageError(f"data.tokenizer.file: {missing(settings.file, relative_to)}")
