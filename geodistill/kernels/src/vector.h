// Vectors of floats in the compiler's own extension: one source for every instruction set.
#pragma once

#include "common.h"

namespace geodistill {

typedef float v4 __attribute__((vector_size(16)));
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));

typedef float v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef float v16_unaligned __attribute__((vector_size(64), aligned(4), may_alias));

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
struct Lanes<v16> {
    static INLINE v16 load(const float* p) { return *reinterpret_cast<const v16_unaligned*>(p); }
    static INLINE void store(float* p, v16 v) { *reinterpret_cast<v16_unaligned*>(p) = v; }
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

// Calls body(tag, c) for c over [begin, end) in steps of 16, then 4, then 1 lanes; the tag is a null
// pointer to the vector type of that step.
template <class Body>
INLINE void channels(int begin, int end, const Body& body) {
    int c = begin;
    for (; c + 16 <= end; c += 16) body(static_cast<v16*>(nullptr), c);
    for (; c + 4 <= end; c += 4) body(static_cast<v4*>(nullptr), c);
    for (; c < end; ++c) body(static_cast<float*>(nullptr), c);
}

// For the lambdas given to `channels`: they must be inlined to use the wide instructions.
#define LANES_BODY(tag, c) [&](auto* tag, int c) __attribute__((always_inline))
#define LANES_TYPE(tag) std::remove_reference_t<decltype(*tag)>

INLINE float sum(float v) { return v; }
INLINE float sum(const v4& v) { return (v[0] + v[1]) + (v[2] + v[3]); }
INLINE float sum(const v16& v) {
    float parts[4];
    for (int i = 0; i < 4; ++i) parts[i] = (v[i] + v[i + 4]) + (v[i + 8] + v[i + 12]);
    return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// expm1(-x) for x >= 0, to about 1 ulp of the larger of its terms; scale is 2^n with exp(-x) =
// scale * (1 + p), so exp(-x) = expm1(-x) + 1 as well.
INLINE v16 expm1_negative(v16 x) {
    const float log2e = 1.44269504f, magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds
    const v16 limit = v16{} + 87.0f;
    const v16 y = -(x > limit ? limit : x);
    const v16 shifted = y * log2e + magic;
    const v16 n = shifted - magic;
    const v16 r = (y - n * 0.693145752f) - n * 1.42860677e-6f;
    v16 p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r;
    const i16 bits = ((i16)shifted << 23) + 0x3f800000;
    const v16 scale = (v16)bits;
    return scale * p + (scale - 1.0f);
}

}  // namespace geodistill
