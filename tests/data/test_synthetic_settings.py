"""Settings of the synthetic diagnostics: what they decide, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic_support import SOLVERS

from harness.data.load import digests_of, inputs_of, load_data
from harness.data.settings import CORPORA, data_settings
from harness.data.synthetic import Symbols, load_symbols
from harness.errors import UsageError


def test_four_diagnostics_are_corpora_with_a_name_inputs_and_a_digest() -> None:
    kinds = [name for name, kind in CORPORA.items() if kind.KIND == "symbols"]
    assert kinds == ["mqar", "induction", "copy", "brackets"] == list(SOLVERS)
    digests = set()
    for name in kinds:
        data = load_data(data_settings(corpus=name))
        assert isinstance(data, Symbols)
        assert data.name == name
        assert inputs_of(data) == data.inputs
        assert (data.inputs.vocabulary, data.inputs.boundary) == (data.settings.tokens, None)
        assert digests_of(data) == {"data": data.digest}
        digests.add(data.digest)
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


@pytest.mark.parametrize(
    ("corpus", "key", "value"),
    [
        ("mqar", "vocabulary", 100), ("mqar", "pairs", (4,)), ("mqar", "power", 0.5), ("mqar", "random_fill", False),
        ("induction", "vocabulary", 100), ("induction", "repeated", 5), ("copy", "vocabulary", 100),
        ("copy", "symbols", 3), ("copy", "place", "anywhere"), ("brackets", "kinds", 3), ("brackets", "depth", 3),
    ],
)  # fmt: skip
def test_every_setting_changes_the_digest_and_the_sequences(corpus: str, key: str, value: Any) -> None:
    plain, other = (load_symbols(data_settings(corpus=corpus, **keys)) for keys in ({}, {key: value}))
    assert plain.digest != other.digest
    batches = [data.batch(0, seed=1, batch_size=4, context=64).inputs for data in (plain, other)]
    assert not np.array_equal(*batches)
    assert load_symbols(data_settings(corpus=corpus, **{key: getattr(plain.settings, key)})).digest == plain.digest


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"corpus": "mqar", "vocabulary": 16, "pairs": (4, 8)},
         "data.pairs: 8 pairs need as many keys, and there are 7 in a vocabulary of 16"),
        ({"corpus": "mqar", "pairs": (4, 4)}, "data.pairs: a number is given twice"),
        ({"corpus": "induction", "vocabulary": 16, "repeated": 16},
         "data.repeated: 16 different tokens leave no other in a vocabulary of 16"),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_together_are_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(data_settings(**keys))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("keys", "fits", "message"),
    [
        ({"corpus": "mqar", "vocabulary": 20, "pairs": (4, 8)}, 32,
         "data.pairs: 8 pairs and their queries need 32 tokens, and the context is 31"),
        ({"corpus": "induction", "repeated": 5}, 10, "data.repeated: twice 5 tokens are 10, and the context is 9"),
        ({"corpus": "copy", "symbols": 4}, 9,
         "data.symbols: 4 symbols, their copy and a token between are 9 tokens, and the context is 8"),
        ({"corpus": "brackets", "depth": 6}, 12,
         "data.depth: opening and closing 6 brackets takes 12 tokens, and the context is 11"),
    ],
)  # fmt: skip
def test_what_a_context_does_not_hold_is_one_line(keys: dict[str, Any], fits: int, message: str) -> None:
    data = load_symbols(data_settings(**keys))
    assert len(data.held_out(3, fits)) == 3
    assert data.settings.problem_in(fits) is None
    for make in (
        lambda: data.held_out(3, fits - 1),
        lambda: data.batch(0, seed=1, batch_size=2, context=fits - 1),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert str(caught.value) == message
