// What the passes over splats share: the view with its plan, and the weights of one tile.
#pragma once

#include "vector.h"

namespace geodistill {

constexpr int kTile = 16;  // pixels a side
constexpr int kPixels = kTile * kTile;
constexpr int kGroup = 16;             // splats whose weights are in the cache at a time
constexpr int kRow = kPixels + 2 * kLanes;  // rows of weights do not share their cache sets

constexpr float kMaxAlpha = 0.99f;
constexpr float kMinAlpha = 1.0f / 255.0f;
constexpr float kStop = 1e-4f;

struct View {
    const float *means, *conics, *opacities;  // [count][2], [count][3], [count]
    const float* extents;                     // [count][2]
    const int64_t* offsets;                   // [tiles + 1]
    const int32_t* elements;                  // [offsets[tiles]], front to back in each tile
    int64_t count, height, width;

    int64_t tiles_x() const { return (width + kTile - 1) / kTile; }
    int64_t tiles_y() const { return (height + kTile - 1) / kTile; }
    int64_t tiles() const { return tiles_x() * tiles_y(); }
};

// A splat as a tile sees it: coordinates count from the tile's first pixel centre.
struct Local {
    float x, y, half_a, b, half_c, opacity;
    int row_begin, row_end, column_begin, column_end;  // columns in whole vectors

    INLINE v8 dx(int column) const {
        return v8{0, 1, 2, 3, 4, 5, 6, 7} + (static_cast<float>(column) - x);
    }
    // -power of the Gaussian.
    INLINE v8 form(v8 dx, float dy) const { return (half_a * dx + b * dy) * dx + half_c * dy * dy; }
};

// Calls body(row, column, at) for the vectors of pixels that the splat can reach.
template <class Body>
INLINE void pixels_of(const Local& s, const Body& body) {
    for (int row = s.row_begin; row < s.row_end; ++row)
        for (int column = s.column_begin; column < s.column_end; column += kLanes)
            body(row, column, row * kTile + column);
}

// One tile, composited group after group. Bit g of hits[p]: splat g of the group is seen by pixel p.
struct Tile {
    alignas(64) float light[kPixels];  // what still passes; 0 where a pixel has ended
    alignas(64) uint32_t hits[kPixels];
    alignas(64) float weights[kGroup * kRow];
    alignas(64) float alphas[kGroup * kRow];
    Local splats[kGroup];
    int count;                  // of splats in the group
    int64_t left, top;          // of the tile in the image
    int columns, rows;          // inside of the image
    const int32_t* elements;    // of the group
    const int32_t* last;

    INLINE void begin(const View& view, int64_t tile) {
        left = tile % view.tiles_x() * kTile, top = tile / view.tiles_x() * kTile;
        columns = static_cast<int>(std::min<int64_t>(kTile, view.width - left));
        rows = static_cast<int>(std::min<int64_t>(kTile, view.height - top));
        elements = view.elements + view.offsets[tile], last = view.elements + view.offsets[tile + 1];
        count = 0;
        for (int p = 0; p < kPixels; ++p)
            light[p] = p / kTile < rows && p % kTile < columns ? 1.0f : 0.0f;
    }

    // Image pixel of the first pixel in a row of the tile.
    INLINE int64_t pixel(const View& view, int row) const { return (top + row) * view.width + left; }

    INLINE bool dark() const {
        v8 most = {};
        for (int p = 0; p < kPixels; p += kLanes) most = larger(most, load<v8>(light + p));
        return !(largest(most) > 0.0f);
    }

    INLINE void place(const View& view, Local& s, int64_t element) const {
        const float* conic = view.conics + 3 * element;
        s.x = view.means[2 * element] - (static_cast<float>(left) + 0.5f);
        s.y = view.means[2 * element + 1] - (static_cast<float>(top) + 0.5f);
        s.half_a = 0.5f * conic[0], s.b = conic[1], s.half_c = 0.5f * conic[2];
        s.opacity = view.opacities[element];
        const float w = view.extents[2 * element], h = view.extents[2 * element + 1];
        const auto clip = [](float v, int most) __attribute__((always_inline)) {
            return static_cast<int>(std::min(std::max(v, 0.0f), static_cast<float>(most)));
        };
        s.row_begin = clip(std::ceil(s.y - h), rows), s.row_end = clip(s.y + h + 1.0f, rows);
        s.column_begin = clip(std::ceil(s.x - w), kTile) / kLanes * kLanes;
        s.column_end = clip(s.x + w + 1.0f, kTile);
    }

    // Takes the next group and composites it; false where no light or no splat is left. `sums`
    // [kPixels] collects the weights, or is null. `alphas` are kept where asked for.
    INLINE bool next(const View& view, float* sums, bool keep_alphas) {
        elements += count;
        count = static_cast<int>(std::min<int64_t>(kGroup, last - elements));
        if (count == 0 || dark()) return false;
        std::memset(hits, 0, sizeof(hits));
        for (int g = 0; g < count; ++g) {
            Local& s = splats[g];
            place(view, s, elements[g]);
            float* w_row = weights + g * kRow;
            float* a_row = alphas + g * kRow;
            const v8i bit = v8i{} + (1 << g);
            pixels_of(s, [&](int row, int column, int at) __attribute__((always_inline)) {
                const v8 q = s.form(s.dx(column), static_cast<float>(row) - s.y);
                const v8 full = s.opacity * exp_negative(larger(q, v8{}));
                const v8 alpha = full > kMaxAlpha ? v8{} + kMaxAlpha : full;
                const v8 before = load<v8>(light + at);
                const v8 w = before * alpha;
                const v8 after = before - w;
                const v8i drawn = alpha >= kMinAlpha;
                const v8i seen = drawn & (after >= kStop);
                const v8 weight = (v8)((v8i)w & seen);
                // A pixel ends in front of the splat that would take its light below the limit.
                store(light + at, (v8)((v8i)(seen ? after : before) & (seen | ~drawn)));
                store(w_row + at, weight);
                if (keep_alphas) store(a_row + at, alpha);
                if (sums) add(sums + at, weight);
                int32_t* hit = reinterpret_cast<int32_t*>(hits) + at;
                v8i bits;
                std::memcpy(&bits, hit, sizeof(bits));
                bits |= seen & bit;
                std::memcpy(hit, &bits, sizeof(bits));
            });
        }
        return true;
    }
};

// Channels in blocks that fit the registers: calls body(Block<V, B>, c), B vectors of type V.
template <class V, int B>
struct Block {
    using Vector = V;
    static constexpr int kCount = B, kWidth = sizeof(V) / sizeof(float);
};

// Channels are stored padded to whole vectors of four.
INLINE int64_t padded(int64_t channel_count) { return (channel_count + 3) / 4 * 4; }

template <class Body>
INLINE void blocks(int64_t stride, const Body& body) {
    int64_t c = 0;
    for (; c + 64 <= stride; c += 64) body(Block<v8, 8>{}, c);
    if (c + 32 <= stride) body(Block<v8, 4>{}, c), c += 32;
    if (c + 16 <= stride) body(Block<v8, 2>{}, c), c += 16;
    if (c + 8 <= stride) body(Block<v8, 1>{}, c), c += 8;
    if (c + 4 <= stride) body(Block<v4, 1>{}, c);
}

#define BLOCK_BODY(block, c) [&](auto block, int64_t c) __attribute__((always_inline))

// Rows [count][channels] of `from` at the elements -> `to` [count][stride], the padding zero.
INLINE void gather_rows(const float* RESTRICT from, const int32_t* elements, int count,
                        int64_t channel_count, int64_t stride, float* RESTRICT to) {
    for (int g = 0; g < count; ++g) {
        const float* row = from + elements[g] * channel_count;
        std::copy_n(row, channel_count, to + g * stride);
        std::fill(to + g * stride + channel_count, to + (g + 1) * stride, 0.0f);
    }
}

}  // namespace geodistill
