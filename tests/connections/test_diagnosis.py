"""Cosine, rows, dispersion, dynamic share, gain and patterns against plain numpy and constructed cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from connections_support import normal, randomise
from pydantic import TypeAdapter

from harness.connections.base import Matrices
from harness.connections.diagnosis import rows
from harness.connections.diagnosis.measure import measure
from harness.connections.diagnosis.patterns import patterns
from harness.connections.diagnosis.tape import record
from harness.connections.settings import AnyConnection


def carry(*matrices: torch.Tensor) -> list[Matrices]:
    """Sub-layers that map rows by these, (N, R, R) or (R, R), new = matrix @ old."""
    found = [m if m.ndim == 3 else m[None] for m in matrices]
    nothing = torch.zeros(1, 2, 1, dtype=torch.float64)
    return [Matrices(nothing, m.mT, nothing.mT) for m in found]


def test_cosines_are_quantiles_over_tokens_of_neighbouring_inputs() -> None:
    reads = [normal(3, 7, 5, seed=k) for k in range(4)]
    found = rows.neighbour_cosines(reads).numpy()
    for k in range(3):
        a, b = (x.flatten(0, 1).numpy() for x in reads[k : k + 2])
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(found[:, k], np.quantile(cosines, [0.5, 0.05, 0.95]), rtol=1e-12)


def test_dispersion_is_the_part_of_the_power_that_is_no_common_mean() -> None:
    h = normal(2, 3, 4, 5, seed=1)
    x = h.flatten(0, 1).numpy()
    apart = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) / (x**2).sum(axis=(1, 2))
    assert rows.dispersion(h, [[0, 1, 2, 3]]) == pytest.approx(apart.mean(), rel=1e-12)
    two = [x[:, [0, 2]], x[:, [1, 3]]]
    deviation = sum(((g - g.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) for g in two)
    assert rows.dispersion(h, [[0, 2], [1, 3]]) == pytest.approx((deviation / (x**2).sum(axis=(1, 2))).mean())
    assert rows.dispersion(h[..., :1, :].expand(2, 3, 3, 5), [[0, 1, 2]]) == 0
    assert rows.dispersion(torch.eye(4)[None, None], [[0, 1, 2, 3]]) == pytest.approx(0.75)
    assert rows.dispersion(torch.tensor([[1.0], [-1.0]])[None, None], [[0, 1]]) == 1


def test_only_rows_that_begin_equal_are_compared() -> None:
    streams, fractions = torch.ones(4, 1), torch.eye(3)
    assert rows.copies(streams) == [[0, 1, 2, 3]]
    assert rows.copies(fractions) == []
    assert rows.copies(torch.eye(2)[[0, 1, 0]]) == [[0, 2]]


def test_dynamic_share_is_the_deviation_from_the_tokens_mean() -> None:
    one, other = normal(50, 3, 2, seed=1) + 1, normal(1, 4, seed=2)
    entries = np.concatenate([one.flatten(1).numpy(), other.expand(50, 4).numpy()], axis=1)
    expected = np.sqrt(((entries - entries.mean(axis=0)) ** 2).mean() / (entries**2).mean())
    assert rows.dynamic_share([one, other]) == pytest.approx(expected)
    assert rows.dynamic_share([other]) == 0


def test_gain_of_the_identity_is_one_and_of_made_up_matrices_what_they_say() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    assert all(set(by_depth) == {1.0} for by_depth in rows.gain(carry(eye, eye, eye)).values())
    first = torch.tensor([[1.0, 2.0], [0.0, 0.5]], dtype=torch.float64)
    second = torch.tensor([[3.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    # second @ first = [[3, 6], [-1, -1.5]]
    assert rows.gain(carry(first, second)) == {
        "forward_max": [3.0, 9.0],
        "forward_min": [0.5, 2.5],
        "backward_max": [4.5, 2.0],
        "backward_min": [2.0, 1.0],
    }


def test_gain_takes_products_by_token_before_the_mean() -> None:
    maps = [normal(6, 3, 3, seed=k) for k in range(4)]
    found = rows.gain(carry(*maps))
    for k in range(4):
        forward, backward = [], []
        for token in range(6):
            G, Q = np.eye(3), np.eye(3)
            for t in range(4):
                matrix = maps[t][token].numpy()
                G = matrix @ G if t <= k else G
                Q = matrix @ Q if t >= k else Q
            forward.append(G)
            backward.append(Q)
        row_sums, column_sums = np.mean(forward, axis=0).sum(axis=1), np.mean(backward, axis=0).sum(axis=0)
        assert found["forward_max"][k] == pytest.approx(np.abs(row_sums).max())
        assert found["forward_min"][k] == pytest.approx(np.abs(row_sums).min())
        assert found["backward_max"][k] == pytest.approx(np.abs(column_sums).max())
        assert found["backward_min"][k] == pytest.approx(np.abs(column_sums).min())


def test_constrained_mixing_keeps_the_gain_at_one_and_hyper_connections_need_not() -> None:
    for settings, bound in (({"type": "mhc"}, 1e-2), ({"type": "mhc_lite"}, 1e-6), ({"type": "identity_hc"}, 1e-12)):
        stack = TypeAdapter(AnyConnection).validate_python(settings).build(16, 8).double()
        randomise(stack)
        measured = measure(stack, record(stack, lambda s=stack: s(normal(2, 4, 16, seed=1), [torch.tanh] * 8)))  # noqa: B023
        assert measured.gain is not None
        assert max(abs(one - 1) for by_depth in measured.gain.values() for one in by_depth) < bound
    stack = TypeAdapter(AnyConnection).validate_python({"type": "hyper", "rate": 4}).build(16, 8).double()
    with torch.no_grad():
        for connection in stack.sublayers:  # type: ignore[union-attr]
            connection.static_alpha[:, 1:] *= 1.5
    measured = measure(stack, record(stack, lambda: stack(normal(2, 4, 16, seed=1), [torch.tanh] * 8)))
    assert measured.gain is not None
    assert measured.gain["forward_max"] == pytest.approx([1.5**k for k in range(1, 9)])
    assert measured.gain["backward_min"] == pytest.approx([1.5**k for k in range(8, 0, -1)])


def triangle(n: int) -> np.ndarray:
    return np.tril(np.ones((n, n)))


def test_patterns_of_the_residual_are_all_plain() -> None:
    expected = {"lambda": 1, "recent": 1, "early": 1, "parallel": 0, "parallel_control": 0,
                "embedding_output": 1, "embedding_inputs": 1, "decay": 0}  # fmt: skip
    for scale in (1.0, np.arange(1, 14)[:, None]):  # branches norm what they read: the size of a row means nothing
        assert patterns(triangle(13) * scale) == pytest.approx(expected, abs=1e-12)


def test_a_lambda_shape_scores_high_only_with_both_legs() -> None:
    both, recent = (triangle(13) * 0.1 for _ in range(2))
    for k in range(13):
        both[k, max(k - 2, 0) : k + 1] = recent[k, max(k - 2, 0) : k + 1] = -1.0  # signs do not count
    both[:, :3] = np.tril(np.ones((13, 13)))[:, :3]
    assert patterns(both)["lambda"] == pytest.approx(10)
    found = patterns(recent)
    assert found["recent"] == pytest.approx(10)
    assert found["lambda"] == found["early"] == pytest.approx(1)


def test_jags_are_told_from_the_same_thing_a_sub_layer_later() -> None:
    parallel, shifted = triangle(13), triangle(13)
    for block in range(6):
        parallel[2 * block + 1, 2 * block + 1] = shifted[2 * block + 2, 2 * block + 2] = 0.25
    found, other = patterns(parallel), patterns(shifted)
    assert found["parallel"] == pytest.approx(0.75, abs=0.05)
    assert abs(found["parallel_control"]) < 0.1 < 0.6 < other["parallel_control"]
    assert abs(other["parallel"]) < 0.1


def test_a_removed_embedding_and_a_decay_show_as_numbers() -> None:
    distance = np.subtract.outer(np.arange(13), np.arange(13))
    fading = np.where(distance >= 0, np.exp(-0.3 * np.abs(distance)), 0)
    # Rows have unlike means, so that their mean over a distance is only near an exponential.
    assert patterns(fading)["decay"] == pytest.approx(-0.3, rel=0.15)
    gone = triangle(13)
    gone[-1, 0] = 0
    assert patterns(gone)["embedding_output"] == 0
    assert patterns(gone)["embedding_inputs"] == 1
    assert patterns(gone)["decay"] == pytest.approx(0), "the embedding is no output that could fade"


def test_patterns_that_cannot_be_had_are_not_zero() -> None:
    assert np.isnan(patterns(triangle(5))["lambda"]), "too few layers"
    only_embedding = np.zeros((9, 9))
    only_embedding[:, 0] = 1
    assert np.isnan(patterns(only_embedding)["decay"])
