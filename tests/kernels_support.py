"""Boundaries with random tensors, and how far kernels are from the reference in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from connections_support import distance
from hypothesis import strategies as st
from torch import Tensor

from harness.connections.kernels import reference
from harness.connections.kernels.form import Form, Grads, Link, Made, Operands


@st.composite
def forms(draw: Any) -> Form:
    """Of every kind; widths that no vector and no block divides."""
    rows, width = draw(st.sampled_from((1, 2, 3, 4, 5))), draw(st.integers(1, 41))
    mixer = draw(st.sampled_from(("given", "affine", "sinkhorn", "identity")))
    if mixer in ("sinkhorn", "identity"):
        return Form(rows, 1, width, mixer, eps=1e-6, iterations=3 if mixer == "sinkhorn" else 0)
    diagonal = draw(st.booleans())
    parts = rows if diagonal else draw(st.integers(1, rows))
    norm = draw(st.sampled_from(("layer", "rms", "none"))) if mixer == "affine" else "none"
    return Form(rows, parts, width, mixer, diagonal, norm=norm, tanh=draw(st.booleans()))


@dataclass(frozen=True)
class Case:
    """What a boundary is given, in float64, and the gradients that reach it."""

    form: Form
    state: Tensor
    links: tuple[Link, ...]
    operands: Operands
    g_next: Tensor
    g_x: Tensor
    g_coefficients: Tensor

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Case:
        """State and outputs in `dtype`, what is small in fp32 at least, all of it on the device."""
        small = torch.promote_types(dtype, torch.float32)
        links = tuple(Link(one.out.to(device, dtype), one.coefficients.to(device, small)) for one in self.links)
        operands = Operands(*[None if one is None else one.to(device, small) for one in self.operands])  # type: ignore[arg-type]
        large = (one.to(device, dtype) for one in (self.state, self.g_next, self.g_x))
        state, g_next, g_x = large
        return Case(self.form, state, links, operands, g_next, g_x, self.g_coefficients.to(device, small))


def case(form: Form, tokens: int, links: int, seed: int, mean: float = 0.0) -> Case:
    """Coefficients near those of a network at its start, where numbers stay of one size; `mean` is added to states."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(shape, generator=generator, dtype=torch.float64)

    rows, columns = form.rows, form.columns
    start = torch.zeros(rows, columns, dtype=torch.float64)
    start[:, form.parts : form.parts + rows] = torch.eye(rows)

    def coefficients() -> Tensor:
        return start + normal(*(() if form.mixer == "given" else (tokens,)), rows, columns, std=0.3)

    if form.mixer == "given":
        operands = Operands(coefficients())
    elif form.mixer == "affine":
        weights = normal(columns, form.width, std=form.width**-0.5)
        operands = Operands(start + normal(rows, columns, std=0.3), weights, normal(columns), normal(rows, columns))
    else:
        weights = normal(form.raw, rows * form.width, std=(rows * form.width) ** -0.5)
        operands = Operands(normal(form.raw), weights, None, normal(form.raw))
    return Case(
        form,
        normal(tokens, rows, form.width) + mean,
        tuple(Link(normal(tokens, form.parts * form.width), coefficients()) for _ in range(links)),
        operands,
        normal(tokens, rows, form.width),
        normal(tokens, form.parts * form.width),
        normal(tokens, rows, columns),
    )


def run(backend: Any, given: Case, keep: bool = True) -> tuple[Made, Grads]:
    """Forward and backward pass of kernels; without `keep` the state is not written."""
    made = backend.forward(given.form, given.state, given.links, given.operands, keep)
    g_coefficients = given.g_coefficients if made.coefficients is not None else None
    grads = backend.backward(
        given.form, given.state, given.links, given.operands, made, given.g_next, given.g_x, g_coefficients
    )
    return made, grads


def exact(given: Case) -> tuple[Made, Grads]:
    """The same by the reference and by differentiation, in the dtype of the case."""
    form, state = given.form, given.state
    for link in given.links[:-1]:
        state = reference.combine(form, state, link)
    leaves = [state, *(given.links[-1] if given.links else ()), *given.operands]
    leaves = [None if one is None else one.detach().clone().requires_grad_() for one in leaves]
    small = Operands(*leaves[-4:])  # type: ignore[arg-type]
    links = [Link(*leaves[1:3])] if given.links else []  # type: ignore[arg-type]
    following, x, coefficients = reference.boundary(form, leaves[0], links, small)  # type: ignore[arg-type]
    total = (following * given.g_next).sum() + (x * given.g_x).sum()
    if form.mixer != "given":
        total = total + (coefficients * given.g_coefficients).sum()
    total.backward()
    found = [None if one is None else one.grad for one in leaves]
    grads = Grads(found[0], *(found[1:3] if given.links else (None, None)), *found[-4:])  # type: ignore[arg-type]
    return Made(following, x, coefficients if form.mixer != "given" else None, None, None), grads


def off(found: tuple[Made, Grads], right: tuple[Made, Grads], tokens: int) -> dict[str, float]:
    """How far every result is from the right one, relative to the latter's largest entry."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for ours, theirs in zip(found, right, strict=True):
        kind = "gradient of " if isinstance(ours, Grads) else ""
        pairs |= {f"{kind}{name}": (one, getattr(theirs, name)) for name, one in ours._asdict().items()}
    gaps = {}
    for name, (ours, theirs) in pairs.items():
        if name in ("raw", "stats") or ours is None:
            continue
        right_one = torch.zeros_like(ours) if theirs is None else theirs
        if name == "gradient of coefficients" and ours.ndim == 3:
            assert ours.shape[0] == tokens
        gaps[name] = distance(ours.cpu(), right_one.cpu()) if right_one.abs().max() > 0 else float(ours.abs().max())
    return gaps
