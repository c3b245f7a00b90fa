// The nearest points whose discs cover each pixel.
#include "common.h"

namespace geodistill {
namespace {

constexpr int kRows = 8;  // of a band
constexpr int64_t kGrain = 4096;

struct Lens {
    int32_t height, width;
    double fx, skew, cx, fy, cy;
};

// A point and the pixels [x0, x1] x [y0, y1] that its disc can cover.
struct Disc {
    float x, y, z;
    int32_t point, x0, x1, y0, y1;
};

INLINE int32_t clamped(double value, int32_t low, int32_t high) {
    return static_cast<int32_t>(std::min<double>(std::max<double>(value, low), high));
}

int64_t find_discs(const float* points, double radius, const Lens& lens, double near, Disc* discs,
                   int32_t* counts, int64_t begin, int64_t end) {
    int64_t found = 0;
    for (int64_t i = begin; i < end; ++i) {
        const double x = points[3 * i], y = points[3 * i + 1], z = points[3 * i + 2];
        if (!(z >= near) || !std::isfinite(x + y + z)) continue;
        const double u = (lens.fx * x + lens.skew * y) / z + lens.cx, v = lens.fy * y / z + lens.cy;
        // A little wider than the disc, against rounding.
        const double half = 1.000001 * radius / z;
        const double wide = (std::fabs(lens.fx) + std::fabs(lens.skew)) * half + 1e-6;
        const double high = std::fabs(lens.fy) * half + 1e-6;
        Disc disc;
        disc.x = points[3 * i], disc.y = points[3 * i + 1], disc.z = points[3 * i + 2];
        disc.point = static_cast<int32_t>(i);
        disc.x0 = clamped(std::ceil(u - wide - 0.5), 0, lens.width);
        disc.x1 = clamped(std::floor(u + wide - 0.5), -1, lens.width - 1);
        disc.y0 = clamped(std::ceil(v - high - 0.5), 0, lens.height);
        disc.y1 = clamped(std::floor(v + high - 0.5), -1, lens.height - 1);
        if (disc.x0 > disc.x1 || disc.y0 > disc.y1) continue;
        discs[found++] = disc;
        for (int32_t band = disc.y0 / kRows; band <= disc.y1 / kRows; ++band) ++counts[band];
    }
    return found;
}

// Keeps (depth, point) in the first `most` places by depth; of equal depths the earlier one first.
INLINE void insert(float* depths, int32_t* kept, int most, float depth, int32_t point) {
    if (!(depth < depths[most - 1])) return;
    int place = most - 1;
    for (; place > 0 && depth < depths[place - 1]; --place) {
        depths[place] = depths[place - 1];
        kept[place] = kept[place - 1];
    }
    depths[place] = depth;
    kept[place] = point;
}

void cover(double radius, const Lens& lens, const Disc& disc, int32_t y0, int32_t y1, int most,
           float* depths, int32_t* index) {
    const double x = disc.x, y = disc.y, z = disc.z, per_pixel = z / lens.fx;
    for (int32_t row = std::max(disc.y0, y0); row <= std::min(disc.y1, y1); ++row) {
        const double ray_y = (row + 0.5 - lens.cy) / lens.fy;
        const double dy = ray_y * z - y, left = radius * radius - dy * dy;
        if (left < 0.0) continue;
        const double start = 0.5 - lens.cx - lens.skew * ray_y;
        for (int32_t column = disc.x0; column <= disc.x1; ++column) {
            const double dx = (column + start) * per_pixel - x;
            if (dx * dx > left) continue;
            insert(depths + (static_cast<int64_t>(row - y0) * lens.width + column) * most,
                   index + (static_cast<int64_t>(row) * lens.width + column) * most, most, disc.z,
                   disc.point);
        }
    }
}

}  // namespace

// points: [count][3] in camera coordinates.  K: 9 doubles, last row (0, 0, 1).
// index: [height][width][most], -1 where there are no more.
API void gd_nearest_points(const float* points, int64_t count, double radius, const double* K,
                           double near, int64_t height, int64_t width, int64_t most,
                           int32_t* index, int threads) {
    const Lens lens = {static_cast<int32_t>(height), static_cast<int32_t>(width), K[0], K[1], K[2],
                       K[4], K[5]};
    // Discs in the order of the points, then the discs of each band in the same order.
    const int64_t bands = (height + kRows - 1) / kRows;
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, count / kGrain));
    const auto part_begin = [&](int64_t part) { return count * part / parts; };
    const auto discs = scratch<Disc>(count + 1);
    const auto found = scratch<int64_t>(parts), starts = scratch<int64_t>(bands + 1);
    const std::unique_ptr<int64_t[]> places(new int64_t[parts * bands]);
    const std::unique_ptr<int32_t[]> counts(new int32_t[parts * bands]());
    parallel(parts, threads, [&](int64_t part) {
        found[part] = find_discs(points, radius, lens, near, discs.get() + part_begin(part),
                                 counts.get() + part * bands, part_begin(part),
                                 part_begin(part + 1));
    });
    int64_t total = 0;
    for (int64_t band = 0; band < bands; ++band) {
        starts[band] = total;
        for (int64_t part = 0; part < parts; ++part) {
            places[part * bands + band] = total;
            total += counts[part * bands + band];
        }
    }
    starts[bands] = total;
    const auto list = scratch<Disc>(total + 1);
    parallel(parts, threads, [&](int64_t part) {
        const int64_t begin = part_begin(part);
        for (int64_t at = begin; at < begin + found[part]; ++at)
            for (int64_t band = discs[at].y0 / kRows; band <= discs[at].y1 / kRows; ++band)
                list[places[part * bands + band]++] = discs[at];
    });

    parallel(bands, threads, [&](int64_t band) {
        const int32_t y0 = static_cast<int32_t>(band) * kRows;
        const int32_t y1 = std::min<int32_t>(y0 + kRows, lens.height) - 1;
        const int64_t places = int64_t{y1 - y0 + 1} * width * most;
        const auto depths = scratch<float>(places);
        int32_t* rows = index + int64_t{y0} * width * most;
        std::fill(depths.get(), depths.get() + places, INFINITY);
        std::fill(rows, rows + places, -1);
        for (int64_t n = starts[band]; n < starts[band + 1]; ++n)
            cover(radius, lens, list[n], y0, y1, static_cast<int>(most), depths.get(), index);
        for (int64_t i = 0; i < places; ++i)
            if (depths[i] > depths[i / most * most] + static_cast<float>(radius)) rows[i] = -1;
    });
}

}  // namespace geodistill
