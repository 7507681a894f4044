// What compute capability 9.0 has beyond device.h (architecture sm_90a), in the same two versions: copies by the copy engine,
// and products of four warps, which run on their own while the warps go on.
#ifdef __CUDACC_RTC__

// Starts to copy so many bytes from global to shared memory, addresses and number multiples of 16; `arrivals`, which must
// expect them, counts those that are there.
DEVICE void copy_bulk(void* shared, const void* global, unsigned bytes, unsigned long long* arrivals) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    unsigned count = static_cast<unsigned>(__cvta_generic_to_shared(arrivals));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(global),
                 "r"(bytes), "r"(count)
                 : "memory");
}

// The descriptor of a right operand in shared memory, without swizzling: blocks of 8 columns by 16 bytes along the sum, each
// 128 bytes together, `along` bytes from one to the next along the sum and `across` to the next 8 columns.
DEVICE unsigned long long describe(const void* operand, unsigned along, unsigned across) {
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(operand));
    return static_cast<unsigned long long>(across >> 4) << 32 | (along >> 4) << 16 | (at & 0x3ffff) >> 4;
}

// Before the first of a run of products, when registers have been written that they read.
DEVICE void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes a group of products.
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until all groups of products but the latest `groups` are done: only then may registers that they read be written,
// and those that they write be touched.
template <int groups, int sums>
DEVICE void products_wait(int (&d)[sums]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
    // Nothing that reads the sums may be moved before the wait.
    if (groups == 0) {
        UNROLL for (int k = 0; k < sums; ++k) asm volatile("" : "+r"(d[k])::"memory");
    }
}

// The operands of a product as text, and as registers.
#define TEN(tens) "%" #tens "0, %" #tens "1, %" #tens "2, %" #tens "3, %" #tens "4, %" #tens "5, %" #tens "6, %" #tens "7, %" #tens "8, %" #tens "9"
#define SUMS_4(k) "+r"(d[k]), "+r"(d[k + 1]), "+r"(d[k + 2]), "+r"(d[k + 3])
#define SUMS_24(k) SUMS_4(k), SUMS_4(k + 4), SUMS_4(k + 8), SUMS_4(k + 12), SUMS_4(k + 16), SUMS_4(k + 20)
#define PRODUCT(columns, names, a0, a1, a2, a3, right, more, ...)                                                         \
    DEVICE void start_product(int (&d)[columns / 2], const unsigned (&a)[4], unsigned long long b, bool add) {         \
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #more ", 0; wgmma.mma_async.sync.aligned.m64n" #columns        \
                     "k32.s32.u8.s8 {" names "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #right ", p; }"          \
                     : __VA_ARGS__                                                                                     \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));                \
    }

// d = a b, or d += a b, `a [64, 32]` bytes without sign and `b [32, 2 * sums]` bytes with, in fragments of
// wgmma.mma_async.sync.aligned.m64nNk32: all four warps start it together; the rows of `a` and d are those of a warp, 16 each, with g = lane
// / 4 and t = lane % 4: a[0] holds (g, 4t..4t+3), a[1] (g + 8, ..), a[2] (g, 4t + 16 ..), a[3] both; d[4n..4n+1] is (g, 8n +
// 2t..8n + 2t+1), d[4n+2..4n+3] (g + 8, ..).
PRODUCT(48, TEN() ", " TEN(1) ", %20, %21, %22, %23", 24, 25, 26, 27, 28, 29, SUMS_24(0))
PRODUCT(96, TEN() ", " TEN(1) ", " TEN(2) ", " TEN(3) ", %40, %41, %42, %43, %44, %45, %46, %47", 48, 49, 50, 51, 52, 53,
        SUMS_24(0), SUMS_24(24))
PRODUCT(144, TEN() ", " TEN(1) ", " TEN(2) ", " TEN(3) ", " TEN(4) ", " TEN(5) ", " TEN(6) ", %70, %71", 72, 73, 74, 75,
        76, 77, SUMS_24(0), SUMS_24(24), SUMS_24(48))
PRODUCT(192,
        TEN() ", " TEN(1) ", " TEN(2) ", " TEN(3) ", " TEN(4) ", " TEN(5) ", " TEN(6) ", " TEN(7) ", " TEN(8)
              ", %90, %91, %92, %93, %94, %95",
        96, 97, 98, 99, 100, 101, SUMS_24(0), SUMS_24(24), SUMS_24(48), SUMS_24(72))
PRODUCT(240,
        TEN() ", " TEN(1) ", " TEN(2) ", " TEN(3) ", " TEN(4) ", " TEN(5) ", " TEN(6) ", " TEN(7) ", " TEN(8) ", " TEN(9)
              ", " TEN(10) ", " TEN(11),
        120, 121, 122, 123, 124, 125, SUMS_24(0), SUMS_24(24), SUMS_24(48), SUMS_24(72), SUMS_24(96))

// The transpose of a matrix of 8 x 8 numbers of 16 bits of which lane 4 g + t holds (g, 2t..2t+1).
DEVICE unsigned transpose(unsigned both) {
    unsigned turned;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(both));
    return turned;
}

#else
#include "hopper_emulation.h"
#endif
