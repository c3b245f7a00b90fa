// Samples on a fixed lattice along rays, where an occupancy grid says so.
#include <vector>

#include "common.h"

namespace geodistill {
namespace {

constexpr int kShift = 3;  // a block is 8^3 cells
constexpr int64_t kRaysPerItem = 64;
constexpr int64_t kCellsPerRay = 1 << 15;  // what reading the grid for its blocks is worth

// In lattice steps. A sample nearer than this to the border of its cell is looked up on its own, so
// that rounding never lets a skip pass over a sample of the next cell.
constexpr double kGuard = 1e-6;

struct Occupancy {
    const uint8_t* cells;
    const uint8_t* blocks;  // any cell of a block, or null
    int64_t sizes[3];
    int64_t block_sizes[3];
    double cell[3], cells_per_unit[3];
};

struct Ray {
    double o[3], d[3], inverse[3];
    double near, far, step, shift, steps_per_unit;

    INLINE double time(int64_t k) const { return near + (static_cast<double>(k) + shift) * step; }
    INLINE double index(double t) const { return (t - near) * steps_per_unit - shift; }
};

// Lattice indices that can lie in the cube; false where there are none.
INLINE bool window(const Ray& ray, int64_t& first, int64_t& last) {
    double enter = ray.near, leave = ray.far;
    for (int a = 0; a < 3; ++a) {
        if (ray.d[a] == 0.0) {
            if (!(std::fabs(ray.o[a]) <= 1.0)) return false;
            continue;
        }
        const double t0 = (-1.0 - ray.o[a]) * ray.inverse[a];
        const double t1 = (1.0 - ray.o[a]) * ray.inverse[a];
        enter = std::max(enter, std::min(t0, t1));
        leave = std::min(leave, std::max(t0, t1));
    }
    const double low = std::max(std::floor(ray.index(enter)) - 1.0, 0.0);
    const double high = std::ceil(ray.index(leave)) + 1.0;
    if (!(high >= low && high - low < 1e12 && high < 1e15)) return false;  // also false for NaN
    first = static_cast<int64_t>(low);
    last = static_cast<int64_t>(high);
    return true;
}

// Time at which the ray leaves the box of 2^shift cells around `cell`.
INLINE double leaves(const Ray& ray, const Occupancy& grid, const int64_t cell[3], int shift) {
    double t = HUGE_VAL;
    for (int a = 0; a < 3; ++a) {
        if (ray.d[a] == 0.0) continue;
        const int64_t side = ((cell[a] >> shift) + (ray.d[a] > 0.0)) << shift;
        const double border = static_cast<double>(side) * grid.cell[a] - 1.0;
        t = std::min(t, (border - ray.o[a]) * ray.inverse[a]);
    }
    return t;
}

INLINE bool locate(const Ray& ray, const Occupancy& grid, double t, int64_t cell[3]) {
    for (int a = 0; a < 3; ++a) {
        const double p = ray.o[a] + t * ray.d[a];
        if (!(std::fabs(p) <= 1.0)) return false;
        cell[a] =
            std::min(static_cast<int64_t>((p + 1.0) * grid.cells_per_unit[a]), grid.sizes[a] - 1);
    }
    return true;
}

CLONED void march_ray(const Ray& ray, const Occupancy& grid, int64_t max_samples,
                      std::vector<float>& out) {
    int64_t k, last, cell[3], left = max_samples;
    if (!window(ray, k, last)) return;
    while (k <= last && left > 0) {
        const double t = ray.time(k);
        if (!(t < ray.far)) return;
        if (!locate(ray, grid, t, cell)) {
            ++k;
            continue;
        }
        const uint8_t* block = grid.blocks;
        if (block)
            block += ((cell[0] >> kShift) * grid.block_sizes[1] + (cell[1] >> kShift)) *
                         grid.block_sizes[2] +
                     (cell[2] >> kShift);
        const bool empty_block = block && !*block;
        const double exit = ray.index(leaves(ray, grid, cell, empty_block ? kShift : 0));
        const double stop = std::min(std::ceil(exit - kGuard), static_cast<double>(last + 1));
        const int64_t next = std::max(k + 1, static_cast<int64_t>(stop));
        if (empty_block ||
            !grid.cells[(cell[0] * grid.sizes[1] + cell[1]) * grid.sizes[2] + cell[2]]) {
            k = next;
            continue;
        }
        for (; k < next && left > 0; ++k, --left) {
            const double at = ray.time(k);
            if (!(at < ray.far)) return;
            out.push_back(static_cast<float>(at));
        }
    }
}

void fill_blocks(const Occupancy& grid, uint8_t* blocks, int64_t bx) {
    const int64_t layer = grid.block_sizes[1] * grid.block_sizes[2];
    std::fill(blocks + bx * layer, blocks + (bx + 1) * layer, uint8_t{0});
    const int64_t end = std::min((bx + 1) << kShift, grid.sizes[0]);
    for (int64_t x = bx << kShift; x < end; ++x)
        for (int64_t y = 0; y < grid.sizes[1]; ++y) {
            const uint8_t* row = grid.cells + (x * grid.sizes[1] + y) * grid.sizes[2];
            uint8_t* target = blocks + bx * layer + (y >> kShift) * grid.block_sizes[2];
            for (int64_t bz = 0; bz < grid.block_sizes[2]; ++bz) {
                uint64_t word = 0;
                const int64_t left = grid.sizes[2] - (bz << kShift);
                std::memcpy(&word, row + (bz << kShift),
                            static_cast<size_t>(std::min<int64_t>(left, 8)));
                target[bz] |= word != 0;
            }
        }
}

}  // namespace

struct Rays {
    const float *origins, *directions, *near, *far;
    const float* jitter;  // or null: the middle of each step
    double step;
    int64_t count, max_samples;

    Ray ray(int64_t i) const {
        Ray r;
        for (int a = 0; a < 3; ++a) {
            r.o[a] = origins[3 * i + a];
            r.d[a] = directions[3 * i + a];
            r.inverse[a] = 1.0 / r.d[a];
        }
        r.near = near[i], r.far = far[i];
        r.step = step, r.steps_per_unit = 1.0 / step, r.shift = jitter ? jitter[i] : 0.5;
        return r;
    }
};

// offsets: [count + 1], written. Returns the samples, which gd_march_take copies and frees.
API void* gd_march(const Rays* rays, const uint8_t* occupancy, const int64_t* sizes,
                   int64_t* offsets, int threads) {
    Occupancy grid{};
    grid.cells = occupancy;
    for (int a = 0; a < 3; ++a) {
        grid.sizes[a] = sizes[a];
        grid.block_sizes[a] = (sizes[a] + (1 << kShift) - 1) >> kShift;
        grid.cell[a] = 2.0 / static_cast<double>(sizes[a]);
        grid.cells_per_unit[a] = 0.5 * static_cast<double>(sizes[a]);
    }
    std::vector<uint8_t> blocks;
    if (rays->count * kCellsPerRay > sizes[0] * sizes[1] * sizes[2]) {
        const int64_t count = grid.block_sizes[0] * grid.block_sizes[1] * grid.block_sizes[2];
        blocks.resize(static_cast<size_t>(count));
        parallel(grid.block_sizes[0], threads,
                 [&](int64_t bx) { fill_blocks(grid, blocks.data(), bx); });
        grid.blocks = blocks.data();
    }
    const int64_t items = (rays->count + kRaysPerItem - 1) / kRaysPerItem;
    auto* parts = new std::vector<std::vector<float>>(static_cast<size_t>(items));
    parallel(items, threads, [&](int64_t item) {
        std::vector<float> times;
        const int64_t begin = item * kRaysPerItem;
        for (int64_t i = begin; i < std::min(begin + kRaysPerItem, rays->count); ++i) {
            const size_t before = times.size();
            march_ray(rays->ray(i), grid, rays->max_samples, times);
            offsets[i + 1] = static_cast<int64_t>(times.size() - before);
        }
        (*parts)[static_cast<size_t>(item)] = std::move(times);
    });
    offsets[0] = 0;
    for (int64_t i = 0; i < rays->count; ++i) offsets[i + 1] += offsets[i];
    return parts;
}

// t, dt: [offsets[count]].
API void gd_march_take(void* handle, double step, float* t, float* dt, int) {
    auto* parts = static_cast<std::vector<std::vector<float>>*>(handle);
    for (const auto& part : *parts) {
        t = std::copy(part.begin(), part.end(), t);
        std::fill(dt, dt + part.size(), static_cast<float>(step));
        dt += part.size();
    }
    delete parts;
}

}  // namespace geodistill
