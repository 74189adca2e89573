"""`score` end to end: the keys it promises, numbers known beforehand, no network, random states left alone."""

from __future__ import annotations

import math
import random
import socket
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.data.documents import Corpus
from harness.errors import UsageError
from harness.evaluation.ours import task_rows
from harness.evaluation.score import score
from harness.evaluation.settings import EvaluationSettings
from harness.models.decoder import Decoder

SETTINGS = EvaluationSettings(limit=6)
Make = Callable[..., Decoder]


class Restless(nn.Module):
    """Draws from every global random state whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.settings, self.weight = SimpleNamespace(context=64), nn.Parameter(torch.zeros(()))

    def forward(self, tokens_BT: Tensor, *, wanted_BT: Tensor, **_: Any) -> Tensor:
        return torch.rand(int(wanted_BT.sum()), 257) + random.random() + float(np.random.rand())


class Memory(nn.Module):
    """Knows by heart which byte may follow three others in the held-out text; `lies` makes it deny exactly those."""

    def __init__(self, corpus: Corpus, lies: bool = False):
        super().__init__()
        self.settings, self.weight = SimpleNamespace(context=128), nn.Parameter(torch.zeros(()))
        self.sign = -1.0 if lies else 1.0
        self.next: defaultdict[bytes, set[int]] = defaultdict(set)
        for document in corpus.valid:
            for i in range(len(document.data)):
                self.next[document.data[max(0, i - 3) : i]].add(document.data[i])

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        wanted_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        logits = torch.zeros(*tokens_BT.shape, 257)
        for b, t in wanted_BT.nonzero().tolist():
            seen = torch.arange(t + 1) if mask is None else mask[b, 0, t].nonzero().flatten()
            if positions_BT is not None:
                seen = seen[positions_BT[b, seen].argsort()]
            last = tokens_BT[b, seen][-3:].tolist()
            if len(last) == 3 and 256 not in last:
                logits[b, t, list(self.next[bytes(last)])] = 9.0 * self.sign
        return logits[wanted_BT]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every try to reach a network; each one fails."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError("no network in tests")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def test_scores_have_the_promised_keys_and_need_no_network(decoder: Make, corpus: Corpus, attempts: list[Any]) -> None:
    found = score(decoder(64), corpus, SETTINGS).metrics
    assert attempts == []
    assert found.keys() >= {
        "eval/corpus_perplexity:6/word_perplexity", "eval/corpus_perplexity:6/byte_perplexity",
        "eval/corpus_perplexity:6/bits_per_byte", "eval/corpus_perplexity:6/nll", "eval/cloze:6/acc",
        "eval/cloze:6/acc_stderr", "eval/cloze:6/gold_bits_per_byte", "eval/minimal_pairs:6/acc",
        "eval/minimal_pairs:6/acc_stderr", "eval/minimal_pairs:6/margin",
    }  # fmt: skip
    assert {found[f"eval/{task}:6/documents"] for task in SETTINGS.tasks} == {6.0}
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert not any("," in name for name in found), "MLflow refuses a comma in a name"
    assert 0 <= found["eval/cloze:6/acc"] <= 1


def test_the_random_states_are_left_as_they_were_even_by_a_model_that_draws(corpus: Corpus) -> None:
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    score(Restless(), corpus, SETTINGS)  # type: ignore[arg-type]
    assert random.getstate() == before[0]
    assert str(np.random.get_state()) == str(before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_model_is_left_as_it_was(decoder: Make, corpus: Corpus) -> None:
    model = decoder(64)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, corpus, SETTINGS)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_the_same_model_has_the_same_scores_whatever_the_random_state(decoder: Make, corpus: Corpus) -> None:
    torch.manual_seed(1)
    first = score(decoder(64), corpus, SETTINGS)
    torch.manual_seed(2)
    random.seed(3)
    assert score(decoder(64), corpus, SETTINGS) == first


@pytest.mark.parametrize("context", [16, 64, 1024])
def test_a_uniform_model_has_the_vocabulary_as_its_byte_perplexity(decoder: Make, corpus: Corpus, context: int) -> None:
    model = decoder(context)
    with torch.no_grad():
        model.embedding.weight.zero_()
    settings = EvaluationSettings(tasks=("corpus_perplexity",), limit=10_000)
    found = score(model, corpus, settings).metrics
    passages = [row["passage"] for row in task_rows("corpus_perplexity", corpus, 10_000)]
    assert any(not passage.isascii() for passage in passages), "characters of several bytes are among them"
    assert found["eval/corpus_perplexity/byte_perplexity"] == pytest.approx(257, rel=1e-5)
    assert found["eval/corpus_perplexity/bits_per_byte"] == pytest.approx(math.log2(257), rel=1e-6)
    words = sum(len(passage.split()) for passage in passages)
    log_words = math.log(found["eval/corpus_perplexity/word_perplexity"])
    total = sum(len(passage.encode()) for passage in passages) * math.log(257)
    assert log_words == pytest.approx(total / words, rel=0.2), "per word; lm-eval counts the empty ones at the ends too"


def test_a_model_that_knows_the_text_answers_everything_and_one_that_denies_it_nothing(corpus: Corpus) -> None:
    settings = EvaluationSettings(tasks=("cloze", "minimal_pairs"), limit=10)
    knows = score(Memory(corpus), corpus, settings).metrics  # type: ignore[arg-type]
    denies = score(Memory(corpus, lies=True), corpus, settings).metrics  # type: ignore[arg-type]
    for task in settings.tasks:
        assert knows[f"eval/{task}:10/acc"] == 1.0
        assert denies[f"eval/{task}:10/acc"] == 0.0
        assert knows[f"eval/{task}:10/acc_stderr"] == 0.0


def test_only_the_tasks_asked_for_are_scored(decoder: Make, corpus: Corpus) -> None:
    found = score(decoder(64), corpus, EvaluationSettings(tasks=("cloze",), limit=2))
    assert {name.split("/")[1] for name in found.metrics} == {"cloze:2"}
    assert found.metrics["eval/cloze:2/documents"] == 2


def test_a_text_too_small_for_a_task_is_refused_before_anything_is_scored(decoder: Make, corpus: Corpus) -> None:
    small = Corpus("small", corpus.train, (type(corpus.train[0])("x", b"three short words here and there\n"),))
    with pytest.raises(UsageError, match="no document for the task 'cloze'"):
        score(decoder(64), small, SETTINGS)
