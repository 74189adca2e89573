"""Corpora of text: read once, packed, and from then on memory-mapped from the cache.

What a corpus is made of is known without reading it (paths, sizes and times of files; a dataset's name), and that is
the key under which it is kept. Its identity is the digest of its contents, which does not depend on paths.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from harness.data import sources
from harness.data.documents import Corpus, opened
from harness.data.files import found_files, read_documents
from harness.data.pack import SPLIT_VERSION, Packer
from harness.data.settings import HubSettings, PythonSettings, StdlibSettings, TextFilesSettings, TextSettings
from harness.data.store import built
from harness.data.subwords import load_tokenizer
from harness.errors import UsageError, shown
from harness.progress import Meter

PACK_VERSION = 2
"""Part of the key of every packed corpus; raised when the form of one changes."""


def load_corpus(settings: TextSettings, relative_to: Path | None = None) -> Corpus:
    """The corpus that `settings` names, with its tokenizer. Files are looked for below `relative_to`, then below the
    working directory. Raises UsageError for a missing, empty or malformed file, for an empty side, and for a dataset
    that cannot be had."""
    corpus = _PACKED[type(settings)](settings, relative_to)
    sides = {
        "training": corpus.train,
        "held-out": corpus.valid,
        **({"test": corpus.test} if settings.test_side else {}),
    }
    for side, documents in sides.items():
        if not documents:
            removed = sum(corpus.report["copies_removed"].values())
            copies = f"; {removed:,} of its documents were copies of others and left out" if removed else ""
            single = "" if settings.own_sides or removed else "; what little there is cannot be split"
            raise UsageError(f"data.corpus: the corpus '{corpus.name}' has no {side} text{copies}{single}")
    return replace(corpus, tokenizer=load_tokenizer(settings.tokenizer, corpus, relative_to))


def _stdlib(settings: TextSettings, relative_to: Path | None) -> Corpus:
    return _of_sources(settings, sources.stdlib_files(), [sources.python()])


def _python(settings: TextSettings, relative_to: Path | None) -> Corpus:
    files = sorted([*sources.stdlib_files(), *sources.package_files()])
    return _of_sources(settings, files, [sources.python(), *sources.installed()])


def _of_sources(settings: TextSettings, files: list[sources.Source], versions: list[str]) -> Corpus:
    code_only = isinstance(settings, PythonSettings)
    # Not the times of the files themselves: those of packages that several environments share change with each.
    stamps = [(name, *_stamp(path)[:-1]) for name, path in files]

    def pack(folder: Path) -> dict[str, Any]:
        packer, size = Packer(folder), sum(size for _, _, size, _ in stamps)
        with Meter(f"reading the corpus '{settings.corpus}'", size, "B") as meter:
            for document in sources.documents_of(files, code_only):
                packer.add(document)
                meter.add(len(document.data))
        return packer.finish(settings.corpus, settings.valid_share, settings.test_share, versions)

    return _opened(settings, {"files": stamps, "versions": versions}, pack)


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
    stamps = {side: [_stamp(path) for path, _ in members] for side, members in files.items()}

    def pack(folder: Path) -> dict[str, Any]:
        packer = Packer(folder, in_blocks=not settings.own_sides)
        size = sum(size for members in stamps.values() for _, size, *_ in members)
        with Meter("reading the corpus 'text'", size, "B") as meter:
            for side, members in files.items():
                for path, key in members:
                    for document in read_documents(path, settings.field, key):
                        packer.add(document, side if settings.own_sides else None)
                        meter.add(len(document.data))
        return packer.finish("text", settings.valid_share, settings.test_share)

    return _opened(settings, {"files": stamps, "field": settings.field}, pack)


def _hub(settings: TextSettings, relative_to: Path | None) -> Corpus:
    from harness.data import hub

    assert isinstance(settings, HubSettings)

    def pack(folder: Path) -> dict[str, Any]:
        packer = Packer(folder, in_blocks=not settings.own_sides)
        sides, commit = hub.sides_of(settings, relative_to)
        for side, documents in sides.items():
            limit = settings.documents if side == "train" else None
            with Meter(f"reading {settings.dataset} ({side})", limit, "documents") as meter:
                for document in islice(documents, limit):
                    packer.add(document, side if settings.own_sides else None)
                    meter.add(1)
        taken_from = {"dataset": settings.dataset, "commit": commit}
        return packer.finish("hf", settings.valid_share, settings.test_share, taken_from)

    local = hub.local_folder(settings.dataset, relative_to)
    files = sorted(path for path in local.rglob("*") if os.path.isfile(path)) if local else []
    return _opened(settings, {"source": settings.source(), "files": [_stamp(path) for path in files]}, pack)


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


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """What changes when a file does: its place, bytes, and the times of its text and of itself (copying can keep the
    first)."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UsageError(f"data: cannot read {shown(path)}: {error.strerror}") from error
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
