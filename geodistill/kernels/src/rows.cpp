// Weighted sums of rows by index, and their adjoint: what a footprint with K elements a pixel is.
#include <type_traits>

#include "vector.h"

namespace geodistill {
namespace {

constexpr int64_t kGrain = 1024;
constexpr int64_t kAhead = 16;
constexpr int kOwned = 10;  // log2 of the elements that one thread owns in a row

// Indices outside of [0, count) stand for nothing.
INLINE bool within(int32_t index, int64_t count) { return index >= 0 && index < count; }

INLINE void ask(const float* row, int channel_count) {
    for (int c = 0; c < channel_count; c += 16) PREFETCH(row + c);
}

struct Table {
    const int32_t* index;  // [pixels][width]
    const float* weights;  // [pixels][width], or null: all are 1
    int64_t pixels, width;

    INLINE float weight(int64_t at) const { return weights ? weights[at] : 1.0f; }
};

// Asks for the row that is needed kAhead entries later.
template <class Read>
INLINE void ask_ahead(const Table& table, int64_t at, int64_t end, int64_t elements, int channels,
                      const Read& row_of) {
    if (at + kAhead >= end) return;
    const int32_t next = table.index[at + kAhead];
    if (within(next, elements)) ask(row_of(next), channels);
}

INLINE void gather_one(const float* RESTRICT features, int64_t elements, const Table& table,
                       float* RESTRICT out, int64_t begin, int64_t end) {
    for (int64_t p = begin, at = begin * table.width; p < end; ++p) {
        float total = 0.0f;
        for (int64_t k = 0; k < table.width; ++k, ++at)
            if (within(table.index[at], elements))
                total += table.weight(at) * features[table.index[at]];
        out[p] = total;
    }
}

// out[p] = sum over k of weights[p][k] features[index[p][k]].
CLONED void gather(const float* RESTRICT features, int64_t elements, int channel_count,
                   const Table& table, float* RESTRICT out, int64_t begin, int64_t end) {
    if (channel_count == 1) return gather_one(features, elements, table, out, begin, end);
    for (int64_t p = begin; p < end; ++p) {
        float* to = out + p * channel_count;
        bool first = true;
        for (int64_t at = p * table.width; at < (p + 1) * table.width; ++at) {
            ask_ahead(table, at, end * table.width, elements, channel_count,
                      [&](int64_t row) { return features + row * channel_count; });
            if (!within(table.index[at], elements)) continue;
            const float* from = features + int64_t{table.index[at]} * channel_count;
            const float w = table.weight(at);
            channels(
                0, channel_count, LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    const T term = load<T>(from + c) * w;
                    store<T>(to + c, first ? term : load<T>(to + c) + term);
                });
            first = false;
        }
        if (first) std::fill(to, to + channel_count, 0.0f);
    }
}

// out[index[p][k]] += weights[p][k] pixels[p], for the elements that `owner` of `owners` has: a run
// of neighbours each. Every element gets its terms in the order of the pixels.
CLONED void scatter(const float* RESTRICT pixels, int channel_count, const Table& table,
                    float* RESTRICT out, int64_t elements, int64_t owner, int64_t owners) {
    const int64_t run = int64_t{1} << kOwned;
    for (int64_t at = owner * run; at < elements; at += owners * run)
        std::memset(out + at * channel_count, 0,
                    std::min(run, elements - at) * channel_count * sizeof(float));
    const int64_t end = table.pixels * table.width;
    for (int64_t p = 0, at = 0; p < table.pixels; ++p) {
        const float* from = pixels + p * channel_count;
        for (int64_t k = 0; k < table.width; ++k, ++at) {
            const int32_t index = table.index[at];
            if (!within(index, elements)) continue;
            if (owners > 1 && (index >> kOwned) % owners != owner) continue;
            ask_ahead(table, at, end, elements, channel_count,
                      [&](int64_t row) { return out + row * channel_count; });
            float* to = out + int64_t{index} * channel_count;
            const float w = table.weight(at);
            channels(
                0, channel_count,
                LANES_BODY(tag, c) { add<LANES_TYPE(tag)>(to + c, load<LANES_TYPE(tag)>(from + c) * w); });
        }
    }
}

// out[p][k] = pixels[p] . features[index[p][k]].
CLONED void products(const float* RESTRICT features, int64_t elements, int channel_count,
                     const float* RESTRICT pixels, const Table& table, float* RESTRICT out,
                     int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
        const float* a = pixels + p * channel_count;
        for (int64_t at = p * table.width; at < (p + 1) * table.width; ++at) {
            ask_ahead(table, at, end * table.width, elements, channel_count,
                      [&](int64_t row) { return features + row * channel_count; });
            float total = 0.0f;
            if (within(table.index[at], elements)) {
                const float* b = features + int64_t{table.index[at]} * channel_count;
                v8 wide = {};
                int c = 0;
                for (; c + kLanes <= channel_count; c += kLanes)
                    wide += load<v8>(a + c) * load<v8>(b + c);
                total = sum(wide);
                for (; c < channel_count; ++c) total += a[c] * b[c];
            }
            out[at] = total;
        }
    }
}

}  // namespace

// features: [elements][channels].  index, weights: [pixels][width].  out: [pixels][channels].
API void gd_gather(const float* features, int64_t elements, int64_t channels,
                   const int32_t* index, const float* weights, int64_t pixels, int64_t width,
                   float* out, int threads) {
    const Table table = {index, weights, pixels, width};
    large_pages(out, pixels * channels);
    parallel_ranges(pixels, kGrain, threads, [&](int64_t begin, int64_t end) {
        gather(features, elements, static_cast<int>(channels), table, out, begin, end);
    });
}

// pixels: [pixel_count][channels].  weights: or null, all 1.  out: [elements][channels].
API void gd_scatter(const float* pixels, int64_t channels, const int32_t* index,
                    const float* weights, int64_t pixel_count, int64_t width, float* out,
                    int64_t elements, int threads) {
    const Table table = {index, weights, pixel_count, width};
    large_pages(out, elements * channels);
    const int64_t runs = (elements + (int64_t{1} << kOwned) - 1) >> kOwned;
    const int64_t owners = std::max<int64_t>(1, std::min<int64_t>(threads, runs));
    parallel(owners, threads, [&](int64_t owner) {
        scatter(pixels, static_cast<int>(channels), table, out, elements, owner, owners);
    });
}

// pixels: [pixel_count][channels].  features: [elements][channels].  out: [pixel_count][width].
API void gd_row_products(const float* features, int64_t elements, int64_t channels,
                         const float* pixels, const int32_t* index, int64_t pixel_count,
                         int64_t width, float* out, int threads) {
    const Table table = {index, nullptr, pixel_count, width};
    parallel_ranges(pixel_count, kGrain, threads, [&](int64_t begin, int64_t end) {
        products(features, elements, static_cast<int>(channels), pixels, table, out, begin, end);
    });
}

}  // namespace geodistill
