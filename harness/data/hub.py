"""Hugging Face datasets: over the network where there is one, else from the library's own cache or a local folder."""

from __future__ import annotations

import functools
import http.client
import logging
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.documents import Document
from harness.data.files import named_by_content
from harness.data.places import folders
from harness.data.settings import HubSettings
from harness.errors import UsageError, first_line, nearest, shown

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
TRUE = ("1", "ON", "YES", "TRUE")
"""What the libraries take for yes in the environment."""
TIMEOUT_SECONDS = 4.0
INSTEAD = "without the hub, name local files: corpus: text, files: [...] (.txt, .jsonl, .parquet)"


@functools.cache
def offline() -> str | None:
    """Why the hub cannot be reached, or None. Without a network the libraries are told so before they are imported: by
    themselves they try for 23 seconds, dataset by dataset."""
    if reason := next((name for name in OFFLINE if os.environ.get(name, "").upper() in TRUE), None):
        return f"{reason} is set"
    place = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not place.startswith(("https://", "http://")):
        return f"HF_ENDPOINT is no address: {shown(place)}"
    if (reason := _silence(place)) is not None:
        for name in OFFLINE:
            os.environ[name] = "1"
        return f"{place} does not answer: {reason}"
    return None


def _silence(place: str) -> str | None:
    """Why no server answers at an address within TIMEOUT_SECONDS; None where one does. Asked by a thread of its own:
    nothing limits the time that looking up a name takes."""
    answer: list[str | None] = []

    def ask() -> None:
        reason = None
        try:
            urllib.request.urlopen(urllib.request.Request(place, method="HEAD"), timeout=TIMEOUT_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # it answers
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = first_line(getattr(error, "reason", error))
        answer.append(reason)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT_SECONDS)
    return answer[0] if answer else "timed out"


def load(path: str, about: str, instead: str, **arguments: Any) -> Any:
    """`datasets.load_dataset(path, ...)`. Raises UsageError: what it is about, why not, what to do instead (if
    anything)."""
    reason = None if Path(path).exists() else offline()
    import datasets

    if reason is not None:
        # For a process that imported the libraries before anybody asked.
        datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = True
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it would say is in the error that follows
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, **arguments)
    except Exception as error:  # the libraries raise dozens of kinds, from those of arrow to those of the network
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else None
        why = f"{reason or first_line(cause or error)}{'; ' if instead else ''}{instead}"
        raise UsageError(f"{about} cannot be loaded: {why}") from error


def sides_of(settings: HubSettings, relative_to: Path | None) -> tuple[dict[str, Iterator[Document]], str | None]:
    """(documents of every side that the settings name a split of; the commit that all are of, where the hub says it).
    Every split is opened before the first is read. Raises UsageError, also while the documents are read."""
    local, name = local_folder(settings.dataset, relative_to), shown(settings.dataset)
    commit = None if local else _commit(settings, f"data.dataset: '{name}'")
    sides = {}
    for side, key, split in (
        ("train", "dataset", settings.split),
        ("valid", "valid_split", settings.valid_split),
        ("test", "test_split", settings.test_split),
    ):
        if split is not None:
            about = f"data.{key}: '{name}', split '{split}'"
            found = load(
                str(local or settings.dataset),
                about,
                "" if local else INSTEAD,
                name=settings.config,
                split=split,
                streaming=settings.streaming,
                revision=commit or settings.revision,
            )
            sides[side] = _documents(found, settings.field, about)
    return sides, commit


def _commit(settings: HubSettings, about: str) -> str | None:
    """The commit that the revision stands for now, so that it can be recorded."""
    if offline() is not None:
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(settings.dataset, revision=settings.revision, timeout=30).sha)
    except Exception as error:  # not there, private, or gone in the meantime: the library has a kind for each
        raise UsageError(f"{about} cannot be loaded: {first_line(error)}; {INSTEAD}") from error


def local_folder(name: str, relative_to: Path | None) -> Path | None:
    """The folder that a dataset's name is the path of, where it is one."""
    return next((place / name for place in folders(relative_to) if os.path.isdir(place / name)), None)


def _documents(dataset: Iterable[dict[str, Any]], field: str, about: str) -> Iterator[Document]:
    number = 0
    try:
        for number, row in enumerate(dataset, start=1):
            if field not in row:
                raise UsageError(f"{about}: no field '{field}'{shown(nearest(field, row))}; data.field names it")
            if not isinstance(row[field], str):
                raise UsageError(f"{about}, row {number}: the field '{field}' holds no text")
            yield named_by_content(row[field].encode(errors="replace"))
    except UsageError:
        raise
    except Exception as error:  # the network goes, a shard is torn
        raise UsageError(f"{about}: cannot be read after row {number}: {first_line(error)}") from error
