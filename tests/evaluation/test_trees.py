"""Requests that begin alike share a row, and answer as if each had one of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from harness.connections.settings import AnyConnection
from harness.data.documents import Corpus
from harness.data.settings import BPESettings
from harness.data.subwords import trained
from harness.data.tokenizers import ByteTokenizer, Tokenizer
from harness.evaluation.lm import HarnessLM
from harness.evaluation.trees import Row, Window, collate, grow, in_batches
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

CHOICES = [" under", " un", " over it all", " under", ""]
QUESTION = "Question: what is licensed?\nAnswer:"
PAIRS = [
    *((QUESTION, choice) for choice in CHOICES),
    ("", "The author sees himself."), ("", "The author sees herself."), ("", "Other words."),
    ("Ann went there because ", "it was late"), ("Bob went there because ", "it was late"),
    ("Question: what is licensed?\nAnswer", ": no"), ("x" * 80, "y" * 30), ("x" * 80, "y" * 29 + "z"), ("naïve 漢", "字"),
]  # fmt: skip


def rows_of(inputs: Sequence[Sequence[int]], targets: int = 1, longest: int = 10_000) -> list[Row]:
    windows = [
        Window(i, np.array(tokens), np.array([7] * min(targets, len(tokens)))) for i, tokens in enumerate(inputs)
    ]
    return list(grow(windows, longest))


def paths(row: Row) -> list[list[int]]:
    """The tokens that every answer's last node sees, by where they stand."""
    batch = collate([row])
    found = []
    for answer in row.answers:
        node = answer.nodes[-1]
        if batch.mask_BTT is None or batch.positions_BT is None:
            found.append(batch.tokens_BT[0, : node + 1].tolist())
            continue
        seen = np.flatnonzero(batch.mask_BTT[0, node])
        order = batch.positions_BT[0, seen]
        assert sorted(order) == list(range(len(seen))), "one token at every depth"
        found.append(batch.tokens_BT[0, seen[np.argsort(order)]].tolist())
    return found


@settings(deadline=None, database=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(1, 3),
    st.sampled_from([1, 8, 30, 1000]),
)
def test_every_request_sees_its_own_tokens_and_nothing_else(
    inputs: list[list[int]], targets: int, longest: int
) -> None:
    rows = rows_of(inputs, targets, longest)
    answers = [(answer.request, path) for row in rows for answer, path in zip(row.answers, paths(row), strict=True)]
    assert [request for request, _ in answers] == list(range(len(inputs)))
    assert [path for _, path in answers] == inputs
    for row in rows:
        assert row.length == sum(map(len, row.tokens)) <= max(longest, max(map(len, inputs)))
        for answer in row.answers:
            assert len(answer.nodes) == len(answer.targets)


def test_what_choices_have_in_common_is_there_once() -> None:
    [row] = rows_of([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 3, 4, 6, 8], [1, 2, 3, 4, 5]])
    assert row.length == 5 + 2 + 1
    assert len(row.answers) == 4
    assert [len(found) for found in (rows_of([[1, 2, 3]] * 4),)] == [1]
    assert not rows_of([[1, 2, 3]] * 4)[0].branched, "four questions about one context are no branches"
    assert len(rows_of([[1, 2, 3, 4], [9, 2, 3, 4], [1, 5, 6, 7, 8, 9]])) == 3, "a boundary alone is not worth a branch"


def test_batches_keep_within_their_tokens_and_have_every_row_once() -> None:
    rows = rows_of([[i] * (1 + i % 9) + [50 + i, 60 + i] for i in range(40)] + [[99] * 6 + [i] for i in range(4)])
    batches = list(in_batches(rows, most_tokens=40, most_wanted=10))
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(row.length for row in batch) <= 40
        assert len(batch) == 1 or sum(row.wanted for row in batch) <= 10
        assert len({row.branched for row in batch}) == 1
        assert [row.length for row in batch] == sorted((row.length for row in batch), reverse=True)


@pytest.fixture(scope="module")
def bpe(request: pytest.FixtureRequest) -> Tokenizer:
    corpus: Corpus = request.getfixturevalue("corpus")
    return trained(BPESettings(vocabulary=400), corpus)


def requests(pairs: Sequence[tuple[str, str]]) -> list[Instance]:
    return [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]


KINDS = {
    "residual": ({"type": "residual"}, {}),
    "dhc-n4": ({"type": "hyper", "rate": 4}, {}),
    "dfc-m2": ({"type": "frac", "rate": 2}, {}),
    "mudd": ({"type": "mudd"}, {}),
    "attnres": ({"type": "attention_residuals"}, {}),
    "denseformer": ({"type": "denseformer"}, {}),
    "mhc": ({"type": "mhc"}, {}),
    "documents": ({"type": "hyper", "rate": 2}, {"document_mask": True}),
    "olmo2": ({"type": "residual"}, {"norm_position": "after", "qk_norm": True, "kv_heads": 1, "tied": False}),
    "experts": ({"type": "residual"}, {"experts": 4, "ffn_width": 16}),
}


def decoder_of(kind: str, tokenizer: Tokenizer, context: int = 64) -> Decoder:
    from pydantic import TypeAdapter

    connection, model = KINDS[kind]
    shape = DecoderSettings(layers=2, width=16, heads=2, context=context, init_std=0.4, **model)
    settings = TypeAdapter(AnyConnection).validate_python(connection)
    made = Decoder(shape, settings, tokenizer.vocabulary, boundary=tokenizer.boundary, backbone_seed=1).eval()
    with torch.no_grad():  # away from the values at initialisation, at which many connections are alike
        torch.manual_seed(4)
        for name, parameter in made.named_parameters():
            if name.startswith("connections."):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_shared_rows_give_the_numbers_of_requests_one_by_one(kind: str, bpe: Tokenizer) -> None:
    model = decoder_of(kind, bpe)
    together = HarnessLM(model, bpe, 64).loglikelihood(requests(PAIRS))
    alone = [HarnessLM(model, bpe, 64).loglikelihood(requests([pair]))[0] for pair in PAIRS]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], rel=1e-5, abs=1e-5)
    assert [greedy for _, greedy in together] == [greedy for _, greedy in alone]
    assert len({round(value, 4) for value, _ in together}) > 8


@pytest.mark.parametrize("batch_tokens", [1, 40, 100, 100_000])
def test_numbers_do_not_depend_on_the_batch(batch_tokens: int, bpe: Tokenizer) -> None:
    model = decoder_of("dhc-n4", bpe)
    expected = HarnessLM(model, bpe, 64).loglikelihood(requests(PAIRS))
    shuffled = [PAIRS[(5 * i) % len(PAIRS)] for i in range(len(PAIRS))]
    found = dict(zip(shuffled, HarnessLM(model, bpe, 64, batch_tokens).loglikelihood(requests(shuffled)), strict=True))
    for pair, (value, greedy) in zip(PAIRS, expected, strict=True):
        assert found[pair][0] == pytest.approx(value, abs=1e-5)
        assert found[pair][1] == greedy


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_pairs_become_the_tokens_that_lm_eval_makes_of_them(
    name: str, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = ByteTokenizer() if name == "bytes" else bpe
    lm = HarnessLM(decoder_of("residual", tokenizer), tokenizer, 64)
    pairs = [pair for pair in PAIRS if pair[1]] + [("ends in blanks  \n", "next"), ("two  ", " words"), ("und", "er")]
    caught: list[list[tuple[list[int], list[int]]]] = []
    monkeypatch.setattr(
        lm, "_loglikelihood_tokens", lambda new, **_: caught.append([(before, after) for _, before, after in new]) or []
    )
    lm.loglikelihood(requests(pairs))
    TemplateLM.loglikelihood(lm, requests(pairs), disable_tqdm=True)
    assert caught[0] == caught[1]


def test_how_many_tokens_were_scored_is_known_of_every_request_and_progress_adds_up(bpe: Tokenizer) -> None:
    told: list[int] = []
    lm = HarnessLM(decoder_of("residual", bpe), bpe, 64, 100, told.append)
    asked = requests(PAIRS)
    lm.loglikelihood(asked)
    assert sum(told) == len(PAIRS)
    assert [lm.tokens[id(request)] for request in asked] == [
        len(bpe.encode(before + after)) - len(bpe.encode(before))
        if before.rstrip() == before
        else lm.tokens[id(request)]
        for request, (before, after) in zip(asked, PAIRS, strict=True)
    ]
    whole = [Instance(request_type="r", doc={}, arguments=(text,), idx=0) for text in ("a text", "x " * 300, "")]
    told.clear()
    lm.loglikelihood_rolling(whole)
    assert [lm.tokens[id(request)] for request in whole] == [len(bpe.encode(request.args[0])) for request in whole]
    assert sum(told) == 3
