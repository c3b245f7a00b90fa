// What every kernel shares: the export macro, function clones per instruction set, a parallel loop.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

// Several versions of one function, chosen when the library is loaded. Only functions that carry
// this macro, and what is inlined into them, use the wider instructions.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONED
#endif

#define INLINE inline __attribute__((always_inline))
#define RESTRICT __restrict__
#define PREFETCH(address) __builtin_prefetch(address)

namespace geodistill {

using std::int32_t;
using std::int64_t;
using std::uint32_t;
using std::uint8_t;

// Asks for large pages in memory that is about to be written for the first time: the system's work
// for fresh pages of 4 KiB is more than what most kernels do in them.
inline void large_pages(float* memory, int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
#if defined(__linux__)
    if (bytes < (int64_t{4} << 20)) return;
    const uintptr_t page = 4096, address = reinterpret_cast<uintptr_t>(memory);
    const uintptr_t begin = (address + page - 1) / page * page,
                    end = (address + bytes) / page * page;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)bytes;
#endif
}

// Memory that is written before it is read.
template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
    static_assert(sizeof(T) % sizeof(float) == 0, "large_pages counts floats");
    std::unique_ptr<T[]> memory(new T[static_cast<size_t>(count)]);
    large_pages(reinterpret_cast<float*>(memory.get()), count * (sizeof(T) / sizeof(float)));
    return memory;
}

// Calls body(item) for item = 0 .. items - 1. Which thread gets which item is left open, so a body
// must own what it writes; results then do not depend on the number of threads.
template <class Body>
void parallel(int64_t items, int threads, const Body& body) {
    if (threads <= 1 || items <= 1) {
        for (int64_t item = 0; item < items; ++item) body(item);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
#endif
    for (int64_t item = 0; item < items; ++item) body(item);
}

// Calls body(begin, end) on consecutive ranges of [0, count), about equal and at least `grain`
// long.
template <class Body>
void parallel_ranges(int64_t count, int64_t grain, int threads, const Body& body) {
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, count / grain));
    parallel(parts, threads,
             [&](int64_t part) { body(count * part / parts, count * (part + 1) / parts); });
}

}  // namespace geodistill
