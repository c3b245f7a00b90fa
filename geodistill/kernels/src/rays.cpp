// Compositing: weights of the samples of each ray, and weighted sums over them.
#include <type_traits>

#include "vector.h"

namespace geodistill {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kGrain = 4096;

// Rays cut into ranges of about equally many samples.
template <class Body>
void parallel_rays(const int64_t* offsets, int64_t n, int threads, const Body& body) {
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, offsets[n] / kGrain));
    const auto first = [&](int64_t part) {
        if (part == 0) return int64_t{0};
        if (part == parts) return n;
        const int64_t wanted = offsets[n] * part / parts;
        return static_cast<int64_t>(std::lower_bound(offsets, offsets + n, wanted) - offsets);
    };
    parallel(parts, threads, [&](int64_t part) { body(first(part), first(part + 1)); });
}

// before[i] = depth + tau[0] + .. + tau[i - 1]; returns the depth behind all. Sums are grouped by four,
// which shortens the chain of additions; groups start with the ray, so `count` must be a multiple of
// four unless the ray ends there.
INLINE float accumulate(const float* RESTRICT tau, float* RESTRICT before, int count, float depth) {
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        const float two = tau[i] + tau[i + 1];
        before[i] = depth;
        before[i + 1] = depth + tau[i];
        before[i + 2] = depth + two;
        before[i + 3] = depth + (two + tau[i + 2]);
        depth += two + (tau[i + 2] + tau[i + 3]);
    }
    for (; i < count; ++i) before[i] = depth, depth += tau[i];
    return depth;
}

// Where the block of samples that starts at `at` in `ray` may end.
INLINE int64_t block_end(const int64_t* offsets, int64_t ray, int64_t at, int64_t end) {
    const int64_t limit = at + kBlock;
    if (limit >= offsets[end]) return offsets[end];
    while (offsets[ray + 1] <= limit) ++ray;
    return limit - (limit - std::max(offsets[ray], at)) % 4;
}

// Sums along the rays, then everything else for a block of samples at once, whatever their rays.
CLONED void weigh(const float* RESTRICT sigma, const float* RESTRICT dt, const int64_t* RESTRICT offsets,
                  float* RESTRICT weights, float* RESTRICT after, int64_t begin, int64_t end) {
    alignas(64) float tau[kBlock] = {}, before[kBlock] = {}, w[kBlock], rest[kBlock];
    int64_t ray = begin;
    float depth = 0.0f;
    for (int64_t at = offsets[begin]; at < offsets[end];) {
        const int count = static_cast<int>(block_end(offsets, ray, at, end) - at);
        for (int i = 0; i < count; ++i) tau[i] = sigma[at + i] * dt[at + i];
        for (int i = 0; i < count;) {
            while (offsets[ray + 1] <= at + i) ++ray, depth = 0.0f;
            const int run = static_cast<int>(std::min<int64_t>(count, offsets[ray + 1] - at)) - i;
            depth = accumulate(tau + i, before + i, run, depth);
            i += run;
        }
        for (int i = 0; i < count; i += 16) {
            const v16 transmitted = expm1_negative(load<v16>(before + i)) + 1.0f;
            const v16 kept = expm1_negative(load<v16>(tau + i));
            store(w + i, -(transmitted * kept));
            store(rest + i, transmitted * (kept + 1.0f));
        }
        std::memcpy(weights + at, w, count * sizeof(float));
        std::memcpy(after + at, rest, count * sizeof(float));
        at += count;
    }
}

// d loss / d tau_i = g_i T_{i+1} - sum over j > i of g_j w_j.
INLINE void depth_gradient(const float* RESTRICT weights, const float* RESTRICT after,
                           const float* RESTRICT grad, float* RESTRICT out, int64_t first,
                           int64_t last) {
    float behind = 0.0f;
    int64_t i = last;
    for (; i - 4 >= first; i -= 4) {
        const float p0 = grad[i - 4] * weights[i - 4], p1 = grad[i - 3] * weights[i - 3];
        const float p2 = grad[i - 2] * weights[i - 2], p3 = grad[i - 1] * weights[i - 1];
        const float two = p3 + p2;
        out[i - 1] = grad[i - 1] * after[i - 1] - behind;
        out[i - 2] = grad[i - 2] * after[i - 2] - (behind + p3);
        out[i - 3] = grad[i - 3] * after[i - 3] - (behind + two);
        out[i - 4] = grad[i - 4] * after[i - 4] - (behind + (two + p1));
        behind += two + (p1 + p0);
    }
    for (; i > first; --i) {
        out[i - 1] = grad[i - 1] * after[i - 1] - behind;
        behind += grad[i - 1] * weights[i - 1];
    }
}

// The gradients may be null. grad_sigma and grad_dt serve as room for the gradient by depth.
CLONED void weigh_back(const float* RESTRICT sigma, const float* RESTRICT dt,
                       const int64_t* RESTRICT offsets, const float* RESTRICT weights,
                       const float* RESTRICT after, const float* RESTRICT grad,
                       float* RESTRICT grad_sigma, float* RESTRICT grad_dt, int64_t begin,
                       int64_t end) {
    float* room = grad_sigma ? grad_sigma : grad_dt;
    for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t first = offsets[ray], last = offsets[ray + 1];
        depth_gradient(weights, after, grad, room, first, last);
        if (grad_dt)
            for (int64_t i = first; i < last; ++i) grad_dt[i] = room[i] * sigma[i];
        if (grad_sigma)
            for (int64_t i = first; i < last; ++i) grad_sigma[i] *= dt[i];
    }
}

template <int C>
INLINE void sum_few(const float* RESTRICT weights, const float* RESTRICT values,
                    const int64_t* RESTRICT offsets, float* RESTRICT out, int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        float even[C] = {}, odd[C] = {};
        int64_t i = offsets[ray];
        for (; i + 2 <= offsets[ray + 1]; i += 2)
            for (int c = 0; c < C; ++c) {
                even[c] += weights[i] * values[i * C + c];
                odd[c] += weights[i + 1] * values[i * C + C + c];
            }
        if (i < offsets[ray + 1])
            for (int c = 0; c < C; ++c) even[c] += weights[i] * values[i * C + c];
        for (int c = 0; c < C; ++c) out[ray * C + c] = even[c] + odd[c];
    }
}

CLONED void sum_rays(const float* RESTRICT weights, const float* RESTRICT values, int channel_count,
                     const int64_t* RESTRICT offsets, float* RESTRICT out, int64_t begin, int64_t end) {
    if (channel_count == 1) return sum_few<1>(weights, values, offsets, out, begin, end);
    if (channel_count == 2) return sum_few<2>(weights, values, offsets, out, begin, end);
    if (channel_count == 3) return sum_few<3>(weights, values, offsets, out, begin, end);
    if (channel_count == 4) return sum_few<4>(weights, values, offsets, out, begin, end);
    for (int64_t ray = begin; ray < end; ++ray) {
        float* row = out + ray * channel_count;
        std::fill(row, row + channel_count, 0.0f);
        for (int64_t i = offsets[ray]; i < offsets[ray + 1]; ++i)
            channels(0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                add<T>(row + c, load<T>(values + i * channel_count + c) * weights[i]);
            });
    }
}

template <int C>
INLINE void spread_few(const float* RESTRICT weights, const float* RESTRICT values,
                       const int64_t* RESTRICT offsets, const float* RESTRICT grad,
                       float* RESTRICT grad_weights, float* RESTRICT grad_values, int64_t begin,
                       int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        float g[C];
        for (int c = 0; c < C; ++c) g[c] = grad[ray * C + c];
        const int64_t first = offsets[ray], last = offsets[ray + 1];
        if (grad_weights)
            for (int64_t i = first; i < last; ++i) {
                float total = 0.0f;
                for (int c = 0; c < C; ++c) total += values[i * C + c] * g[c];
                grad_weights[i] = total;
            }
        if (grad_values)
            for (int64_t i = first; i < last; ++i)
                for (int c = 0; c < C; ++c) grad_values[i * C + c] = weights[i] * g[c];
    }
}

// The gradients may be null.
CLONED void spread(const float* RESTRICT weights, const float* RESTRICT values, int channel_count,
                   const int64_t* RESTRICT offsets, const float* RESTRICT grad,
                   float* RESTRICT grad_weights, float* RESTRICT grad_values, int64_t begin,
                   int64_t end) {
    if (channel_count == 1)
        return spread_few<1>(weights, values, offsets, grad, grad_weights, grad_values, begin, end);
    if (channel_count == 3)
        return spread_few<3>(weights, values, offsets, grad, grad_weights, grad_values, begin, end);
    for (int64_t ray = begin; ray < end; ++ray) {
        const float* g = grad + ray * channel_count;
        for (int64_t i = offsets[ray]; i < offsets[ray + 1]; ++i) {
            float total = 0.0f;
            channels(0, channel_count, LANES_BODY(tag, c) {
                using T = LANES_TYPE(tag);
                const T gc = load<T>(g + c);
                if (grad_weights) total += sum(load<T>(values + i * channel_count + c) * gc);
                if (grad_values) store<T>(grad_values + i * channel_count + c, gc * weights[i]);
            });
            if (grad_weights) grad_weights[i] = total;
        }
    }
}

}  // namespace

// The first of `count` offsets that does not continue a sequence from 0 upwards, or -1.
API int64_t gd_bad_offset(const int64_t* offsets, int64_t count, int) {
    int64_t previous = 0;
    for (int64_t i = 0; i < count; previous = offsets[i++])
        if (i == 0 ? offsets[i] != 0 : offsets[i] < previous) return i;
    return -1;
}

// offsets: [n + 1].  weights, after: [offsets[n]]; `after` is the transmittance behind each sample.
API void gd_ray_weights_forward(const float* sigma, const float* dt, const int64_t* offsets, int64_t n,
                                float* weights, float* after, int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        weigh(sigma, dt, offsets, weights, after, begin, end);
    });
}

// grad_sigma, grad_dt: written where not null.
API void gd_ray_weights_backward(const float* sigma, const float* dt, const int64_t* offsets, int64_t n,
                                 const float* weights, const float* after, const float* grad,
                                 float* grad_sigma, float* grad_dt, int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        weigh_back(sigma, dt, offsets, weights, after, grad, grad_sigma, grad_dt, begin, end);
    });
}

API void gd_segment_sum_forward(const float* weights, const float* values, int channel_count,
                                const int64_t* offsets, int64_t n, float* out, int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        sum_rays(weights, values, channel_count, offsets, out, begin, end);
    });
}

API void gd_segment_sum_backward(const float* weights, const float* values, int channel_count,
                                 const int64_t* offsets, int64_t n, const float* grad,
                                 float* grad_weights, float* grad_values, int threads) {
    if (grad_values) large_pages(grad_values, offsets[n] * channel_count);
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        spread(weights, values, channel_count, offsets, grad, grad_weights, grad_values, begin, end);
    });
}

}  // namespace geodistill
