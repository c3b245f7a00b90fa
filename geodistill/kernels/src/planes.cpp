// Products of plane and line samples, channels stored last: a sample is a few contiguous rows.
#include <type_traits>

#include "place.h"
#include "vector.h"

namespace geodistill {
namespace {

constexpr int kAxes[3][3] = {{0, 1, 2}, {0, 2, 1}, {1, 2, 0}};  // columns, rows, line of plane k
constexpr int64_t kGrain = 256;
constexpr int kTile = 16;
constexpr int kAhead = 6;

INLINE bool clamps(float u) { return u < -1.0f || u > 1.0f; }

}  // namespace

struct Factor {
    const float* plane;  // [rows][columns][channels]
    const float* line;   // [length][channels]
    int32_t rows, columns, length;
};

struct FactorGrad {
    float* plane;
    float* line;
};

namespace {

struct Corners {
    const float *p00, *p01, *p10, *p11, *l0, *l1;
    float w00, w01, w10, w11, v0, v1;
};

INLINE Corners corners(const Factor& factor, int channel_count, const Place& u, const Place& v,
                       const Place& l) {
    Corners c;
    const int64_t row = static_cast<int64_t>(factor.columns) * channel_count;
    c.p00 = factor.plane + v.low * row + u.low * channel_count;
    c.p01 = c.p00 + u.next * channel_count;
    c.p10 = c.p00 + v.next * row;
    c.p11 = c.p10 + u.next * channel_count;
    c.l0 = factor.line + l.low * channel_count;
    c.l1 = c.l0 + l.next * channel_count;
    c.w00 = (1.0f - u.f) * (1.0f - v.f), c.w01 = u.f * (1.0f - v.f);
    c.w10 = (1.0f - u.f) * v.f, c.w11 = u.f * v.f;
    c.v0 = 1.0f - l.f, c.v1 = l.f;
    return c;
}

INLINE void prefetch_row(const float* row, int channel_count) {
    for (int c = 0; c < channel_count; c += 16) PREFETCH(row + c);
    PREFETCH(row + channel_count - 1);
}

INLINE void prefetch_cell(const Factor& factor, int channel_count, const float* x,
                          const int* axes) {
    const Place u = place(x[axes[0]], factor.columns), v = place(x[axes[1]], factor.rows);
    const int64_t row = static_cast<int64_t>(factor.columns) * channel_count;
    const float* at = factor.plane + v.low * row + u.low * channel_count;
    prefetch_row(at, 2 * channel_count);
    prefetch_row(at + v.next * row, 2 * channel_count);
}

CLONED void sample_plane(const Factor& factor, int k, int channel_count, const float* RESTRICT x,
                         float* RESTRICT out, int64_t begin, int64_t end) {
    const int* axes = kAxes[k];
    for (int64_t i = begin; i < end; ++i) {
        if (i + kAhead < end) prefetch_cell(factor, channel_count, x + 3 * (i + kAhead), axes);
        const float* xi = x + 3 * i;
        const Corners n =
            corners(factor, channel_count, place(xi[axes[0]], factor.columns),
                    place(xi[axes[1]], factor.rows), place(xi[axes[2]], factor.length));
        float* row = out + (3 * i + k) * channel_count;
        channels(
            0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T plane = load<T>(n.p00 + c) * n.w00 + load<T>(n.p01 + c) * n.w01 +
                                load<T>(n.p10 + c) * n.w10 + load<T>(n.p11 + c) * n.w11;
                store<T>(row + c, plane * (load<T>(n.l0 + c) * n.v0 + load<T>(n.l1 + c) * n.v1));
            });
    }
}

CLONED void slope_plane(const Factor& factor, int k, int channel_count, const float* RESTRICT x,
                        const float* RESTRICT grad, float* RESTRICT grad_x, int64_t begin,
                        int64_t end) {
    const int* axes = kAxes[k];
    for (int64_t i = begin; i < end; ++i) {
        const float* xi = x + 3 * i;
        const Place u = place(xi[axes[0]], factor.columns), v = place(xi[axes[1]], factor.rows);
        const Corners n = corners(factor, channel_count, u, v, place(xi[axes[2]], factor.length));
        const float* g = grad + (3 * i + k) * channel_count;
        float du = 0.0f, dv = 0.0f, dl = 0.0f;
        channels(
            0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T p00 = load<T>(n.p00 + c), p01 = load<T>(n.p01 + c);
                const T p10 = load<T>(n.p10 + c), p11 = load<T>(n.p11 + c);
                const T l0 = load<T>(n.l0 + c), l1 = load<T>(n.l1 + c), gc = load<T>(g + c);
                const T gl = gc * (l0 * n.v0 + l1 * n.v1);
                du += sum(gl * ((p01 - p00) * (1.0f - v.f) + (p11 - p10) * v.f));
                dv += sum(gl * ((p10 - p00) * (1.0f - u.f) + (p11 - p01) * u.f));
                dl += sum(gc * (l1 - l0) * (p00 * n.w00 + p01 * n.w01 + p10 * n.w10 + p11 * n.w11));
            });
        const float slopes[3] = {du * 0.5f * (factor.columns - 1), dv * 0.5f * (factor.rows - 1),
                                 dl * 0.5f * (factor.length - 1)};
        for (int a = 0; a < 3; ++a)
            if (!clamps(xi[axes[a]])) grad_x[3 * i + axes[a]] += slopes[a];
    }
}

// Points in the order of the plane's tiles (one row of cells, kTile columns), so that what a run of
// points touches stays in the nearest cache. starts[r] is where row r of cells begins.
void sort_by_tile(const Factor& factor, int k, const float* x, int64_t n, int32_t* order,
                  int64_t* starts) {
    const int rows = std::max(factor.rows - 1, 1), tiles = (factor.columns + kTile - 1) / kTile;
    const auto bucket = [&](int64_t i) {
        const float* xi = x + 3 * i;
        const Place u = place(xi[kAxes[k][0]], factor.columns);
        return place(xi[kAxes[k][1]], factor.rows).low * tiles + u.low / kTile;
    };
    const int64_t buckets = static_cast<int64_t>(rows) * tiles;
    const auto next = scratch<int64_t>(buckets + 1);
    std::fill(next.get(), next.get() + buckets + 1, 0);
    for (int64_t i = 0; i < n; ++i) ++next[bucket(i) + 1];
    for (int64_t b = 0; b < buckets; ++b) next[b + 1] += next[b];
    for (int r = 0; r <= rows; ++r) starts[r] = next[static_cast<int64_t>(r) * tiles];
    for (int64_t i = 0; i < n; ++i) order[next[bucket(i)]++] = static_cast<int32_t>(i);
}

// Adds the gradients of the points order[begin:end]. `upper` is where the row of nodes above cell
// row `edge` goes: the plane itself, or a buffer where a neighbour owns that row.
CLONED void scatter_band(const Factor& factor, int k, int channel_count, const float* RESTRICT x,
                         const float* RESTRICT grad, const int32_t* RESTRICT order, int64_t begin,
                         int64_t end, float* RESTRICT plane, float* RESTRICT line, int64_t edge,
                         float* RESTRICT upper) {
    const int* axes = kAxes[k];
    const int64_t row = static_cast<int64_t>(factor.columns) * channel_count;
    for (int64_t j = begin; j < end; ++j) {
        if (j + kAhead < end)
            prefetch_row(grad + (3 * static_cast<int64_t>(order[j + kAhead]) + k) * channel_count,
                         channel_count);
        const int64_t i = order[j];
        const float* xi = x + 3 * i;
        const Place u = place(xi[axes[0]], factor.columns), v = place(xi[axes[1]], factor.rows);
        const Place l = place(xi[axes[2]], factor.length);
        const Corners n = corners(factor, channel_count, u, v, l);
        const float* g = grad + (3 * i + k) * channel_count;
        float* q00 = plane + v.low * row + u.low * channel_count;
        float* q01 = q00 + u.next * channel_count;
        float* q10 = v.low == edge ? upper + u.low * channel_count : q00 + v.next * row;
        float* q11 = q10 + u.next * channel_count;
        float* m0 = line + l.low * channel_count;
        float* m1 = m0 + l.next * channel_count;
        channels(
            0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T gc = load<T>(g + c);
                const T gl = gc * (load<T>(n.l0 + c) * n.v0 + load<T>(n.l1 + c) * n.v1);
                const T gp = gc * (load<T>(n.p00 + c) * n.w00 + load<T>(n.p01 + c) * n.w01 +
                                   load<T>(n.p10 + c) * n.w10 + load<T>(n.p11 + c) * n.w11);
                add<T>(q00 + c, gl * n.w00);
                add<T>(q01 + c, gl * n.w01);
                add<T>(q10 + c, gl * n.w10);
                add<T>(q11 + c, gl * n.w11);
                add<T>(m0 + c, gp * n.v0);
                add<T>(m1 + c, gp * n.v1);
            });
    }
}

CLONED void add_rows(float* RESTRICT to, const float* RESTRICT from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// How the backward pass of one plane is divided: into bands of cell rows. The division follows from
// the problem alone, never from the number of threads.
struct Plan {
    int k, rows, bands, channel_count;
    int64_t n, row, line;  // points, floats in a row of the plane, floats in the line
    std::unique_ptr<int32_t[]> order;
    std::unique_ptr<int64_t[]> starts;
    std::unique_ptr<float[]> lines, uppers;  // per band: its line gradient, the row above its last

    Plan(const Factor& factor, int k, int channel_count, int64_t n)
        : k(k), rows(std::max(factor.rows - 1, 1)), channel_count(channel_count), n(n) {
        bands = static_cast<int>(std::clamp<int64_t>(n / 2048, 1, std::min(rows, 16)));
        row = static_cast<int64_t>(factor.columns) * channel_count;
        line = static_cast<int64_t>(factor.length) * channel_count;
        order = scratch<int32_t>(n);
        starts = scratch<int64_t>(rows + 1);
        lines = scratch<float>(bands * line);
        uppers = scratch<float>(bands * row);
    }
    int64_t first(int band) const { return static_cast<int64_t>(rows) * band / bands; }
};

void run_band(const Plan& plan, int band, const Factor& factor, const FactorGrad& out,
              const float* x, const float* grad) {
    const int64_t first = plan.first(band), last = plan.first(band + 1);
    const bool top = band + 1 == plan.bands;
    float* line = plan.lines.get() + band * plan.line;
    float* upper = plan.uppers.get() + band * plan.row;
    std::fill(line, line + plan.line, 0.0f);
    std::fill(upper, upper + plan.row, 0.0f);
    std::fill(out.plane + first * plan.row, out.plane + (top ? factor.rows : last) * plan.row,
              0.0f);
    scatter_band(factor, plan.k, plan.channel_count, x, grad, plan.order.get(), plan.starts[first],
                 plan.starts[last], out.plane, line, top ? -1 : last - 1, upper);
}

void join_bands(const Plan& plan, const FactorGrad& out) {
    std::fill(out.line, out.line + plan.line, 0.0f);
    for (int band = 0; band < plan.bands; ++band)
        add_rows(out.line, plan.lines.get() + band * plan.line, plan.line);
    for (int band = 1; band < plan.bands; ++band)
        add_rows(out.plane + plan.first(band) * plan.row, plan.uppers.get() + (band - 1) * plan.row,
                 plan.row);
}

}  // namespace

// x: [n][3].  factors: 3.  out: [n][3][channels].
API void gd_plane_line_forward(const Factor* factors, int channel_count, const float* x, int64_t n,
                               float* out, int threads) {
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        for (int k = 0; k < 3; ++k) sample_plane(factors[k], k, channel_count, x, out, begin, end);
    });
}

// The gradients are overwritten.
API void gd_plane_line_backward(const Factor* factors, const FactorGrad* out, int channel_count,
                                const float* x, int64_t n, const float* grad, int threads) {
    const Plan plans[3] = {{factors[0], 0, channel_count, n},
                           {factors[1], 1, channel_count, n},
                           {factors[2], 2, channel_count, n}};
    parallel(3, threads, [&](int64_t k) {
        large_pages(out[k].plane, factors[k].rows * plans[k].row);
        sort_by_tile(factors[k], plans[k].k, x, n, plans[k].order.get(), plans[k].starts.get());
    });
    const int bands[3] = {plans[0].bands, plans[0].bands + plans[1].bands,
                          plans[0].bands + plans[1].bands + plans[2].bands};
    parallel(bands[2], threads, [&](int64_t item) {
        const int k = (item >= bands[0]) + (item >= bands[1]);
        const int band = static_cast<int>(item) - (k > 0 ? bands[k - 1] : 0);
        run_band(plans[k], band, factors[k], out[k], x, grad);
    });
    parallel(3, threads, [&](int64_t k) { join_bands(plans[k], out[k]); });
}

API void gd_plane_line_backward_x(const Factor* factors, int channel_count, const float* x,
                                  int64_t n, const float* grad, float* grad_x, int threads) {
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        std::fill(grad_x + 3 * begin, grad_x + 3 * end, 0.0f);
        for (int k = 0; k < 3; ++k)
            slope_plane(factors[k], k, channel_count, x, grad, grad_x, begin, end);
    });
}

}  // namespace geodistill
