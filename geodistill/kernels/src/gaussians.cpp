// Sums of 3D Gaussians, and of features weighted by them, at points; a grid of cells lists which
// Gaussians reach into each.
#include "common.h"

namespace geodistill {
namespace {

constexpr int64_t kGrain = 512;
constexpr int kShape = 10;  // mean, upper triangle of the precision, peak

struct Gaussians {
    const int64_t* starts;   // [cells a side cubed + 1]
    const int32_t* members;  // Gaussians, cell after cell
    int32_t side;
    const float* shapes;  // [M][kShape]
    float reach;          // squared distance, in deviations, beyond which a Gaussian is nothing
};

INLINE int64_t cell_of(const float* x, int32_t side) {
    int64_t cell = 0;
    for (int axis = 0; axis < 3; ++axis) {
        const float at = (x[axis] + 1.0f) * 0.5f * static_cast<float>(side);
        const float most = static_cast<float>(side - 1);
        cell = cell * side + static_cast<int64_t>(std::min(std::max(at, 0.0f), most));
    }
    return cell;
}

CLONED void sum(const Gaussians& all, const float* RESTRICT x, const float* RESTRICT features,
                int channels, float* RESTRICT out, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const float* p = x + 3 * i;
        float* RESTRICT sums = out + i * (1 + channels);
        std::memset(sums, 0, sizeof(float) * (1 + channels));
        const int64_t cell = cell_of(p, all.side);
        for (int64_t k = all.starts[cell]; k < all.starts[cell + 1]; ++k) {
            const int32_t member = all.members[k];
            const float* s = all.shapes + static_cast<int64_t>(member) * kShape;
            const float dx = p[0] - s[0], dy = p[1] - s[1], dz = p[2] - s[2];
            const float q = dx * (s[3] * dx + 2.0f * (s[4] * dy + s[5] * dz)) +
                            dy * (s[6] * dy + 2.0f * s[7] * dz) + s[8] * dz * dz;
            if (!(q < all.reach)) continue;
            const float w = s[9] * std::exp(-0.5f * q);
            sums[0] += w;
            const float* RESTRICT f = features + static_cast<int64_t>(member) * channels;
            for (int c = 0; c < channels; ++c) sums[1 + c] += w * f[c];
        }
    }
}

}  // namespace
}  // namespace geodistill

API void gd_gaussian_sums(const float* x, int64_t count, const int64_t* starts,
                          const int32_t* members, int64_t side, const float* shapes, float reach,
                          const float* features, int64_t channels, float* out, int32_t threads) {
    using namespace geodistill;
    const Gaussians all{starts, members, static_cast<int32_t>(side), shapes, reach};
    parallel((count + kGrain - 1) / kGrain, threads, [&](int64_t part) {
        const int64_t begin = part * kGrain;
        sum(all, x, features, static_cast<int>(channels), out, begin, std::min<int64_t>(begin + kGrain, count));
    });
}
