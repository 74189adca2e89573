"""The boundary on a GPU where all rows together make the coefficients: mHC and Identity-HC (one part of an output).

A program takes tens of tokens, for raw numbers are a product with weights that these share, and passes over columns:
forward twice, (3R + 3) W numbers a token less what the cache still has at the second time. Backward are three kernels,
for what the norm gives back needs sums over all of a token, and the weights' gradient sums over all tokens: (5R + 6) W.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from harness.connections.kernels.triton_common import (
    add,
    link_columns,
    load_rows,
    number,
    scaled,
    step_back,
    store_columns,
    store_row,
    sums,
    walk,
)
from harness.connections.kernels.triton_sinkhorn import behind_coefficients, coefficients_of, store_sums


@triton.jit
def tokens_of(block, S, T: tl.constexpr):
    """Indices (T, 1) of a block's tokens, and which of them there are."""
    t = block * T + tl.arange(0, T)[:, None].to(tl.int64)
    return t, t < S


@triton.jit
def load_weights(weights, j: tl.constexpr, g, w, K: tl.constexpr, R: tl.constexpr, W: tl.constexpr, KG: tl.constexpr):
    """(KG, columns): of row j, those of group g of raw numbers, `w` (1, columns)."""
    k = g * KG + tl.arange(0, KG)[:, None]
    return tl.load(weights + k * (R * W) + j * W + w, mask=(k < K) & (w < W), other=0.0)


@triton.jit
def project(
    state, stride_t, stride_i, outs, coefficients, strides, weights, raw, stats, t, live, eps,
    R: tl.constexpr, W: tl.constexpr, K: tl.constexpr, LINKS: tl.constexpr,
    T: tl.constexpr, BLOCK: tl.constexpr, KG: tl.constexpr, GROUPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Stores raw = normed state · weights and the norm's factor, which is put in behind the product."""
    products = ()
    for _ in tl.static_range(GROUPS):
        products = products + (tl.zeros([T, KG], tl.float32),)
    squares = tl.zeros([T], tl.float32)
    for start in tl.range(0, W, BLOCK):
        w = start + tl.arange(0, BLOCK)[None, :]
        rows = walk(state, stride_t, stride_i, outs, coefficients, strides, t, w, live, R, 1, W, False, LINKS, BLOCK, 1)
        square = rows[0] * rows[0]
        for j in tl.static_range(1, R):
            square += rows[j] * rows[j]
        squares += tl.sum(square, axis=1)
        for j in tl.static_range(R):
            new_products = ()
            for g in tl.static_range(GROUPS):
                tile = load_weights(weights, j, g, w, K, R, W, KG)
                new_products = new_products + (tl.dot(rows[j], tl.trans(tile), products[g], input_precision=PRECISION),)
            products = new_products
    inverse = tl.rsqrt(squares[:, None] / (R * W) + eps)
    tl.store(stats + t, inverse, mask=live)
    for g in tl.static_range(GROUPS):
        k = g * KG + tl.arange(0, KG)[None, :]
        tl.store(raw + t * K + k, products[g] * inverse, mask=live & (k < K))


@triton.jit(do_not_specialize=["S"])
def forward_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, fixed, weights, scale,
    following, x, made, raw, stats, S, eps,
    R: tl.constexpr, W: tl.constexpr, K: tl.constexpr, LINKS: tl.constexpr, ITERATIONS: tl.constexpr,
    LOG: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr, KG: tl.constexpr, GROUPS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """T tokens of a boundary. `following` is None where the next state is not kept."""
    C: tl.constexpr = R + 2
    t, live = tokens_of(tl.program_id(0), S, T)
    project(
        state, stride_t, stride_i, outs, coefficients, strides, weights, raw, stats, t, live, eps,
        R, W, K, LINKS, T, BLOCK, KG, GROUPS, PRECISION,
    )  # fmt: skip
    own_made = made + t * (R * C)
    tl.debug_barrier()
    coefficients_of(raw + t * K, fixed, scale, own_made, live, R, 2**LOG, ITERATIONS)
    tl.debug_barrier()
    for start in tl.range(0, W, BLOCK):
        w = start + tl.arange(0, BLOCK)[None, :]
        rows = walk(state, stride_t, stride_i, outs, coefficients, strides, t, w, live, R, 1, W, False, LINKS, BLOCK, 1)
        row = scaled(number(own_made, 0, live), rows, 0, 1)
        for i in tl.static_range(1, R):
            row = add(row, number(own_made, i * C, live), rows, i, 1)
        store_row(x + t * W, row, 0, w, live, W, BLOCK, 1)
        if following is not None:
            for i in tl.static_range(R):
                store_row(following + t * (R * W), rows[i : i + 1], i, w, live, W, BLOCK, 1)


@triton.jit(do_not_specialize=["S"])
def gates_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, fixed, scale, raw, g_x, g_made, u, history, partial, S,
    R: tl.constexpr, W: tl.constexpr, K: tl.constexpr, LINKS: tl.constexpr, ITERATIONS: tl.constexpr,
    LOG: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Backward, first: every so many blocks of T tokens, from the gradients of x and of the coefficients to that of raw
    (`u`). Sums over tokens are stored in a row of `partial`, [fixed | scale]."""
    C: tl.constexpr = R + 2
    RP: tl.constexpr = 2**LOG
    vector = tl.zeros([T, RP], tl.float32)
    sums_of = (vector, vector, vector, vector)
    if ITERATIONS is not None:
        matrix = tl.zeros([T, RP, RP], tl.float32)
        sums_of = sums_of + (matrix, matrix)
        history += tl.program_id(0) * ((2 * ITERATIONS + 1) * T * RP)
    for block in tl.range(tl.program_id(0), tl.cdiv(S, T), tl.num_programs(0)):
        t, live = tokens_of(block, S, T)
        g_read = vector
        if g_x is not None:
            tiles = ()
            for _ in tl.static_range(R):
                tiles = tiles + (tl.zeros([T, BLOCK], tl.float32),)
            for start in tl.range(0, W, BLOCK, num_stages=2):
                w = start + tl.arange(0, BLOCK)[None, :]
                rows = walk(
                    state, stride_t, stride_i, outs, coefficients, strides, t, w, live, R, 1, W, False, LINKS, BLOCK, 1
                )
                g_parts = load_rows(g_x + t * W, W, w, live, 1, W, BLOCK, 1)
                new_tiles = ()
                for i in tl.static_range(R):
                    new_tiles = new_tiles + (tiles[i] + g_parts[0] * rows[i],)
                tiles = new_tiles
            g_read = sums(tiles, LOG)
        own_made = g_made + t * (R * C) if g_made is not None else g_made
        sums_of = behind_coefficients(
            raw + t * K, fixed, scale, own_made, g_read, u + t * (K + 1), history, sums_of, live,
            R, W, T, RP, ITERATIONS,
        )  # fmt: skip
    own = partial + tl.program_id(0) * (2 * K)
    store_sums(own, own + K, sums_of, R, RP, ITERATIONS)


@triton.jit(do_not_specialize=["S"])
def rows_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, weights, made, stats, u, g_following, g_x,
    g_state, g_out, g_coefficients, S,
    R: tl.constexpr, W: tl.constexpr, K: tl.constexpr, LINKS: tl.constexpr, LOG: tl.constexpr,
    T: tl.constexpr, BLOCK: tl.constexpr, KG: tl.constexpr, GROUPS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Backward, second: T tokens, the gradients of the state and of the last link."""
    C: tl.constexpr = R + 2
    t, live = tokens_of(tl.program_id(0), S, T)
    inverse = number(stats, t, live)
    along = number(u, t * (K + 1) + K, live) * inverse * inverse
    groups = ()
    for g in tl.static_range(GROUPS):
        k = g * KG + tl.arange(0, KG)[None, :]
        groups = groups + (tl.load(u + t * (K + 1) + k, mask=live & (k < K), other=0.0) * inverse,)
    columns = ()
    for _ in tl.static_range(R + 1):
        columns = columns + (tl.zeros([T, 2**LOG], tl.float32),)
    for start in tl.range(0, W, BLOCK):
        w = start + tl.arange(0, BLOCK)[None, :]
        rows = walk(state, stride_t, stride_i, outs, coefficients, strides, t, w, live, R, 1, W, False, LINKS, BLOCK, 1)
        g_rows = ()
        for j in tl.static_range(R):
            tile = -along * rows[j]
            for g in tl.static_range(GROUPS):
                own = load_weights(weights, j, g, w, K, R, W, KG)
                tile = tl.dot(groups[g], own, tile, input_precision=PRECISION)
            if g_following is not None:
                tile += load_rows(g_following + t * (R * W) + j * W, W, w, live, 1, W, BLOCK, 1)[0]
            if g_x is not None:
                tile += number(made + t * (R * C), j * C, live) * load_rows(g_x + t * W, W, w, live, 1, W, BLOCK, 1)[0]
            g_rows = g_rows + (tile,)
        if LINKS == 0:
            for j in tl.static_range(R):
                store_row(g_state + t * (R * W), g_rows[j : j + 1], j, w, live, W, BLOCK, 1)
        else:
            before = walk(
                state, stride_t, stride_i, outs, coefficients, strides, t, w, live,
                R, 1, W, False, LINKS - 1, BLOCK, 1,
            )  # fmt: skip
            parts = load_rows(outs[LINKS - 1] + t * W, W, w, live, 1, W, BLOCK, 1)
            more = link_columns(before, parts, g_rows, R, 1, False, LOG, 1)
            new_columns = ()
            for n in tl.static_range(R + 1):
                new_columns = new_columns + (columns[n] + more[n],)
            columns = new_columns
            used = coefficients[LINKS - 1] + t * strides[LINKS - 1]
            step_back(g_rows, used, g_state + t * (R * W), g_out + t * W, w, live, R, 1, W, False, BLOCK, 1)
    if LINKS != 0:
        store_columns(g_coefficients + t * (R * C), columns, 1, live, R, C)


@triton.jit(do_not_specialize=["S"])
def weights_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, stats, u, partial, S,
    R: tl.constexpr, W: tl.constexpr, K: tl.constexpr, LINKS: tl.constexpr,
    T: tl.constexpr, BLOCK: tl.constexpr, KG: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Backward, third: some columns and a group of raw numbers of every so many blocks of T tokens. Their sum is a part
    of the weights' gradient, and stored in a part of `partial` (programs, K, R · W)."""
    w = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    k = tl.program_id(2) * KG + tl.arange(0, KG)[None, :]
    g_weights = ()
    for _ in tl.static_range(R):
        g_weights = g_weights + (tl.zeros([KG, BLOCK], tl.float32),)
    for block in tl.range(tl.program_id(1), tl.cdiv(S, T), tl.num_programs(1)):
        t, live = tokens_of(block, S, T)
        rows = walk(state, stride_t, stride_i, outs, coefficients, strides, t, w, live, R, 1, W, False, LINKS, BLOCK, 1)
        own_u = tl.load(u + t * (K + 1) + k, mask=live & (k < K), other=0.0) * number(stats, t, live)
        new_weights = ()
        for j in tl.static_range(R):
            tile = tl.dot(tl.trans(own_u), rows[j], g_weights[j], input_precision=PRECISION)
            new_weights = new_weights + (tile,)
        g_weights = new_weights
    k = tl.program_id(2) * KG + tl.arange(0, KG)[:, None]
    own = partial + tl.program_id(1).to(tl.int64) * (K * R * W) + k * (R * W) + w
    for j in tl.static_range(R):
        tl.store(own + j * W, g_weights[j], mask=(k < K) & (w < W))
