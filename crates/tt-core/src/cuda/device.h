// What our kernels may use, in two versions: thin wrappers of CUDA under NVRTC, and in plain C++ an emulation
// (intrinsics.h) that runs the same kernels on the CPU, so that they are tested where there is no GPU.
//
// A kernel is `KERNEL(name)(arguments) { ... }`, followed by `EMULATED(name)` at namespace scope. It takes
// pointers and 4 or 8 byte scalars, uses dynamic shared memory alone (`SHARED(float, name)`), full warps, and for
// words that other blocks poll only the functions below that acquire, release or mark. `KERNEL_OF(name, threads, blocks)` promises
// blocks of at most so many threads, and asks for registers few enough to have so many blocks on one processor.
// `KERNEL_OF_CLUSTERS(name, threads, size)` is for compute capability 9.0: `size` blocks beside each other along x run at the
// same time and reach each other's shared memory.
#ifdef __CUDACC_RTC__
#pragma nv_diag_suppress 177 // functions that a source does not use

#define KERNEL(name) extern "C" __global__ void name
#define KERNEL_OF(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define KERNEL_OF_CLUSTERS(name, threads, size)                                                                 \
    extern "C" __global__ void __cluster_dims__(size, 1, 1) __launch_bounds__(threads, 1) name
#define DEVICE static __device__ __forceinline__
#define SHARED(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                                     \
    type* name = reinterpret_cast<type*>(dynamic_shared_memory)
#define EMULATED(kernel)
#define UNROLL _Pragma("unroll")

// Lets other threads run while waiting for a word of another block.
DEVICE void spin() { __nanosleep(20); }

// Ends the launch with an error that nothing on the device survives; memory of the host does.
DEVICE void trap() { asm volatile("trap;"); }

DEVICE unsigned load_acquire(const unsigned* word) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}

DEVICE void store_release(unsigned* word, unsigned value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

DEVICE void add_release(unsigned* word, unsigned value) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

// A number and a mark in one word of 8 bytes, for blocks that wait for the mark: what is read together needs no fence.
DEVICE void store_marked(unsigned long long* word, float value, unsigned mark) {
    unsigned long long both = static_cast<unsigned long long>(mark) << 32 | __float_as_uint(value);
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(both) : "memory");
}

DEVICE unsigned long long load_marked(const unsigned long long* word) {
    unsigned long long both;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(both) : "l"(word) : "memory");
    return both;
}

// An address of shared memory that the blocks of a cluster understand.
using ClusterAddress = unsigned;

// Where block `rank` of the cluster has what this block has at `shared`.
DEVICE ClusterAddress in_block(const void* shared, unsigned rank) {
    ClusterAddress there;
    unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
    return there;
}

// All threads of all blocks of the cluster, each with what it wrote to shared memory before.
DEVICE void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A word of 8 bytes of shared memory that counts bytes on their way here; one thread sets it up, before a barrier of the
// cluster. Its phases, 0, 1 .., end when the bytes that one thread expects have arrived.
DEVICE void set_up_arrivals(unsigned long long* arrivals) {
    unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(arrivals));
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\tfence.mbarrier_init.release.cluster;" ::"r"(here) : "memory");
}
DEVICE void expect_bytes(unsigned long long* arrivals, unsigned bytes) {
    unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(arrivals));
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(here), "r"(bytes) : "memory");
}
// Whether a phase has ended, by its last bit; waits some time for it.
DEVICE bool have_arrived(unsigned long long* arrivals, unsigned phase) {
    unsigned here = static_cast<unsigned>(__cvta_generic_to_shared(arrivals)), passed;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(passed)
                 : "r"(here), "r"(phase & 1)
                 : "memory");
    return passed != 0;
}
// Sends a number to a block of the cluster and counts its 4 bytes there; both addresses are of that block.
DEVICE void send(ClusterAddress to, float value, ClusterAddress arrivals) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
                 "r"(__float_as_uint(value)), "r"(arrivals)
                 : "memory");
}

// Loads past the first-level cache: numbers that other blocks write while this kernel runs.
DEVICE float load_fresh(const float* from) { return __ldcg(from); }
DEVICE float4 load_fresh(const float4* from) { return __ldcg(from); }

// Loads of what is read once and not written: it takes no room of the first-level cache from what is read again.
DEVICE unsigned load_once(const unsigned* from) {
    unsigned value;
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(value) : "l"(from));
    return value;
}
DEVICE uint2 load_once(const uint2* from) {
    uint2 value;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(from));
    return value;
}

// Barrier `id` (1 to 15; 0 is that of __syncthreads) of `threads` threads of the block, a multiple of 32.
DEVICE void named_barrier(unsigned id, unsigned threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Starts to copy 16 bytes from global to shared memory, both aligned to 16.
DEVICE void copy_async16(void* shared, const void* global) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

// The same for 4 bytes aligned to 4.
DEVICE void copy_async4(void* shared, const void* global) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(global) : "memory");
}

// Closes a group of copies.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all of this thread's groups but the latest `groups` are there.
template <int groups>
DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Two numbers rounded to f16 or bf16 (to nearest, ties to even), `low` in the low half.
DEVICE unsigned pack_f16(float low, float high) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
DEVICE unsigned pack_bf16(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// Halves of `pack_f16` as floats.
DEVICE float low_f16(unsigned both) {
    float value;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }" : "=f"(value) : "r"(both));
    return value;
}
DEVICE float high_f16(unsigned both) {
    float value;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high; }" : "=f"(value) : "r"(both));
    return value;
}

// a - b in both halves.
DEVICE unsigned subtract_f16(unsigned a, unsigned b) {
    unsigned both;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(both) : "r"(a), "r"(b));
    return both;
}

// d += a b, `a [16, 16]`, `b [16, 8]`, in fragments of mma.sync.aligned.m16n8k16.row.col:
// with g = lane / 4 and t = lane % 4, a[0] holds (g, 2t..2t+1), a[1] (g + 8, ..), a[2] (g, 2t + 8 ..), a[3] both;
// b[0] holds (2t..2t+1, g), b[1] (2t + 8 .., g); d[0..1] is (g, 2t..2t+1), d[2..3] (g + 8, ..).
DEVICE void mma_f16(float d[4], const unsigned a[4], const unsigned b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_bf16(float d[4], const unsigned a[4], const unsigned b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else
#include "intrinsics.h"
#endif

// Both halves of `pack_bf16` as floats.
DEVICE float low_bf16(unsigned both) { return __uint_as_float(both << 16); }
DEVICE float high_bf16(unsigned both) { return __uint_as_float(both & 0xffff0000u); }

// Cycles that a wait for another block or a copy may last, 15 to 25 seconds: what takes longer never ends.
constexpr long long PATIENCE = 1ll << 35;

// Gives up a wait without an end: leaves block and step in `report`, a word of the host's memory, and traps.
DEVICE void give_up(unsigned long long* report, unsigned step) {
    // One store, so that words of several blocks do not mix.
    *report = 1ull << 63 | static_cast<unsigned long long>(blockIdx.x) << 32 | step;
    __threadfence_system();
    trap();
}
