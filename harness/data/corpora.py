"""Corpora of text: read once, packed, and from then on memory-mapped from the cache.

What a corpus is made of is known without reading it (paths, sizes and times of files; a dataset's name), and that is
the key under which it is kept. Its identity is the digest of its contents, which does not depend on paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data import sources
from harness.data.documents import Corpus, Document, opened
from harness.data.files import found_files, read_documents
from harness.data.pack import SPLIT_VERSION, Packer, blocks
from harness.data.settings import HubSettings, PythonSettings, StdlibSettings, TextFilesSettings, TextSettings
from harness.data.store import built
from harness.data.subwords import load_tokenizer
from harness.errors import UsageError
from harness.progress import Meter

PACK_VERSION = 1
"""Part of the key of every packed corpus; raised when the form of one changes."""


def load_corpus(settings: TextSettings, relative_to: Path | None = None) -> Corpus:
    """The corpus that `settings` names, with its tokenizer. Files are looked for below `relative_to`, then below the
    working directory. Raises UsageError for a missing, empty or malformed file, for an empty side, and for a dataset
    that cannot be had."""
    corpus = _PACKED[type(settings)](settings, relative_to)
    for side, documents in (("training", corpus.train), ("held-out", corpus.valid)):
        if not documents:
            raise UsageError(f"data.corpus: the corpus '{corpus.name}' has no {side} text")
    return replace(corpus, tokenizer=load_tokenizer(settings.tokenizer, corpus, relative_to))


def _stdlib(settings: TextSettings, relative_to: Path | None) -> Corpus:
    return _of_sources(settings, sources.stdlib_files(), [])


def _python(settings: TextSettings, relative_to: Path | None) -> Corpus:
    files = sorted([*sources.stdlib_files(), *sources.package_files()])
    return _of_sources(settings, files, sources.installed())


def _of_sources(settings: TextSettings, files: list[sources.Source], packages: list[str]) -> Corpus:
    code_only = isinstance(settings, PythonSettings)

    def pack(folder: Path) -> dict[str, Any]:
        packer = Packer(folder)
        with Meter(
            f"reading the corpus '{settings.corpus}'", sum(path.stat().st_size for _, path in files), "B"
        ) as meter:
            for document in sources.documents_of(files, code_only):
                packer.add(document)
                meter.add(len(document.data))
        return packer.finish(settings.corpus, settings.valid_share, settings.test_share, packages or None)

    return _opened(settings, {"files": _stamps(dict(files).values())}, pack)


def _text_files(settings: TextSettings, relative_to: Path | None) -> Corpus:
    assert isinstance(settings, TextFilesSettings)
    named = {
        "train": ("data.files", settings.files),
        "valid": ("data.valid_files", settings.valid_files),
        "test": ("data.test_files", settings.test_files),
    }
    files = {
        side: [(path, key) for path in found_files(patterns, key, relative_to)]
        for side, (key, patterns) in named.items()
    }

    def pack(folder: Path) -> dict[str, Any]:
        packer = Packer(folder)
        size = sum(path.stat().st_size for side in files.values() for path, _ in side)
        with Meter("reading the corpus 'text'", size, "B") as meter:
            for side, members in files.items():
                documents = _counted(_read(members, settings.field), meter)
                for document in documents if settings.own_sides else blocks(documents):
                    packer.add(document, side if settings.own_sides else None)
        return packer.finish("text", settings.valid_share, settings.test_share)

    stamps = {side: _stamps(path for path, _ in members) for side, members in files.items()}
    return _opened(settings, {"files": stamps, "field": settings.field}, pack)


def _read(members: Iterable[tuple[Path, str]], field: str) -> Iterator[Document]:
    for path, key in members:
        yield from read_documents(path, field, key)


def _counted(documents: Iterable[Document], meter: Meter) -> Iterator[Document]:
    for document in documents:
        meter.add(len(document.data))
        yield document


def _hub(settings: TextSettings, relative_to: Path | None) -> Corpus:
    from harness.data.hub import documents_of, local_folder

    assert isinstance(settings, HubSettings)

    def pack(folder: Path) -> dict[str, Any]:
        packer, commit = Packer(folder), None
        splits = {"train": settings.split, "valid": settings.valid_split, "test": settings.test_split}
        for side, split in splits.items():
            if split is None:
                continue
            limit = settings.documents if side == "train" else None
            taken, commit = documents_of(settings, split, limit, relative_to)
            with Meter(f"reading {settings.dataset} ({split})", limit, "documents") as meter:
                for document in taken if settings.own_sides else blocks(taken):
                    packer.add(document, side if settings.own_sides else None)
                    meter.add(1)
        taken_from = {"dataset": settings.dataset, "commit": commit}
        return packer.finish("hf", settings.valid_share, settings.test_share, taken_from)

    local = local_folder(settings.dataset, relative_to)
    files = sorted(path for path in local.rglob("*") if path.is_file()) if local else []
    return _opened(settings, {"source": settings.source(), "files": _stamps(files)}, pack)


_PACKED = {
    StdlibSettings: _stdlib,
    PythonSettings: _python,
    TextFilesSettings: _text_files,
    HubSettings: _hub,
}


def _opened(settings: TextSettings, made_of: dict[str, Any], pack: Any) -> Corpus:
    """The packed corpus, made by `pack` where it is not in the cache."""
    shares = {"valid_share": settings.valid_share, "test_share": settings.test_share}
    version = [PACK_VERSION, SPLIT_VERSION.decode()]
    key = {"version": version, "corpus": settings.corpus, "own_sides": settings.own_sides, **shares, **made_of}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return opened(*built("corpora", digest, pack))


def _stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """What changes when a file does."""
    found = []
    for path in paths:
        stat = path.stat()
        found.append((str(path.resolve()), stat.st_size, stat.st_mtime_ns))
    return found
