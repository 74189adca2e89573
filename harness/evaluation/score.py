"""Scores of one model under lm-eval, in process and offline, with the global random state left as found."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from harness.data.documents import Corpus
from harness.data.images import ImageSet
from harness.data.load import Data
from harness.data.synthetic import Symbols
from harness.data.tokenizers import Tokenizer
from harness.evaluation import samples
from harness.evaluation.asked import resolve
from harness.evaluation.local import eval_folder
from harness.evaluation.samples import Sample
from harness.evaluation.settings import EvaluationSettings
from harness.evaluation.stock import version
from harness.models.network import Network
from harness.models.settings import DecoderSettings, ViTSettings

BOOTSTRAP = 1000
"""Resamples for the standard errors that have no formula (a perplexity's); lm-eval's default takes seconds a task."""


@dataclass
class Scores:
    """`metrics` are `eval/<label>/<metric>`, of a group's members `eval/<label>/<task>/<metric>`. `stamps` say of every
    label what exactly was asked: results whose stamps differ do not compare."""

    metrics: dict[str, float] = field(default_factory=dict)
    stamps: dict[str, dict[str, Any]] = field(default_factory=dict)


def score(
    model: Network,
    data: Data | None,
    settings: EvaluationSettings,
    *,
    tokenizer: Tokenizer | None = None,
    keep: Path | None = None,
    picture: Path | None = None,
    relative_to: Path | None = None,
    answered: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Every task's scores. All samples of text are kept in the folder `keep`, some of a denoiser's in `picture`. `data`
    may be None where no task is made of them; `tokenizer` is by default the data's. `answered` is told how many
    requests are done, and of how many. Raises UsageError as `build` does."""
    if isinstance(data, ImageSet):
        from harness.evaluation.images import score_classifier, score_denoiser

        if isinstance(model.settings, ViTSettings):
            return _stamped(score_classifier(model, data), data.digest)
        return _stamped(score_denoiser(model, data, settings, picture), data.digest)
    if isinstance(data, Symbols):
        from harness.evaluation.symbols import score_symbols

        context = cast(DecoderSettings, model.settings).context
        return _stamped(score_symbols(model, data, settings), f"{data.digest} {context}")
    if not settings.tasks:  # a machine without lm-eval can still train
        return Scores()
    from harness.evaluation.build import build, templates_compiled_once
    from harness.evaluation.checks import check
    from harness.evaluation.lm import HarnessLM

    corpus = data if isinstance(data, Corpus) else None
    tokenizer = tokenizer or (corpus.tokenizer if corpus else None)
    assert tokenizer is not None, "text is scored with a tokenizer"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    place = eval_folder(settings.data, relative_to)
    scores, done = Scores(), 0
    with _random_state_kept(), templates_compiled_once():
        asked = [build(one, settings, corpus, place) for one in resolve(settings, relative_to)]
        total = sum(map(check, asked))

        def count(more: int) -> None:
            nonlocal done
            done += more
            answered(done, total)

        lm = HarnessLM(model, tokenizer, cast(DecoderSettings, model.settings).context, answered=count)
        for questions in asked:
            metrics, kept = _evaluate(lm, questions)
            label = _writable(questions.label)
            scores.metrics.update({f"eval/{label}/{_writable(name)}": value for name, value in metrics.items()})
            stamp = {
                "documents": len(kept),
                "questions": samples.questions_digest(kept),
                "num_fewshot": sorted(set(questions.num_fewshot.values())),
                "lm_eval": version(),
            }
            scores.stamps[label] = stamp
            if keep is not None:
                samples.write(keep / samples.file_name(label), {"label": label, **stamp}, kept)
    return scores


def _stamped(metrics: dict[str, float], examples: str) -> Scores:
    """Of what is no text: the one label that there is, asked of so many of these examples."""
    label = next(iter(metrics)).split("/")[1]
    count = int(metrics[f"eval/{label}/documents"])
    questions = hashlib.sha256(examples.encode()).hexdigest()[:12]
    return Scores(metrics, {label: {"documents": count, "questions": questions}})


def _writable(name: str) -> str:
    """As MLflow takes it: a few tasks and metrics have parentheses or `@` in their names."""
    return re.sub(r"[^\w./ :-]", "_", name)


def _evaluate(lm: Any, questions: Any) -> tuple[dict[str, float], list[Sample]]:
    """lm-eval's metrics and ours of one entry, and its samples. `evaluate`, not `simple_evaluate`: that one asks git
    and reseeds everything."""
    from lm_eval.evaluator import evaluate

    lm.tokens.clear()
    with _quiet_bootstrap():
        found: Any = evaluate(
            lm,
            task_dict={"tasks": questions.tasks, "groups": questions.groups, "group_map": {}},
            limit=questions.limit,
            bootstrap_iters=BOOTSTRAP,
            log_samples=True,
        )
    metrics: dict[str, float] = {}
    kept: list[Sample] = []
    for name, task in questions.tasks.items():
        mine = samples.of_results(task, found["samples"][name], lm.tokens)
        below = "" if name == questions.name else f"{name}/"
        numbers = {**_numbers(found["results"][name]), **samples.measures(mine), "documents": float(len(mine))}
        metrics.update({below + key: value for key, value in numbers.items()})
        kept += mine
    for name in questions.groups:
        below = "" if name == questions.name else f"{name}/"
        metrics.update({below + key: value for key, value in _numbers(found["results"].get(name, {})).items()})
    if questions.name not in questions.tasks:
        metrics.update({**samples.measures(kept), "documents": float(len(kept))})
    return metrics, kept


def _numbers(results: dict[str, Any]) -> dict[str, float]:
    """`acc` for lm-eval's `acc,none`, `exact_match.strict-match` for other filters; it writes 'N/A' for what it has
    not, and infinity is a perplexity too large to be told."""
    found = {}
    for key, value in results.items():
        metric, comma, kind = key.partition(",")
        if comma and isinstance(value, (int, float, np.floating, np.integer)) and math.isfinite(value):
            found[metric if kind == "none" else f"{metric}.{kind}"] = float(value)
    return found


@contextlib.contextmanager
def _quiet_bootstrap() -> Iterator[None]:
    """lm-eval's bootstrap neither prints nor forks a process that has threads."""
    before, os.environ["DISABLE_MULTIPROC"] = os.environ.get("DISABLE_MULTIPROC"), "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
