// T and y with pixels in f16, exact: see tt.cu.
//
// Macros: WARPS warps a pair of frames, and GROUPS pairs a block.

constexpr int VECTOR = M_RIGHT % 8 == 0 ? 8 : 4;                    // pixels that a lane loads at once
constexpr int STEPS = VECTOR / 4;                                   // products of 16 pixels in a chunk
constexpr int CHUNKS = (M_RIGHT + 4 * VECTOR - 1) / (4 * VECTOR);   // chunks of a row
constexpr int ROUNDS = (SLICES + WARPS - 1) / WARPS;                // slices that a warp takes
constexpr int SUMS = WIDE * 8 * 17;                                 // a warp's sums, [WIDE * 8, 16 + 1]

// `right` in fragments, and the factors that scale its columns back.
static_assert(RIGHT_WORDS == CHUNKS * STEPS * TILES * TERMS * 32 * 4, "what a block holds of the right half");
constexpr int RIGHT_BACK_AT = FACTORS_AT;

// Bytes 0 and 2 of a word of which the others are 0, as f16: 1024 + byte has the byte as its last bits.
DEVICE unsigned bytes_f16(unsigned bytes) { return subtract_f16(bytes | 0x64006400u, 0x64006400u); }

// Bytes k and k + 1 of a word as f16.
DEVICE unsigned pixels_along(unsigned word, int k) {
    return bytes_f16(__byte_perm(word, 0, 0x4040u | k | (k + 1) << 8));
}

// Byte k of two words as f16.
DEVICE unsigned pixels_across(unsigned low, unsigned high, int k) {
    return bytes_f16(__byte_perm(low, high, k | (k + 4) << 8) & 0x00ff00ffu);
}

struct Pixels {
    unsigned words[STEPS];
};
// Four pixels of which the first is in the row; those after its end are of the next row, or 0.
DEVICE unsigned load_word(const unsigned char* at, const unsigned char* end) {
    if (M_RIGHT % 4 == 0) return load_once(reinterpret_cast<const unsigned*>(at));
    int ahead = static_cast<int>(reinterpret_cast<size_t>(at) & 3);
    if (at - ahead + 4 > end) {
        // The last word of all frames is not whole.
        unsigned pixels = 0;
        for (int k = 0; at + k < end; ++k) pixels |= static_cast<unsigned>(at[k]) << 8 * k;
        return pixels;
    }
    const unsigned* words = reinterpret_cast<const unsigned*>(at - ahead);
    unsigned low = words[0], high = 0;
    if (ahead != 0 && at - ahead + 4 < end) high = words[1];
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> 8 * ahead);
}

// The pixels of one lane in a chunk, from `column` of a row; 0 after the end of the row.
DEVICE Pixels load_pixels(const unsigned char* row, int column, const unsigned char* end) {
    if (column >= M_RIGHT) return {};
    Pixels pixels;
    if (VECTOR == 8) {
        uint2 both = load_once(reinterpret_cast<const uint2*>(row + column));
        pixels.words[0] = both.x;
        pixels.words[STEPS - 1] = both.y;
    } else {
        pixels.words[0] = load_word(row + column, end);
    }
    return pixels;
}

// Scales a column of `right` and leaves it in terms, where the left operands of products of 16 pixels have it.
DEVICE void prepare_right(const float* right, unsigned* halves, int column) {
    int lane = threadIdx.x % 32, a = column / (OUTPUTS * 16), j = column % (OUTPUTS * 16);
    bool inside = a < RANK && j < N_RIGHT;
    auto number = [&](int m) { return inside && m < M_RIGHT ? right[m * (RANK * N_RIGHT) + a * N_RIGHT + j] : 0.0f; };
    float most = 0.0f;
    for (int m = lane; m < M_RIGHT; m += 32) most = fmaxf(most, fabsf(number(m)));
    Scale scale = scale_for(largest_of_warp(most), 48);
    unsigned* to = halves + (j / 16 * PARTS + a / TILES) * RIGHT_WORDS;
    for (int m = 2 * lane; m < CHUNKS * 4 * VECTOR; m += 64) {
        unsigned terms[TERMS];
        split(scale.times * number(m), scale.times * number(m + 1), terms);
        int step = m / (4 * VECTOR) * STEPS + m % VECTOR / 4, of = j % 8 * 4 + m / VECTOR % 4;
        int word = m % 4 / 2 * 2 + j % 16 / 8;
        UNROLL for (int term = 0; term < TERMS; ++term)
            to[(((step * TILES + a % TILES) * TERMS + term) * 32 + of) * 4 + word] = terms[term];
    }
    if (lane == 0) halves[RIGHT_BACK_AT + column] = __float_as_uint(scale.back);
}

// T of 16 rows of two frames, transposed: t[tile][frame][half] is the fragment (16 outputs j, 8 rows). The second
// frame is `apart` bytes after the first.
DEVICE void first_product(float t[TILES][2][2][4], const unsigned char* first, int apart, int slice,
                          const uint4* right_terms, const unsigned char* end) {
    int lane = threadIdx.x % 32, column = lane % 4 * VECTOR;
    int rows[2];
    UNROLL for (int k = 0; k < 2; ++k) rows[k] = min(slice * 16 + k * 8 + lane / 4, M_LEFT - 1) * M_RIGHT;
    Pixels next[2][2];
    UNROLL for (int k = 0; k < 4; ++k)
        next[k / 2][k % 2] = load_pixels(first + (k / 2 * apart + rows[k % 2]), column, end);
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        unsigned b[STEPS][4][2];
        UNROLL for (int step = 0; step < STEPS; ++step) {
            UNROLL for (int k = 0; k < 4; ++k) {
                unsigned word = next[k / 2][k % 2].words[step];
                b[step][k][0] = pixels_along(word, 0);
                b[step][k][1] = pixels_along(word, 2);
            }
        }
        column += 4 * VECTOR;
        UNROLL for (int k = 0; k < 4; ++k)
            next[k / 2][k % 2] = load_pixels(first + (k / 2 * apart + rows[k % 2]), column, end);
        UNROLL for (int tile = 0; tile < TILES; ++tile) {
            float part[4][4] = {};
            UNROLL for (int step = 0; step < STEPS; ++step) {
                UNROLL for (int term = TERMS - 1; term >= 0; --term) {
                    uint4 from = right_terms[(((chunk * STEPS + step) * TILES + tile) * TERMS + term) * 32 + lane];
                    unsigned a[4] = {from.x, from.y, from.z, from.w};
                    UNROLL for (int k = 0; k < 4; ++k) mma_f16(part[k], a, b[step][k]);
                }
            }
            UNROLL for (int k = 0; k < 4; ++k) {
                UNROLL for (int e = 0; e < 4; ++e) t[tile][k / 2][k % 2][e] += part[k][e];
            }
        }
    }
}

// The product with the left half of all ranks of this block.
DEVICE void second_product(float sum[2][WIDE][4], const float t[TILES][2][2][4], const unsigned* halves,
                           const float* right_back, int rank, int slice, int pass) {
    UNROLL for (int tile = 0; tile < TILES; ++tile) {
        if (rank + tile >= RANK) break;
        unsigned a[2][TERMS][4];
        UNROLL for (int k = 0; k < 8; ++k) {
            const float* numbers = t[tile][k / 4][k / 2 % 2] + k % 2 * 2;
            unsigned terms[TERMS];
            split(BETWEEN * numbers[0], BETWEEN * numbers[1], terms);
            UNROLL for (int term = 0; term < TERMS; ++term) a[k / 4][term][k % 4] = terms[term];
        }
        times_left<2>(sum, a, halves, right_back + tile * 16, rank + tile, slice, pass);
    }
}

// Keeps T, scaled back, as `[frames, N_RIGHT, RANK, M_LEFT]`.
DEVICE void save(float* saved, const float t[TILES][2][2][4], const float* right_back, int rank, int output, int frame,
                 int frames, int slice) {
    int lane = threadIdx.x % 32;
    UNROLL for (int k = 0; k < TILES * 8; ++k) {
        int tile = k / 8, which = k / 4 % 2, half = k / 2 % 2, e = k % 2 * 2, row = lane / 4 + k % 2 * 8;
        int a = rank + tile, j = output + row, i = slice * 16 + half * 8 + lane % 4 * 2;
        if (a >= RANK || j >= N_RIGHT || frame + which >= frames) continue;
        float back = right_back[tile * 16 + row];
        float* to = saved + (static_cast<size_t>(frame + which) * N_RIGHT + j) * BETWEEN_ROW + a * M_LEFT + i;
        const float* from = t[tile][which][half] + e;
        if (M_LEFT % 2 == 0) {
            if (i < M_LEFT) *reinterpret_cast<float2*>(to) = make_float2(back * from[0], back * from[1]);
        } else {
            if (i < M_LEFT) to[0] = back * from[0];
            if (i + 1 < M_LEFT) to[1] = back * from[1];
        }
    }
}

// y `[PARTS, frames, N_LEFT * N_RIGHT]`, to be summed over the parts, and T unless `saved` is null, from what `prepare`
// left. Grid: (any, parts of N_RIGHT by 16 times PARTS). A block holds its part of `right` in shared memory and takes
// 2 * GROUPS frames at a time, a warp 16 rows of two frames; sums over warps are taken in their order.
KERNEL_OF(tt_forward, GROUPS * WARPS * 32, 1)
(const unsigned char* x, const unsigned* halves, float* y, float* saved, int frames) {
    SHARED(uint4, right_terms);
    float* all_sums = reinterpret_cast<float*>(right_terms + RIGHT_WORDS / 4);
    float* right_back = all_sums + GROUPS * (WARPS * SUMS + 2 * PASSES * WIDE * 8 * 16);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % WARPS, group = threadIdx.x / 32 / WARPS;
    int part = blockIdx.y % PARTS, rank = part * TILES, output = blockIdx.y / PARTS * 16;
    int member = threadIdx.x % (WARPS * 32);  // of the group
    float* sums = all_sums + group * (WARPS * SUMS);
    float* totals = all_sums + GROUPS * WARPS * SUMS + group * (2 * PASSES * WIDE * 8 * 16);
    const unsigned char* end = x + static_cast<size_t>(frames) * (M_LEFT * M_RIGHT);

    const unsigned* ours = halves + blockIdx.y * RIGHT_WORDS;
    for (int k = threadIdx.x; k < RIGHT_WORDS / 4; k += GROUPS * WARPS * 32) copy_async16(right_terms + k, ours + 4 * k);
    copy_async_commit();
    for (int k = threadIdx.x; k < TILES * 16; k += GROUPS * WARPS * 32)
        right_back[k] =
            __uint_as_float(halves[RIGHT_BACK_AT + (rank + k / 16) * (OUTPUTS * 16) + output + k % 16]);
    copy_async_wait<0>();
    __syncthreads();

    for (int item = blockIdx.x; item * 2 * GROUPS < frames; item += gridDim.x) {
        int frame = (item * GROUPS + group) * 2;
        for (int round = 0; round < ROUNDS; ++round) {
            int slice = round * WARPS + warp;
            float t[TILES][2][2][4] = {};
            if (slice < SLICES) {
                // Frames after the last are the last again; nothing is written for them.
                const unsigned char* first = x + static_cast<size_t>(min(frame, frames - 1)) * (M_LEFT * M_RIGHT);
                int apart = frame + 1 < frames ? M_LEFT * M_RIGHT : 0;
                first_product(t, first, apart, slice, right_terms, end);
                if (saved) save(saved, t, right_back, rank, output, frame, frames, slice);
            }
            for (int pass = 0; pass < PASSES; ++pass) {
                float sum[2][WIDE][4] = {};
                if (slice < SLICES) second_product(sum, t, halves, right_back, rank, slice, pass);
                UNROLL for (int which = 0; which < 2; ++which) {
                    UNROLL for (int k = 0; k < WIDE * 4; ++k) {
                        int l = k / 4 * 8 + lane % 4 * 2 + k % 2, j = lane / 4 + k / 2 % 2 * 8;
                        sums[warp * SUMS + l * 17 + j] = sum[which][k / 4][k % 4];
                    }
                    __syncthreads();
                    for (int k = member; k < WIDE * 8 * 16; k += WARPS * 32) {
                        // A thread meets the same numbers of `totals` in every round.
                        float* so_far = totals + (which * PASSES + pass) * (WIDE * 8 * 16) + k;
                        float value = round == 0 ? 0.0f : *so_far;
                        for (int from = 0; from < WARPS; ++from) value += sums[from * SUMS + k / 16 * 17 + k % 16];
                        *so_far = value;
                        int l = pass * WIDE * 8 + k / 16, j = output + k % 16;
                        size_t at = (static_cast<size_t>(part) * frames + frame + which) * N_LEFT + l;
                        if (round == ROUNDS - 1 && l < N_LEFT && j < N_RIGHT && frame + which < frames)
                            y[at * N_RIGHT + j] = value;
                    }
                    __syncthreads();
                }
            }
        }
    }
}
EMULATED(tt_forward)
