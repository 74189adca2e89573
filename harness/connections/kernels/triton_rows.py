"""The boundary on a GPU where every row makes its own coefficients, or none does: HC, FC and GHC, static and dynamic.

A program holds the whole state of one token in registers, so that a pass reads and writes everything once: (2R + 2P) W
numbers forward, (3R + 3P) W backward. Backward it goes on to other tokens, over which it sums the weights' gradients.
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
    product,
    scaled,
    step_back,
    store_columns,
    store_numbers,
    store_row,
    sums,
    walk,
)


@triton.jit
def tanh(x):
    """To fp32's precision, near zero as well."""
    size = tl.abs(x)
    square = x * x
    series = 1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835))))
    e = tl.exp(-2 * size)
    value = tl.where(size < 0.25, size * series, (1 - e) / (1 + e))
    return tl.where(x < 0, -value, value)


@triton.jit
def project(
    rows, weights, raw, stats, w, eps,
    R: tl.constexpr, C: tl.constexpr, W: tl.constexpr, NORM: tl.constexpr, LOG: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Stores raw = norm(row) · weights and the statistics of the norm. The mean is taken out before anything is squared
    or multiplied."""
    if NORM == "layer":
        centred = ()
        for i in tl.static_range(R):
            tile = rows[i * CHUNKS]
            for k in tl.static_range(1, CHUNKS):
                tile += rows[i * CHUNKS + k]
            mean = tl.sum(tile, axis=0) / W
            tl.store(stats + 2 * i, mean)
            for k in tl.static_range(CHUNKS):
                centred = centred + (tl.where(w + k * BLOCK < W, rows[i * CHUNKS + k] - mean, 0.0),)
        rows = centred
    inverse = tl.full([2**LOG], 1.0, tl.float32)
    if NORM != "none":
        tiles = ()
        for i in tl.static_range(R):
            tiles = tiles + (product(rows, i, rows, i, CHUNKS),)
        inverse = tl.rsqrt(sums(tiles, LOG) / W + eps)
        store_numbers(stats + 1, inverse, 2, None, R)
    for c in tl.static_range(C):
        column = load_rows(weights + c * W, W, w, None, 1, W, BLOCK, CHUNKS)
        tiles = ()
        for i in tl.static_range(R):
            tiles = tiles + (product(rows, i, column, 0, CHUNKS),)
        store_numbers(raw + c, sums(tiles, LOG) * inverse, C, None, R)


@triton.jit
def coefficients_of(
    raw, fixed, offset, scale, made,
    R: tl.constexpr, C: tl.constexpr, TANH: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """Stores fixed + scale · tanh(raw + offset)."""
    i = tl.arange(0, RP)[:, None]
    c = tl.arange(0, CP)[None, :]
    there = (i < R) & (c < C)
    place = i * C + c
    value = tl.load(raw + place, mask=there, other=0.0) + tl.load(offset + c, mask=c < C, other=0.0)
    if TANH:
        value = tanh(value)
    value = tl.load(fixed + place, mask=there, other=0.0) + tl.load(scale + place, mask=there, other=0.0) * value
    tl.store(made + place, value, mask=there)


@triton.jit
def forward_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, fixed, weights, offset, scale,
    following, x, made, raw, stats, eps,
    R: tl.constexpr, P: tl.constexpr, W: tl.constexpr, DIAGONAL: tl.constexpr, LINKS: tl.constexpr,
    AFFINE: tl.constexpr, NORM: tl.constexpr, TANH: tl.constexpr, LOG: tl.constexpr, CP: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """One token of a boundary. `following` is None where the next state is not kept."""
    C: tl.constexpr = P + R + (1 if DIAGONAL else P)
    t = tl.program_id(0).to(tl.int64)
    w = tl.arange(0, BLOCK)
    rows = walk(
        state, stride_t, stride_i, outs, coefficients, strides, t, w, None, R, P, W, DIAGONAL, LINKS, BLOCK, CHUNKS
    )
    if following is not None:
        for i in tl.static_range(R):
            row = rows[i * CHUNKS : (i + 1) * CHUNKS]
            store_row(following + t * (R * W), row, i, w, None, W, BLOCK, CHUNKS)
    if AFFINE:
        project(rows, weights, raw + t * (R * C), stats + t * (2 * R), w, eps, R, C, W, NORM, LOG, BLOCK, CHUNKS)
        tl.debug_barrier()
        coefficients_of(raw + t * (R * C), fixed, offset, scale, made + t * (R * C), R, C, TANH, 2**LOG, CP)
        tl.debug_barrier()
        read_of = made + t * (R * C)
    else:
        read_of = fixed
    for p in tl.static_range(P):
        row = scaled(number(read_of, p, None), rows, 0, CHUNKS)
        for i in tl.static_range(1, R):
            row = add(row, number(read_of, i * C + p, None), rows, i, CHUNKS)
        store_row(x + t * (P * W), row, p, w, None, W, BLOCK, CHUNKS)


@triton.jit
def behind_coefficients(
    scratch, raw, g_made, offset, scale, mean_weights, sums_of,
    R: tl.constexpr, P: tl.constexpr, C: tl.constexpr, W: tl.constexpr, TANH: tl.constexpr, READ: tl.constexpr,
    RP: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """From the gradient of coefficients to u, that of raw, which is stored with what the norm's backward pass needs of
    it: the means over a row of u · weights, and of that times the normed row. The sums over tokens (of the gradients of
    fixed, scale, offset) go on from `sums_of`."""
    i = tl.arange(0, RP)[:, None]
    c = tl.arange(0, CP)[None, :]
    there = (i < R) & (c < C)
    place = i * C + c
    gradient = tl.zeros([RP, CP], tl.float32)
    if g_made is not None:
        gradient += tl.load(g_made + place, mask=there, other=0.0)
    if READ:
        gradient += tl.load(scratch + i * P + c, mask=there & (c < P), other=0.0)
    plain = tl.load(raw + place, mask=there, other=0.0)
    value = plain + tl.load(offset + c, mask=c < C, other=0.0)
    u = gradient * tl.load(scale + place, mask=there, other=0.0)
    if TANH:
        value = tanh(value)
        u *= 1 - value * value
    tl.store(scratch + R * P + place, u, mask=there)
    means = scratch + R * (P + C)
    tl.store(means + tl.arange(0, RP), tl.sum(u * mean_weights[None, :], axis=1), mask=tl.arange(0, RP) < R)
    tl.store(means + R + tl.arange(0, RP), tl.sum(u * plain, axis=1) / W, mask=tl.arange(0, RP) < R)
    return sums_of[0] + gradient, sums_of[1] + gradient * value, sums_of[2] + u


@triton.jit
def behind_projection(
    g_rows, rows, g_weights, weights, scratch, stats, w,
    R: tl.constexpr, P: tl.constexpr, C: tl.constexpr, W: tl.constexpr, NORM: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Adds to the gradient of rows what came by their coefficients, and to that of the weights."""
    normed = ()
    for i in tl.static_range(R):
        for k in tl.static_range(CHUNKS):
            tile = rows[i * CHUNKS + k]
            if NORM == "layer":
                tile = tile - number(stats, 2 * i, None) - number(scratch, R * (P + C + 2) + i, None)
            if NORM != "none":
                tile *= number(stats, 2 * i + 1, None)
            normed = normed + (tile,)
    new_weights = ()
    for c in tl.static_range(C):
        column = load_rows(weights + c * W, W, w, None, 1, W, BLOCK, CHUNKS)
        own = g_weights[c * CHUNKS : (c + 1) * CHUNKS]
        new_rows = ()
        for i in tl.static_range(R):
            u = number(scratch, R * P + i * C + c, None)
            own = add(own, u, normed, i, CHUNKS)
            if NORM != "none":
                u *= number(stats, 2 * i + 1, None)
            new_rows = new_rows + add(g_rows[i * CHUNKS : (i + 1) * CHUNKS], u, column, 0, CHUNKS)
        new_weights = new_weights + own
        g_rows = new_rows
    if NORM != "none":
        new_rows = ()
        for i in tl.static_range(R):
            inverse = number(stats, 2 * i + 1, None)
            along = number(scratch, R * (P + C + 1) + i, None) * inverse
            for k in tl.static_range(CHUNKS):
                tile = g_rows[i * CHUNKS + k] - along * normed[i * CHUNKS + k]
                if NORM == "layer":
                    tile -= number(scratch, R * (P + C) + i, None) * inverse
                new_rows = new_rows + (tile,)
        g_rows = new_rows
    return g_rows, new_weights


@triton.jit
def mean_of_weights(weights, W: tl.constexpr, C: tl.constexpr, CP: tl.constexpr):
    """(CP,): of every column."""
    c = tl.arange(0, CP)
    total = tl.zeros([CP], tl.float32)
    for start in tl.range(0, W, 64):
        w = start + tl.arange(0, 64)
        tile = tl.load(weights + c[:, None] * W + w[None, :], mask=(c < C)[:, None] & (w < W)[None, :], other=0.0)
        total += tl.sum(tile, axis=1)
    return total / W


@triton.jit(do_not_specialize=["S"])
def backward_kernel(
    state, stride_t, stride_i, outs, coefficients, strides, fixed, weights, offset, scale, made, raw, stats,
    g_following, g_x, g_made, g_state, g_out, g_coefficients, scratch, partial, S,
    R: tl.constexpr, P: tl.constexpr, W: tl.constexpr, DIAGONAL: tl.constexpr, LINKS: tl.constexpr,
    SHARED: tl.constexpr, AFFINE: tl.constexpr, NORM: tl.constexpr, TANH: tl.constexpr,
    LOG: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Every so many tokens. Sums over tokens are made in order, and stored in a row of `partial`: [weights | fixed |
    scale | offset] or [fixed], and [coefficients] where the last link's are shared."""
    Q: tl.constexpr = 1 if DIAGONAL else P
    C: tl.constexpr = P + R + Q
    RP: tl.constexpr = 2**LOG
    w = tl.arange(0, BLOCK)
    g_weights = ()
    if AFFINE:
        for _ in tl.static_range(C * CHUNKS):
            g_weights = g_weights + (tl.zeros([BLOCK], tl.float32),)
        means = mean_of_weights(weights, W, C, CP) if NORM == "layer" else tl.zeros([CP], tl.float32)
    nothing = tl.zeros([RP, CP], tl.float32)
    small = (nothing, nothing, nothing)
    g_read = ()
    for _ in tl.static_range(P):
        g_read = g_read + (tl.zeros([RP], tl.float32),)
    g_link = ()
    for _ in tl.static_range(R + Q):
        g_link = g_link + (tl.zeros([RP], tl.float32),)
    for token in tl.range(tl.program_id(0), S, tl.num_programs(0)):
        t = tl.cast(token, tl.int64)
        own = scratch + t * (R * (P + C + 3)) if AFFINE else scratch
        rows = walk(
            state, stride_t, stride_i, outs, coefficients, strides, t, w, None, R, P, W, DIAGONAL, LINKS, BLOCK, CHUNKS
        )
        if NORM == "layer":
            # What rounding left of the mean: times a large one, it would show in the gradients of coefficients.
            tiles = ()
            for i in tl.static_range(R):
                tile = tl.zeros([BLOCK], tl.float32)
                for k in tl.static_range(CHUNKS):
                    centred = rows[i * CHUNKS + k] - number(stats + t * (2 * R), 2 * i, None)
                    tile += tl.where(w + k * BLOCK < W, centred, 0.0)
                tiles = tiles + (tile,)
            store_numbers(own + R * (P + C + 2), sums(tiles, LOG) / W, 1, None, R)
        if g_following is not None:
            g_rows = load_rows(g_following + t * (R * W), W, w, None, R, W, BLOCK, CHUNKS)
        else:
            g_rows = ()
            for _ in tl.static_range(R * CHUNKS):
                g_rows = g_rows + (tl.zeros([BLOCK], tl.float32),)
        if g_x is not None:
            read_of = made + t * (R * C) if AFFINE else fixed
            g_parts = load_rows(g_x + t * (P * W), W, w, None, P, W, BLOCK, CHUNKS)
            new_read = ()
            for p in tl.static_range(P):
                tiles = ()
                for i in tl.static_range(R):
                    tiles = tiles + (product(rows, i, g_parts, p, CHUNKS),)
                column = sums(tiles, LOG)
                if AFFINE:
                    store_numbers(own + p, column, P, None, R)
                else:
                    new_read = new_read + (g_read[p] + column,)
            if not AFFINE:
                g_read = new_read
            new_rows = ()
            for i in tl.static_range(R):
                row = g_rows[i * CHUNKS : (i + 1) * CHUNKS]
                for p in tl.static_range(P):
                    row = add(row, number(read_of, i * C + p, None), g_parts, p, CHUNKS)
                new_rows = new_rows + row
            g_rows = new_rows
        if AFFINE:
            own_raw, own_stats = raw + t * (R * C), stats + t * (2 * R)
            own_made = g_made + t * (R * C) if g_made is not None else g_made
            tl.debug_barrier()
            small = behind_coefficients(
                own, own_raw, own_made, offset, scale, means, small, R, P, C, W, TANH, g_x is not None, RP, CP
            )
            tl.debug_barrier()
            g_rows, g_weights = behind_projection(
                g_rows, rows, g_weights, weights, own, own_stats, w, R, P, C, W, NORM, BLOCK, CHUNKS
            )
        own_state = g_state + t * (R * W)
        if LINKS == 0:
            for i in tl.static_range(R):
                store_row(own_state, g_rows[i * CHUNKS : (i + 1) * CHUNKS], i, w, None, W, BLOCK, CHUNKS)
        else:
            # Read again, from the nearest cache: held from above, they would take the registers of another program.
            before = walk(
                state, stride_t, stride_i, outs, coefficients, strides, t, w, None,
                R, P, W, DIAGONAL, LINKS - 1, BLOCK, CHUNKS,
            )  # fmt: skip
            parts = load_rows(outs[LINKS - 1] + t * (P * W), W, w, None, P, W, BLOCK, CHUNKS)
            columns = link_columns(before, parts, g_rows, R, Q, DIAGONAL, LOG, CHUNKS)
            if SHARED:
                new_link = ()
                for n in tl.static_range(R + Q):
                    new_link = new_link + (g_link[n] + columns[n],)
                g_link = new_link
            else:
                store_columns(g_coefficients + t * (R * C), columns, P, None, R, C)
            used = coefficients[LINKS - 1] + t * strides[LINKS - 1]
            step_back(g_rows, used, own_state, g_out + t * (P * W), w, None, R, P, W, DIAGONAL, BLOCK, CHUNKS)
    own = partial + tl.program_id(0) * ((C * W + 2 * R * C + C if AFFINE else R * C) + (R * C if SHARED else 0))
    if AFFINE:
        for c in tl.static_range(C):
            store_row(own, g_weights[c * CHUNKS : (c + 1) * CHUNKS], c, w, None, W, BLOCK, CHUNKS)
        own += C * W
        i = tl.arange(0, RP)[:, None]
        c = tl.arange(0, CP)[None, :]
        tl.store(own + i * C + c, small[0], mask=(i < R) & (c < C))
        tl.store(own + R * C + i * C + c, small[1], mask=(i < R) & (c < C))
        tl.store(own + 2 * R * C + tl.arange(0, CP), tl.sum(small[2], axis=0), mask=tl.arange(0, CP) < C)
        own += 2 * R * C + C
    else:
        store_columns(own, g_read, 0, None, R, C)
        own += R * C
    if SHARED:
        store_columns(own, g_link, P, None, R, C)
