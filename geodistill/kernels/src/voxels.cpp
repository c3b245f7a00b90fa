// Trilinear interpolation in a sparse voxel grid: 8 rows of a value table, found through links.
#include <type_traits>

#include "place.h"
#include "vector.h"

namespace geodistill {
namespace {

constexpr int kBlock = 16;
constexpr int64_t kGrain = 256;

}  // namespace

struct Grid {
    const int32_t* links;  // [sizes 0][sizes 1][sizes 2]; no row of the table: empty
    int32_t sizes[3];
    int32_t rows;
};

namespace {

// The rows of the 8 nodes around a point, and its place between them.
struct Cell {
    int32_t link[8];
    float f[3];
};

INLINE void find(const Grid& grid, const float* x, Cell& cell) {
    const Place px = place_on_grid(x[0], grid.sizes[0]), py = place_on_grid(x[1], grid.sizes[1]);
    const Place pz = place_on_grid(x[2], grid.sizes[2]);
    const int64_t row = grid.sizes[2], layer = row * grid.sizes[1];
    const int32_t* at = grid.links + px.low * layer + py.low * row + pz.low;
    const int64_t dx = px.next * layer, dy = py.next * row, dz = pz.next;
    for (int c = 0; c < 8; ++c) {
        const int32_t link = at[(c & 1) * dx + (c >> 1 & 1) * dy + (c >> 2) * dz];
        cell.link[c] = link < grid.rows ? link : -1;
    }
    cell.f[0] = px.f, cell.f[1] = py.f, cell.f[2] = pz.f;
}

INLINE void prefetch_links(const Grid& grid, const float* x) {
    const Place px = place_on_grid(x[0], grid.sizes[0]), py = place_on_grid(x[1], grid.sizes[1]);
    const Place pz = place_on_grid(x[2], grid.sizes[2]);
    const int64_t row = grid.sizes[2], layer = row * grid.sizes[1];
    const int32_t* at = grid.links + px.low * layer + py.low * row + pz.low;
    PREFETCH(at);
    PREFETCH(at + py.next * row);
    PREFETCH(at + px.next * layer);
    PREFETCH(at + px.next * layer + py.next * row);
}

// Cells of the points [at, at + count), with the rows of `values` on their way to the cache.
INLINE void find_block(const Grid& grid, const float* x, int64_t at, int count, int64_t end,
                       const float* values, int64_t stride, int channel_count, Cell* cells) {
    for (int64_t i = at + count; i < std::min<int64_t>(at + 2 * kBlock, end); ++i)
        prefetch_links(grid, x + 3 * i);
    for (int i = 0; i < count; ++i) {
        find(grid, x + 3 * (at + i), cells[i]);
        for (int c = 0; c < 8; ++c)
            if (cells[i].link[c] >= 0) {
                const float* row = values + cells[i].link[c] * stride;
                for (int channel = 0; channel < channel_count; channel += 16)
                    PREFETCH(row + channel);
            }
    }
}

CLONED void interpolate(const Grid& grid, const float* RESTRICT values, int64_t stride,
                        int channel_count, const float* RESTRICT x, float* RESTRICT out,
                        int64_t begin, int64_t end) {
    Cell cells[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, end - at));
        find_block(grid, x, at, count, end, values, stride, channel_count, cells);
        for (int i = 0; i < count; ++i) {
            const Cell& cell = cells[i];
            float w[8];
            const float* rows[8];
            corner_weights(cell.f[0], cell.f[1], cell.f[2], w);
            int found = 0;
            for (int c = 0; c < 8; ++c)
                if (cell.link[c] >= 0) {
                    w[found] = w[c];
                    rows[found++] = values + cell.link[c] * stride;
                }
            float* row = out + (at + i) * channel_count;
            channels(
                0, channel_count, LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    T total{};
                    for (int r = 0; r < found; ++r) total += load<T>(rows[r] + c) * w[r];
                    store<T>(row + c, total);
                });
        }
    }
}

CLONED void find_all(const Grid& grid, const float* RESTRICT x, Cell* RESTRICT cells, int64_t begin,
                     int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        if (i + kBlock < end) prefetch_links(grid, x + 3 * (i + kBlock));
        find(grid, x + 3 * i, cells[i]);
    }
}

// Adds to the rows [first, last) alone, point after point.
CLONED void scatter_rows(const Cell* RESTRICT cells, int64_t n, int channel_count,
                         const float* RESTRICT grad, float* RESTRICT out, int32_t first,
                         int32_t last) {
    constexpr int kAhead = 8;
    const uint32_t span = static_cast<uint32_t>(last - first);
    for (int64_t i = 0; i < n; ++i) {
        if (i + kAhead < n)
            for (int c = 0; c < 8; ++c) {
                const int32_t link = cells[i + kAhead].link[c];
                if (static_cast<uint32_t>(link - first) < span)
                    for (int channel = 0; channel < channel_count; channel += 16)
                        __builtin_prefetch(
                            out + static_cast<int64_t>(link) * channel_count + channel, 1);
            }
        const Cell& cell = cells[i];
        float w[8];
        corner_weights(cell.f[0], cell.f[1], cell.f[2], w);
        const float* g = grad + i * channel_count;
        for (int r = 0; r < 8; ++r) {
            // One comparison: an empty node is far outside as an unsigned number.
            if (static_cast<uint32_t>(cell.link[r] - first) >= span) continue;
            float* row = out + static_cast<int64_t>(cell.link[r]) * channel_count;
            channels(
                0, channel_count, LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    add<T>(row + c, load<T>(g + c) * w[r]);
                });
        }
    }
}

CLONED void slopes(const Grid& grid, const float* RESTRICT values, int64_t stride,
                   int channel_count, const float* RESTRICT x, const float* RESTRICT grad,
                   float* RESTRICT grad_x, int64_t begin, int64_t end) {
    Cell cells[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
        const int count = static_cast<int>(std::min<int64_t>(kBlock, end - at));
        find_block(grid, x, at, count, end, values, stride, channel_count, cells);
        for (int i = 0; i < count; ++i) {
            const Cell& cell = cells[i];
            const float* g = grad + (at + i) * channel_count;
            float s[8] = {}, d[3];
            for (int r = 0; r < 8; ++r) {
                if (cell.link[r] < 0) continue;
                const float* row = values + cell.link[r] * stride;
                channels(
                    0, channel_count, LANES_BODY(tag, c) {
                        using T = LANES_TYPE(tag);
                        s[r] += sum(load<T>(row + c) * load<T>(g + c));
                    });
            }
            corner_slopes(cell.f[0], cell.f[1], cell.f[2], s, d);
            for (int a = 0; a < 3; ++a) {
                const float u = x[3 * (at + i) + a];
                const bool clamped = u < 0.0f || u > static_cast<float>(grid.sizes[a] - 1);
                grad_x[3 * (at + i) + a] = clamped ? 0.0f : d[a];
            }
        }
    }
}

}  // namespace

// values: rows of `stride` floats, of which the first `channel_count` are read.  out:
// [n][channels].
API void gd_voxel_forward(const Grid* grid, const float* values, int64_t stride, int channel_count,
                          const float* x, int64_t n, float* out, int threads) {
    large_pages(out, n * channel_count);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        interpolate(*grid, values, stride, channel_count, x, out, begin, end);
    });
}

// out: [rows][channels], overwritten.
API void gd_voxel_backward(const Grid* grid, int channel_count, const float* x, int64_t n,
                           const float* grad, float* out, int threads) {
    const int64_t rows = grid->rows;
    large_pages(out, rows * channel_count);
    const auto cells = scratch<Cell>(n);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        find_all(*grid, x, cells.get(), begin, end);
    });
    // Some parts more than threads: the points rarely spread evenly over the rows.
    const int parts = threads > 1 ? 2 * threads : 1;
    parallel(parts, threads, [&](int64_t part) {
        const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
        std::fill(out + first * channel_count, out + last * channel_count, 0.0f);
        scatter_rows(cells.get(), n, channel_count, grad, out, static_cast<int32_t>(first),
                     static_cast<int32_t>(last));
    });
}

API void gd_voxel_backward_x(const Grid* grid, const float* values, int64_t stride,
                             int channel_count, const float* x, int64_t n, const float* grad,
                             float* grad_x, int threads) {
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        slopes(*grid, values, stride, channel_count, x, grad, grad_x, begin, end);
    });
}

}  // namespace geodistill
