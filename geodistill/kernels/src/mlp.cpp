// Small MLPs without bias: blocks of points whose activations stay in the cache, forward and
// backward.
#include "vector.h"

namespace geodistill {
namespace {

constexpr int kBlock = 96;  // points; a multiple of kRows
constexpr int kRows = 6;  // rows of a register tile, 16 columns each: fits 16 registers of 8 lanes
constexpr int kMaxLayers = 16;
constexpr int kBlocksPerItem = 8;
constexpr int64_t kMaxChunks = 32;

INLINE int padded(int width) { return (width + 15) / 16 * 16; }

// a(m, k) = data[m * row + k * column]
struct Matrix {
    const float* data;
    int64_t row, column;
};

enum class Finish { kStore, kRelu, kAdd };

template <Finish finish>
INLINE void finish_tile(v8 total, float* to) {
    if constexpr (finish == Finish::kAdd) total += load<v8>(to);
    // Written so that NaN stays NaN.
    if constexpr (finish == Finish::kRelu) total = total < 0.0f ? v8{} : total;
    store(to, total);
}

// to[m][0:16] = sum over k of a(m, k) b[k][0:16]
template <int M, Finish finish>
INLINE void tile(const Matrix& a, const float* RESTRICT b, int64_t b_row, int depth,
                 float* RESTRICT to, int64_t to_row) {
    v8 left[M] = {}, right[M] = {};
    for (int k = 0; k < depth; ++k) {
        const v8 first = load<v8>(b + k * b_row), second = load<v8>(b + k * b_row + kLanes);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            const float factor = a.data[m * a.row + k * a.column];
            left[m] += first * factor;
            right[m] += second * factor;
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
        finish_tile<finish>(left[m], to + m * to_row);
        finish_tile<finish>(right[m], to + m * to_row + kLanes);
    }
}

// `columns` is a multiple of 16.
template <Finish finish>
INLINE void product(const Matrix& a, int rows, const float* b, int64_t b_row, int depth, float* to,
                    int64_t to_row, int columns) {
    for (int n = 0; n < columns; n += 16) {
        int m = 0;
        for (; m + kRows <= rows; m += kRows)
            tile<kRows, finish>({a.data + m * a.row, a.row, a.column}, b + n, b_row, depth,
                                to + m * to_row + n, to_row);
        for (; m + 2 <= rows; m += 2)
            tile<2, finish>({a.data + m * a.row, a.row, a.column}, b + n, b_row, depth,
                            to + m * to_row + n, to_row);
        for (; m < rows; ++m)
            tile<1, finish>({a.data + m * a.row, a.row, a.column}, b + n, b_row, depth,
                            to + m * to_row + n, to_row);
    }
}

CLONED void product_store(const Matrix& a, int rows, const float* b, int64_t b_row, int depth,
                          float* to, int64_t to_row, int columns) {
    product<Finish::kStore>(a, rows, b, b_row, depth, to, to_row, columns);
}
CLONED void product_relu(const Matrix& a, int rows, const float* b, int64_t b_row, int depth,
                         float* to, int64_t to_row, int columns) {
    product<Finish::kRelu>(a, rows, b, b_row, depth, to, to_row, columns);
}
CLONED void product_add(const Matrix& a, int rows, const float* b, int64_t b_row, int depth,
                        float* to, int64_t to_row, int columns) {
    product<Finish::kAdd>(a, rows, b, b_row, depth, to, to_row, columns);
}

CLONED void mask(float* RESTRICT grad, const float* RESTRICT active, int64_t count) {
    for (int64_t i = 0; i < count; ++i) grad[i] = active[i] > 0.0f ? grad[i] : 0.0f;
}

// Rows of `width` floats to rows of padded(width), zeros in between and in the rows after `count`.
void widen(const float* from, int64_t count, int width, float* to, int64_t rows) {
    const int wide = padded(width);
    for (int64_t i = 0; i < rows; ++i) {
        const int filled = i < count ? width : 0;
        std::memcpy(to + i * wide, from + i * width, filled * sizeof(float));
        std::fill(to + i * wide + filled, to + (i + 1) * wide, 0.0f);
    }
}

void narrow(const float* from, int64_t count, int width, float* to) {
    const int wide = padded(width);
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + i * width, from + i * wide, width * sizeof(float));
}

}  // namespace

struct Layer {
    const float* weight;  // [outputs][inputs]
    int32_t inputs, outputs;
};

namespace {

// The weights as both passes read them, and where each layer's floats lie in shared buffers.
struct Network {
    const Layer* layers;
    int count;
    std::unique_ptr<float[]> forward[kMaxLayers];   // [inputs][padded outputs]
    std::unique_ptr<float[]> backward[kMaxLayers];  // [outputs][padded inputs]
    int64_t activations[kMaxLayers + 1];  // offsets of the inputs of each layer in a block
    int64_t gradients[kMaxLayers + 1];    // offsets of each layer's [outputs][padded inputs]
    int widest = 0;

    Network(const Layer* layers, int count) : layers(layers), count(count) {
        activations[0] = gradients[0] = 0;
        for (int l = 0; l < count; ++l) {
            const int in = layers[l].inputs, out = layers[l].outputs;
            widest = std::max({widest, padded(in), padded(out)});
            activations[l + 1] = activations[l] + int64_t{kBlock} * padded(in);
            gradients[l + 1] = gradients[l] + int64_t{out} * padded(in);
            forward[l] = scratch<float>(int64_t{in} * padded(out));
            std::fill(forward[l].get(), forward[l].get() + int64_t{in} * padded(out), 0.0f);
            for (int o = 0; o < out; ++o)
                for (int i = 0; i < in; ++i)
                    forward[l][int64_t{i} * padded(out) + o] =
                        layers[l].weight[int64_t{o} * in + i];
            backward[l] = scratch<float>(int64_t{out} * padded(in));
            widen(layers[l].weight, out, in, backward[l].get(), out);
        }
    }
    int inputs() const { return layers[0].inputs; }
    int outputs() const { return layers[count - 1].outputs; }

    // block: activations of every layer, the first of them filled in.
    void hidden(float* block, int rows) const {
        for (int l = 0; l + 1 < count; ++l)
            run(l, block, rows, block + activations[l + 1], product_relu);
    }
    void last(const float* block, int rows, float* out) const {
        run(count - 1, block, rows, out, product_store);
    }
    template <class Product>
    void run(int l, const float* block, int rows, float* out, Product* multiply) const {
        const int in = layers[l].inputs, wide = padded(layers[l].outputs);
        multiply({block + activations[l], padded(in), 1}, rows, forward[l].get(), wide, in, out,
                 wide, wide);
    }
};

struct Points {
    int64_t at;
    int count, rows;  // rows: count, up to whole tiles

    Points(int64_t block, int64_t n) : at(block * kBlock) {
        count = static_cast<int>(std::min<int64_t>(kBlock, n - at));
        rows = (count + kRows - 1) / kRows * kRows;
    }
};

// Adds the block's weight gradients to `sums`; writes grad_x where it is not null.
void backward_block(const Network& net, const Points& points, const float* x, const float* grad,
                    float* sums, float* grad_x, float* block, float* behind, float* ahead) {
    const int in = net.inputs(), out = net.outputs();
    widen(x + points.at * in, points.count, in, block, points.rows);
    net.hidden(block, points.rows);
    widen(grad + points.at * out, points.count, out, behind, points.rows);
    for (int l = net.count - 1; l >= 0; --l) {
        const Layer& layer = net.layers[l];
        const int wide_in = padded(layer.inputs), wide_out = padded(layer.outputs);
        const float* input = block + net.activations[l];
        product_add({behind, 1, wide_out}, layer.outputs, input, wide_in, points.rows,
                    sums + net.gradients[l], wide_in, wide_in);
        if (l == 0 && !grad_x) return;
        product_store({behind, wide_out, 1}, points.rows, net.backward[l].get(), wide_in,
                      layer.outputs, ahead, wide_in, wide_in);
        if (l > 0) mask(ahead, input, int64_t{points.rows} * wide_in);
        std::swap(behind, ahead);
    }
    narrow(behind, points.count, in, grad_x + points.at * in);
}

}  // namespace

// x: [n][inputs].  out: [n][outputs].
API void gd_mlp_forward(const Layer* layers, int count, const float* x, int64_t n, float* out,
                        int threads) {
    const Network net(layers, count);
    const int64_t blocks = (n + kBlock - 1) / kBlock;
    large_pages(out, n * net.outputs());
    parallel((blocks + kBlocksPerItem - 1) / kBlocksPerItem, threads, [&](int64_t item) {
        const auto block = scratch<float>(net.activations[count]);
        const auto result = scratch<float>(int64_t{kBlock} * net.widest);
        const int64_t end = std::min((item + 1) * kBlocksPerItem, blocks);
        for (int64_t b = item * kBlocksPerItem; b < end; ++b) {
            const Points points(b, n);
            widen(x + points.at * net.inputs(), points.count, net.inputs(), block.get(),
                  points.rows);
            net.hidden(block.get(), points.rows);
            net.last(block.get(), points.rows, result.get());
            narrow(result.get(), points.count, net.outputs(), out + points.at * net.outputs());
        }
    });
}

// grad: [n][outputs].  grad_weights: one per layer, overwritten.  grad_x: [n][inputs] or null.
// The points are summed in chunks whose number follows from n alone, and the chunks in order.
API void gd_mlp_backward(const Layer* layers, int count, const float* x, int64_t n,
                         const float* grad, float* const* grad_weights, float* grad_x,
                         int threads) {
    const Network net(layers, count);
    const int64_t blocks = (n + kBlock - 1) / kBlock, size = net.gradients[count];
    const int64_t chunks = std::clamp<int64_t>(blocks / 8, 1, kMaxChunks);
    const auto sums = scratch<float>(chunks * size);
    if (grad_x) large_pages(grad_x, n * net.inputs());
    parallel(chunks, threads, [&](int64_t chunk) {
        const auto block = scratch<float>(net.activations[count]);
        const auto behind = scratch<float>(int64_t{kBlock} * net.widest);
        const auto ahead = scratch<float>(int64_t{kBlock} * net.widest);
        float* own = sums.get() + chunk * size;
        std::fill(own, own + size, 0.0f);
        for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks; ++b)
            backward_block(net, Points(b, n), x, grad, own, grad_x, block.get(), behind.get(),
                           ahead.get());
    });
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
        for (int64_t i = 0; i < size; ++i) sums[i] += sums[chunk * size + i];
    for (int l = 0; l < count; ++l)
        narrow(sums.get() + net.gradients[l], layers[l].outputs, layers[l].inputs, grad_weights[l]);
}

}  // namespace geodistill
