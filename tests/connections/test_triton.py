"""The boundary in Triton against the reference in float64: on a GPU where there is one, else interpreted."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from connections_support import distance, normal, randomise
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels_support import Case, case, exact, forms, off, run

from harness.connections import build
from harness.connections.kernels.form import MOST_ROWS, Form, Operands
from harness.connections.kernels.stack import FusableConnections
from harness.connections.settings import CONNECTIONS

pytest.importorskip("triton", reason="no Triton on this platform")

from harness.connections.kernels import triton_backend

DEVICE = "cpu" if triton_backend.INTERPRETED else "cuda"
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU, and TRITON_INTERPRET was not set in time"
)

LIMIT = 1e-4
ROUNDED = 2**-7 if triton_backend.INTERPRETED else 2**-8
"""In bf16: what is stored is rounded once, to the nearest by a GPU and towards zero by the interpreter. Sums over tokens
and coefficients are in fp32."""

DHC, DFC = Form(4, 1, 24, "affine", norm="layer"), Form(3, 3, 7, "affine", diagonal=True, norm="layer")
MHC, GIVEN = Form(4, 1, 24, "sinkhorn", eps=1e-6, iterations=20), Form(4, 1, 24, "given")


def gaps(asked: Case, keep: bool = True, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Of what is computed in `dtype` from the very numbers that the reference is given."""
    ours = asked.to(dtype, DEVICE)
    return off(run(triton_backend, ours, keep), exact(ours.to(torch.float64, DEVICE)), len(asked.state))


@settings(max_examples=25, deadline=None)  # every operation of every token is interpreted
@given(forms(), st.sampled_from((1, 2)), st.integers(0, 3), st.booleans(), st.integers(0, 10**6))
def test_of_any_form_it_is_the_reference(form: Form, tokens: int, links: int, keep: bool, seed: int) -> None:
    assume((form.norm, form.width) != ("layer", 1))  # the next test
    found = gaps(case(form, tokens, links, seed), keep)
    assert ("next" in found) == (keep and links > 0)
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize("seed", range(6))
def test_a_layer_norm_of_one_number_is_as_near_as_its_numbers_let_it(seed: int) -> None:
    """What comes back through it is zero, as a difference of equal numbers times 1/sqrt(eps), 316."""
    found = gaps(case(Form(3, 1, 1, "affine", norm="layer", tanh=False), 1, 1, seed))
    assert max(found.values()) <= 20 * LIMIT, found


@pytest.mark.parametrize(
    ("form", "tokens"),
    [
        (Form(2, 1, 300, "affine", norm="layer"), 2),  # rows in several tiles
        (Form(2, 2, 150, "given"), 3),
        (Form(MOST_ROWS, 1, 5, "affine", norm="rms"), 1),
        (Form(3, 1, 70, "sinkhorn", eps=1e-6, iterations=4), 70),  # several tiles of tokens and of columns
        (Form(6, 1, 9, "sinkhorn", eps=1e-6, iterations=2), 5),  # raw numbers in several groups
    ],
    ids=str,
)
def test_at_the_sizes_of_tiles(form: Form, tokens: int) -> None:
    found = gaps(case(form, tokens, 1, seed=1))
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}
    some = {"x", "next", "gradient of state", "gradient of out", "gradient of coefficients", "gradient of fixed"}
    assert some <= found.keys()


@pytest.mark.parametrize("form", [DHC, DFC, MHC, GIVEN], ids=str)
@pytest.mark.parametrize("links", [0, 2])
def test_bf16_is_how_states_are_stored_and_not_how_they_are_computed(form: Form, links: int) -> None:
    limit = 2 * ROUNDED if form.joint and not triton_backend.INTERPRETED else ROUNDED  # tensor cores
    found = gaps(case(form, 2, links, seed=2), dtype=torch.bfloat16)
    assert {name: gap for name, gap in found.items() if not gap <= limit} == {}
    if not form.joint:
        sums = [name for name in ("fixed", "weights", "offset", "scale") if f"gradient of {name}" in found]
        assert all(found[f"gradient of {name}"] <= LIMIT for name in sums)


@pytest.mark.parametrize("form", [DFC, MHC], ids=str)
def test_an_output_may_be_in_bf16_where_the_state_is_not(form: Form) -> None:
    """As under autocast. Its gradient is stored as it is."""
    asked = case(form, 2, 1, seed=10).to(torch.float32, DEVICE)
    asked = dataclasses.replace(asked, links=(asked.links[0]._replace(out=asked.links[0].out.bfloat16()),))
    made, grads = run(triton_backend, asked)
    assert grads.out is not None
    assert (made.x.dtype, grads.out.dtype) == (torch.float32, torch.bfloat16)
    found = off((made, grads), exact(asked.to(torch.float64, DEVICE)), 2)
    assert found.pop("gradient of out") <= ROUNDED
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize("form", [GIVEN, DHC, Form(3, 1, 9, "identity", eps=1e-6)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_coefficients_are_shared_by_tokens_or_not_whatever_the_mixer(form: Form, shared: bool) -> None:
    asked = case(form, 2, 2, seed=3)
    every = [
        one.coefficients if one.coefficients.ndim == 3 else one.coefficients.expand(2, -1, -1) for one in asked.links
    ]
    links = [
        one._replace(coefficients=own[0] if shared else own.contiguous())
        for one, own in zip(asked.links, every, strict=True)
    ]
    found = gaps(dataclasses.replace(asked, links=tuple(links)))
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize("form", [DHC, DFC, MHC], ids=str)
def test_large_means_cost_no_more_than_they_cost_plain_arithmetic(form: Form) -> None:
    """The mean of squares less the square of the mean would lose all digits at a mean of 3,000."""
    asked = case(form, 2, 1, seed=4, mean=3e3)
    single = off(exact(asked.to(torch.float32)), exact(asked.to(torch.float32).to(torch.float64)), 2)
    for name, gap in gaps(asked).items():
        assert gap <= max(LIMIT, 4 * single[name]), (name, gap, single[name])


@pytest.mark.parametrize("form", [DHC, DFC, MHC], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, when it interprets
def test_what_is_not_finite_is_seen_in_its_token_and_in_no_other(form: Form, value: float) -> None:
    asked = case(form, 3, 1, seed=5).to(torch.float32, DEVICE)
    asked.links[0].out[1, 3] = value
    made, grads = run(triton_backend, asked)
    for one in (made.x, made.coefficients, grads.state):
        assert one is not None
        assert torch.isfinite(one).flatten(1).all(dim=1).tolist() == [True, False, True]
    assert grads.weights is not None
    assert not torch.isfinite(grads.weights).all()


@pytest.mark.parametrize("form", [DHC, DFC, MHC, GIVEN], ids=str)
@pytest.mark.parametrize("missing", ["g_next", "g_x", "g_coefficients"])
def test_a_gradient_that_does_not_come_is_zero(form: Form, missing: str) -> None:
    asked = case(form, 1, 1, seed=6)
    ours = asked.to(torch.float32, DEVICE)
    right = ours.to(torch.float64, DEVICE)
    right = exact(dataclasses.replace(right, **{missing: torch.zeros_like(getattr(right, missing))}))
    made = triton_backend.forward(form, ours.state, ours.links, ours.operands, True)
    incoming = {name: getattr(ours, name) for name in ("g_next", "g_x", "g_coefficients")}
    incoming |= {missing: None} | ({"g_coefficients": None} if form.mixer == "given" else {})
    grads = triton_backend.backward(form, ours.state, ours.links, ours.operands, made, *incoming.values())
    assert {name: gap for name, gap in off((made, grads), right, 1).items() if not gap <= LIMIT} == {}


@pytest.mark.parametrize("form", [DHC, MHC, GIVEN], ids=str)
def test_the_same_is_the_same_bit_for_bit_and_no_two_results_share_memory(form: Form) -> None:
    asked = case(form, 3, 2, seed=7).to(torch.float32, DEVICE)
    first, second = (
        [one for one in (*made, *grads) if one is not None]
        for made, grads in (run(triton_backend, asked), run(triton_backend, asked))
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len({one.untyped_storage().data_ptr() for one in first}) == len(first)


@pytest.mark.parametrize("form", [DHC, MHC], ids=str)
def test_streams_that_are_views_of_one_are_read_where_they_lie(form: Form) -> None:
    """The entry: n equal streams without a copy, and an embedding that is a part of something else."""
    asked, width = case(form, 3, 1, seed=8).to(torch.float32, DEVICE), form.width
    wide = torch.randn(3, 2 * width, device=DEVICE)
    view = wide[:, width:].unsqueeze(1).expand(3, form.rows, width)
    ours = dataclasses.replace(asked, state=view)
    assert ours.state.stride() == (2 * width, 0, 1)
    found = off(run(triton_backend, ours), exact(ours.to(torch.float64, DEVICE)), 3)
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


def test_gradients_may_come_as_views() -> None:
    asked = case(DHC, 3, 1, seed=9).to(torch.float32, DEVICE)
    asked = dataclasses.replace(asked, g_next=torch.randn(3, 1, 24, device=DEVICE).expand(3, 4, 24))
    found = off(run(triton_backend, asked), exact(asked.to(torch.float64, DEVICE)), 3)
    assert {name: gap for name, gap in found.items() if not gap <= LIMIT} == {}


def test_tanh_is_exact_near_zero_and_far_from_it() -> None:
    """With no weights raw is zero and the coefficients are those of the offset."""
    form = Form(1, 1, 4, "affine")
    values = torch.tensor([1e-30, -1e-6, 3e-3, 0.2499, -0.2501, 1.0, -9.0, 50.0, -float("inf"), 0.0], device=DEVICE)
    for offset in values:
        operands = Operands(
            torch.zeros(1, 3, device=DEVICE), torch.zeros(3, 4, device=DEVICE), offset.expand(3).contiguous(),
            torch.ones(1, 3, device=DEVICE),
        )  # fmt: skip
        made = triton_backend.forward(form, torch.zeros(1, 1, 4, device=DEVICE), (), operands, False)
        assert made.coefficients is not None
        torch.testing.assert_close(made.coefficients.flatten(), torch.tanh(offset).expand(3), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [("hyper", {"rate": 3}), ("hyper", {"rate": 2, "dynamic": False}), ("frac", {"rate": 2}), ("mhc", {"rate": 2})],
    ids=str,
)
def test_a_network_is_the_same_by_these_kernels(kind: str, raw: dict[str, Any]) -> None:
    """States that are not kept, the entry and the exit among them."""

    def branch(y_BTD: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y_BTD.roll(1, dims=2)) + 0.3 * y_BTD.roll(1, dims=1) * y_BTD

    found = []
    for kernels in (triton_backend, None):
        stack = build(CONNECTIONS[kind].model_validate(raw), 8, 4)
        randomise(stack, std=0.3)
        assert isinstance(stack, FusableConnections)
        stack.to(DEVICE).use(kernels)
        x = normal(1, 2, 8, seed=3, dtype=torch.float32).to(DEVICE).requires_grad_()
        stack(x, [branch] * 4).square().sum().backward()
        found.append([x.grad, *[parameter.grad for parameter in stack.parameters()]])
    for ours, plain in zip(*found, strict=True):
        assert (ours is None) == (plain is None) or not (ours if plain is None else plain).any()
        if ours is not None and plain is not None and plain.any():
            assert distance(ours.cpu(), plain.cpu()) <= 10 * LIMIT  # both are in fp32


def test_kernels_need_torch_and_triton_alone() -> None:
    """So that a machine which has no more can measure them."""
    modules = [f"harness.connections.kernels.{name}" for name in ("triton_backend", "reference", "form")]
    missing = "sys.modules['pydantic'] = sys.modules['lightning'] = None"
    script = f"import sys; {missing}; import {', '.join(modules)}; print({modules[0]}.NAME)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (0, "triton\n"), done.stderr
