"""Settings of tokenizers."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from harness.settings import Settings


class TokenizerSettings(Settings, ABC):
    """How text becomes tokens. `type` chooses the class; `tokenizer: bytes` is short for `tokenizer: {type: bytes}`."""

    type: str

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong) when the keys do not fit together, else None."""
        return None


class BytesSettings(TokenizerSettings):
    """Every byte is a token."""

    type: Literal["bytes"] = "bytes"


class BPESettings(TokenizerSettings):
    """Byte-level byte-pair encoding (arXiv 1508.07909), trained on the training documents."""

    type: Literal["bpe"] = "bpe"
    vocabulary: int = Field(default=4096, ge=258, le=2**20)
    """Tokens, the 256 bytes and the boundary between documents among them. A small text may yield fewer."""
    min_frequency: int = Field(default=2, ge=1)
    """How often a pair occurs before it is merged."""


class FileSettings(TokenizerSettings):
    """Any tokenizer.json of the `tokenizers` library."""

    type: Literal["file"] = "file"
    file: str = ""
    """Relative to the suite file, else to the working directory."""
    boundary: str | None = None
    """The token that stands before every document, such as <|endoftext|>; by default one more than the file has."""

    def problem(self) -> tuple[str, str] | None:
        return None if self.file else ("file", "the tokenizer 'file' needs a file: a tokenizer.json")


TOKENIZERS: dict[str, type[TokenizerSettings]] = {"bytes": BytesSettings, "bpe": BPESettings, "file": FileSettings}


def _by_type(raw: Any) -> TokenizerSettings:
    if isinstance(raw, TokenizerSettings):
        return raw
    raw = {"type": raw} if isinstance(raw, str) else raw
    if not isinstance(raw, dict) or "type" not in raw:
        raise PydanticCustomError("tokenizer_without_type", "a tokenizer needs a type")
    kind = TOKENIZERS.get(str(raw["type"]))
    if kind is None:
        raise PydanticCustomError("unknown_tokenizer", "unknown tokenizer '{tag}'", {"tag": str(raw["type"])})
    return kind.model_validate(raw)


AnyTokenizer = Annotated[SerializeAsAny[TokenizerSettings], PlainValidator(_by_type)]
"""A field that takes the settings of any tokenizer in the table, chosen by `type`."""
