"""What the Triton kernels share: rows in tiles, and the step from a state to the next and back.

A row is a tuple of CHUNKS tiles of columns in fp32, and R rows are R · CHUNKS of them, row after row. Loops over them
are unrolled: which row, part or chunk is meant is known when a kernel is compiled, so that rows stay in registers. What
is below works for one token, `t` a number and the columns `w` (BLOCK,), and for T tokens, `t` (T, 1) and `w` (1, BLOCK)
with `live` (T, 1), which of them there are.

What many threads must know of a token, and one can compute, goes through global memory and a barrier: it is stored
anyway, lies in the nearest cache, and is computed once instead of by every thread.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def inside(w, live, W: tl.constexpr):
    """Which entries of a tile there are."""
    return w < W if live is None else live & (w < W)


@triton.jit
def load_rows(base, stride, w, live, COUNT: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """COUNT rows, `stride` apart; zero where there is nothing."""
    tiles = ()
    for i in tl.static_range(COUNT):
        for k in tl.static_range(CHUNKS):
            own = w + k * BLOCK
            tile = tl.load(base + i * stride + own, mask=inside(own, live, W), other=0.0)
            tiles = tiles + (tile.to(tl.float32),)
    return tiles


@triton.jit
def store_row(base, tiles, i: tl.constexpr, w, live, W: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr):
    """Row i of contiguous ones."""
    for k in tl.static_range(CHUNKS):
        own = w + k * BLOCK
        tile = tiles[k].to(base.dtype.element_ty)
        tl.store(base + i * W + own, tile, mask=inside(own, live, W))


@triton.jit
def number(base, place, live):
    """One of every token."""
    return tl.load(base + place) if live is None else tl.load(base + place, mask=live, other=0.0)


@triton.jit
def scaled(factor, rows, i: tl.constexpr, CHUNKS: tl.constexpr):
    """factor · rows[i]."""
    tiles = ()
    for k in tl.static_range(CHUNKS):
        tiles = tiles + (factor * rows[i * CHUNKS + k],)
    return tiles


@triton.jit
def add(row, factor, rows, i: tl.constexpr, CHUNKS: tl.constexpr):
    """row + factor · rows[i]."""
    tiles = ()
    for k in tl.static_range(CHUNKS):
        tiles = tiles + (row[k] + factor * rows[i * CHUNKS + k],)
    return tiles


@triton.jit
def product(a, i: tl.constexpr, b, j: tl.constexpr, CHUNKS: tl.constexpr):
    """a[i] · b[j], entry by entry; chunks are added."""
    tile = a[i * CHUNKS] * b[j * CHUNKS]
    for k in tl.static_range(1, CHUNKS):
        tile += a[i * CHUNKS + k] * b[j * CHUNKS + k]
    return tile


@triton.jit
def sums(tiles, LOG: tl.constexpr):
    """(2^LOG,) or (T, 2^LOG): every tile summed over its columns, and zeros. Threads meet once for all of them: tiles
    are joined entry by entry, which moves nothing."""
    for _ in tl.static_range(len(tiles), 2**LOG):
        tiles = tiles + (tl.zeros_like(tiles[0]),)
    axis: tl.constexpr = len(tiles[0].shape) - 1
    for _ in tl.static_range(LOG):
        joined = ()
        for i in tl.static_range(len(tiles) // 2):
            joined = joined + (tl.join(tiles[i], tiles[i + len(tiles) // 2]),)
        tiles = joined
    total = tl.sum(tiles[0], axis=axis)
    return tl.reshape(total, [2**LOG] if axis == 0 else [total.shape[0], 2**LOG])


@triton.jit
def store_numbers(base, numbers, step, live, COUNT: tl.constexpr):
    """The first COUNT numbers of every token, `step` apart."""
    i = tl.arange(0, numbers.shape[len(numbers.shape) - 1])
    if len(numbers.shape) == 2:
        i = i[None, :]
    tl.store(base + i * step, numbers, mask=inside(i, live, COUNT))


@triton.jit
def store_columns(base, columns, first: tl.constexpr, live, R: tl.constexpr, C: tl.constexpr):
    """(R, C) of every token, with these columns from `first` on, and zero elsewhere."""
    for c in tl.static_range(C):
        column = tl.zeros_like(columns[0])
        if c >= first and c < first + len(columns):
            column = columns[c - first]
        store_numbers(base + c, column, C, live, R)


@triton.jit
def follow(
    rows, out, coefficients, w, live,
    R: tl.constexpr, P: tl.constexpr, W: tl.constexpr, DIAGONAL: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """The rows behind a sub-layer."""
    Q: tl.constexpr = 1 if DIAGONAL else P
    C: tl.constexpr = P + R + Q
    parts = load_rows(out, W, w, live, P, W, BLOCK, CHUNKS)
    following = ()
    for j in tl.static_range(R):
        row = scaled(number(coefficients, j * C + P + R, live), parts, j if DIAGONAL else 0, CHUNKS)
        for q in tl.static_range(1, Q):
            row = add(row, number(coefficients, j * C + P + R + q, live), parts, q, CHUNKS)
        for i in tl.static_range(R):
            row = add(row, number(coefficients, i * C + P + j, live), rows, i, CHUNKS)
        following = following + row
    return following


@triton.jit
def walk(
    state, stride_t, stride_i, outs, coefficients, strides, t, w, live,
    R: tl.constexpr, P: tl.constexpr, W: tl.constexpr, DIAGONAL: tl.constexpr, LINKS: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """The rows behind the first LINKS links."""
    rows = load_rows(state + t * stride_t, tl.cast(stride_i, tl.int64), w, live, R, W, BLOCK, CHUNKS)
    for n in tl.static_range(LINKS):
        out, own = outs[n] + t * (P * W), coefficients[n] + t * strides[n]
        rows = follow(rows, out, own, w, live, R, P, W, DIAGONAL, BLOCK, CHUNKS)
    return rows


@triton.jit
def step_back(
    g_rows, coefficients, g_state, g_out, w, live,
    R: tl.constexpr, P: tl.constexpr, W: tl.constexpr, DIAGONAL: tl.constexpr,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Stores the gradients of a link's state and output, from that of the rows behind it."""
    C: tl.constexpr = P + R + (1 if DIAGONAL else P)
    for q in tl.static_range(P):
        if DIAGONAL:
            row = scaled(number(coefficients, q * C + P + R, live), g_rows, q, CHUNKS)
        else:
            row = scaled(number(coefficients, P + R + q, live), g_rows, 0, CHUNKS)
            for j in tl.static_range(1, R):
                row = add(row, number(coefficients, j * C + P + R + q, live), g_rows, j, CHUNKS)
        store_row(g_out, row, q, w, live, W, BLOCK, CHUNKS)
    for i in tl.static_range(R):
        row = scaled(number(coefficients, i * C + P, live), g_rows, 0, CHUNKS)
        for j in tl.static_range(1, R):
            row = add(row, number(coefficients, i * C + P + j, live), g_rows, j, CHUNKS)
        store_row(g_state, row, i, w, live, W, BLOCK, CHUNKS)


@triton.jit
def link_columns(
    before, parts, g_rows,
    R: tl.constexpr, Q: tl.constexpr, DIAGONAL: tl.constexpr, LOG: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Gradients of a link's carry and write columns, R + Q of the R numbers that `sums` makes."""
    columns = ()
    for j in tl.static_range(R):
        tiles = ()
        for i in tl.static_range(R):
            tiles = tiles + (product(before, i, g_rows, j, CHUNKS),)
        columns = columns + (sums(tiles, LOG),)
    for q in tl.static_range(Q):
        tiles = ()
        for j in tl.static_range(R):
            tiles = tiles + (product(parts, j if DIAGONAL else q, g_rows, j, CHUNKS),)
        columns = columns + (sums(tiles, LOG),)
    return columns


@triton.jit(do_not_specialize=["count"])
def total_kernel(
    partial, outs, count, LENGTHS: tl.constexpr, LENGTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Some columns of `partial` (count, LENGTH) summed over its rows, in order, into whichever of `outs` (LENGTHS) they
    are for: those lie one after another."""
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    for start in tl.range(0, count, ROWS):
        row = (start + tl.arange(0, ROWS))[:, None]
        tile = tl.load(partial + row * LENGTH + c[None, :], mask=(row < count) & (c < LENGTH)[None, :], other=0.0)
        total += tl.sum(tile, axis=0)
    for n in tl.static_range(len(outs)):
        tl.store(outs[n] + c, total, mask=(c >= 0) & (c < LENGTHS[n]))
        c -= LENGTHS[n]
