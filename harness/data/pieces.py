"""Text in pieces that tokenizers take one by one: their memory is a hundred times what they are given at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

PIECE_CHARS = 64 * 1024
SECTION_BYTES = 2 * 2**20


def in_pieces(text: str) -> Iterator[str]:
    """Cut after line ends, 64 Ki characters or somewhat more each; where no line ends before twice as many, before
    the last blank, else anywhere. Where a piece ends depends on nothing beyond twice 64 Ki characters."""
    start = 0
    while start < len(text):
        end = _piece_end(text, start)
        yield text[start:end]
        start = end


def _piece_end(text: str, start: int) -> int:
    least, most = start + PIECE_CHARS, start + 2 * PIECE_CHARS
    if (line_end := text.find("\n", least, most)) >= 0:
        return line_end + 1
    if len(text) <= most:
        return len(text)
    # Words of most tokenizers begin with the one blank before them.
    blank = text.rfind(" ", least, most)
    while blank >= 0 and text[blank + 1].isspace():
        blank = text.rfind(" ", least, blank)
    return most if blank < 0 else blank


def sections(data: bytes) -> Iterator[str]:
    """A document (UTF-8), decoded in sections of about 2 MiB. The pieces of the sections are the pieces of the
    document."""
    decoder, text = codecs.getincrementaldecoder("utf-8")(), ""
    for start in range(0, len(data), SECTION_BYTES):
        text += decoder.decode(data[start : start + SECTION_BYTES], final=start + SECTION_BYTES >= len(data))
        end = 0
        while len(text) - end > 2 * PIECE_CHARS:  # what follows does not change where this piece ends
            end = _piece_end(text, end)
        if end:
            yield text[:end]
        text = text[end:]
    if text:
        yield text
