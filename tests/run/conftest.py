"""Trained cells and documents to ask them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evaluation_support import write_blimp, write_task
from tiny_support import TINY, fixed_text

from harness.cli import main

BYTES = "files: [corpus.txt]", "files: [corpus.txt], tokenizer: {type: bpe, vocabulary: 300}"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "evals"
    for name in ("piqa", "arc_easy", "wikitext"):
        write_task(folder, name)
    write_blimp(folder, "adjunct_island")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, with tokens that are not bytes, asked one task of ours; trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_bytes(fixed_text())
    (folder / "tiny.yaml").write_text(TINY.replace(*BYTES))
    ours = ["seeds=[1]", "evaluation.tasks=[cloze]", "--results", str(folder / "results"), "--jobs", "2"]
    assert main(["run", str(folder / "tiny.yaml"), *ours]) == 0
    return folder


@pytest.fixture
def suite(trained: Path, tmp_path: Path) -> Path:
    """The suite file beside a copy of its corpus and results."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    cells = tmp_path / "results" / "suites" / "tiny" / "cells.json"
    cells.write_text(cells.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path / "tiny.yaml"
