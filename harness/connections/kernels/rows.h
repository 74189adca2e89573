/* What the boundaries of all kinds share: vectors, a state that is led on over links, reductions.
 *
 * Compiled for one form: ROWS, PARTS, WRITTEN, WIDTH, DIAGONAL (form.py has the words). GCC and Clang vector extensions,
 * so that one source serves every instruction set; a tail of WIDTH is loaded and stored as a partial vector. */

#ifdef __AVX__
#include <immintrin.h>
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define COLUMNS (PARTS + ROWS + WRITTEN)
#define STATE (ROWS * WIDTH)
#define OUTPUT (PARTS * WIDTH)
#define MOST_LINKS 4

#ifdef __AVX512F__
#define V 16
#else
#define V 8
#endif

typedef float Vec __attribute__((vector_size(4 * V)));
typedef int32_t VecInt __attribute__((vector_size(4 * V)));

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define EACH(i, count) _Pragma("unroll") for (int i = 0; i < (count); i++)
#else
#define EACH(i, count) _Pragma("GCC unroll 16") for (int i = 0; i < (count); i++)
#endif

/* `call` for every slice of a row: entries d to d + n, where n is V but for the last. */
#define SLICES(call)                                        \
    do {                                                    \
        for (int d = 0; d + V <= WIDTH; d += V) {           \
            const int n = V;                                \
            call;                                           \
        }                                                   \
        if (WIDTH % V) {                                    \
            const int d = WIDTH / V * V, n = WIDTH % V;     \
            call;                                           \
        }                                                   \
    } while (0)

/* How many times `size` accumulators fit the registers, at least one and at most `most`. */
#define REGISTERS (V == 16 ? 24 : 12)
#define GROUP(size, most) (REGISTERS / (size) < 1 ? 1 : REGISTERS / (size) > (most) ? (most) : REGISTERS / (size))

typedef struct {
    int64_t tokens, threads, links;
    const float *state;
    int64_t state_token, state_row;
    const float *out[MOST_LINKS];
    const float *coefficients[MOST_LINKS];
    int64_t coefficients_token[MOST_LINKS]; /* 0 where all tokens share them */
    const float *fixed, *weights, *offset, *scale;
    float eps;
    float *next, *x, *made, *raw, *stats;
    const float *g_next, *g_x, *g_made;
    float *g_state, *g_out, *g_coefficients;
    float *g_fixed, *g_weights, *g_offset, *g_scale;
} Boundary;

INLINE Vec load(const float *from, int n)
{
    Vec v = {0};
    memcpy(&v, from, n * sizeof(float));
    return v;
}

INLINE void store(float *to, Vec v, int n) { memcpy(to, &v, n * sizeof(float)); }

/* A token's numbers may fill a page, and hardware looks ahead within pages only: the same slice `AHEAD` tokens on is
 * asked for by hand, into the second cache, which can wait for more of memory at once than the first. */
#define AHEAD 2
INLINE void fetch(const float *token, int64_t distance) { __builtin_prefetch(token + AHEAD * distance, 0, 2); }

/* Past the caches: for what is read only when other things have gone over them, a whole output or state later. `to` is
 * aligned where WIDTH is. */
INLINE void stream(float *to, Vec v, int n)
{
#if defined(__AVX512F__)
    if (WIDTH % V == 0) return _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX__)
    if (WIDTH % V == 0) return _mm256_stream_ps(to, (__m256)v);
#endif
    store(to, v, n);
}

/* At the end of a thread's share: what it streamed is there for all. */
INLINE void settle(void)
{
#ifdef __AVX__
    _mm_sfence();
#endif
}

#ifdef __clang__
INLINE void reduce(const Vec *sums, int count, float *to)
{
    for (int k = 0; k < count; k++) {
        float sum = 0;
        EACH(l, V) sum += sums[k][l];
        to[k] = sum;
    }
}
#else
/* Adds lanes l and l ^ s; lanes with bit s are those of `b`. */
INLINE Vec fold(Vec a, Vec b, int s)
{
    VecInt same = {0}, other = {0};
    EACH(l, V)
    {
        same[l] = l & s ? V + l : l;
        other[l] = l & s ? V + (l ^ s) : l ^ s;
    }
    return __builtin_shuffle(a, b, same) + __builtin_shuffle(a, b, other);
}

/* The sums over the lanes of `count` vectors, V at a time: as many shuffles as one of them alone would take in turn. */
INLINE void reduce(const Vec *sums, int count, float *to)
{
    for (int first = 0; first < count; first += V) {
        Vec t[V];
        EACH(k, V) t[k] = first + k < count ? sums[first + k] : (Vec){0};
        EACH(k, V / 2) t[k] = fold(t[2 * k], t[2 * k + 1], 1);
        EACH(k, V / 4) t[k] = fold(t[2 * k], t[2 * k + 1], 2);
        EACH(k, V / 8) t[k] = fold(t[2 * k], t[2 * k + 1], 4);
        if (V == 16) t[0] = fold(t[0], t[1], 8);
        memcpy(to + first, &t[0], (count - first < V ? count - first : V) * sizeof(float));
    }
}
#endif

INLINE float between(float x, float most) { return x < -most ? -most : x > most ? most : x; }

/* x as k ln 2 + r with |r| < 0.35: gives 2^k, and e^r - 1 in `less`. x between -80 and 80. */
INLINE float power_of_two(float x, float *less)
{
    const float k = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounded */
    const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    const float tail = 4.16666667e-2f + r * (8.33333333e-3f + r * (1.38888889e-3f + r * 1.98412698e-4f));
    *less = r + r * r * (0.5f + r * (1.66666667e-1f + r * tail));
    const union { int32_t i; float f; } two = {.i = ((int32_t)k + 127) << 23};
    return two.f;
}

INLINE float tanh_of(float x)
{
    float less;
    const float two = power_of_two(between(2.0f * x, 20.0f), &less), e = two * less + (two - 1.0f);
    return e / (e + 2.0f);
}

INLINE float exp_of(float x)
{
    float less;
    const float two = power_of_two(between(x, 80.0f), &less);
    return two + two * less;
}

/* What the output writes to row j. */
INLINE Vec written(const float *out, const float *c, int j, int d, int n)
{
    Vec sum = {0};
    EACH(q, WRITTEN) sum += c[j * COLUMNS + PARTS + ROWS + q] * load(out + (DIAGONAL ? j : q) * WIDTH + d, n);
    return sum;
}

/* `next`, and a `copy` that is streamed, where one is wanted. The next token's state lies `distance` numbers on. */
INLINE void combine_slice(
    const float *h, int64_t row, int64_t distance, const float *out, const float *c, float *next, float *copy, int d, int n)
{
    Vec in[ROWS];
    EACH(i, ROWS)
    {
        fetch(h + i * row + d, distance);
        in[i] = load(h + i * row + d, n);
    }
    EACH(p, PARTS) fetch(out + p * WIDTH + d, OUTPUT);
    EACH(j, ROWS)
    {
        Vec sum = written(out, c, j, d, n);
        EACH(i, ROWS) sum += c[i * COLUMNS + PARTS + j] * in[i];
        store(next + j * WIDTH + d, sum, n);
        if (copy) stream(copy + j * WIDTH + d, sum, n);
    }
}

/* The state of token s behind `links` links: made in `to`, with a `copy`; `scratch` (a state) is for those before it.
 * `row` is the distance of its rows. */
INLINE const float *state_behind(
    const Boundary *b, int64_t s, int64_t links, float *scratch, float *to, float *copy, int64_t *row)
{
    const float *h = b->state + s * b->state_token;
    *row = b->state_row;
    for (int64_t l = 0; l < links; l++) {
        const int end = l == links - 1;
        float *next = (links - 1 - l) & 1 ? scratch : to; /* in turn, so that the last is made in `to` */
        const float *out = b->out[l] + s * OUTPUT, *c = b->coefficients[l] + s * b->coefficients_token[l];
        SLICES(combine_slice(h, *row, l ? 0 : b->state_token, out, c, next, end ? copy : NULL, d, n));
        h = next;
        *row = WIDTH;
    }
    return h;
}

INLINE void read_slice(const float *h, int64_t row, const float *c, float *x, int d, int n)
{
    EACH(p, PARTS)
    {
        Vec sum = {0};
        EACH(i, ROWS) sum += c[i * COLUMNS + p] * load(h + i * row + d, n);
        stream(x + p * WIDTH + d, sum, n);
    }
}

INLINE void dots_slice(const float *h, int64_t row, const float *g_x, Vec *dots, int d, int n)
{
    EACH(p, PARTS)
    {
        fetch(g_x + p * WIDTH + d, OUTPUT);
        const Vec g = load(g_x + p * WIDTH + d, n);
        EACH(i, ROWS) dots[i * PARTS + p] += g * load(h + i * row + d, n);
    }
}

/* Through the last link: with G the gradient of the state behind it, those of the state before it, the output, and, as
 * sums over lanes to be, of carry (ROWS x ROWS) and write (ROWS x WRITTEN). */
INLINE void out_slice(const float *out, const float *c, const float *g, float *g_out, Vec *g_write, int d, int n)
{
    if (DIAGONAL) {
        EACH(j, ROWS)
        {
            const Vec gj = load(g + j * WIDTH + d, n);
            g_write[j] += gj * load(out + j * WIDTH + d, n);
            stream(g_out + j * WIDTH + d, c[j * COLUMNS + PARTS + ROWS] * gj, n);
        }
        return;
    }
    EACH(q, WRITTEN)
    {
        const Vec o = load(out + q * WIDTH + d, n);
        Vec sum = {0};
        EACH(j, ROWS)
        {
            const Vec gj = load(g + j * WIDTH + d, n);
            sum += c[j * COLUMNS + PARTS + ROWS + q] * gj;
            g_write[j * WRITTEN + q] += gj * o;
        }
        stream(g_out + q * WIDTH + d, sum, n);
    }
}

#define CARRIED GROUP(ROWS, ROWS)

INLINE void carry_slice(const float *h, int64_t row, const float *c, const float *g, float *g_state, Vec *g_carry, int first, int d, int n)
{
    Vec gj[ROWS];
    EACH(j, ROWS) gj[j] = load(g + j * WIDTH + d, n);
    EACH(k, CARRIED)
    {
        const int i = first + k;
        if (i < ROWS) {
            const Vec in = load(h + i * row + d, n);
            Vec sum = {0};
            EACH(j, ROWS)
            {
                sum += c[i * COLUMNS + PARTS + j] * gj[j];
                g_carry[k * ROWS + j] += in * gj[j];
            }
            stream(g_state + i * WIDTH + d, sum, n);
        }
    }
}

/* All of it for one token; `shared` sums over tokens where they share coefficients, else g_coefficients are this token's. */
INLINE void back_through_link(
    const float *h, int64_t row, const float *out, const float *c, const float *g, float *g_state, float *g_out, float *g_coefficients, Vec *shared)
{
    Vec g_write[ROWS * WRITTEN];
    EACH(k, ROWS * WRITTEN) g_write[k] = (Vec){0};
    SLICES(out_slice(out, c, g, g_out, g_write, d, n));
    float write[ROWS * WRITTEN + V], carry[CARRIED * ROWS + V];
    if (shared)
        EACH(k, ROWS * WRITTEN) shared[ROWS * ROWS + k] += g_write[k];
    else
        reduce(g_write, ROWS * WRITTEN, write);
    for (int first = 0; first < ROWS; first += CARRIED) {
        Vec g_carry[CARRIED * ROWS];
        EACH(k, CARRIED * ROWS) g_carry[k] = (Vec){0};
        SLICES(carry_slice(h, row, c, g, g_state, g_carry, first, d, n));
        if (shared) {
            EACH(k, CARRIED * ROWS)
            if (first * ROWS + k < ROWS * ROWS) shared[first * ROWS + k] += g_carry[k];
            continue;
        }
        reduce(g_carry, CARRIED * ROWS, carry);
        for (int i = first; i < ROWS && i < first + CARRIED; i++)
            for (int j = 0; j < ROWS; j++) g_coefficients[i * COLUMNS + PARTS + j] = carry[(i - first) * ROWS + j];
    }
    if (shared) return;
    for (int i = 0; i < ROWS; i++) {
        for (int p = 0; p < PARTS; p++) g_coefficients[i * COLUMNS + p] = 0; /* its own boundary's business */
        for (int q = 0; q < WRITTEN; q++) g_coefficients[i * COLUMNS + PARTS + ROWS + q] = write[i * WRITTEN + q];
    }
}

/* The sums of `shared` over the lanes, added to coefficients' gradients. */
static void add_shared(const Vec *shared, float *g_coefficients)
{
    float sums[ROWS * (ROWS + WRITTEN) + V];
    reduce(shared, ROWS * (ROWS + WRITTEN), sums);
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < ROWS; j++) g_coefficients[i * COLUMNS + PARTS + j] += sums[i * ROWS + j];
        for (int q = 0; q < WRITTEN; q++)
            g_coefficients[i * COLUMNS + PARTS + ROWS + q] += sums[ROWS * ROWS + i * WRITTEN + q];
    }
}

static void *zeros(size_t bytes)
{
    const size_t size = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, size);
    if (memory) memset(memory, 0, size);
    return memory;
}

INLINE int64_t thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* This thread's tokens: [from, to). */
INLINE void share(int64_t tokens, int64_t *from, int64_t *to)
{
#ifdef _OPENMP
    const int64_t threads = omp_get_num_threads();
#else
    const int64_t threads = 1;
#endif
    *from = tokens * thread() / threads;
    *to = tokens * (thread() + 1) / threads;
}
