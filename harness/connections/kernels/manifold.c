/* Boundaries whose coefficients are made of all rows at once: mHC (SINKHORN 1, with ITERATIONS) and Identity-HC (0).
 * Tokens go TILE at a time, because the projection is a matrix product: its weights are read once for all of them. */

#include "rows.h"

#include <math.h>

#define TILE 8
#define SMALL (ROWS * COLUMNS)
#define RAW (2 * ROWS + SINKHORN * ROWS * ROWS)
#define POST ROWS
#define RES (2 * ROWS)
#define GROUPED GROUP(TILE, RAW)
#define TINY 1e-18f
#define STEPS (SINKHORN ? ITERATIONS : 1)

typedef float Lane[TILE]; /* one number of every token */
#define TOKENS for (int t = 0; t < TILE; t++)

/* Sinkhorn's iteration on exp(z): every iterate is `start` with its rows times some u and its columns times some v. */
typedef struct {
    Lane start[ROWS][ROWS], u[STEPS + 1][ROWS], v[STEPS][ROWS];
} Balance;

static void balance(Lane (*z)[ROWS], Balance *b)
{
    Lane rows[ROWS], columns[ROWS], most;
    for (int r = 0; r < ROWS; r++) {
        TOKENS rows[r][t] = z[r][0][t];
        for (int c = 1; c < ROWS; c++) TOKENS rows[r][t] = z[r][c][t] > rows[r][t] ? z[r][c][t] : rows[r][t];
    }
    for (int c = 0; c < ROWS; c++) {
        TOKENS columns[c][t] = z[0][c][t] - rows[0][t];
        for (int r = 1; r < ROWS; r++) TOKENS
        {
            const float x = z[r][c][t] - rows[r][t];
            columns[c][t] = x > columns[c][t] ? x : columns[c][t];
        }
    }
    TOKENS most[t] = rows[0][t];
    for (int r = 1; r < ROWS; r++) TOKENS most[t] = rows[r][t] > most[t] ? rows[r][t] : most[t];
    for (int r = 0; r < ROWS; r++) {
        TOKENS b->u[0][r][t] = exp_of(rows[r][t] - most[t]);
        for (int c = 0; c < ROWS; c++) TOKENS b->start[r][c][t] = exp_of(z[r][c][t] - (rows[r][t] + columns[c][t]));
    }
    for (int k = 0; k < STEPS; k++) {
        Lane sum;
        for (int c = 0; c < ROWS; c++) {
            TOKENS sum[t] = TINY;
            for (int r = 0; r < ROWS; r++) TOKENS sum[t] += b->start[r][c][t] * b->u[k][r][t];
            TOKENS b->v[k][c][t] = 1.0f / sum[t];
        }
        for (int r = 0; r < ROWS; r++) {
            TOKENS sum[t] = TINY;
            for (int c = 0; c < ROWS; c++) TOKENS sum[t] += b->start[r][c][t] * b->v[k][c][t];
            TOKENS b->u[k + 1][r][t] = 1.0f / sum[t];
        }
    }
}

/* Gradients of z from those of the result, through all iterations. */
static void back_through_balance(const Balance *b, Lane (*g)[ROWS], Lane (*g_z)[ROWS])
{
    Lane g_u[ROWS] = {0}, g_v[ROWS] = {0}, g_start[ROWS][ROWS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < ROWS; c++) TOKENS
        {
            const float u = b->u[STEPS][r][t], v = b->v[STEPS - 1][c][t], start = b->start[r][c][t];
            g_start[r][c][t] = g[r][c][t] * u * v;
            g_u[r][t] += g[r][c][t] * start * v;
            g_v[c][t] += g[r][c][t] * start * u;
        }
    for (int k = STEPS - 1; k >= 0; k--) {
        for (int r = 0; r < ROWS; r++) {
            Lane sum;
            TOKENS sum[t] = -g_u[r][t] * b->u[k + 1][r][t] * b->u[k + 1][r][t];
            for (int c = 0; c < ROWS; c++) TOKENS
            {
                g_start[r][c][t] += sum[t] * b->v[k][c][t];
                g_v[c][t] += sum[t] * b->start[r][c][t];
            }
        }
        memset(g_u, 0, sizeof g_u);
        for (int c = 0; c < ROWS; c++) {
            Lane sum;
            TOKENS sum[t] = -g_v[c][t] * b->v[k][c][t] * b->v[k][c][t];
            for (int r = 0; r < ROWS; r++) TOKENS
            {
                g_start[r][c][t] += sum[t] * b->u[k][r][t];
                g_u[r][t] += sum[t] * b->start[r][c][t];
            }
        }
        memset(g_v, 0, sizeof g_v);
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < ROWS; c++) TOKENS g_z[r][c][t] = g_start[r][c][t] * b->start[r][c][t];
}

/* A tile's states behind the last link, with where they lie; a token that is not there is the first, and unused. */
typedef struct {
    int count;
    const float *h[TILE];
    int64_t row;
} Tile;

INLINE void tile_slice(const Tile *tile, const float *weights, int i, Vec *squares, Vec *sums, int first, int d, int n)
{
    Vec v[TILE];
    EACH(t, TILE)
    {
        v[t] = load(tile->h[t] + i * tile->row + d, n);
        if (first == 0) squares[t] += v[t] * v[t];
    }
    EACH(k, GROUPED)
    if (first + k < RAW) {
        const Vec w = load(weights + (first + k) * STATE + i * WIDTH + d, n);
        EACH(t, TILE) sums[k * TILE + t] += v[t] * w;
    }
}

/* 1/RMS of every state, and the projections of the normed states. */
static void project(const Boundary *b, const Tile *tile, Lane factor, Lane *raw)
{
    for (int first = 0; first < RAW; first += GROUPED) {
        Vec sums[GROUPED * TILE], squares[TILE];
        float dots[GROUPED * TILE + V], square[TILE + V];
        EACH(k, GROUPED * TILE) sums[k] = (Vec){0};
        EACH(t, TILE) squares[t] = (Vec){0};
        for (int i = 0; i < ROWS; i++) SLICES(tile_slice(tile, b->weights, i, squares, sums, first, d, n));
        if (first == 0) {
            reduce(squares, TILE, square);
            TOKENS factor[t] = 1.0f / sqrtf(square[t] / STATE + b->eps);
        }
        reduce(sums, GROUPED * TILE, dots);
        for (int k = 0; k < GROUPED && first + k < RAW; k++) TOKENS raw[first + k][t] = dots[k * TILE + t] * factor[t];
    }
}

/* Coefficients (token by token) of raw numbers; leaves how the carry was balanced. */
static void mix(const Boundary *b, Lane *raw, float (*made)[SMALL], Balance *balanced)
{
    Lane z[RAW];
    for (int k = 0; k < RAW; k++) TOKENS z[k][t] = b->fixed[k] + b->scale[k] * raw[k][t];
    if (SINKHORN) balance((Lane(*)[ROWS])(z + RES % RAW), balanced);
    for (int i = 0; i < ROWS; i++) TOKENS
    {
        float *c = made[t] + i * COLUMNS;
        c[0] = 1.0f / (1.0f + exp_of(-z[i][t]));
        c[1 + ROWS] = 2.0f / (1.0f + exp_of(-z[POST + i][t]));
        for (int j = 0; j < ROWS; j++)
            c[1 + j] = SINKHORN ? balanced->start[j][i][t] * balanced->v[STEPS - 1][i][t] * balanced->u[STEPS][j][t] : i == j;
    }
}

INLINE void fill(Tile *tile)
{
    for (int t = tile->count; t < TILE; t++) tile->h[t] = tile->h[0];
}

/* 0, or 1 where memory ran out. */
int forward(const Boundary *b)
{
    float *all = zeros(b->threads * (TILE + 1) * STATE * sizeof(float));
    if (!all) return 1;
#pragma omp parallel num_threads(b->threads)
    {
        float *scratch = all + thread() * (TILE + 1) * STATE;
        int64_t from, to;
        share(b->tokens, &from, &to);
        for (int64_t s = from; s < to; s += TILE) {
            Tile tile = {.count = to - s < TILE ? to - s : TILE};
            for (int t = 0; t < tile.count; t++) {
                float *copy = b->next ? b->next + (s + t) * STATE : NULL;
                tile.h[t] = state_behind(b, s + t, b->links, scratch, scratch + (1 + t) * STATE, copy, &tile.row);
            }
            fill(&tile);
            Lane factor, raw[RAW];
            float made[TILE][SMALL];
            Balance balanced;
            project(b, &tile, factor, raw);
            mix(b, raw, made, &balanced);
            for (int t = 0; t < tile.count; t++) {
                memcpy(b->made + (s + t) * SMALL, made[t], sizeof made[t]);
                for (int k = 0; k < RAW; k++) b->raw[(s + t) * RAW + k] = raw[k][t];
                b->stats[s + t] = factor[t];
                SLICES(read_slice(tile.h[t], tile.row, made[t], b->x + (s + t) * OUTPUT, d, n));
            }
        }
        settle();
    }
    free(all);
    return 0;
}

/* Sums over a thread's tokens. */
typedef struct {
    float weights[RAW * STATE];
    Vec shared[ROWS * (ROWS + WRITTEN)];
    double fixed[RAW], scale[RAW];
} Sums;

/* Gradients of the raw numbers, token by token; `along` is the mean of the state's gradient times the state, normed. */
static void back_to_raw(const Boundary *b, int64_t s, const Tile *tile, const float (*dots)[ROWS + V], Sums *sums, float (*g_raw)[RAW], float *along)
{
    Lane raw[RAW] = {0}, g_z[RAW], g_read[ROWS], g_write[ROWS], g_carry[ROWS][ROWS];
    float made[TILE][SMALL];
    Balance balanced;
    for (int t = 0; t < tile->count; t++)
        for (int k = 0; k < RAW; k++) raw[k][t] = b->raw[(s + t) * RAW + k];
    mix(b, raw, made, &balanced);
    TOKENS for (int i = 0; i < ROWS; i++)
    {
        const float *g = b->g_made && t < tile->count ? b->g_made + (s + t) * SMALL + i * COLUMNS : NULL;
        g_read[i][t] = dots[t][i] + (g ? g[0] : 0.0f);
        g_write[i][t] = g ? g[1 + ROWS] : 0.0f;
        for (int j = 0; j < ROWS; j++) g_carry[j][i][t] = g ? g[1 + j] : 0.0f; /* as Sinkhorn's matrix: new row first */
    }
    for (int i = 0; i < ROWS; i++) TOKENS
    {
        const float pre = made[t][i * COLUMNS], post = made[t][i * COLUMNS + 1 + ROWS];
        g_z[i][t] = g_read[i][t] * pre * (1.0f - pre);
        g_z[POST + i][t] = g_write[i][t] * post * (1.0f - 0.5f * post);
    }
    if (SINKHORN) back_through_balance(&balanced, g_carry, (Lane(*)[ROWS])(g_z + RES % RAW));
    TOKENS along[t] = 0;
    for (int k = 0; k < RAW; k++)
        for (int t = 0; t < TILE; t++) {
            g_raw[t][k] = t < tile->count ? g_z[k][t] * b->scale[k] : 0.0f;
            along[t] += g_raw[t][k] * raw[k][t] / STATE;
            if (t < tile->count) {
                sums->fixed[k] += g_z[k][t];
                sums->scale[k] += g_z[k][t] * raw[k][t];
            }
        }
}

/* G of a slice of row i of all tokens of the tile, and what they add to the gradient of the projection. */
INLINE void gradient_slice(
    const Boundary *b, const Tile *tile, int64_t s, int i, const float *factor, const float *along, float (*g_raw)[RAW], float *const *g, Sums *sums, int d, int n)
{
    Vec unit[TILE], sum[TILE];
    EACH(t, TILE)
    {
        unit[t] = factor[t] * load(tile->h[t] + i * tile->row + d, n);
        sum[t] = (Vec){0};
    }
    for (int k = 0; k < RAW; k++) {
        const int64_t at = k * STATE + i * WIDTH + d;
        const Vec w = load(b->weights + at, n);
        Vec dw = load(sums->weights + at, n);
        EACH(t, TILE)
        {
            sum[t] += g_raw[t][k] * w;
            dw += g_raw[t][k] * unit[t];
        }
        store(sums->weights + at, dw, n);
    }
    EACH(t, TILE)
    if (t < tile->count) {
        Vec all = factor[t] * (sum[t] - along[t] * unit[t]);
        if (b->g_next) all += load(b->g_next + (s + t) * STATE + i * WIDTH + d, n);
        if (b->g_x) all += b->made[(s + t) * SMALL + i * COLUMNS] * load(b->g_x + (s + t) * WIDTH + d, n);
        store(g[t] + i * WIDTH + d, all, n);
    }
}

static void backward_tile(const Boundary *b, int64_t s, int64_t to, float *scratch, Sums *sums)
{
    Tile tile = {.count = to - s < TILE ? to - s : TILE};
    const int64_t last = b->links - 1;
    const float *h[TILE], *c[TILE];
    float *g[TILE], factor[TILE] = {0}, along[TILE], g_raw[TILE][RAW], dots[TILE][ROWS + V];
    int64_t row = WIDTH;
    memset(dots, 0, sizeof dots);
    for (int t = 0; t < tile.count; t++) {
        float *before = scratch + (1 + t) * STATE, *next = before + TILE * STATE;
        h[t] = state_behind(b, s + t, last, scratch, before, NULL, &row);
        g[t] = last < 0 ? b->g_state + (s + t) * STATE : next + TILE * STATE;
        tile.h[t] = h[t];
        tile.row = row;
        if (last >= 0) {
            c[t] = b->coefficients[last] + (s + t) * b->coefficients_token[last];
            const int64_t distance = last ? 0 : b->state_token;
            SLICES(combine_slice(h[t], row, distance, b->out[last] + (s + t) * OUTPUT, c[t], next, NULL, d, n));
            tile.h[t] = next;
            tile.row = WIDTH;
        }
        factor[t] = b->stats[s + t];
        Vec read[ROWS];
        EACH(i, ROWS) read[i] = (Vec){0};
        if (b->g_x) SLICES(dots_slice(tile.h[t], tile.row, b->g_x + (s + t) * OUTPUT, read, d, n));
        reduce(read, ROWS, dots[t]);
    }
    fill(&tile);
    back_to_raw(b, s, &tile, dots, sums, g_raw, along);
    for (int i = 0; i < ROWS; i++) SLICES(gradient_slice(b, &tile, s, i, factor, along, g_raw, g, sums, d, n));
    for (int t = 0; t < tile.count && last >= 0; t++) {
        const int64_t each = b->coefficients_token[last];
        back_through_link(
            h[t], row, b->out[last] + (s + t) * OUTPUT, c[t], g[t], b->g_state + (s + t) * STATE,
            b->g_out + (s + t) * OUTPUT, b->g_coefficients + (s + t) * each, each ? NULL : sums->shared);
    }
}

/* 0, or 1 where memory ran out. Gradients of small weights are to be zero before. */
int backward(const Boundary *b)
{
    const size_t states = (3 * TILE + 1) * STATE * sizeof(float) + 64;
    Sums *all = zeros(b->threads * sizeof(Sums));
    char *scratch = zeros(b->threads * states);
    const int failed = !all || !scratch;
#pragma omp parallel num_threads(b->threads) if (!failed)
    if (!failed) {
        int64_t from, to;
        share(b->tokens, &from, &to);
        float *mine = (float *)(scratch + thread() * states);
        for (int64_t s = from; s < to; s += TILE) backward_tile(b, s, to, mine, all + thread());
        settle();
    }
    for (int64_t k = 0; !failed && k < b->threads; k++) {
        for (int i = 0; i < RAW * STATE; i++) b->g_weights[i] += all[k].weights[i];
        for (int i = 0; i < RAW; i++) {
            b->g_fixed[i] += all[k].fixed[i];
            b->g_scale[i] += all[k].scale[i];
        }
        if (b->links && !b->coefficients_token[b->links - 1]) add_shared(all[k].shared, b->g_coefficients);
    }
    free(all);
    free(scratch);
    return failed;
}
