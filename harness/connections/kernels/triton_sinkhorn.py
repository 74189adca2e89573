"""Coefficients from raw numbers on a GPU, and back, where all rows make them together: mHC and Identity-HC.

Tiles of T tokens: (T, RP) of vectors over rows, (T, RP, RP) of matrices, row j and column i of Sinkhorn's, with RP the
next power of two. Raw numbers are [pre | post | res], coefficients [read | carry | write] row by row.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from harness.connections.sinkhorn import TINY as _TINY

TINY = tl.constexpr(_TINY)


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def start_of(raw, there):
    """Sinkhorn's first matrix and row factors, with what is largest taken out. Zero where there is nothing."""
    rows = tl.max(tl.where(there, raw, float("-inf")), axis=2)
    columns = tl.max(tl.where(there, raw - rows[:, :, None], float("-inf")), axis=1)
    start = tl.where(there, tl.exp(raw - (rows[:, :, None] + columns[:, None, :])), 0.0)
    return start, tl.exp(rows - tl.max(rows, axis=1)[:, None])


@triton.jit
def column_factors(start, u):
    return 1 / (tl.sum(start * u[:, :, None], axis=1) + TINY)


@triton.jit
def row_factors(start, v):
    return 1 / (tl.sum(start * v[:, None, :], axis=2) + TINY)


@triton.jit
def sinkhorn(raw, there, ITERATIONS: tl.constexpr):
    """harness.connections.manifold.sinkhorn."""
    start, u = start_of(raw, there)
    v = tl.zeros_like(u) + 1.0
    for _ in tl.range(ITERATIONS):
        v = column_factors(start, u)
        u = row_factors(start, v)
    return start * v[:, None, :] * u[:, :, None]


@triton.jit
def behind_sinkhorn(raw, gradient, there, history, T: tl.constexpr, RP: tl.constexpr, ITERATIONS: tl.constexpr):
    """The gradient of raw, through every iteration. `history` has room for 2 · ITERATIONS + 1 of (T, RP)."""
    place = history + tl.arange(0, T)[:, None] * RP + tl.arange(0, RP)[None, :]
    step: tl.constexpr = T * RP
    start, u = start_of(raw, there)
    v = tl.zeros_like(u) + 1.0
    tl.debug_barrier()  # before it is written again, all have read what is there
    tl.store(place, u)
    for k in tl.range(ITERATIONS):
        v = column_factors(start, u)
        u = row_factors(start, v)
        tl.store(place + (2 * k + 1) * step, v)
        tl.store(place + (2 * k + 2) * step, u)
    tl.debug_barrier()
    both = gradient * start
    g_start = gradient * u[:, :, None] * v[:, None, :]
    g_u = tl.sum(both * v[:, None, :], axis=2)
    g_v = tl.sum(both * u[:, :, None], axis=1)
    for n in tl.range(ITERATIONS):
        last = place + 2 * (ITERATIONS - n) * step
        u = tl.load(last)
        v = tl.load(last - step)
        before = tl.load(last - 2 * step)
        g_sum = -g_u * u * u
        g_start += g_sum[:, :, None] * v[:, None, :]
        g_v += tl.sum(start * g_sum[:, :, None], axis=1)
        g_sum = -g_v * v * v
        g_start += before[:, :, None] * g_sum[:, None, :]
        g_u = tl.sum(start * g_sum[:, None, :], axis=2)
        g_v = tl.zeros_like(g_v)
    return g_start * start


@triton.jit
def affine(raw, fixed, scale, place, there, live):
    """fixed + scale ∘ raw at some places, and raw and scale there."""
    own = tl.load(raw + place, mask=there & live, other=0.0)
    factor = tl.load(scale + place, mask=there, other=0.0)
    return tl.load(fixed + place, mask=there, other=0.0) + factor * own, own, factor


@triton.jit
def coefficients_of(raw, fixed, scale, made, live, R: tl.constexpr, RP: tl.constexpr, ITERATIONS: tl.constexpr):
    """Stores them. `raw` and `made` point to each token's, (T, 1) as `live`; ITERATIONS is None for the identity."""
    C: tl.constexpr = R + 2
    i = tl.arange(0, RP)[None, :]
    pre, _, _ = affine(raw, fixed, scale, i, i < R, live)
    post, _, _ = affine(raw, fixed, scale, R + i, i < R, live)
    tl.store(made + i * C, sigmoid(pre), mask=(i < R) & live)
    tl.store(made + i * C + 1 + R, 2 * sigmoid(post), mask=(i < R) & live)
    j = tl.arange(0, RP)[None, :, None]
    i = tl.arange(0, RP)[None, None, :]
    there = (j < R) & (i < R)
    if ITERATIONS is None:
        carry = tl.where(i == j, 1.0, 0.0) + tl.zeros([made.shape[0], RP, RP], tl.float32)
    else:
        res, _, _ = affine(raw[:, :, None], fixed, scale, 2 * R + j * R + i, there, live[:, :, None])
        carry = sinkhorn(res, there, ITERATIONS)
    tl.store(made[:, :, None] + i * C + 1 + j, carry, mask=there & live[:, :, None])


@triton.jit
def incoming(gradient, place, there, live, T: tl.constexpr, RP: tl.constexpr):
    """Of coefficients; zero where there is none."""
    if gradient is None:
        found = tl.zeros([T, RP, RP] if len(place.shape) == 3 else [T, RP], tl.float32)
    else:
        found = tl.load(gradient + place, mask=there & live, other=0.0)
    return found


@triton.jit
def behind_coefficients(
    raw, fixed, scale, g_made, g_read, u, history, sums_of, live,
    R: tl.constexpr, W: tl.constexpr, T: tl.constexpr, RP: tl.constexpr, ITERATIONS: tl.constexpr,
):  # fmt: skip
    """From the gradients of coefficients and of what they read to u, that of raw, which is stored; behind it, what the
    norm's backward pass needs of it, the mean of its product with weights and normed state. The sums over tokens (of
    the gradients of fixed and scale, of [pre | post | res]) go on from `sums_of`."""
    C: tl.constexpr = R + 2
    i = tl.arange(0, RP)[None, :]
    there = i < R
    value, own, factor = affine(raw, fixed, scale, i, there, live)
    gate = sigmoid(value)
    g_pre = (g_read + incoming(g_made, i * C, there, live, T, RP)) * gate * (1 - gate)
    tl.store(u + i, g_pre * factor, mask=there & live)
    along = tl.sum(g_pre * factor * own, axis=1)
    sums_pre = (sums_of[0] + g_pre, sums_of[1] + g_pre * own)
    value, own, factor = affine(raw, fixed, scale, R + i, there, live)
    gate = sigmoid(value)
    g_post = 2 * incoming(g_made, i * C + 1 + R, there, live, T, RP) * gate * (1 - gate)
    tl.store(u + R + i, g_post * factor, mask=there & live)
    along += tl.sum(g_post * factor * own, axis=1)
    new_sums = sums_pre + (sums_of[2] + g_post, sums_of[3] + g_post * own)
    K: tl.constexpr = 2 * R if ITERATIONS is None else 2 * R + R * R
    if ITERATIONS is not None:
        j = tl.arange(0, RP)[None, :, None]
        i = tl.arange(0, RP)[None, None, :]
        there = (j < R) & (i < R)
        alive = live[:, :, None]
        place = 2 * R + j * R + i
        value, own, factor = affine(raw[:, :, None], fixed, scale, place, there, alive)
        g_made_3 = g_made[:, :, None] if g_made is not None else g_made
        gradient = incoming(g_made_3, i * C + 1 + j, there, alive, T, RP)
        g_res = behind_sinkhorn(value, gradient, there, history, T, RP, ITERATIONS)
        tl.store(u[:, :, None] + place, g_res * factor, mask=there & alive)
        along += tl.sum(tl.sum(g_res * factor * own, axis=2), axis=1)
        new_sums = new_sums + (sums_of[4] + g_res, sums_of[5] + g_res * own)
    tl.store(u + K, along[:, None] / (R * W), mask=live)
    return new_sums


@triton.jit
def store_sums(fixed, scale, sums_of, R: tl.constexpr, RP: tl.constexpr, ITERATIONS: tl.constexpr):
    """The sums of `behind_coefficients` over a program's tokens, (K,) each."""
    i = tl.arange(0, RP)
    for n in tl.static_range(2):
        tl.store(fixed + n * R + i, tl.sum(sums_of[2 * n], axis=0), mask=i < R)
        tl.store(scale + n * R + i, tl.sum(sums_of[2 * n + 1], axis=0), mask=i < R)
    if ITERATIONS is not None:
        j = tl.arange(0, RP)[:, None]
        i = tl.arange(0, RP)[None, :]
        tl.store(fixed + 2 * R + j * R + i, tl.sum(sums_of[4], axis=0), mask=(j < R) & (i < R))
        tl.store(scale + 2 * R + j * R + i, tl.sum(sums_of[5], axis=0), mask=(j < R) & (i < R))
