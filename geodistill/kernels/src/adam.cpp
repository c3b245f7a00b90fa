// Adam on the rows whose gradient is not all zero, in one pass that also zeroes the gradient.
#include "common.h"

namespace geodistill {
namespace {

constexpr int64_t kGrain = 1 << 15;
constexpr int kLanes = 16;

struct Rates {
    float first, second;    // decay of the moments
    float size, root, eps;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
};

// The lanes of `touched` that are zero keep what they have.
INLINE void update(float* RESTRICT param, float* RESTRICT grad, float* RESTRICT exp_avg,
                   float* RESTRICT exp_avg_sq, int64_t count, const uint32_t* RESTRICT touched,
                   const Rates& rates) {
    for (int64_t i = 0; i < count; ++i) {
        const float g = grad[i];
        const float m = exp_avg[i] * rates.first + g * (1.0f - rates.first);
        const float v = exp_avg_sq[i] * rates.second + g * g * (1.0f - rates.second);
        const float p = param[i] - rates.size * m / (std::sqrt(v) * rates.root + rates.eps);
        param[i] = touched[i] ? p : param[i];
        exp_avg[i] = touched[i] ? m : exp_avg[i];
        exp_avg_sq[i] = touched[i] ? v : exp_avg_sq[i];
        grad[i] = 0.0f;
    }
}

// The bits but for the sign, so that NaN counts as a value and -0 does not.
INLINE uint32_t magnitude(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffffu;
}

// kLanes numbers, which are whole rows of F, or a part of one row that is known to be touched.
template <int F>
INLINE void step_chunk(float* param, float* grad, float* exp_avg, float* exp_avg_sq, int count,
                       const Rates& rates) {
    uint32_t touched[kLanes] = {}, any = 0;
    for (int i = 0; i < count; ++i) any |= touched[i] = magnitude(grad[i]);
    if (any == 0) return;
    if constexpr (F == 2)
        for (int i = 0; i < kLanes; i += 2)
            touched[i] = touched[i + 1] = touched[i] | touched[i + 1];
    if (count == kLanes)
        update(param, grad, exp_avg, exp_avg_sq, kLanes, touched, rates);
    else
        update(param, grad, exp_avg, exp_avg_sq, count, touched, rates);
}

template <int F>
INLINE void step_narrow(float* param, float* grad, float* exp_avg, float* exp_avg_sq,
                        const Rates& rates, int64_t begin, int64_t end) {
    for (int64_t i = begin * F; i < end * F; i += kLanes)
        step_chunk<F>(param + i, grad + i, exp_avg + i, exp_avg_sq + i,
                      static_cast<int>(std::min<int64_t>(kLanes, end * F - i)), rates);
}

INLINE void step_wide(float* param, float* grad, float* exp_avg, float* exp_avg_sq,
                      int64_t features, const Rates& rates, int64_t begin, int64_t end) {
    uint32_t all[kLanes];
    std::fill(all, all + kLanes, 1u);
    for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * features, stop = at + features;
        uint32_t any = 0;
        for (int64_t i = at; i < stop; ++i) any |= magnitude(grad[i]);
        if (any == 0) continue;
        int64_t i = at;
        for (; i + kLanes <= stop; i += kLanes)
            update(param + i, grad + i, exp_avg + i, exp_avg_sq + i, kLanes, all, rates);
        for (; i + 4 <= stop; i += 4)
            update(param + i, grad + i, exp_avg + i, exp_avg_sq + i, 4, all, rates);
        update(param + i, grad + i, exp_avg + i, exp_avg_sq + i, stop - i, all, rates);
    }
}

CLONED void step_rows(float* param, float* grad, float* exp_avg, float* exp_avg_sq,
                      int64_t features, const Rates& rates, int64_t begin, int64_t end) {
    if (features == 1)
        step_narrow<1>(param, grad, exp_avg, exp_avg_sq, rates, begin, end);
    else if (features == 2)
        step_narrow<2>(param, grad, exp_avg, exp_avg_sq, rates, begin, end);
    else
        step_wide(param, grad, exp_avg, exp_avg_sq, features, rates, begin, end);
}

}  // namespace

// All tensors: [count][features].
API void gd_sparse_adam(float* param, float* grad, float* exp_avg, float* exp_avg_sq, int64_t count,
                        int64_t features, double lr, double beta1, double beta2, double eps,
                        int64_t step, int threads) {
    const double t = static_cast<double>(step);
    const Rates rates{static_cast<float>(beta1), static_cast<float>(beta2),
                      static_cast<float>(lr / (1.0 - std::pow(beta1, t))),
                      static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, t))),
                      static_cast<float>(eps)};
    parallel_ranges(count, std::max<int64_t>(kGrain / features, 1), threads,
                    [&](int64_t begin, int64_t end) {
                        step_rows(param, grad, exp_avg, exp_avg_sq, features, rates, begin, end);
                    });
}

}  // namespace geodistill
