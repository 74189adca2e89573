"""Synthetic diagnostics: what is asked and what the answer is, held against solvers in plain Python; what is drawn how
often; and that a batch is a function of seed and step."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from synthetic_support import CASES, solved, symbols

from harness.data.diagnostics import IGNORED, Sequences
from harness.data.settings import data_settings
from harness.data.synthetic import BLOCK, HELD_OUT_SEED, Symbols, load_symbols, slice_masks

cases = pytest.mark.parametrize("case", CASES)


def made(case: str, count: int = 60, step: int = 0) -> tuple[Symbols, Sequences]:
    data, context = symbols(case)
    return data, data.batch(step, seed=3, batch_size=count, context=context)


def rows(sequences: Sequences) -> list[tuple[list[int], dict[int, int]]]:
    """(tokens, answers by position) of every sequence."""
    return [
        (tokens, {place: token for place, token in enumerate(asked) if token != IGNORED})
        for tokens, asked in zip(sequences.inputs.tolist(), sequences.targets.tolist(), strict=True)
    ]


# --- what is asked, and the answer


@cases
def test_every_answer_is_what_a_solver_finds_that_has_read_no_further(case: str) -> None:
    data, sequences = made(case)
    for tokens, answers in rows(sequences):
        found = solved(data, tokens)
        assert answers == {place: found[place] for place in answers}
        assert answers


@cases
def test_tokens_lengths_and_types_are_what_the_model_is_told(case: str) -> None:
    data, sequences = made(case)
    shape = (60, CASES[case][1])
    assert sequences.inputs.shape == sequences.targets.shape == shape
    assert sequences.inputs.dtype == sequences.targets.dtype == np.int64
    assert all(values.shape == shape for values in sequences.slices.values())
    answers = sequences.targets[sequences.targets != IGNORED]
    assert sequences.answers == len(answers)
    for tokens in (sequences.inputs, answers):
        assert tokens.min() >= 0
        assert tokens.max() < data.inputs.vocabulary
    assert len(set(answers.tolist())) <= data.settings.choices


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("mqar")])
def test_pairs_come_first_and_every_key_is_asked_once_at_an_even_distance(case: str) -> None:
    data, sequences = made(case)
    settings: Any = data.settings
    half = settings.vocabulary // 2
    seen = Counter[int]()
    for (tokens, answers), pairs in zip(rows(sequences), sequences.slices["pairs"][:, 0].tolist(), strict=True):
        seen[pairs] += 1
        keys, values = tokens[0 : 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(0 < key < half for key in keys)
        assert all(half <= value < settings.vocabulary for value in values)
        later = range(2 * pairs, len(tokens))
        assert sorted(answers) == [place for place in later if tokens[place] in keys], "nothing else is a key"
        assert sorted(tokens[place] for place in answers) == sorted(keys)
        assert all(place % 2 == 0 for place in answers)
        others = {tokens[place] for place in later if place not in answers}
        assert (0 not in others) if settings.random_fill else others <= {0}
    assert set(seen) == set(settings.pairs)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("induction")])
def test_one_stretch_of_tokens_that_are_nowhere_else_comes_twice(case: str) -> None:
    data, sequences = made(case)
    settings: Any = data.settings
    size = settings.repeated
    for tokens, answers in rows(sequences):
        starts = range(len(tokens) - size + 1)
        twins = [
            (first, second)
            for first, second in itertools.combinations(starts, 2)
            if second >= first + size and tokens[first : first + size] == tokens[second : second + size]
            and len(set(tokens[first : first + size])) == size
            and sum(tokens.count(token) for token in tokens[first : first + size]) == 2 * size
        ]  # fmt: skip
        ((first, second),) = twins
        assert answers == {second + k: tokens[first + k + 1] for k in range(size - 1)}
        assert answers == {place: tokens[place + 1] for place in answers}, "and so it goes on"


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("copy")])
def test_symbols_stand_before_the_token_that_asks_and_are_given_back_at_the_end(case: str) -> None:
    data, sequences = made(case)
    settings: Any = data.settings
    size, starts = settings.symbols, set()
    for tokens, answers in rows(sequences):
        asked = len(tokens) - size - 1
        places = [place for place, token in enumerate(tokens) if token > 1]
        assert tokens[asked:] == [1] + [0] * size
        assert len(places) == size
        assert tokens.count(0) == len(tokens) - size - 1
        assert answers == {asked + 1 + k: tokens[place] for k, place in enumerate(places)}
        starts.add(places[0])
        if settings.place != "scattered":
            assert places == list(range(places[0], places[0] + size))
    room = len(tokens) - 2 * size - 1
    assert starts == {0} if settings.place == "start" or not room else len(starts) > 3


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("brackets")])
def test_words_are_balanced_to_the_end_and_every_token_that_closes_is_asked(case: str) -> None:
    data, sequences = made(case)
    kinds = data.settings.choices
    deepest = 0
    for tokens, answers in rows(sequences):
        # An odd context lacks the last token, which closes the first bracket that is open.
        word = [*tokens, answers[len(tokens) - 1]] if len(tokens) % 2 else tokens
        assert answers == {place - 1: word[place] for place in range(1, len(word)) if word[place] >= kinds}
        assert len(answers) == len(word) // 2, "as many in every sequence"
        heights = np.cumsum([1 if token < kinds else -1 for token in word])
        assert heights[-1] == 0
        assert heights.min() == 0
        deepest = max(deepest, int(heights.max()))
    assert deepest == data.settings.depth  # type: ignore[attr-defined]


# --- what accuracy is sliced by


def test_slices_are_what_a_look_at_the_sequence_says() -> None:
    for case in CASES:
        data, sequences = made(case, count=30)
        distances = sequences.slices["distance"]
        for row, (tokens, answers) in enumerate(rows(sequences)):
            sources = [place for place, token in enumerate(tokens) if token > 1]
            for order, place in enumerate(sorted(answers)):
                if data.name == "mqar":
                    source = tokens.index(tokens[place])
                elif data.name == "induction":
                    source = max(earlier for earlier in range(place) if tokens[earlier] == tokens[place])
                elif data.name == "copy":
                    source = sources[order]
                else:
                    opened: list[int] = []
                    for earlier, token in enumerate(tokens[: place + 1]):
                        if token < data.settings.choices:
                            opened.append(earlier)
                        else:
                            opened.pop()
                    assert sequences.slices["depth"][row, place] == len(opened)
                    source = opened[-1] - 1  # the target stands one before the token that closes
                assert distances[row, place] == place - source, case


@cases
def test_every_answer_is_in_one_slice_of_every_kind(case: str) -> None:
    _, sequences = made(case)
    asked = sequences.targets != IGNORED
    kinds: dict[str, list[Any]] = {}
    for name, mask in slice_masks(sequences):
        assert mask.any()
        kinds.setdefault(name.split("_")[0], []).append(mask)
    assert kinds.keys() == sequences.slices.keys()
    for masks in kinds.values():
        assert_array_equal(np.sum(masks, axis=0), asked.astype(int))


def test_distances_are_sliced_by_powers_of_two() -> None:
    distances = np.arange(1, 41)[None, :]
    sequences = Sequences(np.zeros_like(distances), np.zeros_like(distances), {"distance": distances})
    assert {name: distances[mask].tolist() for name, mask in slice_masks(sequences)} == {
        "distance_1": [1], "distance_2": [2], "distance_3_4": [3, 4], "distance_5_8": [5, 6, 7, 8],
        "distance_9_16": list(range(9, 17)), "distance_17_32": list(range(17, 33)),
        "distance_33_64": list(range(33, 41)),
    }  # fmt: skip


# --- what is drawn how often


def likely(counts: Counter[Any], chances: dict[Any, float]) -> bool:
    """Whether chi-square is within what one draw of a hundred thousand exceeds."""
    from scipy.stats import chi2

    total = sum(counts.values())
    assert counts.keys() <= chances.keys()
    square = sum((counts[key] - total * chance) ** 2 / (total * chance) for key, chance in chances.items())
    return bool(square < chi2.ppf(1 - 1e-5, len(chances) - 1))


def test_queries_follow_the_power_law_one_after_another_without_putting_back() -> None:
    """The first two keys' places against the chances of a sequential draw, written out."""
    for power in (0.01, 1.0, 2.5):
        data = load_symbols(data_settings(corpus="mqar", pairs=(2,), power=power))
        sequences = data.batch(0, seed=1, batch_size=20_000, context=14)
        weights = {place: (place + 1) ** (power - 1) for place in range(5)}
        whole = sum(weights.values())
        chances = {
            (one, two): weights[one] / whole * weights[two] / (whole - weights[one])
            for one, two in itertools.permutations(weights, 2)
        }
        counts = Counter[Any]()
        for tokens in sequences.inputs.tolist():
            counts[tuple((tokens.index(key, 4) - 4) // 2 for key in (tokens[0], tokens[2]))] += 1
        assert likely(counts, chances), power


def test_balanced_words_of_a_length_and_depth_are_drawn_evenly() -> None:
    for depth in (2, 3, 4):
        words = {
            steps
            for steps in itertools.product((1, -1), repeat=8)
            if sum(steps) == 0 and 0 <= min(itertools.accumulate(steps)) <= max(itertools.accumulate(steps)) <= depth
        }
        data = load_symbols(data_settings(corpus="brackets", kinds=3, depth=depth))
        sequences = data.batch(0, seed=1, batch_size=20_000, context=8)
        counts = Counter(tuple(1 if token < 3 else -1 for token in tokens) for tokens in sequences.inputs.tolist())
        assert likely(counts, dict.fromkeys(words, 1 / len(words))), depth
        opened = Counter(token for token in sequences.inputs.ravel().tolist() if token < 3)
        assert likely(opened, dict.fromkeys(range(3), 1 / 3))


def test_long_words_stay_balanced_where_numbers_of_words_are_beyond_floats() -> None:
    data = load_symbols(data_settings(corpus="brackets", kinds=2, depth=12))
    word = data.batch(0, seed=1, batch_size=2, context=4096).inputs
    heights = np.cumsum(np.where(word < 2, 1, -1), axis=1)
    assert (heights.min(), heights.max()) == (0, 12)
    assert (heights[:, -1] == 0).all()


def test_distances_numbers_of_pairs_keys_values_and_fill_are_even() -> None:
    induction = load_symbols(data_settings(corpus="induction", vocabulary=12, repeated=4))
    sequences = induction.batch(0, seed=1, batch_size=20_000, context=16)
    distances = Counter(sequences.slices["distance"][:, 0].tolist())
    assert likely(distances, dict.fromkeys(range(4, 13), 1 / 9))
    assert likely(Counter(sequences.inputs.ravel().tolist()), dict.fromkeys(range(12), 1 / 12))
    mqar = load_symbols(data_settings(corpus="mqar", vocabulary=16, pairs=(2, 3)))
    sequences = mqar.batch(0, seed=1, batch_size=20_000, context=16)
    assert likely(Counter(sequences.slices["pairs"][:, 0].tolist()), {2: 0.5, 3: 0.5})
    for place, tokens in ((0, range(1, 8)), (2, range(1, 8)), (1, range(8, 16)), (3, range(8, 16))):
        assert likely(Counter(sequences.inputs[:, place].tolist()), dict.fromkeys(tokens, 1 / len(tokens)))
    last = Counter(sequences.inputs[:, 15].tolist())  # an odd place is never a query: all but keys of the sequence
    assert set(last) == set(range(1, 16))


# --- a function of seed and step


@cases
def test_a_batch_depends_on_seed_and_step_alone_in_any_order_and_from_a_fresh_object(case: str) -> None:
    data, context = symbols(case)
    first = [data.batch(step, seed=5, batch_size=8, context=context) for step in range(6)]
    order = list(range(6))
    random.Random(0).shuffle(order)
    for step in order:
        again = symbols(case)[0].batch(step, seed=5, batch_size=8, context=context)
        assert_array_equal(again.inputs, first[step].inputs)
        assert_array_equal(again.targets, first[step].targets)
    if case != "mqar-least":  # there is nearly nothing to draw
        assert len({batch.inputs.tobytes() for batch in first}) == 6
        other = data.batch(0, seed=6, batch_size=8, context=context)
        assert not np.array_equal(other.inputs, first[0].inputs)


@cases
def test_fewer_held_out_sequences_are_the_first_of_more(case: str) -> None:
    data, context = symbols(case)
    many = data.held_out(2 * BLOCK + 5, context)
    assert len(many) == 2 * BLOCK + 5
    for count in (1, BLOCK, BLOCK + 1):
        few = data.held_out(count, context)
        assert len(few) == count
        assert_array_equal(few.inputs, many.inputs[:count])
        assert_array_equal(few.targets, many.targets[:count])
        assert all(np.array_equal(few.slices[name], many.slices[name][:count]) for name in many.slices)


def test_held_out_sequences_are_no_training_sequences_whatever_the_seed() -> None:
    """Of a language so large that the same sequence never comes twice by chance."""
    data = load_symbols(data_settings(corpus="mqar", vocabulary=1000))
    held = {row.tobytes() for row in data.held_out(200, 64).inputs}
    assert len(held) == 200
    for seed in (0, 1, HELD_OUT_SEED, 2**32, 2**63 - 1):
        for step in (0, 1, 2):
            batch = data.batch(step, seed=seed, batch_size=BLOCK, context=64).inputs
            assert not held & {row.tobytes() for row in batch}


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("mqar", "a7e47116db8235c0"),
        ("induction", "1eab2dce773c6162"),
        ("copy", "5e5c104d5c01c663"),
        ("brackets", "ba5d9b9deeef66d6"),
    ],
)
def test_the_first_sequences_never_change_while_the_version_of_the_generators_stands(
    corpus: str, expected: str
) -> None:
    data = load_symbols(data_settings(corpus=corpus))
    batch, held = data.batch(0, seed=1, batch_size=4, context=64), data.held_out(4, 64)
    arrays = (batch.inputs, batch.targets, held.inputs, held.targets)
    assert hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16] == expected
