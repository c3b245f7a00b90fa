// Neighbours in clouds of points: the farthest from what is taken, those within a ball, the nearest.
#include "common.h"

// No instruction set that has fused multiply-adds: distances are rounded as the reference rounds
// them, so that ties and radii are decided alike.
#if !defined(__x86_64__) || !defined(__GLIBC__) || defined(__clang__)
#define UNFUSED
#else
#define UNFUSED __attribute__((target_clones("default", "avx2")))
#endif

namespace geodistill {
namespace {

constexpr int64_t kBlock = 128;
constexpr int64_t kGrain = 64;  // of queries for a thread

// Coordinates one behind the other: x of all points, then y, then z.
struct Cloud {
    std::unique_ptr<float[]> memory;
    const float *x, *y, *z;

    Cloud(const float* points, int64_t count) : memory(scratch<float>(3 * count + 1)) {
        float* to = memory.get();
        for (int64_t i = 0; i < count; ++i)
            for (int axis = 0; axis < 3; ++axis) to[axis * count + i] = points[3 * i + axis];
        x = to, y = to + count, z = to + 2 * count;
    }
};

// Squared distances are not negative: their bits are ordered as they are, and integers have a
// minimum and a maximum that compilers put into vectors.
INLINE int32_t bits(float value) {
    int32_t found;
    std::memcpy(&found, &value, sizeof found);
    return found;
}

INLINE float square(const Cloud& cloud, int64_t i, float x, float y, float z) {
    const float dx = cloud.x[i] - x, dy = cloud.y[i] - y, dz = cloud.z[i] - z;
    return dx * dx + dy * dy + dz * dz;
}

UNFUSED void take_farthest(const Cloud& cloud, int64_t count, int64_t wanted, int32_t* nearest,
                           int32_t* taken) {
    std::fill(nearest, nearest + count, bits(INFINITY));
    int64_t last = 0;
    for (int64_t k = 0; k < wanted; ++k) {
        taken[k] = static_cast<int32_t>(last);
        const float x = cloud.x[last], y = cloud.y[last], z = cloud.z[last];
        int32_t farthest = -1;
        int64_t place = 0;
        for (int64_t begin = 0; begin < count; begin += kBlock) {
            const int64_t end = std::min(begin + kBlock, count);
            int32_t most = -1;
            for (int64_t i = begin; i < end; ++i) {
                const int32_t own = std::min(bits(square(cloud, i, x, y, z)), nearest[i]);
                nearest[i] = own;
                most = std::max(most, own);
            }
            if (most > farthest) farthest = most, place = begin;
        }
        while (nearest[place] != farthest) ++place;
        last = place;
    }
}

UNFUSED void find_ball(const Cloud& cloud, int64_t count, const float* centre, float limit,
                       int64_t most, int32_t* found) {
    const float x = centre[0], y = centre[1], z = centre[2];
    int32_t inside[kBlock];
    int64_t have = 0;
    for (int64_t begin = 0; begin < count && have < most; begin += kBlock) {
        const int64_t size = std::min(kBlock, count - begin);
        int32_t any = 0;
        for (int64_t i = 0; i < size; ++i) {
            inside[i] = square(cloud, begin + i, x, y, z) < limit;
            any |= inside[i];
        }
        if (!any) continue;
        for (int64_t i = 0; i < size && have < most; ++i)
            if (inside[i]) found[have++] = static_cast<int32_t>(begin + i);
    }
    std::fill(found + have, found + most, have ? found[0] : 0);
}

UNFUSED void find_nearest(const Cloud& cloud, int64_t count, const float* query, int64_t wanted,
                          int32_t* found, float* squares) {
    const float x = query[0], y = query[1], z = query[2];
    float block[kBlock];
    std::fill(squares, squares + wanted, INFINITY);
    for (int64_t begin = 0; begin < count; begin += kBlock) {
        const int64_t size = std::min(kBlock, count - begin);
        int32_t least = bits(INFINITY);
        for (int64_t i = 0; i < size; ++i) {
            block[i] = square(cloud, begin + i, x, y, z);
            least = std::min(least, bits(block[i]));
        }
        if (least >= bits(squares[wanted - 1])) continue;
        for (int64_t i = 0; i < size; ++i) {
            if (!(block[i] < squares[wanted - 1])) continue;
            int64_t place = wanted - 1;
            for (; place > 0 && block[i] < squares[place - 1]; --place) {
                squares[place] = squares[place - 1];
                found[place] = found[place - 1];
            }
            squares[place] = block[i];
            found[place] = static_cast<int32_t>(begin + i);
        }
    }
}

}  // namespace

// points: [clouds][count][3].  taken: [clouds][wanted].
API void gd_farthest_points(const float* points, int64_t clouds, int64_t count, int64_t wanted,
                            int32_t* taken, int threads) {
    parallel(clouds, threads, [&](int64_t k) {
        const Cloud cloud(points + k * count * 3, count);
        const auto nearest = scratch<int32_t>(count);
        take_farthest(cloud, count, wanted, nearest.get(), taken + k * wanted);
    });
}

// points: [clouds][count][3].  centres: [clouds][balls][3].  found: [clouds][balls][most].
API void gd_ball_query(const float* points, int64_t clouds, int64_t count, const float* centres,
                       int64_t balls, double limit, int64_t most, int32_t* found, int threads) {
    for (int64_t k = 0; k < clouds; ++k) {
        const Cloud cloud(points + k * count * 3, count);
        const int64_t first = k * balls;
        parallel_ranges(balls, kGrain, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = first + begin; i < first + end; ++i)
                find_ball(cloud, count, centres + 3 * i, static_cast<float>(limit), most,
                          found + i * most);
        });
    }
}

// points: [clouds][count][3].  queries: [clouds][asked][3].  found, squares: [clouds][asked][wanted].
API void gd_nearest_neighbors(const float* points, int64_t clouds, int64_t count,
                              const float* queries, int64_t asked, int64_t wanted, int32_t* found,
                              float* squares, int threads) {
    for (int64_t k = 0; k < clouds; ++k) {
        const Cloud cloud(points + k * count * 3, count);
        const int64_t first = k * asked;
        parallel_ranges(asked, kGrain, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = first + begin; i < first + end; ++i)
                find_nearest(cloud, count, queries + 3 * i, wanted, found + i * wanted,
                             squares + i * wanted);
        });
    }
}

}  // namespace geodistill
