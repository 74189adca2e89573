"""Which data, without numpy: a class of settings for every corpus, chosen by `corpus`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from harness.data.settings.base import DataSettings, Kind
from harness.data.settings.images import Cifar10Settings, DigitsSettings, ImageFolderSettings, ImageSettings
from harness.data.settings.synthetic import (
    BracketsSettings,
    CopySettings,
    InductionSettings,
    MQARSettings,
    SymbolsSettings,
)
from harness.data.settings.text import HubSettings, PythonSettings, StdlibSettings, TextFilesSettings, TextSettings
from harness.data.settings.tokenizers import (
    TOKENIZERS,
    AnyTokenizer,
    BPESettings,
    BytesSettings,
    FileSettings,
    TokenizerSettings,
)

CORPORA: dict[str, type[DataSettings]] = {
    "stdlib": StdlibSettings,
    "python": PythonSettings,
    "text": TextFilesSettings,
    "hf": HubSettings,
    "digits": DigitsSettings,
    "cifar10": Cifar10Settings,
    "image_folder": ImageFolderSettings,
    "mqar": MQARSettings,
    "induction": InductionSettings,
    "copy": CopySettings,
    "brackets": BracketsSettings,
}


def corpus_type(raw: Any) -> type[DataSettings] | None:
    """The settings class that a raw `data` section asks for; None where nothing is called so."""
    return CORPORA.get(str(raw.get("corpus", "stdlib"))) if isinstance(raw, dict) else None


def _by_corpus(raw: Any) -> DataSettings:
    """The settings of the class that `corpus` names; the standard library where it names none."""
    if isinstance(raw, DataSettings):
        return raw
    if not isinstance(raw, dict):
        raise PydanticCustomError("data_mapping", "must be a mapping of keys")
    kind = corpus_type(raw)
    if kind is None:
        raise PydanticCustomError("unknown_corpus", "unknown corpus '{tag}'", {"tag": str(raw["corpus"])})
    return kind.model_validate(raw)


AnyData = Annotated[SerializeAsAny[DataSettings], PlainValidator(_by_corpus)]
"""A field that takes the settings of any corpus in the table, chosen by `corpus`."""


def data_settings(**keys: Any) -> DataSettings:
    """The settings of the corpus that `corpus` names. Raises pydantic's ValidationError."""
    return _by_corpus(keys)


__all__ = [
    "CORPORA",
    "TOKENIZERS",
    "AnyData",
    "AnyTokenizer",
    "BPESettings",
    "BracketsSettings",
    "BytesSettings",
    "Cifar10Settings",
    "CopySettings",
    "DataSettings",
    "DigitsSettings",
    "FileSettings",
    "HubSettings",
    "ImageFolderSettings",
    "ImageSettings",
    "InductionSettings",
    "Kind",
    "MQARSettings",
    "PythonSettings",
    "StdlibSettings",
    "SymbolsSettings",
    "TextFilesSettings",
    "TextSettings",
    "TokenizerSettings",
    "corpus_type",
    "data_settings",
]
