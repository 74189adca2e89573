"""The tasks' documents: a function of corpus and limit, true to the held-out text, fair in length."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from harness.data.documents import Corpus, Document
from harness.errors import UsageError
from harness.evaluation.ours import CHOICES, FOLDER, TASKS, task_config, task_rows
from harness.evaluation.settings import EvaluationSettings

NAMES = list(TASKS)


def held_out(corpus: Corpus) -> list[str]:
    return [document.data.decode() for document in corpus.valid]


@pytest.mark.parametrize("name", NAMES)
def test_documents_are_the_same_every_time_whatever_the_random_state(name: str, corpus: Corpus) -> None:
    random.seed(1)
    before = random.getstate()
    first = task_rows(name, corpus, 30)
    assert random.getstate() == before
    random.seed(2)
    assert task_rows(name, corpus, 30) == first
    assert len(first) > 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [1, 7])
def test_there_are_no_more_documents_than_the_limit_and_none_is_there_twice(
    name: str, limit: int, corpus: Corpus
) -> None:
    assert len(task_rows(name, corpus, limit)) == limit
    rows = task_rows(name, corpus, 10_000 if name != "cloze" else 100)
    assert len({str(sorted(row.items())) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_documents_follow_the_held_out_side_and_nothing_else(name: str, corpus: Corpus) -> None:
    rows = task_rows(name, corpus, 20)
    other = Document("other", b"Quite another text.\n" * 40)
    assert task_rows(name, replace(corpus, train=(other,)), 20) == rows
    assert task_rows(name, replace(corpus, valid=(*corpus.valid[1:], *corpus.train)), 20) != rows
    training = "".join(document.data.decode() for document in corpus.train)
    text = "".join(held_out(corpus))
    for row in rows:
        own = row["passage"] if name == "corpus_perplexity" else row["choices"][row["label"]]
        assert own in text
        assert name == "cloze" or own not in training


def test_passages_are_distinct_cut_at_line_ends_and_spread_over_the_documents(corpus: Corpus) -> None:
    rows = task_rows("corpus_perplexity", corpus, 6)
    for row in rows:
        source = next(text for text in held_out(corpus) if row["passage"] in text)
        assert row["passage"].endswith("\n") or source.endswith(row["passage"])
        assert len(row["passage"]) <= 512
    every = task_rows("corpus_perplexity", corpus, 10_000)
    assert "".join(row["passage"] for row in every) == "".join(held_out(corpus)), "all of them are all of the text"
    assert {row["passage"] for row in rows} <= {row["passage"] for row in every}
    places = [every.index(row) for row in rows]
    assert max(b - a for a, b in itertools.pairwise(places)) <= len(every) // len(rows) + 1
    assert places[0] == 0
    assert places[-1] >= len(every) - len(every) // len(rows) - 1, "to the end of the text"


def test_a_text_without_line_ends_is_cut_too(corpus: Corpus) -> None:
    flat = replace(corpus, valid=(Document("flat", b"word " * 500),))
    assert [len(row["passage"]) for row in task_rows("corpus_perplexity", flat, 100)] == [512] * 4 + [452]


def test_the_true_continuation_of_a_cloze_follows_its_context_in_the_held_out_text(corpus: Corpus) -> None:
    labels = []
    for row in task_rows("cloze", corpus, 100):
        truth = row["choices"][row["label"]]
        assert any(row["context"] + truth in text for text in held_out(corpus))
        assert len(row["choices"]) == len(set(row["choices"])) == CHOICES
        assert len({len(choice.encode()) for choice in row["choices"]}) == 1, "the longer is not the less likely"
        assert all(any(choice in text for text in held_out(corpus)) for choice in row["choices"])
        assert row["context"].strip()
        labels.append(row["label"])
    assert set(labels) == set(range(CHOICES))
    assert max(labels.count(label) for label in range(CHOICES)) < 45, "no place wins by itself"


def test_the_twin_of_a_minimal_pair_has_the_same_words_in_another_order(corpus: Corpus) -> None:
    labels = []
    lines = {line.strip() for text in held_out(corpus) for line in text.splitlines()}
    for row in task_rows("minimal_pairs", corpus, 100):
        truth, twin = row["choices"][row["label"]], row["choices"][1 - row["label"]]
        assert truth in lines
        assert twin not in lines
        assert sorted(truth.split(" ")) == sorted(twin.split(" "))
        assert len(truth.encode()) == len(twin.encode())
        moved = [i for i, (a, b) in enumerate(zip(truth.split(" "), twin.split(" "), strict=True)) if a != b]
        assert len(moved) == 2
        assert moved[1] == moved[0] + 1, "neighbours"
        labels.append(row["label"])
    assert 0.2 < sum(labels) / len(labels) < 0.8


def test_a_twin_that_stands_in_the_text_itself_is_no_wrong_answer(corpus: Corpus) -> None:
    lines = ["red green and blue", "green red and blue", "red and green blue", "red green blue and"]
    both = replace(corpus, valid=(Document("both", "\n".join(f"colours {line}" for line in lines).encode()),))
    rows = task_rows("minimal_pairs", both, 100)
    assert rows
    for row in rows:
        assert row["choices"][1 - row["label"]].removeprefix("colours ") not in lines


@pytest.mark.parametrize("name", NAMES)
def test_a_held_out_text_that_is_too_small_is_refused_and_the_task_named(name: str, corpus: Corpus) -> None:
    small = replace(corpus, valid=(Document("small", b"  \n" if name == "corpus_perplexity" else b"a b\n"),))
    with pytest.raises(UsageError, match=f"evaluation.tasks: the held-out text has no document for the task '{name}'"):
        task_rows(name, small, 5)


def test_every_task_that_a_suite_may_name_has_its_yaml_and_the_other_way_round() -> None:
    assert set(EvaluationSettings().tasks) == set(NAMES) == {path.stem for path in FOLDER.glob("*.yaml")}
    for name in NAMES:
        assert task_config(name)["task"] == name
