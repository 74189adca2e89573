"""Unfolded connection matrices: against the equations of HC in a plain loop, and by what they must reproduce."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from connections_support import distance, normal, randomise
from pydantic import TypeAdapter
from torch import Tensor, nn

from harness.connections.base import Connections, SublayerConnections
from harness.connections.diagnosis.measure import measure
from harness.connections.diagnosis.patterns import patterns
from harness.connections.diagnosis.tape import Tape, record
from harness.connections.diagnosis.unfold import ends, flat, propagate, unfold, unfold_from_outside
from harness.connections.settings import AnyConnection

D, BLOCKS = 24, 3
K = 2 * BLOCKS

ROWS: dict[str, dict[str, Any]] = {
    "shc-n3": {"type": "hyper", "rate": 3, "dynamic": False},
    "dhc-n1": {"type": "hyper", "rate": 1},
    "dhc-n4": {"type": "hyper", "rate": 4},
    "dhc-n4-frozenAr-staticB": {"type": "hyper", "rate": 4, "A_r": "frozen", "B": "static"},
    "sfc-m3": {"type": "frac", "rate": 3, "dynamic": False},
    "dfc-m2": {"type": "frac", "rate": 2},
    "dghc-m1-n4": {"type": "ghc", "fractions": 1, "slots": 4},
    "dghc-m2-n3": {"type": "ghc", "fractions": 2, "slots": 3},
    "mhc-n4": {"type": "mhc"},
    "mhclite-n3": {"type": "mhc_lite", "rate": 3},
    "ihc-n4": {"type": "identity_hc"},
}
SCALARS: dict[str, dict[str, Any]] = {
    "residual": {"type": "residual"},
    "post-norm": {"type": "post_norm"},
    "ptb": {"type": "parallel"},
    "rezero": {"type": "rezero"},
    "rezero-nonorm": {"type": "rezero", "norm": False},
    "laurel-rw": {"type": "laurel", "variant": "rw"},
    "resi-dual": {"type": "resi_dual"},
    "altup-n3": {"type": "altup", "rate": 3},
    "denseformer": {"type": "denseformer"},
    "attnres": {"type": "attention_residuals"},
    "attnres-block2": {"type": "attention_residuals", "variant": "block", "blocks": 2},
    "attnres-delta": {"type": "attention_residuals", "variant": "delta"},
    "mudd": {"type": "mudd"},
}
"""Types whose sub-layers read a sum of whole outputs, each times one number of a token."""


class Layer(nn.Module):
    """A sub-layer with outputs of size 1, norm and transform apart, that takes three inputs."""

    inputs = 3

    def __init__(self, seed: int):
        super().__init__()
        self.norm = nn.RMSNorm(D, eps=1e-6, dtype=torch.float64)
        self.weight = normal(D, D, seed=seed) / D**0.5

    def transform(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        mixed = (x_BTD + sum(0.5 * other for other in more_BTD)) @ self.weight
        return torch.tanh(2 * mixed).roll(1, dims=1) * 2**0.5

    def forward(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self.transform(self.norm(x_BTD), *(self.norm(other) for other in more_BTD))


def made(settings: dict[str, Any], std: float = 0.5) -> Connections:
    """A stack in float64 with parameters far from their start, but for norms, which stay plain."""
    stack = TypeAdapter(AnyConnection).validate_python(settings).build(D, K).double()
    randomise(stack, seed=3, std=std)
    for module in stack.modules():
        if isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
    return stack


def taped(stack: Connections) -> Tape:
    return record(stack, lambda: stack(normal(2, 5, D, seed=1), [Layer(10 + k) for k in range(K)]))


def sources(tape: Tape) -> Tensor:
    """(N, J, D)"""
    return torch.stack([x.flatten(0, 1) for x in (tape.x, *tape.outputs)], dim=1)


def inside(stack: Connections, tape: Tape) -> tuple[Any, ...]:
    """Matrices of every sub-layer, the ends, and the states."""
    assert isinstance(stack, SublayerConnections)
    h, found, states = stack.expand(tape.x), [], []
    for module, out_BTD in zip(stack.sublayers, tape.outputs, strict=True):
        states.append(h)
        found.append(flat(module.matrices(h)))  # type: ignore[operator]
        h = module.connect(h, lambda _, out_BTD=out_BTD: out_BTD)  # type: ignore[operator]
    return found, *ends(stack, tape.x), [*states, h]


@pytest.mark.parametrize("name", ROWS)
@torch.no_grad()
def test_coefficients_times_outputs_are_every_layer_input_of_the_row_types(name: str) -> None:
    stack = made(ROWS[name])
    tape = taped(stack)
    sublayers, enter, leave, states = inside(stack, tape)
    P = enter.shape[1]
    parts_NJPW = sources(tape).unflatten(-1, (P, -1))
    for k, (block, rows) in enumerate(propagate(sublayers, enter, leave)):
        block, rows = block.expand(10, *block.shape[1:]), rows.expand(10, *rows.shape[1:])
        read = torch.einsum("npjq,njqw->npw", block, parts_NJPW[:, : k + 1]).flatten(1)
        assert distance(read, [*tape.reads, tape.out][k].flatten(0, 1)) < 1e-9
        if k == K:
            carried = torch.einsum("nrjq,njqw->nrw", rows, parts_NJPW)
            assert distance(carried, states[-1].flatten(0, 1)) < 1e-9


@pytest.mark.parametrize("name", SCALARS)
def test_coefficients_seen_from_outside_times_outputs_are_every_layer_input(name: str) -> None:
    stack = made(SCALARS[name])
    tape = taped(stack)
    found = unfold_from_outside(stack, tape)
    again = torch.einsum("nkj,njd->knd", found.matrix, sources(tape))
    for mine, theirs in zip(again, [*tape.reads, tape.out], strict=True):
        # A norm's epsilon is no part of its slope, and AltUp's sums cancel.
        assert distance(mine, theirs.flatten(0, 1)) < 1e-5
    assert found.held == (name.startswith("attnres") or name == "mudd")


@torch.no_grad()
def test_static_streams_look_alike_from_inside_and_from_outside() -> None:
    stack = made(ROWS["shc-n3"])
    tape = taped(stack)
    sublayers, enter, leave, _ = inside(stack, tape)
    inner = unfold(sublayers, enter, leave).matrix.mean(dim=0)
    assert distance(unfold_from_outside(stack, tape).matrix.mean(dim=0), inner) < 1e-9


def hyper_matrices(parameters: dict[str, np.ndarray], H: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A_m (n, 1), A_r (n, n), B (1, n) of one token, HC Eq. 10-13 with LayerNorm as in its Algorithm 2."""
    centred = H - H.mean(axis=1, keepdims=True)
    norm = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    norm = norm * parameters["norm.weight"] + parameters["norm.bias"]
    alpha = parameters["dynamic_alpha_scale"] * np.tanh(norm @ parameters["dynamic_alpha_fn"])
    beta = parameters["dynamic_beta_scale"] * np.tanh(norm @ parameters["dynamic_beta_fn"])
    alpha, beta = alpha + parameters["static_alpha"], beta + parameters["static_beta"]
    return alpha[:, :1], alpha[:, 1:], beta[None, :]


@torch.no_grad()
def test_hyper_connections_unfold_as_their_equation_20_says() -> None:
    """c_kj = B^j (prod A_r^t) A_m^k and for C(i) the column i of A_r in place of the last A_m, token by token in a loop."""
    n, stack = 3, made({"type": "hyper", "rate": 3})
    tape = taped(stack)
    parameters = [
        {name: p.numpy() for name, p in module.named_parameters()}
        for module in stack.sublayers  # type: ignore[union-attr]
    ]
    out = [o.flatten(0, 1).numpy() for o in tape.outputs]
    expected, hidden = np.zeros((K + 1, K + 1)), np.zeros((n, K + 1, K + 1))
    tokens = len(out[0])
    for token in range(tokens):
        H = np.tile(tape.x.flatten(0, 1).numpy()[token], (n, 1))
        A_m, A_r, B = [], [], []
        for k in range(K):
            for found, one in zip((A_m, A_r, B), hyper_matrices(parameters[k], H), strict=True):
                found.append(one)
            H = B[k].T @ out[k][token][None] + A_r[k].T @ H
        ends_with = [*A_m, np.ones((n, 1))]
        for k in range(K + 1):
            for j in range(k + 1):
                product = np.ones((1, n)) if j == 0 else B[j - 1]
                for t in range(j, k):
                    product = product @ A_r[t]
                expected[k, j] += (product @ ends_with[k]).item() / tokens
                for i in range(n):
                    last = A_r[k][:, i : i + 1] if k < K else np.eye(n)[:, i : i + 1]
                    hidden[i, k, j] += (product @ last).item() / tokens
    found = measure(stack, tape)
    np.testing.assert_allclose(found.matrix.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert found.hidden is not None
    np.testing.assert_allclose(found.hidden.numpy(), hidden, rtol=1e-9, atol=1e-12)


def test_the_residual_is_the_lower_triangle_of_ones() -> None:
    stack = made(SCALARS["residual"])
    matrix = measure(stack, taped(stack)).matrix
    assert torch.equal(matrix, torch.ones(K + 1, K + 1, dtype=torch.float64).tril())


def test_row_types_begin_as_multiples_of_the_lower_triangle() -> None:
    for name, settings in ROWS.items():
        stack = TypeAdapter(AnyConnection).validate_python(settings).build(D, K).double()
        matrix = measure(stack, taped(stack)).matrix
        rows = matrix / matrix.sum(dim=1, keepdim=True) * torch.arange(1, K + 2).double()[:, None]
        assert distance(rows, torch.ones(K + 1, K + 1).tril()) < 1e-5, name


def test_the_parallel_block_is_jagged() -> None:
    stack = made(SCALARS["ptb"])
    matrix = measure(stack, taped(stack)).matrix
    expected = torch.ones(K + 1, K + 1, dtype=torch.float64).tril()
    for block in range(BLOCKS):
        expected[2 * block + 1, 2 * block + 1] = 0  # the second sub-layer does not see what the first one wrote
    assert torch.equal(matrix, expected)
    found = patterns(matrix.numpy())
    assert found["parallel"] == 1
    assert found["parallel_control"] < 0.2


@torch.no_grad()
def test_post_norm_fades_by_the_scale_of_every_norm() -> None:
    stack = made(SCALARS["post-norm"])
    tape = taped(stack)
    x = tape.x.flatten(0, 1)
    rows = [torch.nn.functional.pad(torch.ones(len(x), 1).double(), (0, K))]
    for k, out in enumerate(tape.outputs):
        total = x + out.flatten(0, 1)
        rms = (total**2).mean(dim=1, keepdim=True).add(1e-6).sqrt()
        new = torch.eye(K + 1).double()[k + 1]
        rows.append((rows[-1] + new) / rms)
        x = total / rms
    matrix = measure(stack, tape).matrix
    assert distance(matrix, torch.stack(rows, dim=1).mean(dim=0)) < 1e-9
    assert (matrix[-1, 1:].diff() > 0).all(), "the older the output the less is left of it"
    # Two terms of size 1 make one of size 1.41 where they are independent.
    assert patterns(matrix.numpy())["decay"] == pytest.approx(-np.log(2) / 2, rel=0.4)


def test_attention_residuals_show_their_weights() -> None:
    """Rows of C are the softmax of Eq. 2-4 themselves, written out for one head; AttnRes reads are mixtures of sources."""
    stack = made(SCALARS["attnres"])
    tape = taped(stack)
    queries, norms = (p.detach().numpy() for p in stack.parameters())
    found = [x.flatten(0, 1).numpy() for x in (tape.x, *tape.outputs)]
    expected = np.zeros((10, K + 1, K + 1))
    expected[:, 0, 0] = 1
    for k in range(1, K + 1):
        keys = [s / np.sqrt((s**2).mean(axis=1, keepdims=True) + 1e-6) for s in found[: k + 1]]
        logits = np.stack([(key * norms[k - 1]) @ queries[k - 1] for key in keys], axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected[:, k, : k + 1] = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unfold_from_outside(stack, tape).matrix.numpy(), expected, rtol=1e-8, atol=1e-12)
    measured = measure(stack, tape)
    assert measured.dynamic_share is not None
    deviation = expected[:, 3] - expected[:, 3].mean(axis=0)
    assert measured.dynamic_share[3] == pytest.approx(np.sqrt((deviation**2).mean() / (expected[:, 3] ** 2).mean()))


def test_a_branch_that_is_not_asked_once_is_an_error_and_hooks_do_not_stay() -> None:
    class Twice(Connections):
        def forward(self, x_BTD: Tensor, branches: Any) -> Tensor:
            return branches[0](x_BTD) + branches[0](x_BTD)

    stack = Twice()
    with pytest.raises(ValueError, match="branch 0 was asked 2 times"):
        record(stack, lambda: stack(normal(1, 2, D, seed=1), [Layer(1)]))
    assert not stack._forward_hooks
    assert not stack._forward_pre_hooks
