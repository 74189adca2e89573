/* Boundaries whose coefficients are given (AFFINE 0), or made of every row by itself (AFFINE 1: HC, FC, GHC).
 * NORM 0 none, 1 LayerNorm, 2 RMSNorm; TANH 0 or 1. */

#include "rows.h"

#include <math.h>

#define SMALL (ROWS * COLUMNS)
#define PROJECTED GROUP(COLUMNS, ROWS)

INLINE void add_slice(const float *h, int64_t row, Vec *sums, int d, int n)
{
    EACH(i, ROWS) sums[i] += load(h + i * row + d, n);
}

/* A number in the entries that there are: a partial vector's others stay zero. */
INLINE Vec part(float x, int n)
{
    Vec v = {0};
    EACH(l, V) v[l] = l < n ? x : 0.0f;
    return v;
}

INLINE Vec centred(const float *h, float mean, int n) { return NORM == 1 ? load(h, n) - part(mean, n) : load(h, n); }

INLINE void project_slice(
    const float *h, int64_t row, const float *mean, const float *weights, Vec *left, Vec *squares, Vec *sums, int first, int d, int n)
{
    Vec v[PROJECTED];
    EACH(k, PROJECTED)
    {
        v[k] = first + k < ROWS ? centred(h + (first + k) * row + d, mean[first + k], n) : (Vec){0};
        if (NORM == 1) left[k] += v[k];
        squares[k] += v[k] * v[k];
    }
    EACH(c, COLUMNS)
    {
        const Vec w = load(weights + c * WIDTH + d, n);
        EACH(k, PROJECTED) sums[k * COLUMNS + c] += v[k] * w;
    }
}

/* What a row's mean leaves over: of numbers of thousands that differ by ones, a float's mean is off by 0.001, and G times
 * the row would show it a thousandfold. */
INLINE void left_over(const float *h, int64_t row, const float *mean, Vec *left, int d, int n)
{
    EACH(i, ROWS) left[i] += centred(h + i * row + d, mean[i], n);
}

/* Mean and 1/deviation of every row, and the projections of the normed rows. `totals` are the sums of the weights. */
INLINE void project(
    const Boundary *b, const float *totals, const float *h, int64_t row, float *mean, float *factor, float *raw)
{
    if (NORM == 1) {
        Vec sums[ROWS];
        EACH(i, ROWS) sums[i] = (Vec){0};
        SLICES(add_slice(h, row, sums, d, n));
        reduce(sums, ROWS, mean);
        EACH(i, ROWS) mean[i] /= WIDTH;
    }
    for (int first = 0; first < ROWS; first += PROJECTED) {
        Vec sums[PROJECTED * COLUMNS], squares[PROJECTED], left[PROJECTED];
        float dots[PROJECTED * COLUMNS + V], square[PROJECTED + V], more[PROJECTED + V] = {0};
        EACH(k, PROJECTED) squares[k] = left[k] = (Vec){0};
        EACH(k, PROJECTED)
        EACH(c, COLUMNS) sums[k * COLUMNS + c] = (Vec){0};
        SLICES(project_slice(h, row, mean, b->weights, left, squares, sums, first, d, n));
        reduce(sums, PROJECTED * COLUMNS, dots);
        reduce(squares, PROJECTED, square);
        if (NORM == 1) reduce(left, PROJECTED, more);
        for (int k = 0; k < PROJECTED && first + k < ROWS; k++) {
            const float m = more[k] / WIDTH, f = NORM ? 1.0f / sqrtf(square[k] / WIDTH - m * m + b->eps) : 1.0f;
            factor[first + k] = f;
            EACH(c, COLUMNS) raw[(first + k) * COLUMNS + c] = (dots[k * COLUMNS + c] - m * totals[c]) * f;
        }
    }
}

/* fixed + scale * tanh(raw + offset); `squashed` is the tanh. */
INLINE void mix(const Boundary *b, const float *offsets, const float *raw, float *squashed, float *made)
{
    for (int k = 0; k < SMALL; k++) squashed[k] = TANH ? tanh_of(raw[k] + offsets[k]) : raw[k] + offsets[k];
    for (int k = 0; k < SMALL; k++) made[k] = b->fixed[k] + b->scale[k] * squashed[k];
}

INLINE void repeat_offset(const Boundary *b, float *offsets)
{
    for (int k = 0; AFFINE && k < SMALL; k++) offsets[k] = b->offset[k % COLUMNS];
}

static void sum_weights(const Boundary *b, float *totals)
{
    for (int k = 0; AFFINE && k < COLUMNS; k++)
        for (int d = 0; d < WIDTH; d++) totals[k] += b->weights[k * WIDTH + d];
}

/* 0, or 1 where memory ran out. */
int forward(const Boundary *b)
{
    float totals[COLUMNS] = {0};
    float *all = zeros(b->threads * 2 * STATE * sizeof(float));
    if (!all) return 1;
    sum_weights(b, totals);
#pragma omp parallel num_threads(b->threads)
    {
        float *scratch = all + thread() * 2 * STATE;
        float offsets[SMALL], raw[SMALL], made[SMALL], squashed[SMALL], mean[ROWS + V], factor[ROWS + V];
        int64_t from, to;
        share(b->tokens, &from, &to);
        repeat_offset(b, offsets);
        memset(mean, 0, sizeof mean);
        for (int64_t s = from; s < to; s++) {
            int64_t row;
            float *copy = b->next ? b->next + s * STATE : NULL;
            const float *h = state_behind(b, s, b->links, scratch, scratch + STATE, copy, &row);
            const float *c = b->fixed;
            if (AFFINE) {
                project(b, totals, h, row, mean, factor, raw);
                mix(b, offsets, raw, squashed, made);
                c = made;
                memcpy(b->made + s * SMALL, made, sizeof made);
                memcpy(b->raw + s * SMALL, raw, sizeof raw);
                for (int i = 0; i < ROWS; i++) {
                    b->stats[(s * ROWS + i) * 2] = mean[i];
                    b->stats[(s * ROWS + i) * 2 + 1] = factor[i];
                }
            }
            SLICES(read_slice(h, row, c, b->x + s * OUTPUT, d, n));
        }
        settle();
    }
    free(all);
    return 0;
}

/* Sums over a thread's tokens. */
typedef struct {
    float weights[COLUMNS * WIDTH];
    Vec read[ROWS * PARTS];
    Vec shared[ROWS * (ROWS + WRITTEN)];
    double fixed[SMALL], scale[SMALL], raw[SMALL];
} Sums;

/* Gradients of the raw numbers from those of the coefficients. */
INLINE void back_to_raw(const Boundary *b, int64_t s, const float *offsets, const float *dots, Sums *sums, float *g_raw)
{
    float squashed[SMALL], made[SMALL], g[SMALL];
    mix(b, offsets, b->raw + s * SMALL, squashed, made);
    if (b->g_made)
        memcpy(g, b->g_made + s * SMALL, sizeof g);
    else
        memset(g, 0, sizeof g);
    for (int i = 0; i < ROWS; i++)
        for (int p = 0; p < PARTS; p++) g[i * COLUMNS + p] += dots[i * PARTS + p];
    for (int k = 0; k < SMALL; k++) {
        g_raw[k] = g[k] * b->scale[k] * (TANH ? 1.0f - squashed[k] * squashed[k] : 1.0f);
        sums->fixed[k] += g[k];
        sums->scale[k] += g[k] * squashed[k];
        sums->raw[k] += g_raw[k];
    }
}

/* G of a slice: what comes from behind, from the input that was read, and through the coefficients. */
INLINE void gradient_slice(
    const Boundary *b, const float *h, int64_t row, const float *c, const float *mean, const float *left,
    const float *factor, const float *g_raw, const float *constant, const float *along, const float *g_next, const float *g_x, float *g, Sums *sums, int d, int n)
{
    Vec unit[ROWS], sum[ROWS];
    if (AFFINE) {
        EACH(i, ROWS)
        {
            unit[i] = (centred(h + i * row + d, mean[i], n) - part(left[i], n)) * factor[i];
            sum[i] = (Vec){0};
        }
        for (int k = 0; k < COLUMNS; k++) {
            const Vec w = load(b->weights + k * WIDTH + d, n);
            Vec dw = load(sums->weights + k * WIDTH + d, n);
            EACH(i, ROWS)
            {
                sum[i] += g_raw[i * COLUMNS + k] * w;
                dw += g_raw[i * COLUMNS + k] * unit[i];
            }
            store(sums->weights + k * WIDTH + d, dw, n);
        }
        EACH(i, ROWS) if (NORM) sum[i] = factor[i] * (sum[i] - constant[i] - along[i] * unit[i]);
    } else {
        EACH(i, ROWS) sum[i] = (Vec){0};
    }
    if (g_next)
        EACH(i, ROWS)
        {
            fetch(g_next + i * WIDTH + d, STATE);
            sum[i] += load(g_next + i * WIDTH + d, n);
        }
    if (g_x)
        EACH(p, PARTS)
        {
            const Vec v = load(g_x + p * WIDTH + d, n);
            EACH(i, ROWS) sum[i] += c[i * COLUMNS + p] * v;
        }
    EACH(i, ROWS) store(g + i * WIDTH + d, sum[i], n);
}

INLINE void backward_token(const Boundary *b, int64_t s, const float *offsets, const float *totals, float *scratch, Sums *sums)
{
    int64_t row, next_row;
    const int64_t last = b->links - 1;
    const float *h = state_behind(b, s, last, scratch, scratch + STATE, NULL, &row), *next = h;
    next_row = row;
    if (last >= 0) {
        const float *out = b->out[last] + s * OUTPUT, *c = b->coefficients[last] + s * b->coefficients_token[last];
        float *made = scratch + 2 * STATE;
        SLICES(combine_slice(h, row, last ? 0 : b->state_token, out, c, made, NULL, d, n));
        next = made;
        next_row = WIDTH;
    }
    const float *g_x = b->g_x ? b->g_x + s * OUTPUT : NULL, *g_next = b->g_next ? b->g_next + s * STATE : NULL;
    const float *c = AFFINE ? b->made + s * SMALL : b->fixed;
    float g_raw[SMALL], mean[ROWS], factor[ROWS], constant[ROWS], along[ROWS], left[ROWS + V] = {0};
    float dots[ROWS * PARTS + V] = {0};
    Vec read[ROWS * PARTS];
    EACH(k, ROWS * PARTS) read[k] = (Vec){0};
    if (g_x) SLICES(dots_slice(next, next_row, g_x, read, d, n));
    if (AFFINE) {
        reduce(read, ROWS * PARTS, dots);
        back_to_raw(b, s, offsets, dots, sums, g_raw);
        for (int i = 0; i < ROWS; i++) {
            mean[i] = b->stats[(s * ROWS + i) * 2];
            factor[i] = b->stats[(s * ROWS + i) * 2 + 1];
            constant[i] = along[i] = 0; /* means over the width of the gradient of the unit row, and of it times that row */
            for (int k = 0; k < COLUMNS; k++) {
                if (NORM == 1) constant[i] += g_raw[i * COLUMNS + k] * totals[k] / WIDTH;
                along[i] += g_raw[i * COLUMNS + k] * b->raw[s * SMALL + i * COLUMNS + k] / WIDTH;
            }
        }
        if (NORM == 1) {
            Vec more[ROWS];
            EACH(i, ROWS) more[i] = (Vec){0};
            SLICES(left_over(next, next_row, mean, more, d, n));
            reduce(more, ROWS, left);
            EACH(i, ROWS) left[i] /= WIDTH;
        }
    } else {
        EACH(k, ROWS * PARTS) sums->read[k] += read[k];
    }
    float *g = last < 0 ? b->g_state + s * STATE : scratch + 3 * STATE;
    SLICES(gradient_slice(b, next, next_row, c, mean, left, factor, g_raw, constant, along, g_next, g_x, g, sums, d, n));
    if (last < 0) return;
    const int64_t each = b->coefficients_token[last];
    back_through_link(
        h, row, b->out[last] + s * OUTPUT, b->coefficients[last] + s * each, g, b->g_state + s * STATE,
        b->g_out + s * OUTPUT, b->g_coefficients + s * each, each ? NULL : sums->shared);
}

/* Adds a thread's sums to the gradients, one thread after another: the order, and so the result, is always the same. */
static void add_sums(const Boundary *b, const Sums *sums)
{
    float read[ROWS * PARTS + V];
    if (!AFFINE) {
        reduce(sums->read, ROWS * PARTS, read);
        for (int i = 0; i < ROWS; i++)
            for (int p = 0; p < PARTS; p++) b->g_fixed[i * COLUMNS + p] += read[i * PARTS + p];
    } else {
        for (int k = 0; k < COLUMNS * WIDTH; k++) b->g_weights[k] += sums->weights[k];
        for (int k = 0; k < SMALL; k++) {
            b->g_fixed[k] += sums->fixed[k];
            b->g_scale[k] += sums->scale[k];
            b->g_offset[k % COLUMNS] += sums->raw[k];
        }
    }
    if (b->links && !b->coefficients_token[b->links - 1]) add_shared(sums->shared, b->g_coefficients);
}

/* 0, or 1 where memory ran out. Gradients of small weights are to be zero before. */
int backward(const Boundary *b)
{
    float totals[COLUMNS] = {0};
    sum_weights(b, totals);
    Sums *all = zeros(b->threads * sizeof(Sums));
    float *states = zeros(b->threads * 4 * STATE * sizeof(float));
    const int failed = !all || !states;
#pragma omp parallel num_threads(b->threads) if (!failed)
    if (!failed) {
        float *scratch = states + thread() * 4 * STATE, offsets[SMALL];
        int64_t from, to;
        share(b->tokens, &from, &to);
        repeat_offset(b, offsets);
        for (int64_t s = from; s < to; s++) backward_token(b, s, offsets, totals, scratch, all + thread());
        settle();
    }
    for (int64_t k = 0; !failed && k < b->threads; k++) add_sums(b, all + k);
    free(all);
    free(states);
    return failed;
}
