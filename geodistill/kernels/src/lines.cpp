// Products of three line samples (CP), channels stored last.
#include <type_traits>

#include "place.h"
#include "vector.h"

namespace geodistill {
namespace {

constexpr int kAxes[3] = {2, 1, 0};  // the axis of line k
constexpr int64_t kGrain = 256;
constexpr int kGroup = 48;

}  // namespace

struct Line {
    const float* nodes;  // [length][channels]
    int32_t length;
};

namespace {

struct Ends {
    const float *l0, *l1;
    float w0, w1;
};

INLINE Ends ends(const Line& line, int channel_count, const Place& at) {
    const float* l0 = line.nodes + at.low * channel_count;
    return {l0, l0 + at.next * channel_count, 1.0f - at.f, at.f};
}

template <class T>
INLINE T sample(const Ends& e, int c) {
    return load<T>(e.l0 + c) * e.w0 + load<T>(e.l1 + c) * e.w1;
}

CLONED void multiply(const Line* lines, int channel_count, const float* RESTRICT x,
                     float* RESTRICT out, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        Ends e[3];
        for (int k = 0; k < 3; ++k)
            e[k] = ends(lines[k], channel_count, place(x[3 * i + kAxes[k]], lines[k].length));
        channels(
            0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                store<T>(out + i * channel_count + c,
                         sample<T>(e[0], c) * sample<T>(e[1], c) * sample<T>(e[2], c));
            });
    }
}

// Gradient of the channels [from, to): nobody else writes these columns.
CLONED void scatter_channels(const Line* lines, float* const* out, int channel_count,
                             const Place* RESTRICT places, int64_t n, const float* RESTRICT grad,
                             int from, int to) {
    for (int k = 0; k < 3; ++k)
        for (int64_t row = 0; row < lines[k].length; ++row)
            std::fill(out[k] + row * channel_count + from, out[k] + row * channel_count + to, 0.0f);
    for (int64_t i = 0; i < n; ++i) {
        Ends e[3];
        float *m0[3], *m1[3];
        for (int k = 0; k < 3; ++k) {
            const Place& at = places[3 * i + k];
            e[k] = ends(lines[k], channel_count, at);
            m0[k] = out[k] + at.low * channel_count;
            m1[k] = m0[k] + at.next * channel_count;
        }
        const float* g = grad + i * channel_count;
        channels(
            from, to, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T gc = load<T>(g + c);
                const T s0 = sample<T>(e[0], c), s1 = sample<T>(e[1], c), s2 = sample<T>(e[2], c);
                const T d0 = gc * s1 * s2, d1 = gc * s0 * s2, d2 = gc * s0 * s1;
                add<T>(m0[0] + c, d0 * e[0].w0);
                add<T>(m1[0] + c, d0 * e[0].w1);
                add<T>(m0[1] + c, d1 * e[1].w0);
                add<T>(m1[1] + c, d1 * e[1].w1);
                add<T>(m0[2] + c, d2 * e[2].w0);
                add<T>(m1[2] + c, d2 * e[2].w1);
            });
    }
}

CLONED void slopes(const Line* lines, int channel_count, const float* RESTRICT x,
                   const float* RESTRICT grad, float* RESTRICT grad_x, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        Ends e[3];
        for (int k = 0; k < 3; ++k)
            e[k] = ends(lines[k], channel_count, place(x[3 * i + kAxes[k]], lines[k].length));
        float d[3] = {};
        channels(
            0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T gc = load<T>(grad + i * channel_count + c);
                const T s0 = sample<T>(e[0], c), s1 = sample<T>(e[1], c), s2 = sample<T>(e[2], c);
                d[0] += sum(gc * s1 * s2 * (load<T>(e[0].l1 + c) - load<T>(e[0].l0 + c)));
                d[1] += sum(gc * s0 * s2 * (load<T>(e[1].l1 + c) - load<T>(e[1].l0 + c)));
                d[2] += sum(gc * s0 * s1 * (load<T>(e[2].l1 + c) - load<T>(e[2].l0 + c)));
            });
        for (int k = 0; k < 3; ++k) {
            const float u = x[3 * i + kAxes[k]];
            const float scale = u < -1.0f || u > 1.0f ? 0.0f : 0.5f * (lines[k].length - 1);
            grad_x[3 * i + kAxes[k]] = scale * d[k];
        }
    }
}

}  // namespace

// x: [n][3].  lines: 3.  out: [n][channels].
API void gd_line_product_forward(const Line* lines, int channel_count, const float* x, int64_t n,
                                 float* out, int threads) {
    large_pages(out, n * channel_count);
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        multiply(lines, channel_count, x, out, begin, end);
    });
}

// The gradients (3 pointers) are overwritten.
API void gd_line_product_backward(const Line* lines, float* const* out, int channel_count,
                                  const float* x, int64_t n, const float* grad, int threads) {
    const auto places = scratch<Place>(3 * n);
    parallel_ranges(n, 4096, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            for (int k = 0; k < 3; ++k)
                places[3 * i + k] = place(x[3 * i + kAxes[k]], lines[k].length);
    });
    parallel((channel_count + kGroup - 1) / kGroup, threads, [&](int64_t group) {
        const int from = static_cast<int>(group) * kGroup;
        scatter_channels(lines, out, channel_count, places.get(), n, grad, from,
                         std::min(from + kGroup, channel_count));
    });
}

API void gd_line_product_backward_x(const Line* lines, int channel_count, const float* x, int64_t n,
                                    const float* grad, float* grad_x, int threads) {
    parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        slopes(lines, channel_count, x, grad, grad_x, begin, end);
    });
}

}  // namespace geodistill
