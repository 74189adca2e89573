"""Any corpus, text, images or synthetic diagnostics, by its settings."""

from __future__ import annotations

from pathlib import Path

from harness.data.corpora import load_corpus
from harness.data.documents import Corpus
from harness.data.images import ImageSet, load_images
from harness.data.inputs import Inputs, TextInputs
from harness.data.settings import DataSettings, ImageSettings, SymbolsSettings, TextSettings
from harness.data.synthetic import Symbols, load_symbols

Data = Corpus | ImageSet | Symbols


def load_data(settings: DataSettings, relative_to: Path | None = None) -> Data:
    """The data that `settings` name. Raises UsageError for data that are missing or cannot be read."""
    if isinstance(settings, ImageSettings):
        return load_images(settings, relative_to)
    if isinstance(settings, SymbolsSettings):
        return load_symbols(settings)
    assert isinstance(settings, TextSettings)
    return load_corpus(settings, relative_to)


def digests_of(data: Data) -> dict[str, str]:
    """What names the data by content: all of them, and of text the held-out side and the tokenizer besides."""
    if not isinstance(data, Corpus):
        return {"data": data.digest}
    return {"data": data.digest, "valid": data.side_digest("valid"), "tokenizer": data.tokenizer.digest}


def inputs_of(data: Data) -> Inputs:
    """What the data decide of a model's shape."""
    if not isinstance(data, Corpus):
        return data.inputs
    return TextInputs(data.tokenizer.vocabulary, data.tokenizer.boundary)
