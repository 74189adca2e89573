"""Any corpus, text or images, by its settings."""

from __future__ import annotations

from pathlib import Path

from harness.data.corpora import Corpus, load_corpus
from harness.data.images import ImageSet, load_images
from harness.data.inputs import Inputs, TextInputs
from harness.data.settings import DataSettings
from harness.data.tokenizers import TOKENIZERS

Data = Corpus | ImageSet


def load_data(settings: DataSettings, relative_to: Path | None = None) -> Data:
    """The corpus that `settings` names. Raises UsageError for data that are missing or cannot be read."""
    return load_images(settings, relative_to) if settings.kind == "images" else load_corpus(settings, relative_to)


def inputs_of(settings: DataSettings, data: Data) -> Inputs:
    """What the data decide of a model's shape."""
    if isinstance(data, ImageSet):
        return data.inputs
    tokenizer = TOKENIZERS[settings.tokenizer]
    return TextInputs(tokenizer.vocabulary, tokenizer.boundary)
