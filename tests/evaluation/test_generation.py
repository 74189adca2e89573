"""Continuations with a cache of keys and values are those without, for every connection, alone and side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from pydantic import TypeAdapter
from training_support import CONNECTIONS, RELATIVES

from harness.connections.settings import AnyConnection
from harness.data.tokenizers import ByteTokenizer
from harness.errors import HarnessError
from harness.evaluation.lm import HarnessLM
from harness.models.cache import KeyValues
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

FORMS = {**CONNECTIONS, **RELATIVES}
CONTEXT = 24
PROMPTS = [
    "a",
    "Licensed under",
    "the Apache License, naïve 漢字 and more than fits the window",
    "",
    "Licensed under it",
]


def make(connection: dict[str, Any], **model: Any) -> Decoder:
    settings = TypeAdapter(AnyConnection).validate_python(connection)
    shape = DecoderSettings(**{"layers": 2, "width": 16, "heads": 2, "context": CONTEXT, "init_std": 0.5, **model})
    return Decoder(shape, settings, 257, boundary=256, backbone_seed=3, connection_seed=4).eval()


def greedy(model: Decoder, prompt: str, count: int) -> list[int]:
    """Every token from the whole window anew, one prompt at a time."""
    tokens, made = list(prompt.encode()) or [256], []
    with torch.no_grad():
        while len(made) < count:
            made.append(int(model(torch.tensor([(tokens + made)[-CONTEXT:]]))[0, -1].argmax()))
            if made[-1] == 256:
                break
    return made


def requests(prompts: list[str], **options: Any) -> list[Instance]:
    return [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, options), idx=i, metadata=("t", i, 1))
        for i, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_generation_with_a_cache_is_the_plain_one(form: str) -> None:
    model = make(FORMS[form])
    lm = HarnessLM(model, ByteTokenizer(), CONTEXT)
    found = lm.generate_until(requests(PROMPTS, max_gen_toks=30, until=[]))
    assert found == [ByteTokenizer().decode(greedy(model, prompt, 30)) for prompt in PROMPTS]


@pytest.mark.parametrize(
    "model", [{"document_mask": True}, {"kv_heads": 1, "qk_norm": True}, {"experts": 4, "ffn_width": 16}], ids=str
)
def test_so_it_is_with_other_decoders(model: dict[str, Any]) -> None:
    decoder = make({"type": "hyper", "rate": 2}, **model)
    found = HarnessLM(decoder, ByteTokenizer(), CONTEXT).generate_until(requests(PROMPTS, max_gen_toks=20, until=[]))
    assert found == [ByteTokenizer().decode(greedy(decoder, prompt, 20)) for prompt in PROMPTS]


def test_logits_with_a_cache_are_those_of_the_whole_row_also_after_padding_and_rows_that_left() -> None:
    model = make({"type": "hyper", "rate": 4}, document_mask=True)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 256, (length,), generator=generator) for length in (9, 5, 12)]
    rows[0][4] = 256  # a second document
    more = torch.randint(0, 256, (3, 6), generator=generator)
    more[2, 3] = 256
    longest = max(map(len, rows))
    tokens = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row)), value=256) for row in rows])
    cache = KeyValues(CONTEXT)
    positions = torch.arange(longest).expand_as(tokens)
    with torch.no_grad():
        first = model(tokens, positions_BT=positions, cache=cache)
        for row, logits in zip(rows, first, strict=True):
            assert torch.allclose(logits[: len(row)], model(row[None])[0], atol=1e-5)
        cache.keep(torch.tensor([0, 2]))
        kept, follow = [rows[0], rows[2]], more[[0, 2]]
        for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
            width = part.stop - part.start
            places = torch.stack([torch.arange(len(row) + part.start, len(row) + part.stop) for row in kept])
            logits = model(follow[:, part], positions_BT=places, cache=cache)
            for index, row in enumerate(kept):
                whole = model(torch.cat([row, follow[index, : part.stop]])[None])[0, -width:]
                assert torch.allclose(logits[index], whole, atol=1e-5)
    with pytest.raises(ValueError, match=r"position 24 is beyond the 24 slots"):
        model(follow[:, :1], positions_BT=torch.full((2, 1), CONTEXT), cache=cache)


def test_each_row_stops_where_it_is_told_to() -> None:
    model = make({"type": "residual"})
    texts = [ByteTokenizer().decode(greedy(model, prompt, 20)) for prompt in PROMPTS]
    stop = texts[1][3:4]
    found = HarnessLM(model, ByteTokenizer(), CONTEXT).generate_until(requests(PROMPTS, max_gen_toks=20, until=[stop]))
    assert found == [text.split(stop)[0] for text in texts]


def test_a_request_to_draw_is_refused_and_greedy_ones_that_name_a_temperature_are_not() -> None:
    lm = HarnessLM(make({"type": "residual"}), ByteTokenizer(), CONTEXT)
    with pytest.raises(HarnessError, match="the task 't' draws its answers; this model answers greedily"):
        lm.generate_until(requests(["a"], do_sample=True, temperature=0.7, until=[]))
    for options in ({"do_sample": False, "temperature": 0.7}, {"do_sample": True, "temperature": 0.0}):
        assert len(lm.generate_until(requests(["a"], max_gen_toks=2, until=[], **options))) == 1


def test_nothing_is_made_where_nothing_may_be() -> None:
    lm = HarnessLM(make({"type": "residual"}), ByteTokenizer(), CONTEXT)
    assert lm.generate_until(requests(["a", ""], max_gen_toks=0, until=["x"])) == ["", ""]
    assert lm.generate_until([]) == []
