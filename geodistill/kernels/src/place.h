// Where a coordinate falls between the nodes of an axis.
#pragma once

#include "common.h"

namespace geodistill {

struct Place {
    int64_t low;   // lower node
    int64_t next;  // 1, or 0 where the axis has one node
    float f;       // fraction towards the next node
};

// Position in units of nodes, clamped to the axis. NaN selects node 0 and stays in the fraction.
INLINE Place place_on_grid(float position, int nodes) {
    const float last = static_cast<float>(nodes - 1);
    const float clamped = position < 0.0f ? 0.0f : position > last ? last : position;
    const int inner = std::max(nodes - 2, 0);
    const int low = clamped > 0.0f ? std::min(static_cast<int>(clamped), inner) : 0;
    return {low, nodes > 1, clamped - static_cast<float>(low)};
}

// Coordinate in [-1, 1], node 0 at -1 and the last one at +1.
INLINE Place place(float u, int nodes) {
    const float clamped = u < -1.0f ? -1.0f : u > 1.0f ? 1.0f : u;
    return place_on_grid((clamped + 1.0f) * (0.5f * static_cast<float>(nodes - 1)), nodes);
}

// Weights of the 8 nodes of a cell; node c has the bits x, y, z.
INLINE void corner_weights(float fx, float fy, float fz, float w[8]) {
    const float ex = 1.0f - fx, ey = 1.0f - fy, ez = 1.0f - fz;
    const float ll = ey * ez, hl = fy * ez, lh = ey * fz, hh = fy * fz;
    w[0] = ex * ll, w[1] = fx * ll, w[2] = ex * hl, w[3] = fx * hl;
    w[4] = ex * lh, w[5] = fx * lh, w[6] = ex * hh, w[7] = fx * hh;
}

// Derivatives of the interpolation of 8 numbers by the three fractions.
INLINE void corner_slopes(float fx, float fy, float fz, const float s[8], float slopes[3]) {
    const float ex = 1.0f - fx, ey = 1.0f - fy, ez = 1.0f - fz;
    const float x0 = s[0] * ex + s[1] * fx, x1 = s[2] * ex + s[3] * fx;
    const float x2 = s[4] * ex + s[5] * fx, x3 = s[6] * ex + s[7] * fx;
    slopes[0] = ez * (ey * (s[1] - s[0]) + fy * (s[3] - s[2])) +
                fz * (ey * (s[5] - s[4]) + fy * (s[7] - s[6]));
    slopes[1] = ez * (x1 - x0) + fz * (x3 - x2);
    slopes[2] = ey * (x2 - x0) + fy * (x3 - x1);
}

}  // namespace geodistill
