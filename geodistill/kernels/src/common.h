// What every kernel shares: the export macro, function clones per instruction set, a parallel loop.
#pragma once

#include <algorithm>
#include <atomic>
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
#if !defined(__x86_64__) || !defined(__GLIBC__) || defined(__clang__)
#define CLONED
#elif __GNUC__ >= 12
#define CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
// Without the levels of the architecture: "avx512f" would fuse multiply-adds in whole vectors but
// not in what is left of a loop, and results would depend on where a thread's range begins.
#define CLONED __attribute__((target_clones("default", "avx2")))
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
    (void)memory, (void)bytes;
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

// GOMP_parallel of the OpenMP runtime that is in the process already: it runs a function on a team
// of threads and waits for them. libgomp, libomp and libiomp5 all have it. Called by its address,
// it needs no -fopenmp and can bring no second runtime along. Null: everything runs on the caller.
using Team = void (*)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
extern Team team;

// Calls body(item) for item = 0 .. items - 1. Which thread gets which item is left open, so a body
// must own what it writes; results then do not depend on the number of threads.
template <class Body>
void parallel(int64_t items, int threads, const Body& body) {
    struct Job {
        const Body& body;
        const int64_t items;
        std::atomic<int64_t> next{0};

        void work() {
            for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;)
                body(item);
        }
    } job{body, items};
    const int64_t most = std::min<int64_t>(threads, items);
    if (team == nullptr || most <= 1) return job.work();
    team([](void* data) { static_cast<Job*>(data)->work(); }, &job, static_cast<unsigned>(most), 0);
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
