"""Hugging Face datasets: over the network where there is one, else from the library's own cache or a local folder."""

from __future__ import annotations

import functools
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.documents import Document
from harness.data.files import named_by_content
from harness.data.settings import HubSettings
from harness.errors import UsageError, nearest

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
TIMEOUT_SECONDS = 4.0
INSTEAD = "without the hub, name local files: corpus: text, files: [...] (.txt, .jsonl, .parquet)"


@functools.cache
def offline() -> str | None:
    """Why the hub cannot be reached, or None. Without a network the libraries are told so before they are imported: by
    themselves they try for 23 seconds, dataset by dataset."""
    if reason := next((name for name in OFFLINE if os.environ.get(name, "") not in ("", "0")), None):
        return f"{reason} is set"
    place = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not place.startswith(("https://", "http://")):
        return f"HF_ENDPOINT is no address: {place}"
    try:
        urllib.request.urlopen(urllib.request.Request(place, method="HEAD"), timeout=TIMEOUT_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return None  # it answers
    except (OSError, ValueError) as error:
        for name in OFFLINE:
            os.environ[name] = "1"
        return f"{place} does not answer: {getattr(error, 'reason', error)}"
    return None


def load(path: str, about: str, instead: str, **arguments: Any) -> Any:
    """`datasets.load_dataset(path, ...)`. Raises UsageError: what it is about, why not, what to do instead."""
    reason = None if Path(path).exists() else offline()
    import datasets

    if reason is not None:
        # For a process that imported the libraries before anybody asked.
        datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = True
    try:
        return datasets.load_dataset(path, **arguments)
    except Exception as error:  # the libraries raise dozens of kinds, from those of arrow to those of the network
        why = reason or _first_line(error)
        raise UsageError(f"{about} cannot be loaded: {why}; {instead}") from error


def documents_of(
    settings: HubSettings, split: str, limit: int | None, relative_to: Path | None
) -> tuple[Iterator[Document], str | None]:
    """(documents of a split, at most `limit`; the commit that they are of, where the hub says it). Raises UsageError,
    also while the documents are read."""
    local = local_folder(settings.dataset, relative_to)
    about = f"data.dataset: '{settings.dataset}'"
    commit = None if local else _commit(settings, about)
    arguments: dict[str, Any] = {"name": settings.config, "split": split, "streaming": settings.streaming}
    dataset = load(str(local or settings.dataset), about, INSTEAD, revision=commit or settings.revision, **arguments)
    return _documents(dataset, settings.field, limit, f"{about}, split '{split}'"), commit


def _commit(settings: HubSettings, about: str) -> str | None:
    """The commit that the revision stands for now, so that it can be recorded."""
    if offline() is not None:
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(settings.dataset, revision=settings.revision, timeout=30).sha)
    except Exception as error:  # not there, private, or gone in the meantime: the library has a kind for each
        raise UsageError(f"{about} cannot be loaded: {_first_line(error)}; {INSTEAD}") from error


def local_folder(name: str, relative_to: Path | None) -> Path | None:
    """The folder that a dataset's name is the path of, where it is one."""
    places = [relative_to / name] if relative_to is not None else []
    return next((place for place in [*places, Path(name)] if place.is_dir()), None)


def _documents(dataset: Iterable[dict[str, Any]], field: str, limit: int | None, about: str) -> Iterator[Document]:
    rows, number = iter(dataset), 0
    while number != limit:
        try:
            row = next(rows, None)
        except Exception as error:  # the network goes, a shard is torn
            raise UsageError(f"{about}: cannot be read after row {number}: {_first_line(error)}") from error
        if row is None:
            return
        number += 1
        if field not in row:
            raise UsageError(f"{about}: no field '{field}'{nearest(field, row)}; data.field names it")
        if not isinstance(row[field], str):
            raise UsageError(f"{about}, row {number}: the field '{field}' holds no text")
        yield named_by_content(row[field].encode(errors="replace"))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
