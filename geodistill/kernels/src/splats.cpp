// Screen-space Gaussians composited front to back, with any number of channels.
#include "splats.h"

namespace geodistill {
namespace {

constexpr int64_t kTilesPerItem = 4;
// Of gradient rows a thread leaves about as many as stay in the cache, and at least some tiles'.
constexpr int64_t kRowBytes = int64_t{1} << 20;
constexpr int64_t kTilesPerThread = 4;
constexpr int kMoments = 6;

// acc[p] += weights of the group's splats * their features, for the channels of one block.
template <class V, int B>
INLINE void mix(const Tile& tile, const float* RESTRICT features, int64_t stride,
                float* RESTRICT acc) {
    constexpr int kWidth = sizeof(V) / sizeof(float);
    for (int p = 0; p < kPixels; ++p) {
        uint32_t hits = tile.hits[p];
        if (!hits) continue;
        V sum[B];
        for (int b = 0; b < B; ++b) sum[b] = load<V>(acc + p * stride + b * kWidth);
        for (; hits; hits &= hits - 1) {
            const int g = __builtin_ctz(hits);
            const float w = tile.weights[g * kRow + p];
            for (int b = 0; b < B; ++b)
                sum[b] += load<V>(features + g * stride + b * kWidth) * w;
        }
        for (int b = 0; b < B; ++b) store(acc + p * stride + b * kWidth, sum[b]);
    }
}

// What a work item needs beside its tile.
struct Room {
    std::unique_ptr<Tile> tile{new Tile};
    std::unique_ptr<float[]> pixels, group, slopes;

    explicit Room(int64_t stride)
        : pixels(new float[static_cast<size_t>(kPixels * stride)]),
          group(new float[static_cast<size_t>(kGroup * stride)]) {}
};

CLONED void render_tile(const View& view, int64_t index, const float* features,
                        int64_t channel_count, Room& room, float* out, float* opacity) {
    const int64_t stride = padded(channel_count);
    Tile& tile = *room.tile;
    alignas(64) float sums[kPixels] = {};
    float* acc = room.pixels.get();
    std::fill(acc, acc + kPixels * stride, 0.0f);
    tile.begin(view, index);
    while (tile.next(view, sums, false)) {
        gather_rows(features, tile.elements, tile.count, channel_count, stride, room.group.get());
        blocks(
            stride, BLOCK_BODY(block, c) {
                using Kind = decltype(block);
                mix<typename Kind::Vector, Kind::kCount>(tile, room.group.get() + c, stride,
                                                         acc + c);
            });
    }
    for (int row = 0; row < tile.rows; ++row) {
        const int64_t pixel = tile.pixel(view, row);
        std::memcpy(opacity + pixel, sums + row * kTile, tile.columns * sizeof(float));
        for (int column = 0; column < tile.columns; ++column)
            std::copy_n(acc + (row * kTile + column) * stride, channel_count,
                        out + (pixel + column) * channel_count);
    }
}

// For the channels of one block: rows[g] += weights * grad, slopes += features . grad. Either may
// be left out. slopes[g][p] is d loss / d weight.
template <class V, int B, bool kRows, bool kSlopes>
INLINE void spread(const Tile& tile, const float* RESTRICT features, int64_t stride,
                   const float* RESTRICT grad, float* RESTRICT rows, float* RESTRICT slopes) {
    constexpr int kWidth = sizeof(V) / sizeof(float);
    for (int p = 0; p < kPixels; ++p) {
        uint32_t hits = tile.hits[p];
        if (!hits) continue;
        V given[B];
        for (int b = 0; b < B; ++b) given[b] = load<V>(grad + p * stride + b * kWidth);
        for (; hits; hits &= hits - 1) {
            const int g = __builtin_ctz(hits);
            if (kSlopes) {
                V total = load<V>(features + g * stride) * given[0];
                for (int b = 1; b < B; ++b)
                    total += load<V>(features + g * stride + b * kWidth) * given[b];
                slopes[g * kRow + p] += sum(total);
            }
            if (kRows) {
                const float w = tile.weights[g * kRow + p];
                for (int b = 0; b < B; ++b)
                    add<V>(rows + g * stride + b * kWidth, given[b] * w);
            }
        }
    }
}

// Sums over the pixels of v, v dx, v dy, v dx^2, v dx dy, v dy^2 with v = d loss / d log alpha.
// The splats of the group come front to back; `behind` [kPixels] is the sum of weight * slope over
// all that is behind them.
INLINE void moments(const Tile& tile, const float* RESTRICT slopes, float* RESTRICT behind,
                    float* RESTRICT out) {
    for (int g = 0; g < tile.count; ++g) {
        const Local& s = tile.splats[g];
        v8 total[kMoments] = {};
        pixels_of(s, [&](int row, int column, int at) __attribute__((always_inline)) {
            const v8 w = load<v8>(tile.weights + g * kRow + at);
            const v8 alpha = load<v8>(tile.alphas + g * kRow + at);
            const v8i seen = w > 0.0f;
            const v8 light = (v8)((v8i)(w * load<v8>(slopes + g * kRow + at)) & seen);
            const v8 rest = load<v8>(behind + at) - light;
            store(behind + at, rest);
            const v8 all = light - rest * (alpha / (1.0f - alpha));
            // Where alpha is at its limit, it does not depend on the Gaussian.
            const v8 v = (v8)((v8i)all & (seen & (alpha < kMaxAlpha)));
            const v8 dx = s.dx(column);
            const float dy = static_cast<float>(row) - s.y;
            const v8 inner = (v8)((v8i)v & (s.form(dx, dy) >= 0.0f));
            const v8 vx = inner * dx, vy = inner * dy;
            total[0] += v;
            total[1] += vx, total[2] += vy;
            total[3] += vx * dx, total[4] += vx * dy, total[5] += vy * dy;
        });
        for (int m = 0; m < kMoments; ++m) out[g * kMoments + m] = sum(total[m]);
    }
}

// What flows back from the image. Pointers to what is not wanted or not there are null.
struct Back {
    const float *features, *out, *opacity;  // null: only grad_features is wanted
    const float *grad_out, *grad_opacity;
    float *grad_features, *moments;
    int64_t channel_count;
};

// Rows of the tile's splats, [their number][stride] and [their number][kMoments]. Returns how many
// there are: what is behind them is not seen.
template <bool kRows, bool kSlopes>
INLINE int64_t back_tile(const View& view, int64_t index, const Back& back, Room& room,
                         float* RESTRICT rows, float* RESTRICT moment_rows) {
    const int64_t channel_count = back.channel_count, stride = padded(channel_count);
    Tile& tile = *room.tile;
    alignas(64) float behind[kPixels] = {}, grad_opacity[kPixels] = {};
    float* grad = room.pixels.get();
    tile.begin(view, index);
    for (int row = 0; row < tile.rows; ++row)
        for (int column = 0; column < tile.columns; ++column) {
            const int64_t pixel = tile.pixel(view, row) + column;
            const int p = row * kTile + column;
            const float* given = back.grad_out + pixel * channel_count;
            std::copy_n(given, channel_count, grad + p * stride);
            std::fill(grad + p * stride + channel_count, grad + (p + 1) * stride, 0.0f);
            if (!kSlopes) continue;
            const float* seen = back.out + pixel * channel_count;
            float total = 0.0f;
            channels(
                0, static_cast<int>(channel_count), LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    total += sum(load<T>(seen + c) * load<T>(given + c));
                });
            grad_opacity[p] = back.grad_opacity[pixel];
            behind[p] = total + grad_opacity[p] * back.opacity[pixel];
        }
    int64_t count = 0;
    while (tile.next(view, nullptr, kSlopes)) {
        float* group_rows = rows + count * stride;
        if (kRows) std::fill(group_rows, group_rows + tile.count * stride, 0.0f);
        if (kSlopes) {
            gather_rows(back.features, tile.elements, tile.count, channel_count, stride,
                        room.group.get());
            for (int g = 0; g < tile.count; ++g)
                std::memcpy(room.slopes.get() + g * kRow, grad_opacity, sizeof(grad_opacity));
        }
        blocks(
            stride, BLOCK_BODY(block, c) {
                using Kind = decltype(block);
                spread<typename Kind::Vector, Kind::kCount, kRows, kSlopes>(
                    tile, room.group.get() + c, stride, grad + c, group_rows + c,
                    room.slopes.get());
            });
        if (kSlopes) moments(tile, room.slopes.get(), behind, moment_rows + count * kMoments);
        count += tile.count;
    }
    return count;
}

CLONED int64_t back_tile_of(const View& view, int64_t index, const Back& back, Room& room,
                            float* rows, float* moment_rows) {
    if (back.grad_features && back.moments)
        return back_tile<true, true>(view, index, back, room, rows, moment_rows);
    if (back.moments) return back_tile<false, true>(view, index, back, room, rows, moment_rows);
    return back_tile<true, false>(view, index, back, room, rows, moment_rows);
}

CLONED void add_row(float* RESTRICT out, const float* RESTRICT row, int64_t count) {
    for (int64_t c = 0; c < count; ++c) out[c] += row[c];
}

// Every tile makes a row for each of its splats, and every splat adds up its rows in the order of
// the tiles. Some tiles at a time, so that few rows are in memory; threads own splats, not tiles,
// when rows are added, so that no order depends on them.
void back_view(const View& view, const Back& back, int threads) {
    const int64_t tiles = view.tiles(), stride = padded(back.channel_count);
    const int64_t row_floats = (back.grad_features ? stride : 0) + (back.moments ? kMoments : 0);
    if (row_floats == 0) return;
    const int64_t most_rows =
        std::max<int64_t>(1, threads * kRowBytes / (row_floats * static_cast<int64_t>(sizeof(float))));
    std::unique_ptr<int64_t[]> lengths(new int64_t[static_cast<size_t>(tiles)]);
    int64_t owners = 1;
    while (owners * 2 <= threads) owners *= 2;
    std::unique_ptr<float[]> rows, moment_rows;
    int64_t room_for = 0;
    for (int64_t begin = 0, end; begin < tiles; begin = end) {
        for (end = begin + 1;
             end < tiles && (end - begin < threads * kTilesPerThread ||
                             view.offsets[end + 1] - view.offsets[begin] <= most_rows);)
            ++end;
        const int64_t count = view.offsets[end] - view.offsets[begin];
        if (count == 0) continue;
        if (count > room_for) {
            room_for = std::max(count, most_rows);
            if (back.grad_features) rows = scratch<float>(room_for * stride);
            if (back.moments) moment_rows = scratch<float>(room_for * kMoments);
        }
        const auto first = [&](int64_t tile) { return view.offsets[tile] - view.offsets[begin]; };
        parallel(end - begin, threads, [&](int64_t item) {
            const int64_t tile = begin + item;
            Room room(stride);
            if (back.moments) room.slopes.reset(new float[kGroup * kRow]);
            lengths[tile] =
                back_tile_of(view, tile, back, room, rows.get() + first(tile) * stride,
                             moment_rows.get() + first(tile) * kMoments);
        });
        parallel(owners, threads, [&](int64_t owner) {
            for (int64_t tile = begin; tile < end; ++tile)
                for (int64_t i = 0; i < lengths[tile]; ++i) {
                    const int64_t element = view.elements[view.offsets[tile] + i];
                    if (((element >> 4) & (owners - 1)) != owner) continue;
                    const int64_t row = first(tile) + i;
                    if (back.grad_features)
                        add_row(back.grad_features + element * back.channel_count,
                                rows.get() + row * stride, back.channel_count);
                    if (back.moments)
                        add_row(back.moments + element * kMoments,
                                moment_rows.get() + row * kMoments, kMoments);
                }
        });
    }
}

}  // namespace

// out: [height * width][channels].  opacity: [height * width].
API void gd_splat_forward(const View* view, const float* features, int64_t channel_count,
                          float* out, float* opacity, int threads) {
    const int64_t tiles = view->tiles();
    large_pages(out, view->height * view->width * channel_count);
    parallel((tiles + kTilesPerItem - 1) / kTilesPerItem, threads, [&](int64_t item) {
        Room room(padded(channel_count));
        const int64_t from = item * kTilesPerItem;
        for (int64_t tile = from; tile < std::min(from + kTilesPerItem, tiles); ++tile)
            render_tile(*view, tile, features, channel_count, room, out, opacity);
    });
}

// out: [count][channels], zero on entry.
API void gd_splat_adjoint(const View* view, const float* pixels, int64_t channel_count, float* out,
                          int threads) {
    Back back{};
    back.grad_out = pixels, back.grad_features = out, back.channel_count = channel_count;
    back_view(*view, back, threads);
}

// out, opacity: what the forward pass gave.  grad_features: [count][channels], zero on entry, or
// null.  grad_means, grad_conics, grad_opacities: all of them or none.
API void gd_splat_backward(const View* view, const float* features, int64_t channel_count,
                           const float* out, const float* opacity, const float* grad_out,
                           const float* grad_opacity, float* grad_features, float* grad_means,
                           float* grad_conics, float* grad_opacities, int threads) {
    Back back{features, out, opacity, grad_out, grad_opacity, grad_features, nullptr, channel_count};
    std::unique_ptr<float[]> sums;
    if (grad_means) {
        sums.reset(new float[static_cast<size_t>(view->count * kMoments)]());
        back.moments = sums.get();
    }
    back_view(*view, back, threads);
    if (!grad_means) return;
    parallel_ranges(view->count, 4096, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const float* m = back.moments + i * kMoments;
            const float* conic = view->conics + 3 * i;
            grad_means[2 * i] = conic[0] * m[1] + conic[1] * m[2];
            grad_means[2 * i + 1] = conic[1] * m[1] + conic[2] * m[2];
            grad_conics[3 * i] = -0.5f * m[3];
            grad_conics[3 * i + 1] = -m[4];
            grad_conics[3 * i + 2] = -0.5f * m[5];
            grad_opacities[i] = m[0] == 0.0f ? 0.0f : m[0] / view->opacities[i];
        }
    });
}

}  // namespace geodistill
