"""Our lm-eval tasks: a YAML each in `tasks/`, and their documents, made from the held-out side of any corpus.

The documents are a function of the corpus and the limit alone, so every arm and seed answers the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.data.documents import Corpus, texts
from harness.errors import UsageError
from harness.evaluation.settings import EvaluationSettings

FOLDER = Path(__file__).with_name("tasks")

PASSAGE_CHARS = 256
CONTEXT_CHARS, CONTINUATION_CHARS, CHOICES = 48, 16, 4
LINE_CHARS = range(20, 61)

Row = dict[str, Any]


def corpus_perplexity(corpus: Corpus, limit: int) -> list[Row]:
    """Passages of about 256 characters, cut at line ends, spread evenly over the held-out documents."""
    passages = [passage for text in texts(corpus.judged) for passage in _passages(text)]
    count = min(limit, len(passages))
    return [{"passage": passages[i * len(passages) // count]} for i in range(count)]


def cloze(corpus: Corpus, limit: int) -> list[Row]:
    """A passage, its true continuation, and three of equal length in bytes from elsewhere in the held-out text."""
    draw = random.Random("cloze")  # noqa: S311  a fixed draw, not a secret
    long = [text for text in texts(corpus.judged) if len(text) > CONTEXT_CHARS + CONTINUATION_CHARS]
    rows: list[Row] = []
    for _ in range(20 * limit if long else 0):
        context, truth = _cut(draw, long)
        others = {_cut(draw, long)[1] for _ in range(CHOICES - 1)} - {truth}
        choices = [truth, *sorted(others)]
        if len(choices) < CHOICES or not context.strip() or len({len(choice.encode()) for choice in choices}) > 1:
            continue
        draw.shuffle(choices)
        rows.append({"context": context, "choices": choices, "label": choices.index(truth)})
        if len(rows) == limit:
            break
    return rows


def minimal_pairs(corpus: Corpus, limit: int) -> list[Row]:
    """A held-out line against its twin, in which two neighbouring words have changed places."""
    draw = random.Random("minimal_pairs")  # noqa: S311
    lines = {line.strip() for text in texts(corpus.judged) for line in text.splitlines()}
    candidates = sorted(line for line in lines if len(line) in LINE_CHARS and len(line.split(" ")) >= 3)
    draw.shuffle(candidates)
    rows: list[Row] = []
    for line in candidates:
        words = line.split(" ")
        places = [i for i in range(len(words) - 1) if words[i] != words[i + 1] and words[i] and words[i + 1]]
        if not places:
            continue
        i = draw.choice(places)
        twin = " ".join([*words[:i], words[i + 1], words[i], *words[i + 2 :]])
        if twin in lines:
            continue
        choices = [line, twin]
        draw.shuffle(choices)
        rows.append({"choices": choices, "label": choices.index(line)})
        if len(rows) == limit:
            break
    return rows


TASKS: dict[str, Callable[[Corpus, int], list[Row]]] = {
    "corpus_perplexity": corpus_perplexity,
    "cloze": cloze,
    "minimal_pairs": minimal_pairs,
}


NEEDS = {
    "corpus_perplexity": "it needs a passage that is not blank",
    "cloze": f"it needs texts of more than {CONTEXT_CHARS + CONTINUATION_CHARS} characters that differ",
    "minimal_pairs": f"it needs lines of {LINE_CHARS.start} to {LINE_CHARS.stop - 1} characters with three words",
}


def task_config(name: str) -> dict[str, Any]:
    """The task's YAML as lm-eval wants it."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return config


def task_rows(name: str, corpus: Corpus, limit: int) -> list[Row]:
    """The task's documents. Raises UsageError when the held-out text yields none."""
    rows = TASKS[name](corpus, limit)
    if not rows:
        raise UsageError(f"evaluation.tasks: the held-out text has no document for the task '{name}': {NEEDS[name]}")
    return rows


def check_ours(settings: EvaluationSettings, corpus: Corpus) -> None:
    """Raises UsageError for a task of ours that is asked for and that the text yields no document for."""
    for name in settings.tasks:
        if name in TASKS:
            task_rows(name, corpus, 1)


def _passages(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + PASSAGE_CHARS)
        end = len(text) if end < 0 else end + 1
        end = min(end, start + 2 * PASSAGE_CHARS)  # a text without line ends
        if text[start:end].strip():
            yield text[start:end]
        start = end


def _cut(draw: random.Random, texts: list[str]) -> tuple[str, str]:
    text = draw.choice(texts)
    start = draw.randrange(len(text) - CONTEXT_CHARS - CONTINUATION_CHARS)
    middle = start + CONTEXT_CHARS
    return text[start:middle], text[middle : middle + CONTINUATION_CHARS]
