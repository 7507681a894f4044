// The TT layer from u8 frames, through two halves of the train: right `[M_RIGHT, RANK * N_RIGHT]` and left
// `[RANK, N_LEFT, M_LEFT]`. A frame is `x [M_LEFT, M_RIGHT]`, T = x right, y[l, j] = sum over a, i of
// left[a, l, i] T[i, (a, j)].
//
// This file is what the two forward kernels share: how numbers are split for tensor cores, and the product with the left
// half. T comes from pixels in f16 (tt_forward.cu) or from their bytes (tt_digits.cu); gradients are in tt_backward.cu.
//
// Everything but pixels, each column scaled by a power of two of its own, is split into TERMS numbers of f16 whose sum it
// is (2: 22 bits, as good as f32; 1: the 11 bits of TF32), so that tensor cores do the work. They round their sums toward
// zero, which would shrink long sums: what they add up is short, and f32 additions do the rest.
//
// Macros: M_LEFT M_RIGHT N_LEFT N_RIGHT RANK TERMS, TILES ranks of a block, and RIGHT_WORDS that it needs of `right`; each
// file has more of its own.

constexpr int SLICES = (M_LEFT + 15) / 16;              // slices of 16 rows in a frame
constexpr int COLUMNS = (N_LEFT + 7) / 8;               // tiles of 8 outputs of the left half
constexpr int PASSES = (COLUMNS + 7) / 8;               // runs of the second product
constexpr int WIDE = (COLUMNS + PASSES - 1) / PASSES;   // tiles of a run
constexpr int PARTS = (RANK + TILES - 1) / TILES;       // parts of the rank
constexpr int OUTPUTS = (N_RIGHT + 15) / 16;            // tiles of 16 outputs of the right half
constexpr int BETWEEN_ROW = RANK * M_LEFT;              // numbers of T for one output of the right half

// What is prepared for a forward kernel, in words: of each tile of outputs and part of the rank what it needs of `right`, the
// fragments of `left`, the factors that scale its columns back, then factors of the columns of `right`.
constexpr int LEFT_COLUMNS = RANK * PASSES * WIDE * 8;
constexpr int RIGHT_COLUMNS = PARTS * TILES * OUTPUTS * 16;
constexpr int LEFT_AT = OUTPUTS * PARTS * RIGHT_WORDS;
constexpr int LEFT_BACK_AT = LEFT_AT + RANK * SLICES * PASSES * WIDE * 32 * 2 * TERMS;
constexpr int FACTORS_AT = LEFT_BACK_AT + LEFT_COLUMNS;

// T of a right half below 2^15 is below 2^15 / BETWEEN.
constexpr float between_scale() {
    float scale = 1.0f;
    while (scale * (255.0f * M_RIGHT) > 1.0f) scale *= 0.5f;
    return scale;
}
constexpr float BETWEEN = between_scale();

// A power of two and its inverse.
struct Scale {
    float times, back;
};

// Brings numbers up to `largest` below 2^15, far above the smallest numbers of f16 and safely below its largest, if
// 2^limit or 2^-limit can do that.
DEVICE Scale scale_for(float largest, int limit) {
    int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
    int up = largest == 0.0f ? 0 : max(-limit, min(14 - exponent, limit));
    auto power = [](int exponent) { return __uint_as_float(static_cast<unsigned>(127 + exponent) << 23); };
    return {power(up), power(-up)};
}

// The largest size of the numbers that the lanes of a warp bring, for all of them. NaN is left out: it comes through in
// the products.
DEVICE float largest_of_warp(float mine) {
    UNROLL for (int step = 16; step > 0; step /= 2) mine = fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, step));
    return mine;
}

// Two numbers as sums of TERMS pairs of f16, largest first.
DEVICE void split(float low, float high, unsigned terms[TERMS]) {
    UNROLL for (int k = 0; k < TERMS; ++k) {
        terms[k] = pack_f16(low, high);
        low -= low_f16(terms[k]);
        high -= high_f16(terms[k]);
    }
}

// Scales a column of `left`, an output of one rank, and leaves it in terms, in the right operands of products of 16 rows.
DEVICE void prepare_left(const float* left, unsigned* halves, int column) {
    int lane = threadIdx.x % 32, a = column / (PASSES * WIDE * 8), l = column % (PASSES * WIDE * 8);
    auto number = [&](int i) { return l < N_LEFT && i < M_LEFT ? left[(a * N_LEFT + l) * M_LEFT + i] : 0.0f; };
    float most = 0.0f;
    for (int i = lane; i < M_LEFT; i += 32) most = fmaxf(most, fabsf(number(i)));
    Scale scale = scale_for(largest_of_warp(most), 48);
    for (int i = 2 * lane; i < SLICES * 16; i += 64) {
        unsigned terms[TERMS];
        split(scale.times * number(i), scale.times * number(i + 1), terms);
        int tile = (a * SLICES + i / 16) * (PASSES * WIDE) + l / 8, of = l % 8 * 4 + i % 8 / 2;
        UNROLL for (int term = 0; term < TERMS; ++term)
            halves[LEFT_AT + (tile * 32 + of) * (2 * TERMS) + term * 2 + i % 16 / 8] = terms[term];
    }
    if (lane == 0) halves[LEFT_BACK_AT + column] = __float_as_uint(scale.back);
}

// Both halves as the products read them; that of pixels says how it reads the right one. Grid: a warp a column.
DEVICE void prepare_right(const float* right, unsigned* halves, int column);
KERNEL_OF(prepare, 256, 1)(const float* right, const float* left, unsigned* halves) {
    int column = blockIdx.x * 8 + threadIdx.x / 32;
    if (column < RIGHT_COLUMNS) {
        prepare_right(right, halves, column);
    } else if (column < RIGHT_COLUMNS + LEFT_COLUMNS) {
        prepare_left(left, halves, column - RIGHT_COLUMNS);
    }
}
EMULATED(prepare)

// d += a b with numbers split in terms: the products whose sizes matter, small ones first.
DEVICE void multiply(float d[4], const unsigned a[TERMS][4], const unsigned b[TERMS][2]) {
    UNROLL for (int order = TERMS - 1; order >= 0; --order) {
        UNROLL for (int k = 0; k <= order; ++k) mma_f16(d, a[k], b[order - k]);
    }
}

// sum[frame][column] += T_a^T left_a^T of rank a and a slice, scaled back: (16 outputs j, 8 outputs l). `a` has the fragments
// of T_a^T, times BETWEEN, and `right_back` what scales its 16 outputs back.
template <int FRAMES>
DEVICE void times_left(float sum[FRAMES][WIDE][4], const unsigned a[FRAMES][TERMS][4], const unsigned* halves,
                       const float* right_back, int rank, int slice, int pass) {
    int lane = threadIdx.x % 32;
    float rows[2];
    UNROLL for (int k = 0; k < 2; ++k) rows[k] = right_back[lane / 4 + k * 8] * (1.0f / BETWEEN);
    int first = (rank * SLICES + slice) * (PASSES * WIDE) + pass * WIDE;
    const unsigned* terms = halves + LEFT_AT + (first * 32 + lane) * (2 * TERMS);
    const unsigned* left_back = halves + LEFT_BACK_AT + (rank * PASSES + pass) * (WIDE * 8) + lane % 4 * 2;
    UNROLL for (int column = 0; column < WIDE; ++column) {
        unsigned b[TERMS][2];
        if (TERMS == 2) {
            uint4 both = *reinterpret_cast<const uint4*>(terms + column * (64 * TERMS));
            b[0][0] = both.x, b[0][1] = both.y, b[TERMS - 1][0] = both.z, b[TERMS - 1][1] = both.w;
        } else {
            uint2 one = *reinterpret_cast<const uint2*>(terms + column * (64 * TERMS));
            b[0][0] = one.x, b[0][1] = one.y;
        }
        uint2 columns = *reinterpret_cast<const uint2*>(left_back + column * 8);
        float factors[4];
        UNROLL for (int e = 0; e < 4; ++e)
            factors[e] = rows[e / 2] * __uint_as_float(e % 2 == 0 ? columns.x : columns.y);
        UNROLL for (int frame = 0; frame < FRAMES; ++frame) {
            float part[4] = {};
            multiply(part, a[frame], b);
            UNROLL for (int e = 0; e < 4; ++e) sum[frame][column][e] = fmaf(factors[e], part[e], sum[frame][column][e]);
        }
    }
}
