"""What cells are to be asked, checked before anything runs: documents there, fields right, examples enough."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.data.batches import BatchSource, validation_windows
from harness.data.documents import Corpus
from harness.data.load import Data, digests_of, load_data
from harness.data.settings import data_settings
from harness.data.shards import shard
from harness.errors import UsageError
from harness.evaluation.asked import Asked, resolve
from harness.evaluation.ours import check_ours
from harness.evaluation.settings import EvaluationSettings
from harness.run.executors import QUIET
from harness.suite.cells import Cell, digest


def check_questions(cells: Iterable[Cell]) -> None:
    """Build every request that lm-eval's own tasks will make of the cells, each kind of evaluation once; documents from
    the hub are fetched on the way, for workers have no network. Raises UsageError. Without such tasks lm-eval is not
    even imported."""
    different = {digest(cell.config["evaluation"]): cell.config["evaluation"] for cell in cells}
    for raw in different.values():
        settings = EvaluationSettings.model_validate(raw)
        stock = [asked for asked in resolve(settings) if asked.stock is not None]
        if stock:
            _build(stock, settings)


def check_lengths(data: Data, cells: Iterable[Cell]) -> None:
    """That the text is enough for the contexts of the cells. Its tokens are made on the way, which every cell needs.
    Raises UsageError, also for a tokenizer that cannot encode the text."""
    if isinstance(data, Corpus):
        for context in sorted({cell.config["model"]["context"] for cell in cells}):
            BatchSource(shard(data, "train").tokens, batch_size=1, context=context, seed=0)
            validation_windows(shard(data, "valid").tokens, count=1, context=context)


def _build(stock: list[Asked], settings: EvaluationSettings) -> None:
    local = all(data is not None for asked in stock for _, data in asked.sources())
    for name in QUIET if local else QUIET[:2]:  # before the libraries are imported: they look for a network
        os.environ.setdefault(name, "1")
    from harness.evaluation.build import build, templates_compiled_once
    from harness.evaluation.checks import check

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with templates_compiled_once():
        for asked in stock:
            check(build(asked, settings, None, Path(settings.data) if settings.data else None))


def check_data(config: dict[str, Any], name: str, relative_to: Path | None) -> None:
    """That a trained cell's own data are what they were, for questions that are made from them. Raises UsageError."""
    data = load_data(data_settings(**config["data"]), relative_to)
    if digests_of(data) != config["digests"]:
        raise UsageError(
            f"{name}: its data are not those that it was trained on, and these questions are made from them"
        )
    if isinstance(data, Corpus):
        check_ours(EvaluationSettings.model_validate(config["evaluation"]), data)
