// What hopper.h gives to kernels, in C++ on top of emulator.h: as the ISA describes it, not as our kernels use it.
//
// Copies and products happen when they are waited for, or at once when threads run in reverse: a kernel that does not wait,
// or writes over what they still read, comes to other results.
#pragma once

inline void copy_bulk(void* shared, const void* global, unsigned bytes, unsigned long long* arrivals) {
    unsigned char* to = static_cast<unsigned char*>(shared);
    emulator::Block& block = *emulator::now->block;
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes % 16 != 0)
        emulator::fail("a bulk copy that is not aligned to 16 bytes");
    if (bytes == 0 || to < block.shared || to + bytes > block.shared + emulator::shared_size)
        emulator::fail("a bulk copy outside of shared memory");
    emulator::Arrivals& ours = emulator::arrivals_at(block, arrivals);
#ifdef LOST_COPY // for tests: this one of a program's copies never arrives
    static int copies = 0;
    if (copies++ == LOST_COPY) return;
#endif
    ours.copies.push_back({shared, global, bytes});
    if (emulator::early) emulator::arrive(ours);
}

inline unsigned long long describe(const void* operand, unsigned along, unsigned across) {
    size_t at = static_cast<const unsigned char*>(operand) - emulator::now->block->shared;
    if (at % 16 != 0 || along % 16 != 0 || across % 16 != 0) emulator::fail("an operand that is not aligned to 16 bytes");
    return (at & 0x3ffff) >> 4 | static_cast<unsigned long long>(along >> 4 & 0x3fff) << 16 |
           static_cast<unsigned long long>(across >> 4 & 0x3fff) << 32;
}

namespace emulator {

// The byte (column, k) of a right operand [columns, 32] in a descriptor's memory.
inline signed char right_byte(unsigned long long descriptor, unsigned column, unsigned k) {
    if (descriptor >> 49 != 0) fail("descriptors with swizzling or an offset of their base are not emulated");
    size_t start = (descriptor & 0x3fff) << 4, along = (descriptor >> 16 & 0x3fff) << 4, across = (descriptor >> 32 & 0x3fff) << 4;
    // Core matrices of 8 rows of 16 bytes, each in 128 bytes.
    size_t at = start + column / 8 * across + k / 16 * along + column % 8 * 16 + k % 16;
    if (at >= shared_size) fail("an operand outside of shared memory");
    return static_cast<signed char>(now->block->shared[at]);
}

// A lane's part of a product: the sums of rows g and g + 8 in columns 2t and 2t + 1 of every eight.
inline void multiply(const Product& product) {
    unsigned t = now->lane % 4;
    for (unsigned k = 0; k < product.sums; ++k) {
        unsigned column = k / 4 * 8 + 2 * t + k % 2;
        // Sums wrap.
        unsigned sum = product.add ? static_cast<unsigned>(product.d[k]) : 0;
        for (unsigned byte = 0; byte < 32; ++byte) {
            // Four bytes of a row in a register; the next lane has the next four, another register the other sixteen.
            unsigned word = product.a[byte % 16 / 4][k / 2 % 2 + byte / 16 * 2];
            sum += static_cast<unsigned>(static_cast<int>(word >> byte % 4 * 8 & 0xff) * right_byte(product.b, column, byte));
        }
        product.d[k] = static_cast<int>(sum);
    }
}

// Carries out a warp's oldest groups until `groups` are left. No lane goes on before all have read their registers.
inline void finish_products(unsigned groups) {
    Fiber& fiber = *now;
    show("a wait for products", 0xffffffffu, &groups, 4);
    while (fiber.products.size() > groups) {
        for (const Product& product : fiber.products.front()) multiply(product);
        fiber.products.pop_front();
    }
    show("products", 0xffffffffu, &groups, 4);
}

} // namespace emulator

inline void products_fence() {
    emulator::show("products_fence", 0xffffffffu, "", 1);
    emulator::now->fenced = true;
}

template <size_t sums>
void start_product(int (&d)[sums], const unsigned (&a)[4], unsigned long long b, bool add) {
    emulator::Fiber& fiber = *emulator::now;
    if (!fiber.fenced) emulator::fail("a product without a fence since the group before");
    constexpr size_t columns = 2 * sums;
    static_assert(columns % 16 == 0 && columns <= 256 || columns == 8 || columns == 24, "no such product");
    // The rows of a lane are in four lanes, of which each shows where.
    const unsigned* mine = a;
    const emulator::Shown* shown = emulator::show("start_product", 0xffffffffu, &mine, sizeof mine);
    emulator::Product product = {d, sums, {}, b, add};
    for (unsigned k = 0; k < 4; ++k)
        std::memcpy(&product.a[k], shown[fiber.lane / 4 * 4 + k].words, sizeof mine);
    // All four warps take part.
    emulator::meet(fiber.block->fours[fiber.warp - fiber.block->warps.data() >> 2], 128);
    fiber.open_products.push_back(product);
    if (emulator::early) {
        emulator::multiply(product);
        emulator::show("a product", 0xffffffffu, "", 1);
    }
}

inline void products_commit() {
    emulator::Fiber& fiber = *emulator::now;
    emulator::show("products_commit", 0xffffffffu, "", 1);
    if (emulator::early) fiber.open_products.clear();
    fiber.products.push_back(std::move(fiber.open_products));
    fiber.open_products.clear();
    fiber.fenced = false;
}

template <int groups, size_t sums>
void products_wait(int (&)[sums]) {
    emulator::finish_products(groups);
}

inline unsigned transpose(unsigned both) {
    const emulator::Shown* shown = emulator::show("transpose", 0xffffffffu, &both, 4);
    unsigned row = emulator::now->lane / 4, column = emulator::now->lane % 4 * 2, turned = 0;
    for (unsigned k = 0; k < 2; ++k) {
        unsigned from = shown[(column + k) * 4 + row / 2].words[0];
        turned |= (from >> row % 2 * 16 & 0xffff) << 16 * k;
    }
    return turned;
}
