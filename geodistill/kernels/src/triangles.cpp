// Triangle rasterisation in homogeneous coordinates: which face each pixel sees, and where on it.
//
// With q = K p the homogeneous pixel coordinates of a vertex, the ray through pixel (u, v) meets a
// triangle where all edge functions e_i = (u, v, 1) . (q_j x q_k) have the determinant's sign, at
// weights e_i / sum(e) and depth determinant / sum(e): nothing is divided or clipped before, so what
// lies behind the camera needs no care (Olano and Greer, 1997).
#include "vector.h"

namespace geodistill {
namespace {

constexpr int kRows = 16;  // of a band: its buffers fit the cache
constexpr int kStep = 4;   // pixels side by side
constexpr int64_t kGrain = 4096;
constexpr int64_t kGrainPixels = 4096;
// A determinant this small against the sum of its terms' magnitudes is a rounding error.
constexpr double kRounding = 2e-15;

typedef double v4d __attribute__((vector_size(32)));
typedef int64_t v4l __attribute__((vector_size(32)));
typedef double v4d_unaligned __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t v4l_unaligned __attribute__((vector_size(32), aligned(8), may_alias));

struct Vec {
    double x, y, z;
};

INLINE Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
INLINE Vec operator*(double s, Vec a) { return {s * a.x, s * a.y, s * a.z}; }
INLINE double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
INLINE Vec cross(Vec a, Vec b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

// A vertex in homogeneous pixel coordinates and in pixels, NaN unless it is in front.
struct Vertex {
    Vec q;
    float u, v;
};

// The pixels [x0, x1] x [y0, y1] that a face can cover.
struct Box {
    int32_t face, x0, x1, y0, y1;
};

struct View {
    int32_t height, width;
    double near;
    double K[9];
};

CLONED void project(const float* RESTRICT points, const View& view, Vertex* RESTRICT out,
                    int64_t begin, int64_t end) {
    const double* K = view.K;
    const float nan = std::nanf("");
    for (int64_t i = begin; i < end; ++i) {
        const double x = points[3 * i], y = points[3 * i + 1], z = points[3 * i + 2];
        const Vec q = {K[0] * x + K[1] * y + K[2] * z, K[4] * y + K[5] * z, z};
        const double inverse = 1.0 / z;
        const bool front = z >= view.near;
        out[i].q = q;
        out[i].u = front ? static_cast<float>(q.x * inverse) : nan;
        out[i].v = front ? static_cast<float>(q.y * inverse) : nan;
    }
}

struct Extent {
    float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};

    INLINE void add(float u, float v) {
        low[0] = std::min(low[0], u), high[0] = std::max(high[0], u);
        low[1] = std::min(low[1], v), high[1] = std::max(high[1], v);
    }
};

// What of a triangle is in front of the near plane.
Extent clipped(const Vertex* const* corners, double near) {
    Extent extent;
    for (int i = 0; i < 3; ++i) {
        const Vec a = corners[i]->q, b = corners[(i + 1) % 3]->q;
        if (a.z >= near) extent.add(corners[i]->u, corners[i]->v);
        if ((a.z >= near) == (b.z >= near)) continue;
        const double t = (near - a.z) / (b.z - a.z);
        extent.add(static_cast<float>((a.x + t * (b.x - a.x)) / near),
                   static_cast<float>((a.y + t * (b.y - a.y)) / near));
    }
    return extent;
}

// First and last pixel whose centre lies between low and high, within [0, size).
INLINE void pixels(float low, float high, int32_t size, float slack, int32_t& first,
                   int32_t& last) {
    const float most = static_cast<float>(size) + 1.0f;
    first = static_cast<int32_t>(std::ceil(std::min(std::max(low - 0.5f - slack, 0.0f), most)));
    last = static_cast<int32_t>(std::floor(std::min(std::max(high - 0.5f + slack, -1.0f), most)));
    last = std::min(last, size - 1);
}

// Boxes of the faces [begin, end) that can cover a pixel, and how many there are in each band.
CLONED int64_t find_boxes(const Vertex* RESTRICT vertices, const int64_t* RESTRICT faces,
                          const View& view, Box* RESTRICT boxes, int32_t* RESTRICT counts,
                          int64_t begin, int64_t end) {
    const float slack = 1e-6f * static_cast<float>(view.height + view.width);
    int64_t found = 0;
    for (int64_t face = begin; face < end; ++face) {
        const int64_t* f = faces + 3 * face;
        const Vertex *a = vertices + f[0], *b = vertices + f[1], *c = vertices + f[2];
        Extent extent;
        if (a->u == a->u && b->u == b->u && c->u == c->u) {
            extent.add(a->u, a->v), extent.add(b->u, b->v), extent.add(c->u, c->v);
        } else {
            const Vertex* corners[3] = {a, b, c};
            extent = clipped(corners, view.near);
        }
        Box box;
        box.face = static_cast<int32_t>(face);
        pixels(extent.low[0], extent.high[0], view.width, slack, box.x0, box.x1);
        pixels(extent.low[1], extent.high[1], view.height, slack, box.y0, box.y1);
        boxes[found] = box;
        if (box.x0 > box.x1 || box.y0 > box.y1) continue;
        for (int32_t band = box.y0 / kRows; band <= box.y1 / kRows; ++band) ++counts[band];
        ++found;
    }
    return found;
}

// Edge functions and inverse depth as a x + b y + c, positive inside the triangle.
struct Planes {
    Vec edge[3], inverse_depth;
};

// False for a triangle that no ray can hit: without area, or seen exactly from its side. Corners are
// taken in the order of their indices: an edge has the same function, up to its sign, in both of its
// triangles to the bit, so that no ray passes between them; and equal triangles have equal depths.
INLINE bool set_up(const Vertex* vertices, const int64_t* face, Planes& planes) {
    int64_t i = face[0], j = face[1], k = face[2];
    if (i > j) std::swap(i, j);
    if (j > k) std::swap(j, k);
    if (i > j) std::swap(i, j);
    const Vec q0 = vertices[i].q, q1 = vertices[j].q, q2 = vertices[k].q;
    const Vec n0 = cross(q1, q2), n1 = cross(q0, q2), n2 = cross(q0, q1);
    const double determinant = dot(q0, n0);
    const double magnitude =
        std::fabs(q0.x) * (std::fabs(q1.y * q2.z) + std::fabs(q1.z * q2.y)) +
        std::fabs(q0.y) * (std::fabs(q1.z * q2.x) + std::fabs(q1.x * q2.z)) +
        std::fabs(q0.z) * (std::fabs(q1.x * q2.y) + std::fabs(q1.y * q2.x));
    if (!(std::fabs(determinant) > kRounding * magnitude)) return false;
    const double sign = determinant > 0.0 ? 1.0 : -1.0, scale = 1.0 / determinant;
    planes.edge[0] = sign * n0;
    planes.edge[1] = -sign * n1;
    planes.edge[2] = sign * n2;
    planes.inverse_depth = {((n0.x - n1.x) + n2.x) * scale, ((n0.y - n1.y) + n2.y) * scale,
                            ((n0.z - n1.z) + n2.z) * scale};
    return true;
}

// The nearest face of each pixel of some rows; -1 and an inverse depth of 0 where there is none.
struct Band {
    int32_t y0, y1, stride;
    double* inverse_depth;
    int64_t* face;
};

INLINE v4d spread(double value) { return v4d{value, value, value, value}; }

CLONED void draw(const Vertex* RESTRICT vertices, const int64_t* RESTRICT faces,
                 const Box* RESTRICT boxes, const int32_t* RESTRICT list, int64_t count,
                 double nearest, const Band& band) {
    const v4d centres = {0.5, 1.5, 2.5, 3.5}, zero = {}, limit = spread(nearest);
    for (int64_t n = 0; n < count; ++n) {
        const Box box = boxes[list[n]];
        Planes planes;
        if (!set_up(vertices, faces + 3 * static_cast<int64_t>(box.face), planes)) continue;
        const Vec* e = planes.edge;
        const Vec w = planes.inverse_depth;
        const v4l id = v4l{} + box.face;
        const int32_t first = box.x0 / kStep * kStep;
        const v4d ax = spread(e[0].x), bx = spread(e[1].x), cx = spread(e[2].x), wx = spread(w.x);
        for (int32_t y = std::max(box.y0, band.y0); y <= std::min(box.y1, band.y1); ++y) {
            const double v = y + 0.5;
            const v4d a = spread(e[0].y * v + e[0].z), b = spread(e[1].y * v + e[1].z),
                      c = spread(e[2].y * v + e[2].z), d = spread(w.y * v + w.z);
            const int64_t row = static_cast<int64_t>(y - band.y0) * band.stride;
            for (int32_t x = first; x <= box.x1; x += kStep) {
                const v4d u = centres + spread(x);
                const v4d depth = wx * u + d;
                v4d_unaligned* to_depth =
                    reinterpret_cast<v4d_unaligned*>(band.inverse_depth + row + x);
                v4l_unaligned* to_face = reinterpret_cast<v4l_unaligned*>(band.face + row + x);
                const v4d before = *to_depth;
                // Faces come in their order, so the first of equal depth stays.
                const v4l hit = (ax * u + a >= zero) & (bx * u + b >= zero) &
                                (cx * u + c >= zero) & (depth > before) & (depth <= limit);
                *to_depth = hit ? depth : before;
                *to_face = hit ? id : *to_face;
            }
        }
    }
}

struct Corners {
    Vec p[3];
    Vec edge[3];
};

// Edge functions in the order of the face's own corners.
INLINE Corners corners_of(Vec a, Vec b, Vec c) {
    return {{a, b, c}, {cross(b, c), cross(c, a), cross(a, b)}};
}

// Faces of a band to what the caller sees.
CLONED void resolve(const Vertex* RESTRICT vertices, const int64_t* RESTRICT faces,
                    const Band& band, int32_t width, int32_t* RESTRICT triangle,
                    float* RESTRICT weights, float* RESTRICT depth) {
    int64_t known = -1;
    Corners corners = {};
    for (int32_t y = band.y0; y <= band.y1; ++y) {
        for (int32_t x = 0; x < width; ++x) {
            const int64_t at = static_cast<int64_t>(y - band.y0) * band.stride + x;
            const int64_t out = static_cast<int64_t>(y) * width + x, face = band.face[at];
            triangle[out] = static_cast<int32_t>(face);
            if (face < 0) {
                depth[out] = weights[3 * out] = weights[3 * out + 1] = weights[3 * out + 2] = 0.0f;
                continue;
            }
            if (face != known) {
                const int64_t* f = faces + 3 * face;
                corners = corners_of(vertices[f[0]].q, vertices[f[1]].q, vertices[f[2]].q);
                known = face;
            }
            const Vec ray = {x + 0.5, y + 0.5, 1.0};
            double e[3];
            for (int i = 0; i < 3; ++i) e[i] = dot(corners.edge[i], ray);
            const double scale = 1.0 / ((e[0] + e[1]) + e[2]);
            for (int i = 0; i < 3; ++i)
                weights[3 * out + i] = static_cast<float>(std::max(e[i] * scale, 0.0));
            depth[out] = static_cast<float>(1.0 / band.inverse_depth[at]);
        }
    }
}

INLINE Vec point(const float* points, int64_t i) {
    return {points[3 * i], points[3 * i + 1], points[3 * i + 2]};
}

// With S the sum of the edge functions and w_i = e_i / S: d L / d e_i = (g_i - g . w) / S = h_i, and
// since e_i = r . (p_j x p_k), d L / d p_i = (h_k p_j - h_j p_k) x r for (i, j, k) cyclic. In camera
// coordinates, where r = K^-1 (u, v, 1).
CLONED void back(const float* RESTRICT points, const int64_t* RESTRICT faces, const View& view,
                 const int32_t* RESTRICT triangle, const float* RESTRICT grad,
                 float* RESTRICT rows, int32_t* RESTRICT index, int64_t begin, int64_t end) {
    const double* K = view.K;
    for (int64_t pixel = begin; pixel < end; ++pixel) {
        float* row = rows + 9 * pixel;
        if (triangle[pixel] < 0) {
            std::fill(row, row + 9, 0.0f);
            std::fill(index + 3 * pixel, index + 3 * pixel + 3, -1);
            continue;
        }
        const int64_t* f = faces + 3 * static_cast<int64_t>(triangle[pixel]);
        const Corners corners =
            corners_of(point(points, f[0]), point(points, f[1]), point(points, f[2]));
        const double v = ((pixel / view.width) + 0.5 - K[5]) / K[4];
        const double u = ((pixel % view.width) + 0.5 - K[2] - K[1] * v) / K[0];
        const Vec ray = {u, v, 1.0};
        double e[3], h[3];
        for (int i = 0; i < 3; ++i) e[i] = dot(corners.edge[i], ray);
        const double scale = 1.0 / ((e[0] + e[1]) + e[2]);
        const float* g = grad + 3 * pixel;
        const double mean = (g[0] * e[0] + g[1] * e[1] + g[2] * e[2]) * scale;
        for (int i = 0; i < 3; ++i) h[i] = (g[i] - mean) * scale;
        for (int i = 0; i < 3; ++i) {
            const int j = (i + 1) % 3, k = (i + 2) % 3;
            const Vec slope = cross(h[k] * corners.p[j] - h[j] * corners.p[k], ray);
            row[3 * i] = static_cast<float>(slope.x);
            row[3 * i + 1] = static_cast<float>(slope.y);
            row[3 * i + 2] = static_cast<float>(slope.z);
            index[3 * pixel + i] = static_cast<int32_t>(f[i]);
        }
    }
}

View view_of(const double* K, double near, int64_t height, int64_t width) {
    View view = {static_cast<int32_t>(height), static_cast<int32_t>(width), near, {}};
    std::copy(K, K + 9, view.K);
    return view;
}

}  // namespace

// points: [vertex_count][3] in camera coordinates.  faces: [face_count][3], within the points.
// K: 9 doubles, last row (0, 0, 1).  triangle, depth: [height][width].  weights: [height][width][3].
API void gd_rasterize(const float* points, int64_t vertex_count, const int64_t* faces,
                      int64_t face_count, const double* K, double near, int64_t height,
                      int64_t width, int32_t* triangle, float* weights, float* depth,
                      int threads) {
    const View view = view_of(K, near, height, width);
    const auto vertices = scratch<Vertex>(vertex_count);
    parallel_ranges(vertex_count, kGrain, threads, [&](int64_t begin, int64_t end) {
        project(points, view, vertices.get(), begin, end);
    });

    // Boxes in the order of the faces, then the boxes of each band in the same order.
    const int64_t bands = (height + kRows - 1) / kRows;
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, face_count / kGrain));
    const auto boxes = scratch<Box>(face_count + 1);
    const auto found = scratch<int64_t>(parts);
    const std::unique_ptr<int32_t[]> places(new int32_t[parts * bands]());
    const auto part_begin = [&](int64_t part) { return face_count * part / parts; };
    parallel(parts, threads, [&](int64_t part) {
        found[part] = find_boxes(vertices.get(), faces, view, boxes.get() + part_begin(part),
                                 places.get() + part * bands, part_begin(part),
                                 part_begin(part + 1));
    });
    const auto starts = scratch<int64_t>(bands + 1);
    int64_t total = 0;
    for (int64_t band = 0; band < bands; ++band) {
        starts[band] = total;
        for (int64_t part = 0; part < parts; ++part) {
            const int32_t count = places[part * bands + band];
            places[part * bands + band] = static_cast<int32_t>(total - starts[band]);
            total += count;
        }
    }
    starts[bands] = total;
    const auto list = scratch<int32_t>(total + 1);
    parallel(parts, threads, [&](int64_t part) {
        const int64_t begin = part_begin(part);
        for (int64_t at = begin; at < begin + found[part]; ++at)
            for (int64_t band = boxes[at].y0 / kRows; band <= boxes[at].y1 / kRows; ++band)
                list[starts[band] + places[part * bands + band]++] = static_cast<int32_t>(at);
    });

    const int32_t stride = static_cast<int32_t>((width + kStep - 1) / kStep * kStep);
    parallel(bands, threads, [&](int64_t b) {
        const auto inverse_depth = scratch<double>(int64_t{kRows} * stride);
        const auto face = scratch<int64_t>(int64_t{kRows} * stride);
        std::fill(inverse_depth.get(), inverse_depth.get() + kRows * stride, 0.0);
        std::fill(face.get(), face.get() + kRows * stride, int64_t{-1});
        const int32_t y0 = static_cast<int32_t>(b) * kRows;
        const int32_t y1 = std::min<int32_t>(y0 + kRows, view.height) - 1;
        const Band band = {y0, y1, stride, inverse_depth.get(), face.get()};
        draw(vertices.get(), faces, boxes.get(), list.get() + starts[b], starts[b + 1] - starts[b],
             1.0 / near, band);
        resolve(vertices.get(), faces, band, view.width, triangle, weights, depth);
    });
}

// grad: of the weights.  rows: [height][width][3][3], the gradient of each corner from each pixel.
// index: [height][width][3], the vertex of each corner, -1 where no face is seen.
API void gd_rasterize_backward(const float* points, const int64_t* faces, const double* K,
                               int64_t height, int64_t width, const int32_t* triangle,
                               const float* grad, float* rows, int32_t* index, int threads) {
    const View view = view_of(K, 0.0, height, width);
    large_pages(rows, height * width * 9);
    parallel_ranges(height * width, kGrainPixels, threads, [&](int64_t begin, int64_t end) {
        back(points, faces, view, triangle, grad, rows, index, begin, end);
    });
}

}  // namespace geodistill
