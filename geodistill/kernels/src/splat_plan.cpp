// Which splats each tile of an image sees, front to back.
#include "splats.h"

namespace geodistill {
namespace {

constexpr double kFar = 1e9;      // pixels, more than any image has
constexpr double kFlat = 1e-6;    // det / (a c) below which float32 does not know the shape
constexpr double kMargin = 0.01;  // pixels, and of the exponent: what rounding may take away

struct Rectangle {
    int64_t left, top, right, bottom;  // of tiles, half open
};

// Half width and height of the region where alpha reaches kMinAlpha; negative where there is none.
void extent(const View& view, int64_t i, float* out) {
    const double a = view.conics[3 * i], b = view.conics[3 * i + 1], c = view.conics[3 * i + 2];
    const double reach = 2.0 * std::log(static_cast<double>(view.opacities[i]) / kMinAlpha);
    out[0] = out[1] = -1.0f;
    if (!(view.opacities[i] >= kMinAlpha)) return;
    out[0] = out[1] = static_cast<float>(kFar);
    const double det = a * c - b * b;
    if (!(det > kFlat * a * c)) return;
    out[0] = static_cast<float>(std::min(std::sqrt(reach * c / det) + kMargin, kFar));
    out[1] = static_cast<float>(std::min(std::sqrt(reach * a / det) + kMargin, kFar));
}

Rectangle rectangle(const View& view, const float* extents, int64_t i) {
    const double w = extents[2 * i], h = extents[2 * i + 1];
    if (w < 0.0) return {0, 0, 0, 0};
    const double x = view.means[2 * i], y = view.means[2 * i + 1];
    const auto clip = [](double v, int64_t most) {
        return static_cast<int64_t>(std::min(std::max(v / kTile, 0.0), static_cast<double>(most)));
    };
    // Pixel centres from x - w to x + w.
    if (x + w < 0.5 || y + h < 0.5) return {0, 0, 0, 0};
    return {clip(x - w - 0.5, view.tiles_x()), clip(y - h - 0.5, view.tiles_y()),
            clip(x + w - 0.5 + kTile, view.tiles_x()), clip(y + h - 0.5 + kTile, view.tiles_y())};
}

// Whether the Gaussian reaches kMinAlpha on a rectangle of pixel centres. The form is convex and
// zero at the mean: seen from there, its minimum lies on an edge that faces the mean.
bool reaches(const View& view, int64_t i, int64_t tile_x, int64_t tile_y) {
    const double a = view.conics[3 * i], b = view.conics[3 * i + 1], c = view.conics[3 * i + 2];
    const double left = static_cast<double>(tile_x * kTile) + 0.5 - view.means[2 * i];
    const double top = static_cast<double>(tile_y * kTile) + 0.5 - view.means[2 * i + 1];
    const double right = left + kTile - 1, bottom = top + kTile - 1;
    const bool across = left <= 0.0 && right >= 0.0, along = top <= 0.0 && bottom >= 0.0;
    if (across && along) return true;
    double least = HUGE_VAL, size = 0.0;
    const auto consider = [&](double dx, double dy) {
        const double form = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy;
        if (form < least) least = form, size = a * dx * dx + c * dy * dy;
    };
    if (!across) {
        const double dx = left > 0.0 ? left : right;
        consider(dx, std::min(std::max(c > 0.0 ? -b * dx / c : 0.0, top), bottom));
    }
    if (!along) {
        const double dy = top > 0.0 ? top : bottom;
        consider(std::min(std::max(a > 0.0 ? -b * dy / a : 0.0, left), right), dy);
    }
    const double limit = std::log(static_cast<double>(view.opacities[i]) / kMinAlpha);
    return least <= limit + kMargin + kFlat * size;
}

// Calls body(tile, element) for every pair, rows of tiles in parallel, splats in the given order or,
// where that is null, as they lie in memory.
template <class Body>
void pairs(const View& view, const int64_t* order, const float* extents, int threads,
           const Body& body) {
    const int64_t bands = std::min<int64_t>(view.tiles_y(), threads);
    parallel(bands, threads, [&](int64_t band) {
        const int64_t from = view.tiles_y() * band / bands, to = view.tiles_y() * (band + 1) / bands;
        for (int64_t k = 0; k < view.count; ++k) {
            const int64_t i = order ? order[k] : k;
            const Rectangle r = rectangle(view, extents, i);
            for (int64_t y = std::max(r.top, from); y < std::min(r.bottom, to); ++y)
                for (int64_t x = r.left; x < r.right; ++x)
                    if (reaches(view, i, x, y)) body(y * view.tiles_x() + x, i);
        }
    });
}

}  // namespace

// extents: [count][2] and offsets: [tiles + 1], written.
API void gd_splat_count(const View* view, float* extents, int64_t* offsets, int threads) {
    parallel_ranges(view->count, 4096, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) extent(*view, i, extents + 2 * i);
    });
    std::fill(offsets, offsets + view->tiles() + 1, int64_t{0});
    pairs(*view, nullptr, extents, threads, [&](int64_t tile, int64_t) { ++offsets[tile + 1]; });
    for (int64_t tile = 0; tile < view->tiles(); ++tile) offsets[tile + 1] += offsets[tile];
}

// order: [count], the splats front to back.  elements: [offsets[tiles]], written.
API void gd_splat_fill(const View* view, const int64_t* order, int32_t* elements, int threads) {
    std::unique_ptr<int64_t[]> next(new int64_t[static_cast<size_t>(view->tiles())]);
    std::copy(view->offsets, view->offsets + view->tiles(), next.get());
    pairs(*view, order, view->extents, threads, [&](int64_t tile, int64_t element) {
        elements[next[tile]++] = static_cast<int32_t>(element);
    });
}

}  // namespace geodistill
