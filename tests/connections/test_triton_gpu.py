"""The Triton kernels on a GPU, at sizes of real networks: make test-gpu. Elsewhere test_triton.py interprets them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from connections_support import distance, randomise
from kernels_support import case, exact, off, run
from torch.nn import functional as F

pytest.importorskip("triton", reason="no Triton on this platform")

from harness.connections.kernels import triton_backend
from harness.connections.kernels.choose import choose
from harness.connections.kernels.form import Form
from harness.connections.settings import CONNECTIONS
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available() or triton_backend.INTERPRETED, reason="no GPU"),
]

LIMITS = {torch.float32: 1e-4, torch.bfloat16: 2**-7}
"""Relative to the largest entry. What bf16 rounds is 2^-8, and what tensor cores round is less than as much again."""

FORMS = [
    Form(2, 1, 768, "affine", norm="layer"),
    Form(4, 1, 768, "affine", norm="layer"),
    Form(4, 1, 2048, "affine", norm="layer"),
    Form(3, 1, 1001, "affine", norm="rms"),
    Form(8, 1, 512, "affine", norm="layer", tanh=False),
    Form(4, 4, 192, "affine", diagonal=True, norm="layer"),
    Form(3, 2, 384, "affine", norm="rms"),
    Form(4, 1, 768, "given"),
    Form(5, 5, 77, "given", diagonal=True),
    Form(4, 1, 768, "sinkhorn", eps=1e-6, iterations=20),
    Form(4, 1, 2048, "sinkhorn", eps=1e-6, iterations=20),
    Form(5, 1, 333, "sinkhorn", eps=1e-6, iterations=3),
    Form(3, 1, 768, "identity", eps=1e-6),
]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("tokens", "links"), [(1, 0), (777, 1), (777, 2)])
def test_they_are_the_reference_and_always_the_same(form: Form, tokens: int, links: int, dtype: torch.dtype) -> None:
    ours = case(form, tokens, links, seed=1).to(dtype, "cuda")
    first, second = run(triton_backend, ours, keep=links == 1), run(triton_backend, ours, keep=links == 1)
    gaps = off(first, exact(ours.to(torch.float64, "cuda")), tokens)
    assert {name: gap for name, gap in gaps.items() if not gap <= LIMITS[dtype]} == {}
    for one, other in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True):
        assert one is None or torch.equal(one, other)  # type: ignore[arg-type]


def test_offsets_do_not_wrap() -> None:
    """2^31 numbers of a state and more."""
    form = Form(4, 1, 4096, "given")
    tokens = 2**31 // (4 * 4096) + 3
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs 20 GiB")
    ours = case(form, 3, 0, seed=2).to(torch.bfloat16, "cuda")
    state = torch.zeros(tokens, 4, 4096, dtype=torch.bfloat16, device="cuda")
    state[-3:] = ours.state
    x = triton_backend.forward(form, state, (), ours.operands, False).x
    torch.testing.assert_close(x[-3:], triton_backend.forward(form, ours.state, (), ours.operands, False).x)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("kind", "raw"), [("hyper", {"rate": 4}), ("frac", {"rate": 4, "dynamic": False}), ("mhc", {"rate": 4})], ids=str
)
def test_a_decoder_is_the_same_by_kernels(kind: str, raw: dict[str, Any], compiled: bool) -> None:
    model = Decoder(
        DecoderSettings(layers=3, width=128, heads=4, context=64), CONNECTIONS[kind].model_validate(raw), 97
    )
    randomise(model.connections, std=0.1)
    model.to("cuda")
    tokens = torch.randint(97, (4, 65), generator=torch.Generator().manual_seed(5)).cuda()
    found = {}
    for kernels in ("plain", "fused"):
        assert choose(model.connections, kernels, torch.device("cuda"), torch.float32).path in ("plain", "triton")
        torch._dynamo.reset()
        network = torch.compile(model, fullgraph=True) if compiled else model
        loss = F.cross_entropy(network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        found[kernels] = [loss.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]]
        model.zero_grad()
    for plain, fused in zip(found["plain"], found["fused"], strict=True):
        assert distance(fused.cpu(), plain.cpu()) <= 1e-3
