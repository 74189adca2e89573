"""Scores of one model under lm-eval, in process and offline, with the global random state left as found."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from harness.data.images import ImageSet
from harness.data.load import Data
from harness.evaluation.settings import EvaluationSettings
from harness.evaluation.tasks import Row, task_config, task_rows
from harness.models.network import Network
from harness.models.settings import DecoderSettings, ViTSettings


class _Rows:
    """What lm-eval calls for a task's data; a class with a name, because lm-eval records the source of a lambda."""

    def __init__(self, rows: list[Row]):
        self.rows = rows

    def __call__(self, **_: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(self.rows)}


def score(model: Network, data: Data, settings: EvaluationSettings, picture: Path | None = None) -> dict[str, float]:
    """`eval/<task>/<metric>` and `eval/<task>/documents` for every task: lm-eval's of text, or those of the model's
    kind for images, with samples of a denoiser in `picture`. Raises UsageError for a corpus too small."""
    if isinstance(data, ImageSet):
        from harness.evaluation.images import score_classifier, score_denoiser

        if isinstance(model.settings, ViTSettings):
            return score_classifier(model, data)
        return score_denoiser(model, data, settings, picture)
    if not settings.tasks:  # a machine without lm-eval can still train
        return {}
    from harness.evaluation.lm import HarnessLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm = HarnessLM(model, data.tokenizer, cast(DecoderSettings, model.settings).context)
    scores: dict[str, float] = {}
    with _random_state_kept():
        for name in settings.tasks:
            rows = task_rows(name, data, settings.limit)
            try:
                results = _evaluate(lm, name, rows)
            except OverflowError:
                # A perplexity per word is exp(nats per word), and a text without blanks is one long word.
                results = _evaluate(lm, name, rows, left_out="word_perplexity")
            for key, value in results.items():
                metric, _, kind = key.partition(",")
                if kind == "none" and isinstance(value, (int, float)):  # lm-eval writes 'N/A' for what it has not
                    scores[f"eval/{name}/{metric}"] = float(value)
            scores[f"eval/{name}/documents"] = float(len(rows))
    return scores


def _evaluate(lm: Any, name: str, rows: list[Row], left_out: str = "") -> dict[str, Any]:
    """lm-eval's results of one task. `evaluate`, not `simple_evaluate`: that one asks git and reseeds everything."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    config = task_config(name)
    config["metric_list"] = [metric for metric in config["metric_list"] if metric["metric"] != left_out]
    task = ConfigurableTask(config={**config, "custom_dataset": _Rows(rows)})
    task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=1234)
    found: Any = evaluate(lm, task_dict={name: task}, bootstrap_iters=1000, log_samples=False)
    results: dict[str, Any] = found["results"][name]
    return results


@contextmanager
def _random_state_kept() -> Iterator[None]:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
