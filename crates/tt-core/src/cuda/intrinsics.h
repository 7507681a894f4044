// What CUDA and device.h give to kernels, in C++ on top of emulator.h.
#pragma once
#include "emulator.h"
#include <cmath>

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace emulator {

inline float bf16(unsigned both, unsigned half) {
    unsigned bits = half ? both & 0xffff0000u : both << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Every number of f16.
struct F16 {
    float values[1 << 16];
    F16() {
        for (int bits = 0; bits < 1 << 16; ++bits) {
            int exponent = bits >> 10 & 31, digits = bits & 1023;
            bool normal = exponent != 0;
            float value = std::ldexp(float(normal ? digits + 1024 : digits), normal ? exponent - 25 : -24);
            if (exponent == 31) value = digits == 0 ? INFINITY : NAN;
            values[bits] = bits >> 15 ? -value : value;
        }
    }
};
inline const F16 f16_values;
inline float f16(unsigned both, unsigned half) { return f16_values.values[half ? both >> 16 : both & 0xffff]; }

// Rounded toward zero, as tensor cores do.
inline float toward_zero(double exact) {
    float value = static_cast<float>(exact);
    return std::fabs(static_cast<double>(value)) > std::fabs(exact) ? std::nextafterf(value, 0.0f) : value;
}

} // namespace emulator

#define KERNEL(name) static void name
#define KERNEL_OF(name, threads, blocks) static void name
#define KERNEL_OF_CLUSTERS(name, threads, size) static void name
#define DEVICE [[maybe_unused]] static inline
#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::now->block->shared)
#define EMULATED(kernel)                                                                                       \
    static emulator::Register register_##kernel(                                                               \
        #kernel, [](std::vector<emulator::Argument>& given) { emulator::call(kernel, given); });
#define UNROLL
#define threadIdx (emulator::now->index)
#define blockIdx (emulator::now->block->index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid)

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }
template <class T>
T __ldg(const T* from) {
    return *from;
}
template <class T>
T load_fresh(const T* from) {
    return *from;
}
template <class T>
T load_once(const T* from) {
    return *from;
}
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __double2int_rn(double x) { return static_cast<int>(std::nearbyint(x)); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    uint64_t both = static_cast<uint64_t>(y) << 32 | x;
    unsigned result = 0;
    for (unsigned k = 0; k < 4; ++k) result |= (both >> 8 * (selector >> 4 * k & 7) & 0xff) << 8 * k;
    return result;
}

inline void __syncthreads() { emulator::meet(emulator::now->block->barriers[0], emulator::now->block->alive); }
inline void named_barrier(unsigned id, unsigned threads) {
    if (id == 0 || id > 15 || threads % 32 != 0) emulator::fail("no such barrier");
    emulator::meet(emulator::now->block->barriers[id], threads);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator::show("__syncwarp", mask, &mask, 4); }
template <class T>
T __shfl_sync(unsigned mask, T value, unsigned from, unsigned width = 32) {
    unsigned first = emulator::now->lane / width * width;
    return emulator::shuffle("__shfl_sync", mask, value, first + from % width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned flip, unsigned width = 32) {
    unsigned lane = emulator::now->lane, from = lane ^ flip;
    if (flip >= width) emulator::fail("__shfl_xor_sync across its width");
    return emulator::shuffle("__shfl_xor_sync", mask, value, from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, unsigned width = 32) {
    unsigned lane = emulator::now->lane, from = lane + delta;
    return emulator::shuffle("__shfl_down_sync", mask, value, from / width == lane / width ? from : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned mine = predicate != 0, result = 0;
    const emulator::Shown* shown = emulator::show("__ballot_sync", mask, &mine, 4);
    for (unsigned lane = 0; lane < 32; ++lane) result |= shown[lane].words[0] << lane;
    return result;
}

template <class T>
T atomicAdd(T* to, T value) {
    T before = *to;
    *to = before + value;
    emulator::progress += 1;
    return before;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void spin() { emulator::yield(); }
inline void trap() { emulator::trap(); }
// Time passes only while every thread waits: no wait that has an end lasts long.
inline long long clock64() { return static_cast<long long>(emulator::idle) << 28; }
inline unsigned load_acquire(const unsigned* word) { return *const_cast<const volatile unsigned*>(word); }
inline unsigned long long load_marked(const unsigned long long* word) {
    return *const_cast<const volatile unsigned long long*>(word);
}
inline void store_marked(unsigned long long* word, float value, unsigned mark) {
    *word = static_cast<unsigned long long>(mark) << 32 | __float_as_uint(value);
    emulator::progress += 1;
}
inline void store_release(unsigned* word, unsigned value) {
    *word = value;
    emulator::release_block();
}
inline void add_release(unsigned* word, unsigned value) {
    *word += value;
    emulator::release_block();
}

using ClusterAddress = unsigned char*;
inline ClusterAddress in_block(const void* shared, unsigned rank) {
    if (rank >= emulator::cluster_size) emulator::fail("no such block in the cluster");
    emulator::Block& own = *emulator::now->block;
    return own.cluster[rank].shared + (static_cast<const unsigned char*>(shared) - own.shared);
}
inline void cluster_barrier() {
    unsigned threads = emulator::block_size.x * emulator::block_size.y * emulator::block_size.z;
    emulator::meet(emulator::now->block->cluster->of_cluster, emulator::cluster_size * threads);
}
inline void set_up_arrivals(unsigned long long* arrivals) { emulator::now->block->arrivals[arrivals] = {}; }
inline void expect_bytes(unsigned long long* arrivals, unsigned bytes) {
    emulator::Arrivals& ours = emulator::arrivals_at(*emulator::now->block, arrivals);
    if (ours.waits_for == 0) emulator::fail("two threads say what is expected in one phase");
    ours.waits_for -= 1;
    ours.bytes += bytes;
    emulator::settle(ours);
}
inline bool have_arrived(unsigned long long* arrivals, unsigned phase) {
    emulator::Arrivals& ours = emulator::arrivals_at(*emulator::now->block, arrivals);
    emulator::arrive(ours);
    return (ours.phase & 1) != (phase & 1);
}
inline void send(ClusterAddress to, float value, ClusterAddress arrivals) {
    emulator::Block& there = emulator::owner(to);
    if (&there != &emulator::owner(arrivals)) emulator::fail("a number and its count in two blocks");
    if (there.alive == 0) emulator::fail("a number for a block that has ended");
    emulator::Arrivals& theirs = emulator::arrivals_at(there, arrivals);
    if (emulator::early) std::memcpy(to, &value, 4);
    else theirs.open.push_back({to, __float_as_uint(value)});
    theirs.bytes -= 4;
    emulator::settle(theirs);
}

// Copies happen when they are waited for: a kernel that does not wait reads what was there before.
inline void emulated_copy(void* shared, const void* global, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(shared) % bytes != 0 || reinterpret_cast<uintptr_t>(global) % bytes != 0)
        emulator::fail("a copy that is not aligned to its size");
    emulator::now->open.push_back({shared, global, bytes});
}
inline void copy_async16(void* shared, const void* global) { emulated_copy(shared, global, 16); }
inline void copy_async4(void* shared, const void* global) { emulated_copy(shared, global, 4); }
inline void copy_async_commit() {
    emulator::now->groups.push_back(std::move(emulator::now->open));
    emulator::now->open.clear();
}
template <int groups>
void copy_async_wait() {
    auto& waiting = emulator::now->groups;
    while (waiting.size() > groups) {
        for (const emulator::Copy& copy : waiting.front()) std::memcpy(copy.to, copy.from, copy.bytes);
        waiting.pop_front();
    }
}

inline unsigned emulated_bf16(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff; // NaN
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline unsigned pack_bf16(float low, float high) { return emulated_bf16(high) << 16 | emulated_bf16(low); }

inline unsigned emulated_f16(float value) {
    unsigned sign = __float_as_uint(value) >> 31 << 15;
    double size = std::fabs(static_cast<double>(value));
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0) return sign | 0x7c00;
    if (size == 0.0) return sign;
    int exponent = std::ilogb(size) < -14 ? -14 : std::ilogb(size);
    // A carry into the next exponent adds up to the right bits.
    unsigned digits = static_cast<unsigned>(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return sign | (static_cast<unsigned>(exponent + 14) * 1024 + digits);
}
inline unsigned pack_f16(float low, float high) { return emulated_f16(high) << 16 | emulated_f16(low); }
inline float low_f16(unsigned both) { return emulator::f16(both, 0); }
inline float high_f16(unsigned both) { return emulator::f16(both, 1); }
inline unsigned subtract_f16(unsigned a, unsigned b) {
    return pack_f16(low_f16(a) - low_f16(b), high_f16(a) - high_f16(b));
}

// Products and their sum are exact but for one rounding toward zero: tensor cores do not do better.
template <float (*number)(unsigned, unsigned)>
void emulated_mma(const char* what, float d[4], const unsigned a[4], const unsigned b[2]) {
    const unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const emulator::Shown* shown = emulator::show(what, 0xffffffffu, mine, sizeof mine);
    unsigned row = emulator::now->lane / 4, column = emulator::now->lane % 4 * 2;
    for (unsigned e = 0; e < 4; ++e) {
        double sum = d[e];
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned* left = shown[row * 4 + k % 8 / 2].words;
            const unsigned* right = shown[(column + e % 2) * 4 + k % 8 / 2].words + 4;
            sum += static_cast<double>(number(left[e / 2 + k / 8 * 2], k % 2)) *
                   static_cast<double>(number(right[k / 8], k % 2));
        }
        d[e] = emulator::toward_zero(sum);
    }
}
inline void mma_f16(float d[4], const unsigned a[4], const unsigned b[2]) {
    emulated_mma<emulator::f16>("mma_f16", d, a, b);
}
inline void mma_bf16(float d[4], const unsigned a[4], const unsigned b[2]) {
    emulated_mma<emulator::bf16>("mma_bf16", d, a, b);
}
