"""The batch of step s is a function of (data seed, s): every window once an epoch, in an order that epochs change."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from harness.data.batches import FIRST_DIGEST, Batch, BatchSource, chain_digest, validation_windows
from harness.errors import UsageError

CONTEXT, BATCH = 8, 3
TOKENS = np.arange(8 * 27 + 5, dtype=np.uint16)
"""Every token is its own position, so a window shows where it was cut."""


def source(seed: int = 5, batch_size: int = BATCH, tokens: np.ndarray = TOKENS) -> BatchSource:
    return BatchSource(tokens, batch_size=batch_size, context=CONTEXT, seed=seed)


def starts(made: BatchSource, epoch: int) -> list[int]:
    """First positions of the windows of an epoch, one after another."""
    single = source(made.seed, batch_size=1)
    return [int(single.batch(epoch * made.windows + i)[0, 0]) for i in range(made.windows)]


def test_a_batch_depends_on_seed_and_step_alone_in_any_order_and_from_a_fresh_object() -> None:
    made = source()
    first = [made.batch(step) for step in range(40)]
    order = list(range(40))
    random.Random(0).shuffle(order)
    for step in order:
        assert_array_equal(made.batch(step), first[step])
        assert_array_equal(source().batch(step), first[step])


def test_the_global_random_state_has_no_part_in_it() -> None:
    expected = source().batch(7)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    assert_array_equal(source().batch(7), expected)
    assert_array_equal(np.random.get_state()[1], before)


def test_another_seed_gives_another_order() -> None:
    assert starts(source(5), 0) != starts(source(6), 0)
    assert not np.array_equal(source(5).batch(0), source(6).batch(0))


def test_every_window_comes_once_in_an_epoch_and_its_targets_once() -> None:
    made = source()
    for epoch in range(6):
        found = sorted(starts(made, epoch))
        shift = found[0]
        assert 0 <= shift < CONTEXT
        assert found == [shift + i * CONTEXT for i in range(made.windows)]
    assert made.windows == 26, "all that fit with a whole shift kept free"


def test_epochs_differ_in_order_and_in_where_the_text_is_cut() -> None:
    made = source()
    epochs = [starts(made, epoch) for epoch in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len({tuple(np.argsort(epoch)) for epoch in epochs}) == 8
    assert len({min(epoch) for epoch in epochs}) > 2


def test_a_batch_over_the_end_of_an_epoch_takes_rows_of_both() -> None:
    made = source()
    rows = [int(start) for step in range(27) for start in made.batch(step)[:, 0]]
    assert rows == (starts(made, 0) + starts(made, 1) + starts(made, 2) + starts(made, 3))[: 27 * BATCH]
    assert (made.windows % BATCH) != 0, "otherwise this checks nothing"


def test_rows_are_whole_windows_whose_targets_are_the_inputs_one_later() -> None:
    batch = source().batch(11)
    assert batch.shape == (BATCH, CONTEXT + 1)
    assert batch.dtype == np.int64
    for row in batch:
        assert_array_equal(row, np.arange(row[0], row[0] + CONTEXT + 1))
    assert_array_equal(batch[:, 1:], batch[:, :-1] + 1)


def test_the_first_batch_of_a_seed_never_changes() -> None:
    assert source(1, batch_size=4).batch(0)[:, 0].tolist() == [11, 163, 59, 171]


def test_the_smallest_text_gives_one_window_and_a_smaller_one_is_refused() -> None:
    smallest = source(tokens=TOKENS[: 2 * CONTEXT + 1])
    assert smallest.windows == 1
    assert all(smallest.batch(step).shape == (BATCH, CONTEXT + 1) for step in range(10))
    with pytest.raises(UsageError, match=r"the training text has 16 tokens, and model\.context 8 needs 17"):
        source(tokens=TOKENS[: 2 * CONTEXT])


def test_the_digest_is_a_chain_over_content_and_order() -> None:
    def digest(*batches: Batch) -> str:
        chained = FIRST_DIGEST
        for batch in batches:
            chained = chain_digest(chained, batch)
        return chained

    a, b = source().batch(0), source().batch(1)
    changed = a.copy()
    changed[-1, -1] += 1
    assert len({digest(), digest(a), digest(a, b), digest(b, a), digest(changed), digest(a, a)}) == 6
    assert chain_digest(digest(a), b) == digest(source().batch(0), source().batch(1)), "it goes on from what was kept"
    assert hashlib.sha256(b"").hexdigest() == FIRST_DIGEST


def test_validation_windows_are_frozen_whole_and_spread_evenly() -> None:
    windows = validation_windows(TOKENS, count=6, context=CONTEXT)
    assert_array_equal(windows, validation_windows(TOKENS, count=6, context=CONTEXT))
    assert windows.shape == (6, CONTEXT + 1)
    assert windows.dtype == np.int64
    assert_array_equal(windows[:, 1:], windows[:, :-1] + 1)
    gaps = np.diff(windows[:, 0]) // CONTEXT
    assert set(gaps.tolist()) <= {27 // 6, 27 // 6 + 1}
    assert windows[0, 0] == 0
    assert windows[-1, 0] >= (27 - 27 // 6 - 1) * CONTEXT, "to the end of the text"


def test_validation_windows_never_overlap_and_are_as_many_as_there_are() -> None:
    windows = validation_windows(TOKENS, count=10_000, context=CONTEXT)
    assert windows[:, 0].tolist() == [i * CONTEXT for i in range(27)]
    assert validation_windows(TOKENS[: CONTEXT + 1], count=4, context=CONTEXT).shape == (1, CONTEXT + 1)
    with pytest.raises(UsageError, match=r"the held-out text has 8 tokens, and model\.context 8 needs 9"):
        validation_windows(TOKENS[:CONTEXT], count=4, context=CONTEXT)
