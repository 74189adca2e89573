"""Intervals from resampling, against resampling written out and laws of large numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.compare.bootstrap import document_interval, hierarchical_interval, median_ratio

GENERATOR = np.random.default_rng(11)


def test_the_document_interval_is_students_where_differences_are_normal() -> None:
    for K in (5, 20, 400):
        differences = GENERATOR.normal(-0.01, 0.03, K)
        found = document_interval(differences.tolist())
        expected = stats.t.interval(0.95, K - 1, loc=differences.mean(), scale=stats.sem(differences))
        assert found is not None
        assert np.subtract(*found) == pytest.approx(np.subtract(*expected), rel=0.25 if K == 5 else 0.08)
        assert found == document_interval(differences), "the same numbers give the same interval"


def test_the_document_interval_leans_to_the_side_of_the_tail() -> None:
    skewed = GENERATOR.lognormal(0, 1.2, 60)
    low, high = document_interval(skewed) or (math.nan, math.nan)
    assert high - skewed.mean() > 1.1 * (skewed.mean() - low)


def test_what_has_no_interval_has_none() -> None:
    assert document_interval([0.5]) is None
    assert document_interval([0.5] * 4) == (0.5, 0.5)
    assert hierarchical_interval([[1.0, 2.0, 3.0]]) is None
    assert hierarchical_interval([[1.0], [2.0]]) is None
    assert hierarchical_interval(np.full((3, 4), 0.5)) == (0.5, 0.5)
    assert median_ratio([3.0], [2.0]) == (1.5, None)
    for values in ([], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="values"):
            document_interval(values)
    for table in ([1.0, 2.0], [[1.0, math.nan], [1.0, 2.0]], np.zeros((2, 0))):
        with pytest.raises(ValueError, match="values"):
            hierarchical_interval(table)


def drawn_variance(table_SK: np.ndarray, draws: int) -> float:
    """Of the mean over drawn seeds and drawn documents, one draw of documents for all seeds."""
    S, K = table_SK.shape
    return float(
        np.var([
            table_SK[np.ix_(GENERATOR.integers(0, S, S), GENERATOR.integers(0, K, K))].mean() for _ in range(draws)
        ])
    )  # fmt: skip


def test_resampling_seeds_and_documents_has_the_variance_that_is_written_and_the_interval_makes_its_factors_good() -> (
    None
):
    S, K = 4, 30
    table = GENERATOR.normal(0, 1, (S, 1)) + GENERATOR.normal(0, 1, (1, K)) + GENERATOR.normal(0, 0.5, (S, K))

    # Two-way analysis of variance, by sums of squares of dummy variables rather than of deviations.
    def explained(*factors: np.ndarray) -> float:
        design = np.column_stack([np.ones(S * K), *factors])
        fit = design @ np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
        return float(((fit - table.mean()) ** 2).sum())

    seed, document = np.repeat(np.eye(S), K, axis=0), np.tile(np.eye(K), (S, 1))
    by_seed, by_document, both = explained(seed), explained(document), explained(seed, document)
    seeds, documents = by_seed / (S - 1), by_document / (K - 1)
    rest = (((table - table.mean()) ** 2).sum() - both) / ((S - 1) * (K - 1))
    naive = (S - 1) / S * seeds + (K - 1) / K * documents + (S - 1) * (K - 1) / (S * K) * rest
    assert drawn_variance(table, 20_000) == pytest.approx(naive / (S * K), rel=0.05)

    total = seeds + documents - rest
    freedom = total**2 / (seeds**2 / (S - 1) + documents**2 / (K - 1) + rest**2 / ((S - 1) * (K - 1)))
    expected = stats.t.interval(0.95, freedom, loc=table.mean(), scale=math.sqrt(total / (S * K)))
    assert hierarchical_interval(table) == pytest.approx(expected, rel=1e-9)


def test_without_documents_that_differ_the_interval_is_students_over_seeds_and_the_other_way_round() -> None:
    effects = GENERATOR.normal(0.1, 1, 5)
    table = np.repeat(effects[:, None], 12, axis=1)
    expected = stats.t.interval(0.95, 4, loc=effects.mean(), scale=stats.sem(effects))
    assert hierarchical_interval(table) == pytest.approx(expected, rel=1e-6)
    assert hierarchical_interval(table.T) == pytest.approx(expected, rel=1e-6)


def test_the_ratio_of_medians_resamples_rounds_jointly() -> None:
    rounds = GENERATOR.lognormal(0, 0.5, 15)  # the machine is now slower, now faster
    ratio, interval = median_ratio((1.3 * rounds).tolist(), rounds.tolist())
    assert ratio == pytest.approx(1.3)
    assert interval == pytest.approx((1.3, 1.3)), "what rounds share is gone"
    shuffled = GENERATOR.permutation(rounds)
    _, loose = median_ratio(1.3 * rounds, shuffled)
    assert loose is not None
    assert loose[1] / loose[0] > 1.2
    assert median_ratio(rounds, shuffled) == median_ratio(rounds, shuffled)


def test_the_ratio_of_medians_is_of_medians() -> None:
    ratio, interval = median_ratio([2.0, 4.0, 90.0], [1.0, 3.0, 2.0])
    assert ratio == 2.0
    assert interval is not None
    assert interval[0] <= 2.0 <= interval[1]
    for arm, baseline, said in (([1.0], [1.0, 2.0], "1 rounds beside 2"), ([0.0], [1.0], "above 0"), ([], [], "shape")):
        with pytest.raises(ValueError, match=said):
            median_ratio(arm, baseline)
    with pytest.raises(ValueError, match="not finite"):
        median_ratio([math.nan, 1.0], [1.0, 1.0])
