"""What is made once and kept: packed corpora, tokenizers, token shards. Content-addressed, so nothing is ever changed.

`<cache>/<kind>/<key>/` is made whole or not at all: built in a temporary folder under a lock, synced, then renamed.
Several processes that ask at the same time wait for the first; a build that was killed leaves a folder that nobody
reads and the next builder removes. Deleting any of it costs the time to make it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.cache import cache_folder
from harness.errors import UsageError, shown

META = "meta.json"
SMALL = 4 * 2**20
"""Bytes up to which a file is known again by its content."""


def built(kind: str, key: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The folder `kind`/`key` and its meta data, made by `build` if it is not there.

    `build` fills an empty folder and returns meta data. Sizes of its files are kept with them, and of small ones the
    SHA-256: a folder whose files have others is not used but made again. Raises UsageError where the cache cannot be
    written, or what `build` makes it from cannot be read.
    """
    folder = cache_folder() / kind / key
    if (meta := _whole(folder)) is not None:
        return folder, meta
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{key}.lock")):
            if (meta := _whole(folder)) is None:  # somebody else may have built it in the meantime
                meta = _build(folder, build)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error.filename, str) and not _of_the_cache(error.filename):
            raise UsageError(f"cannot read {shown(error.filename)}: {reason}") from error
        raise UsageError(
            f"the cache {shown(cache_folder())} cannot be written: {reason}; HARNESS_CACHE names another folder"
        ) from error
    return folder, meta


def _of_the_cache(path: str) -> bool:
    """Whether a path lies in the cache, or the cache in it."""
    place, cache = (Path(os.path.abspath(one)) for one in (path, cache_folder()))
    return place.is_relative_to(cache) or cache.is_relative_to(place)


def _build(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    _sweep(folder)
    shutil.rmtree(folder, ignore_errors=True)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        meta = build(temporary)
        _finish(temporary, meta)
        temporary.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return meta


def _whole(folder: Path) -> dict[str, Any] | None:
    """Meta data of a folder that is there with all its files at their sizes, else None."""
    try:
        kept = json.loads((folder / META).read_text(encoding="utf-8"))
        if all(_seal(folder / name) == seal for name, seal in kept["files"].items()):
            meta: dict[str, Any] = kept["meta"]
            return meta
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _seal(path: Path) -> str:
    """By which a file is known again: its size, and the content of one that is read as a whole anyway."""
    size = path.stat().st_size
    return f"{size}" + (f" {hashlib.sha256(path.read_bytes()).hexdigest()}" if size <= SMALL else "")


def _sweep(folder: Path) -> None:
    """Remove what killed builders left: of this entry, whose lock is held here, and of any other that nobody builds."""
    for leftover in folder.parent.glob("*.*.tmp"):
        key = leftover.name.split(".")[0]
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            if key != folder.name:
                file = held.enter_context((folder.parent / f"{key}.lock").open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)


def _finish(folder: Path, meta: dict[str, Any]) -> None:
    seals = {path.name: _seal(path) for path in sorted(folder.iterdir())}
    (folder / META).write_text(json.dumps({"files": seals, "meta": meta}), encoding="utf-8")
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; dies with it, however that ends."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"{path.parent.name}/{path.stem}"
            print(f"waiting for another process that makes {what} in the cache", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
