// Multi-resolution hash encoding. Levels are the outer loop over a thread's whole range of points,
// so that one level's table stays in the cache while all points read it.
#include "common.h"
#include "place.h"

namespace geodistill {
namespace {

constexpr int kBlock = 64;
constexpr int64_t kGrain = 1024;
constexpr uint32_t kPrimeY = 2654435761u;
constexpr uint32_t kPrimeZ = 805459861u;

struct Level {
    float scale, shift;
    uint32_t stride, size;  // stride 0: hashed, and size is a power of two
};

// The 8 entries around each point of a block, and its place between them. Entry c has bits x, y, z.
struct Cells {
    uint32_t entry[8][kBlock];
    float fx[kBlock], fy[kBlock], fz[kBlock];
};

INLINE float lower(float position) {
    // The comparison is false for NaN, which then selects cell 0 and lives on in the fraction.
    return position > 0.0f ? std::floor(position) : 0.0f;
}

// x: [3][n], clamped to [0, 1].
INLINE void locate(Cells& cells, const float* RESTRICT x, int64_t n, int64_t at, int count,
                   const Level& level) {
    uint32_t px[kBlock], py[kBlock], pz[kBlock];
    const float* RESTRICT xs = x + at;
    const float* RESTRICT ys = x + n + at;
    const float* RESTRICT zs = x + 2 * n + at;
    for (int i = 0; i < count; ++i) {
        const float gx = xs[i] * level.scale + level.shift;
        const float gy = ys[i] * level.scale + level.shift;
        const float gz = zs[i] * level.scale + level.shift;
        const float lx = lower(gx), ly = lower(gy), lz = lower(gz);
        cells.fx[i] = gx - lx;
        cells.fy[i] = gy - ly;
        cells.fz[i] = gz - lz;
        px[i] = static_cast<uint32_t>(static_cast<int32_t>(lx));
        py[i] = static_cast<uint32_t>(static_cast<int32_t>(ly));
        pz[i] = static_cast<uint32_t>(static_cast<int32_t>(lz));
    }
    const uint32_t stride = level.stride, size = level.size;
    if (stride != 0) {
        const uint32_t layer = stride * stride;
        for (int c = 0; c < 8; ++c) {
            const uint32_t step = (c & 1) + (c >> 1 & 1) * stride + (c >> 2) * layer;
            for (int i = 0; i < count; ++i) {
                const uint32_t entry = px[i] + py[i] * stride + pz[i] * layer + step;
                cells.entry[c][i] = entry >= size ? entry - size : entry;
            }
        }
    } else {
        const uint32_t mask = size - 1;
        for (int c = 0; c < 8; ++c) {
            const uint32_t dx = c & 1, dy = c >> 1 & 1, dz = c >> 2;
            for (int i = 0; i < count; ++i) {
                const uint32_t hash =
                    (px[i] + dx) ^ ((py[i] + dy) * kPrimeY) ^ ((pz[i] + dz) * kPrimeZ);
                cells.entry[c][i] = hash & mask;
            }
        }
    }
}

template <int F>
INLINE void encode(const float* RESTRICT x, int64_t n, const float* RESTRICT table,
                   const Level& level, float* RESTRICT out, int64_t begin, int64_t end) {
    Cells cells;
    for (int64_t at = begin; at < end; at += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, end - at));
        locate(cells, x, n, at, count, level);
        for (int i = 0; i < count; ++i) {
            float w[8], sum[F] = {};
            corner_weights(cells.fx[i], cells.fy[i], cells.fz[i], w);
            for (int c = 0; c < 8; ++c) {
                const float* RESTRICT row = table + static_cast<int64_t>(cells.entry[c][i]) * F;
                for (int f = 0; f < F; ++f) sum[f] += w[c] * row[f];
            }
            std::memcpy(out + (at + i) * F, sum, sizeof sum);
        }
    }
}

template <int F>
INLINE void scatter(const float* RESTRICT x, int64_t n, const float* RESTRICT grad,
                    const Level& level, float* RESTRICT table, uint32_t first, uint32_t last) {
    Cells cells;
    const bool whole = first == 0 && last == level.size;
    for (int64_t at = 0; at < n; at += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, n - at));
        locate(cells, x, n, at, count, level);
        for (int i = 0; i < count; ++i) {
            float w[8], g[F];
            std::memcpy(g, grad + (at + i) * F, sizeof g);
            corner_weights(cells.fx[i], cells.fy[i], cells.fz[i], w);
            for (int c = 0; c < 8; ++c) {
                const uint32_t entry = cells.entry[c][i];
                if (!whole && (entry < first || entry >= last)) continue;
                float* row = table + static_cast<int64_t>(entry) * F;
                for (int f = 0; f < F; ++f) row[f] += w[c] * g[f];
            }
        }
    }
}

template <int F>
INLINE void slope(const float* RESTRICT x, int64_t n, const float* RESTRICT table,
                  const float* RESTRICT grad, const Level& level, float* RESTRICT grad_x,
                  int64_t begin, int64_t end) {
    Cells cells;
    for (int64_t at = begin; at < end; at += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, end - at));
        locate(cells, x, n, at, count, level);
        for (int i = 0; i < count; ++i) {
            float g[F], s[8];
            std::memcpy(g, grad + (at + i) * F, sizeof g);
            for (int c = 0; c < 8; ++c) {
                const float* RESTRICT row = table + static_cast<int64_t>(cells.entry[c][i]) * F;
                s[c] = 0.0f;
                for (int f = 0; f < F; ++f) s[c] += g[f] * row[f];
            }
            float slopes[3];
            corner_slopes(cells.fx[i], cells.fy[i], cells.fz[i], s, slopes);
            for (int a = 0; a < 3; ++a) grad_x[3 * (at + i) + a] += level.scale * slopes[a];
        }
    }
}

#define FOR_FEATURES(F)                                                                       \
    CLONED void encode_##F(const float* x, int64_t n, const float* table, const Level& level, \
                           float* out, int64_t begin, int64_t end) {                          \
        encode<F>(x, n, table, level, out, begin, end);                                       \
    }                                                                                         \
    CLONED void scatter_##F(const float* x, int64_t n, const float* grad, const Level& level, \
                            float* table, uint32_t first, uint32_t last) {                    \
        scatter<F>(x, n, grad, level, table, first, last);                                    \
    }                                                                                         \
    CLONED void slope_##F(const float* x, int64_t n, const float* table, const float* grad,   \
                          const Level& level, float* grad_x, int64_t begin, int64_t end) {    \
        slope<F>(x, n, table, grad, level, grad_x, begin, end);                               \
    }
FOR_FEATURES(1)
FOR_FEATURES(2)
FOR_FEATURES(4)
FOR_FEATURES(8)

template <class Function>
Function* pick(int features, Function* one, Function* two, Function* four, Function* eight) {
    return features == 1 ? one : features == 2 ? two : features == 4 ? four : eight;
}

CLONED void clamped_columns(const float* RESTRICT x, int64_t n, float* RESTRICT out, int64_t begin,
                            int64_t end) {
    for (int axis = 0; axis < 3; ++axis)
        for (int64_t i = begin; i < end; ++i) {
            const float v = x[3 * i + axis];
            out[axis * n + i] = v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
        }
}

// Coordinates as [3][n], because every level reads them again.
std::unique_ptr<float[]> columns(const float* x, int64_t n, int threads) {
    auto out = scratch<float>(3 * n);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        clamped_columns(x, n, out.get(), begin, end);
    });
    return out;
}

// [levels][n][f] -> [n][levels][f] and back. A level alone would touch every row of the [n] layout.
template <int F>
INLINE void interleave(const float* RESTRICT from, float* RESTRICT to, int64_t n, int levels,
                       int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        for (int l = 0; l < levels; ++l)
            std::memcpy(to + (i * levels + l) * F, from + (l * n + i) * F, F * sizeof(float));
}

template <int F>
INLINE void separate(const float* RESTRICT from, float* RESTRICT to, int64_t n, int levels,
                     int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        for (int l = 0; l < levels; ++l)
            std::memcpy(to + (l * n + i) * F, from + (i * levels + l) * F, F * sizeof(float));
}

}  // namespace

struct HashLayout {
    int32_t levels, features;
    float shift;
    const float* scales;
    const uint32_t* strides;
    const uint32_t* sizes;
    const int64_t* offsets;

    Level level(int l) const { return {scales[l], shift, strides[l], sizes[l]}; }
    const float* rows(const float* table, int l) const { return table + offsets[l] * features; }
    float* rows(float* table, int l) const { return table + offsets[l] * features; }
};

namespace {

std::unique_ptr<float[]> by_level(const HashLayout& layout, const float* grad, int64_t n,
                                  int threads) {
    auto out = scratch<float>(n * layout.levels * layout.features);
    auto* run = pick(layout.features, separate<1>, separate<2>, separate<4>, separate<8>);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        run(grad, out.get(), n, layout.levels, begin, end);
    });
    return out;
}

}  // namespace

API void gd_hash_forward(const HashLayout* layout, const float* x, int64_t n, const float* table,
                         float* out, int threads) {
    const int f = layout->features, levels = layout->levels;
    auto* encode_level = pick(f, encode_1, encode_2, encode_4, encode_8);
    auto* join = pick(f, interleave<1>, interleave<2>, interleave<4>, interleave<8>);
    large_pages(out, n * levels * f);
    const auto points = columns(x, n, threads);
    const auto parts = scratch<float>(n * levels * f);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        for (int l = 0; l < levels; ++l)
            encode_level(points.get(), n, layout->rows(table, l), layout->level(l),
                         parts.get() + l * n * f, begin, end);
        join(parts.get(), out, n, levels, begin, end);
    });
}

// grad_table is overwritten. Each item owns rows of one level and adds to them in point order.
API void gd_hash_backward_table(const HashLayout* layout, const float* x, int64_t n,
                                const float* grad, float* grad_table, int threads) {
    const int f = layout->features, levels = layout->levels;
    large_pages(grad_table, layout->offsets[levels] * f);
    auto* scatter_level = pick(f, scatter_1, scatter_2, scatter_4, scatter_8);
    const auto points = columns(x, n, threads);
    const auto grads = by_level(*layout, grad, n, threads);
    const int parts = threads > levels ? 2 * threads / levels : 1;
    parallel(static_cast<int64_t>(levels) * parts, threads, [&](int64_t item) {
        // The fine levels take longest and go first.
        const int l = levels - 1 - static_cast<int>(item / parts);
        const int64_t part = item % parts, size = layout->sizes[l];
        const int64_t first = size * part / parts, last = size * (part + 1) / parts;
        float* rows = layout->rows(grad_table, l);
        std::fill(rows + first * f, rows + last * f, 0.0f);
        scatter_level(points.get(), n, grads.get() + l * n * f, layout->level(l), rows,
                      static_cast<uint32_t>(first), static_cast<uint32_t>(last));
    });
}

// grad_x is overwritten. The derivative of the clamp is left to the caller.
API void gd_hash_backward_x(const HashLayout* layout, const float* x, int64_t n, const float* table,
                            const float* grad, float* grad_x, int threads) {
    const int f = layout->features;
    auto* slope_level = pick(f, slope_1, slope_2, slope_4, slope_8);
    const auto points = columns(x, n, threads);
    const auto grads = by_level(*layout, grad, n, threads);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        std::fill(grad_x + 3 * begin, grad_x + 3 * end, 0.0f);
        for (int l = 0; l < layout->levels; ++l)
            slope_level(points.get(), n, layout->rows(table, l), grads.get() + l * n * f,
                        layout->level(l), grad_x, begin, end);
    });
}

}  // namespace geodistill
