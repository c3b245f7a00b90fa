// Vectors of floats in the compiler's own extension: one source for every instruction set.
#pragma once

#include "common.h"

namespace geodistill {

// Eight lanes are what a register of x86-64-v3 holds. GCC keeps wider vectors in memory there, which
// costs more than they gain on processors that have them.
typedef float v4 __attribute__((vector_size(16)));
typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef int32_t v8i __attribute__((vector_size(32)));
constexpr int kLanes = 8;

typedef float v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef float v8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
    static INLINE float load(const float* p) { return *p; }
    static INLINE void store(float* p, float v) { *p = v; }
};
template <>
struct Lanes<v4> {
    static INLINE v4 load(const float* p) { return *reinterpret_cast<const v4_unaligned*>(p); }
    static INLINE void store(float* p, v4 v) { *reinterpret_cast<v4_unaligned*>(p) = v; }
};
template <>
struct Lanes<v8> {
    static INLINE v8 load(const float* p) { return *reinterpret_cast<const v8_unaligned*>(p); }
    static INLINE void store(float* p, v8 v) { *reinterpret_cast<v8_unaligned*>(p) = v; }
};

template <class T>
INLINE T load(const float* p) {
    return Lanes<T>::load(p);
}
template <class T>
INLINE void store(float* p, T v) {
    Lanes<T>::store(p, v);
}
template <class T>
INLINE void add(float* p, T v) {
    Lanes<T>::store(p, Lanes<T>::load(p) + v);
}

// Calls body(tag, c) for c over [begin, end) in steps of 8, then 4, then 1 lanes; the tag is a
// null pointer to the vector type of that step.
template <class Body>
INLINE void channels(int begin, int end, const Body& body) {
    int c = begin;
    for (; c + kLanes <= end; c += kLanes) body(static_cast<v8*>(nullptr), c);
    for (; c + 4 <= end; c += 4) body(static_cast<v4*>(nullptr), c);
    for (; c < end; ++c) body(static_cast<float*>(nullptr), c);
}

// For the lambdas given to `channels`: they must be inlined to use the wide instructions.
#define LANES_BODY(tag, c) [&](auto* tag, int c) __attribute__((always_inline))
#define LANES_TYPE(tag) std::remove_reference_t<decltype(*tag)>

INLINE float sum(float v) { return v; }
INLINE float sum(const v4& v) { return (v[0] + v[1]) + (v[2] + v[3]); }
INLINE float sum(const v8& v) {
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

INLINE v8 larger(v8 a, v8 b) { return b > a ? b : a; }
INLINE float largest(const v8& v) {
    float result = v[0];
    for (int i = 1; i < kLanes; ++i) result = v[i] > result ? v[i] : result;
    return result;
}

// expm1(r) for |r| <= log(2) / 2.
INLINE v8 expm1_small(v8 r) {
    v8 p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    return p * r * r + r;
}

// exp(-x) = scale * (1 + p) for x >= 0, p = expm1 of what is left of x after halvings.
INLINE void reduce(v8 x, v8& scale, v8& p) {
    const float log2e = 1.44269504f, magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds
    const v8 limit = v8{} + 87.0f;
    const v8 y = -(x > limit ? limit : x);
    const v8 shifted = y * log2e + magic;
    const v8 n = shifted - magic;
    const v8 r = (y - n * 0.693145752f) - n * 1.42860677e-6f;
    scale = (v8)(((v8i)shifted << 23) + 0x3f800000);
    p = expm1_small(r);
}

// exp(-x) and expm1(-x) for x >= 0, to about an ulp of their larger term.
INLINE v8 exp_negative(v8 x) {
    v8 scale, p;
    reduce(x, scale, p);
    return scale * p + scale;
}
INLINE v8 expm1_negative(v8 x) {
    v8 scale, p;
    reduce(x, scale, p);
    return scale * p + (scale - 1.0f);
}

// Up to here nothing is halved, and expm1_negative(x) is expm1_small(-x) to the bit.
constexpr float kSmall = 0.3465f;

}  // namespace geodistill
