"""The boundary in C against the reference in float64: every result and every gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_support import Case, case, exact, forms, off, run

from harness.connections.kernels import native
from harness.connections.kernels.form import MOST_ROWS, Form

LIMIT = 1e-4
DHC, DFC = Form(4, 1, 48, "affine", norm="layer"), Form(4, 4, 12, "affine", diagonal=True, norm="layer")
MHC = Form(4, 1, 24, "sinkhorn", eps=1e-6, iterations=20)

pytestmark = pytest.mark.skipif(native.problem(DHC) is not None, reason=f"no kernels here: {native.problem(DHC)}")


def gaps(asked: Case, keep: bool = True) -> dict[str, float]:
    return off(run(native, asked.to(torch.float32), keep), exact(asked), len(asked.state))


@settings(max_examples=25, deadline=None)  # every form is compiled
@given(forms(), st.sampled_from((1, 2, 9, 17)), st.integers(0, 3), st.booleans(), st.integers(0, 10**6))
def test_of_any_form_it_is_the_reference(form: Form, tokens: int, links: int, keep: bool, seed: int) -> None:
    found = gaps(case(form, tokens, links, seed), keep)
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize(
    "form", [DHC, DFC, MHC, Form(4, 1, 32, "given"), Form(MOST_ROWS, 1, 33, "affine", norm="rms")], ids=str
)
def test_at_the_sizes_of_vectors(form: Form) -> None:
    found = gaps(case(form, 64, 2, seed=1))
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}
    assert {
        "x",
        "next",
        "gradient of state",
        "gradient of out",
        "gradient of coefficients",
        "gradient of fixed",
    } <= found.keys()


@pytest.mark.parametrize("form", [DHC, DFC, MHC], ids=str)
def test_large_means_cost_no_more_than_they_cost_plain_arithmetic(form: Form) -> None:
    """The mean of squares less the square of the mean would lose all digits at a mean of 3,000."""
    asked = case(form, 16, 1, seed=2, mean=3e3)
    plain = exact(asked.to(torch.float32))
    single = off(plain, exact(asked), 16)
    for name, gap in gaps(asked).items():
        assert gap <= max(LIMIT, 4 * single[name]), (name, gap, single[name])


def test_a_constant_row_has_no_direction() -> None:
    """Its deviation is zero; what remains is the epsilon."""
    asked = case(DHC, 3, 0, seed=3)
    flat = dataclasses.replace(asked, state=torch.full_like(asked.state, 1.5))
    made, grads = run(native, flat.to(torch.float32))
    assert made.raw is not None
    assert made.raw.abs().max() <= 1e-3
    assert all(torch.isfinite(one).all() for one in grads if one is not None)


@pytest.mark.parametrize("form", [DHC, DFC, MHC], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_in_its_token_and_in_no_other(form: Form, value: float) -> None:
    asked = case(form, 12, 1, seed=4).to(torch.float32)
    asked.links[0].out[5, 3] = value
    made, _ = run(native, asked)
    assert made.x is not None
    bad = ~torch.isfinite(made.x).all(dim=1)
    assert bad.tolist() == [token == 5 for token in range(12)]


@pytest.mark.parametrize("form", [DHC, DFC, MHC], ids=str)
@pytest.mark.parametrize("missing", ["g_next", "g_x", "g_coefficients"])
def test_a_gradient_that_does_not_come_is_zero(form: Form, missing: str) -> None:
    asked = case(form, 5, 2, seed=5)
    right = exact(dataclasses.replace(asked, **{missing: torch.zeros_like(getattr(asked, missing))}))
    ours = asked.to(torch.float32)
    made = native.forward(form, ours.state, ours.links, ours.operands, True)
    incoming = [None if name == missing else getattr(ours, name) for name in ("g_next", "g_x", "g_coefficients")]
    grads = native.backward(form, ours.state, ours.links, ours.operands, made, *incoming)
    assert {name: gap for name, gap in off((made, grads), right, 5).items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize("form", [DHC, DFC, MHC, Form(4, 1, 48, "given")], ids=str)
def test_threads_share_tokens_and_the_sum_is_always_the_same(form: Form) -> None:
    asked = case(form, 37, 2, seed=6).to(torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            made, grads = run(native, asked)
            results.append([one for one in (*made, *grads) if one is not None])
    finally:
        torch.set_num_threads(before)
    one, two, again, three = results
    assert all(torch.equal(a, b) for a, b in zip(two, again, strict=True)), "bit for bit"
    for a, b, c in zip(one, two, three, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-4)


def test_streams_that_are_views_of_one_are_read_where_they_lie() -> None:
    """The entry: n equal streams without a copy, and an embedding that is a part of something else."""
    asked = case(DHC, 6, 1, seed=7)
    wide = torch.randn(6, 2 * 48, dtype=torch.float64)
    view = wide[:, 48:].unsqueeze(1).expand(6, 4, 48)
    right = exact(dataclasses.replace(asked, state=view.contiguous()))
    ours = asked.to(torch.float32)
    found = run(native, dataclasses.replace(ours, state=wide.float()[:, 48:].unsqueeze(1).expand(6, 4, 48)))
    assert {name: gap for name, gap in off(found, right, 6).items() if not gap <= LIMIT} == {}
