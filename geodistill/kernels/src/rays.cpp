// Compositing: weights of the samples of each ray, and weighted sums over them.
#include <type_traits>

#include "vector.h"

namespace geodistill {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kGrain = 4096;
constexpr int64_t kRun = 4096;
constexpr int64_t kAhead = 512;

// Asks for `count` floats at `memory`, to be read or written soon: kAhead samples ahead of their use,
// since the hardware does not read ahead across the end of a page.
INLINE void ask(const float* memory, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) PREFETCH(memory + i);
}

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

INLINE v4 first_lanes(v4 x, int count) {
    return (v4)((v4i)x & (v4i{0, 1, 2, 3} < v4i{} + count));
}

// before[i] = depth + tau[0] + .. + tau[i - 1]; returns the depth behind all. Sums are grouped by
// four, which shortens the chain of additions; groups start with the ray, so `count` must be a
// multiple of four unless the ray ends there. tau and before have room for four more.
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
    // No branch on how many are left: missing samples add nothing, and what is written for them the
    // next ray overwrites.
    const v4 rest = first_lanes(load<v4>(tau + i), count - i);
    before[i] = depth;
    before[i + 1] = depth += rest[0];
    before[i + 2] = depth += rest[1];
    return depth + rest[2];
}

// Where the block of samples that starts at `at` in `ray` may end.
INLINE int64_t block_end(const int64_t* offsets, int64_t ray, int64_t at, int64_t end) {
    const int64_t limit = at + kBlock;
    if (limit >= offsets[end]) return offsets[end];
    while (offsets[ray + 1] <= limit) ++ray;
    return limit - (limit - std::max(offsets[ray], at)) % 4;
}

// opacity[i] = 1 - exp(-depth[i]), in place.
INLINE void absorb(float* opacity, int64_t count) {
    for (int64_t at = 0; at < count; at += kLanes) {
        float room[kLanes] = {};
        const int lanes = static_cast<int>(std::min<int64_t>(kLanes, count - at));
        std::memcpy(room, opacity + at, lanes * sizeof(float));
        store(room, -expm1_negative(load<v8>(room)));
        std::memcpy(opacity + at, room, lanes * sizeof(float));
    }
}

// Sums along the rays, then everything else for a block of samples at once, whatever their rays.
CLONED void weigh(const float* RESTRICT sigma, const float* RESTRICT dt,
                  const int64_t* RESTRICT offsets, float* RESTRICT weights, float* RESTRICT opacity,
                  int64_t begin, int64_t end) {
    alignas(64) float tau[kBlock + kLanes] = {}, before[kBlock + kLanes] = {}, room[kLanes];
    int64_t ray = begin;
    float depth = 0.0f;
    std::fill(opacity + begin, opacity + end, 0.0f);
    for (int64_t at = offsets[begin]; at < offsets[end];) {
        const int count = static_cast<int>(block_end(offsets, ray, at, end) - at);
        for (int i = 0; i < count; ++i) tau[i] = sigma[at + i] * dt[at + i];
        v8 thickest = {};
        for (int i = 0; i < count; i += kLanes) thickest = larger(thickest, load<v8>(tau + i));
        const bool thin = largest(thickest) <= kSmall;
        for (int i = 0; i < count;) {
            while (offsets[ray + 1] <= at + i) ++ray, depth = 0.0f;
            const int run = static_cast<int>(std::min<int64_t>(count, offsets[ray + 1] - at)) - i;
            opacity[ray] = depth = accumulate(tau + i, before + i, run, depth);
            i += run;
        }
        for (int i = 0; i < count; i += kLanes) {
            const int64_t ahead = at + i + kAhead;
            ask(sigma + ahead, kLanes), ask(dt + ahead, kLanes), ask(weights + ahead, kLanes);
            const v8 x = load<v8>(tau + i);
            const v8 kept = thin ? expm1_small(-x) : expm1_negative(x);
            const v8 w = -(exp_negative(load<v8>(before + i)) * kept);
            if (i + kLanes <= count) {
                store(weights + at + i, w);
            } else {
                store(room, w);
                std::memcpy(weights + at + i, room, (count - i) * sizeof(float));
            }
        }
        at += count;
    }
    absorb(opacity + begin, end - begin);
}

// d loss / d tau_i = g_i T_{i+1} - sum over j > i of g_j w_j, times factor_i. The transmittance
// behind a sample is what leaves the ray plus the weights behind, so no exponential is needed.
INLINE void depth_gradient(const float* RESTRICT weights, const float* RESTRICT grad,
                           const float* RESTRICT factor, float transmitted, float* RESTRICT out,
                           int64_t first, int64_t last) {
    float behind = 0.0f;
    int64_t i = last;
    for (; i - 4 >= first; i -= 4) {
        ask(out + i + kAhead, 4), ask(factor + i + kAhead, 4);
        const float* g = grad + i - 4;
        const float* w = weights + i - 4;
        const float* f = factor + i - 4;
        float* to = out + i - 4;
        const float p1 = g[1] * w[1], p2 = g[2] * w[2], p3 = g[3] * w[3];
        const float two = p3 + p2, light = w[3] + w[2];
        to[3] = (g[3] * transmitted - behind) * f[3];
        to[2] = (g[2] * (transmitted + w[3]) - (behind + p3)) * f[2];
        to[1] = (g[1] * (transmitted + light) - (behind + two)) * f[1];
        to[0] = (g[0] * (transmitted + (light + w[1])) - (behind + (two + p1))) * f[0];
        behind += two + (p1 + g[0] * w[0]);
        transmitted += light + (w[1] + w[0]);
    }
    for (; i > first; --i) {
        out[i - 1] = (grad[i - 1] * transmitted - behind) * factor[i - 1];
        behind += grad[i - 1] * weights[i - 1];
        transmitted += weights[i - 1];
    }
}

// The gradients may be null.
CLONED void weigh_back(const float* RESTRICT sigma, const float* RESTRICT dt,
                       const int64_t* RESTRICT offsets, const float* RESTRICT weights,
                       const float* RESTRICT opacity, const float* RESTRICT grad,
                       float* RESTRICT grad_sigma, float* RESTRICT grad_dt, int64_t begin,
                       int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t first = offsets[ray], last = offsets[ray + 1];
        const float transmitted = 1.0f - opacity[ray];
        if (grad_sigma) depth_gradient(weights, grad, dt, transmitted, grad_sigma, first, last);
        if (grad_dt) depth_gradient(weights, grad, sigma, transmitted, grad_dt, first, last);
    }
}

// Sums of C channels, four samples side by side; the lanes beyond C hold the next sample's numbers
// and are dropped, which is why the ray's last sample is added on its own.
template <int C>
INLINE void sum_few(const float* RESTRICT weights, const float* RESTRICT values,
                    const int64_t* RESTRICT offsets, float* RESTRICT out, int64_t begin,
                    int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        v4 total[4] = {};
        const int64_t last = offsets[ray + 1] - 1;
        int64_t i = offsets[ray];
        for (; i + 4 <= last; i += 4) {
            ask(values + (i + kAhead) * C, 4 * C);
            for (int j = 0; j < 4; ++j) total[j] += load<v4>(values + (i + j) * C) * weights[i + j];
        }
        for (; i < last; ++i) total[0] += load<v4>(values + i * C) * weights[i];
        const v4 joined = (total[0] + total[1]) + (total[2] + total[3]);
        for (int c = 0; c < C; ++c) {
            out[ray * C + c] = joined[c];
            if (i == last) out[ray * C + c] += weights[i] * values[i * C + c];
        }
    }
}

// Lanes are counted from the ray's first sample.
INLINE void sum_one(const float* RESTRICT weights, const float* RESTRICT values,
                    const int64_t* RESTRICT offsets, float* RESTRICT out, int64_t begin,
                    int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        v4 even = {}, odd = {};
        int64_t i = offsets[ray];
        const int64_t last = offsets[ray + 1];
        for (; i + 8 <= last; i += 8) {
            ask(values + i + kAhead, 8);
            even += load<v4>(weights + i) * load<v4>(values + i);
            odd += load<v4>(weights + i + 4) * load<v4>(values + i + 4);
        }
        float rest = 0.0f;
        for (; i < last; ++i) rest += weights[i] * values[i];
        out[ray] = sum(even + odd) + rest;
    }
}

CLONED void sum_rays(const float* RESTRICT weights, const float* RESTRICT values, int channel_count,
                     const int64_t* RESTRICT offsets, float* RESTRICT out, int64_t begin,
                     int64_t end) {
    if (channel_count == 1) return sum_one(weights, values, offsets, out, begin, end);
    if (channel_count == 2) return sum_few<2>(weights, values, offsets, out, begin, end);
    if (channel_count == 3) return sum_few<3>(weights, values, offsets, out, begin, end);
    if (channel_count == 4) return sum_few<4>(weights, values, offsets, out, begin, end);
    for (int64_t ray = begin; ray < end; ++ray) {
        float* row = out + ray * channel_count;
        std::fill(row, row + channel_count, 0.0f);
        for (int64_t i = offsets[ray]; i < offsets[ray + 1]; ++i)
            channels(
                0, channel_count, LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    add<T>(row + c, load<T>(values + i * channel_count + c) * weights[i]);
                });
    }
}

// to[i] = from[ray of sample i] for the samples [at, stop), the first of which is in `ray`. `to`
// starts at sample `at` and has room for kLanes more: a ray's number is written kLanes at a time
// and the next ray corrects.
INLINE void expand(const float* RESTRICT from, int64_t stride, const int64_t* RESTRICT offsets,
                   int64_t ray, int64_t at, int64_t stop, float* RESTRICT to) {
    for (int64_t i = at; i < stop; ++ray) {
        const v8 value = v8{} + from[ray * stride];
        const int64_t last = std::min(offsets[ray + 1], stop);
        for (int64_t j = i; j < last; j += kLanes) store(to + (j - at), value);
        i = std::max(i, last);
    }
}

// Few channels: whole blocks of samples, with the gradient of its ray beside each sample.
template <int C>
INLINE void spread_few(const float* RESTRICT weights, const float* RESTRICT values,
                       const int64_t* RESTRICT offsets, const float* RESTRICT grad,
                       float* RESTRICT grad_weights, float* RESTRICT grad_values, int64_t begin,
                       int64_t end) {
    float g[C][kBlock + kLanes];
    int64_t ray = begin;
    for (int64_t at = offsets[begin]; at < offsets[end]; at += kBlock) {
        const int64_t stop = std::min(at + kBlock, offsets[end]);
        while (offsets[ray + 1] <= at) ++ray;
        ask(values + (at + kAhead) * C, (stop - at) * C);
        for (int c = 0; c < C; ++c) expand(grad + c, C, offsets, ray, at, stop, g[c]);
        const int count = static_cast<int>(stop - at);
        const float* RESTRICT v = values + at * C;
        const float* RESTRICT w = weights + at;
        if (grad_weights) {
            float* RESTRICT out = grad_weights + at;
            for (int i = 0; i < count; ++i) {
                float total = out[i];
                for (int c = 0; c < C; ++c) total += v[i * C + c] * g[c][i];
                out[i] = total;
            }
        }
        if (grad_values) {
            float* RESTRICT out = grad_values + at * C;
            for (int i = 0; i < count; ++i)
                for (int c = 0; c < C; ++c) out[i * C + c] = w[i] * g[c][i];
        }
    }
}

// Three channels: the gradients of eight samples are three whole vectors.
INLINE void spread_three(const float* RESTRICT weights, const float* RESTRICT values,
                         const int64_t* RESTRICT offsets, const float* RESTRICT grad,
                         float* RESTRICT grad_weights, float* RESTRICT grad_values, int64_t begin,
                         int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
        const float* g = grad + 3 * ray;
        const int64_t first = offsets[ray], last = offsets[ray + 1];
        if (grad_weights)
            for (int64_t i = first; i < last; ++i) {
                const float* v = values + 3 * i;
                grad_weights[i] += v[0] * g[0] + v[1] * g[1] + v[2] * g[2];
            }
        if (!grad_values) continue;
        const v8 g0 = {g[0], g[1], g[2], g[0], g[1], g[2], g[0], g[1]};
        const v8 g1 = {g[2], g[0], g[1], g[2], g[0], g[1], g[2], g[0]};
        const v8 g2 = {g[1], g[2], g[0], g[1], g[2], g[0], g[1], g[2]};
        int64_t i = first;
        // What is written behind the ray the next one corrects.
        for (; i < last && i + kLanes <= offsets[end]; i += kLanes) {
            const int64_t ahead = i + kAhead;
            ask(weights + ahead, 8), ask(values + 3 * ahead, 24), ask(grad_values + 3 * ahead, 24);
            float* to = grad_values + 3 * i;
            const v8 w = load<v8>(weights + i);
            store(to, g0 * v8{w[0], w[0], w[0], w[1], w[1], w[1], w[2], w[2]});
            store(to + 8, g1 * v8{w[2], w[3], w[3], w[3], w[4], w[4], w[4], w[5]});
            store(to + 16, g2 * v8{w[5], w[5], w[6], w[6], w[6], w[7], w[7], w[7]});
        }
        for (; i < last; ++i)
            for (int c = 0; c < 3; ++c) grad_values[3 * i + c] = g[c] * weights[i];
    }
}

// Adds to grad_weights, writes grad_values; either may be null.
CLONED void spread(const float* RESTRICT weights, const float* RESTRICT values, int channel_count,
                   const int64_t* RESTRICT offsets, const float* RESTRICT grad,
                   float* RESTRICT grad_weights, float* RESTRICT grad_values, int64_t begin,
                   int64_t end) {
    if (channel_count == 1)
        return spread_few<1>(weights, values, offsets, grad, grad_weights, grad_values, begin, end);
    if (channel_count == 2)
        return spread_few<2>(weights, values, offsets, grad, grad_weights, grad_values, begin, end);
    if (channel_count == 3)
        return spread_three(weights, values, offsets, grad, grad_weights, grad_values, begin, end);
    for (int64_t ray = begin; ray < end; ++ray) {
        const float* g = grad + ray * channel_count;
        for (int64_t i = offsets[ray]; i < offsets[ray + 1]; ++i) {
            float total = 0.0f;
            channels(
                0, channel_count, LANES_BODY(tag, c) {
                    using T = LANES_TYPE(tag);
                    const T gc = load<T>(g + c);
                    if (grad_weights) total += sum(load<T>(values + i * channel_count + c) * gc);
                    if (grad_values) store<T>(grad_values + i * channel_count + c, gc * weights[i]);
                });
            if (grad_weights) grad_weights[i] += total;
        }
    }
}

CLONED void add_to(float* RESTRICT out, const float* RESTRICT other, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] += other[i];
}

CLONED void spread_opacity(const float* RESTRICT grad, const int64_t* RESTRICT offsets,
                           float* RESTRICT room, int64_t begin, int64_t end) {
    expand(grad, 1, offsets, begin, offsets[begin], offsets[end], room);
}

// Runs of rays that make up about kRun samples: what one step leaves in the cache the next one
// finds.
template <class Body>
void by_runs(const int64_t* offsets, int64_t begin, int64_t end, const Body& body) {
    while (begin < end) {
        int64_t stop = begin + 1;
        while (stop < end && offsets[stop + 1] - offsets[begin] <= kRun) ++stop;
        body(begin, stop);
        begin = stop;
    }
}

}  // namespace

// The last of offsets [n + 1]; -1 if they do not start at 0 or ever decrease.
API int64_t gd_offsets_end(const int64_t* offsets, int64_t n, int) {
    bool valid = offsets[0] == 0;
    for (int64_t ray = 0; ray < n; ++ray) valid &= offsets[ray] <= offsets[ray + 1];
    return valid ? offsets[n] : -1;
}

// offsets: [n + 1].  weights: [offsets[n]].  opacity: [n], the sum of each ray's weights.
API void gd_ray_weights_forward(const float* sigma, const float* dt, const int64_t* offsets,
                                int64_t n, float* weights, float* opacity, int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        weigh(sigma, dt, offsets, weights, opacity, begin, end);
    });
}

// grad_sigma, grad_dt: written where not null.
API void gd_ray_weights_backward(const float* sigma, const float* dt, const int64_t* offsets,
                                 int64_t n, const float* weights, const float* opacity,
                                 const float* grad, float* grad_sigma, float* grad_dt,
                                 int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t begin, int64_t end) {
        weigh_back(sigma, dt, offsets, weights, opacity, grad, grad_sigma, grad_dt, begin, end);
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
        if (grad_weights)
            std::fill(grad_weights + offsets[begin], grad_weights + offsets[end], 0.0f);
        spread(weights, values, channel_count, offsets, grad, grad_weights, grad_values, begin,
               end);
    });
}

// What is composited along the rays, and its gradient where one is wanted.
struct Composited {
    const float* values;  // [offsets[n]][channels]
    float* sums;          // [n][channels]
    const float* grad;    // of the sums
    float* grad_values;   // or null
    int64_t channels;
};

// weights: [offsets[n]];  opacity: [n].
API void gd_composite_forward(const float* sigma, const float* dt, const int64_t* offsets,
                              int64_t n, float* weights, float* opacity, const Composited* parts,
                              int64_t count, int threads) {
    parallel_rays(offsets, n, threads, [&](int64_t from, int64_t to) {
        by_runs(offsets, from, to, [&](int64_t begin, int64_t end) {
            weigh(sigma, dt, offsets, weights, opacity, begin, end);
            for (int64_t p = 0; p < count; ++p)
                sum_rays(weights, parts[p].values, parts[p].channels, offsets, parts[p].sums, begin,
                         end);
        });
    });
}

// grad_given: of the weights themselves, or null.  grad_sigma, grad_dt: written where not null.
API void gd_composite_backward(const float* sigma, const float* dt, const int64_t* offsets,
                               int64_t n, const float* weights, const float* opacity,
                               const float* grad_opacity, const Composited* parts, int64_t count,
                               const float* grad_given, float* grad_sigma, float* grad_dt,
                               int threads) {
    for (int64_t p = 0; p < count; ++p)
        if (parts[p].grad_values) large_pages(parts[p].grad_values, offsets[n] * parts[p].channels);
    parallel_rays(offsets, n, threads, [&](int64_t from, int64_t to) {
        int64_t longest = kRun;
        for (int64_t ray = from; ray < to; ++ray)
            longest = std::max(longest, offsets[ray + 1] - offsets[ray]);
        const auto room = scratch<float>(longest + kLanes);
        by_runs(offsets, from, to, [&](int64_t begin, int64_t end) {
            float* grad_weights = room.get() - offsets[begin];
            spread_opacity(grad_opacity, offsets, room.get(), begin, end);
            if (grad_given) add_to(grad_weights, grad_given, offsets[begin], offsets[end]);
            for (int64_t p = 0; p < count; ++p)
                spread(weights, parts[p].values, parts[p].channels, offsets, parts[p].grad,
                       grad_weights, parts[p].grad_values, begin, end);
            if (grad_sigma || grad_dt)
                weigh_back(sigma, dt, offsets, weights, opacity, grad_weights, grad_sigma, grad_dt,
                           begin, end);
        });
    });
}

}  // namespace geodistill
