// The TT layer from u8 frames, through two halves of the train: right `[M_RIGHT, RANK * N_RIGHT]` and left
// `[RANK, N_LEFT, M_LEFT]`. A frame is `x [M_LEFT, M_RIGHT]`, T = x right, y[l, j] = sum over a, i of
// left[a, l, i] T[i, (a, j)].
//
// Pixels are exact in f16, and everything else, scaled by a power of two, is split into TERMS numbers of f16 whose
// sum it is (2: 22 bits, as good as f32; 1: the 11 bits of TF32), so that tensor cores do the work. They round their
// sums toward zero, which would shrink long sums: what they add up is short, and f32 additions do the rest.
//
// Macros: M_LEFT M_RIGHT N_LEFT N_RIGHT RANK TERMS, and the geometry: TILES ranks of a block, WARPS warps a pair of
// frames and GROUPS pairs a block in `tt_forward`; GRADIENT_TILES, GRADIENT_WARPS and STAGE slices at a time in
// `pixel_gradient`.

constexpr int VECTOR = M_RIGHT % 8 == 0 ? 8 : 4;                    // pixels that a lane loads at once
constexpr int STEPS = VECTOR / 4;                                   // products of 16 pixels in a chunk
constexpr int CHUNKS = (M_RIGHT + 4 * VECTOR - 1) / (4 * VECTOR);   // chunks of a row
constexpr int SLICES = (M_LEFT + 15) / 16;                          // slices of 16 rows in a frame
constexpr int ROUNDS = (SLICES + WARPS - 1) / WARPS;                // slices that a warp takes
constexpr int COLUMNS = (N_LEFT + 7) / 8;                           // tiles of 8 outputs of the left half
constexpr int PASSES = (COLUMNS + 7) / 8;                           // runs of the second product
constexpr int WIDE = (COLUMNS + PASSES - 1) / PASSES;               // tiles of a run
constexpr int SUMS = WIDE * 8 * 17;                                 // a warp's sums, [WIDE * 8, 16 + 1]
constexpr int PARTS = (RANK + TILES - 1) / TILES;                   // parts of the rank
constexpr int GRADIENT_PARTS = (RANK + GRADIENT_TILES - 1) / GRADIENT_TILES;

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

// The largest of the numbers that the threads of a block bring, for all of them.
DEVICE float largest_of_block(float mine, float* scratch, int warps) {
    UNROLL for (int step = 16; step > 0; step /= 2) mine = fmaxf(mine, __shfl_xor_sync(0xffffffffu, mine, step));
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = mine;
    __syncthreads();
    for (int warp = 0; warp < warps; ++warp) mine = fmaxf(mine, scratch[warp]);
    __syncthreads();
    return mine;
}

// The largest size of a number. NaN is left out: it comes through in the products.
DEVICE float largest(const float* numbers, int count, float* scratch, int warps) {
    float mine = 0.0f;
    for (int k = threadIdx.x; k < count; k += warps * 32) mine = fmaxf(mine, fabsf(numbers[k]));
    return largest_of_block(mine, scratch, warps);
}

// Two numbers as sums of TERMS pairs of f16, largest first.
DEVICE void split(float low, float high, unsigned terms[TERMS]) {
    UNROLL for (int k = 0; k < TERMS; ++k) {
        terms[k] = pack_f16(low, high);
        low -= low_f16(terms[k]);
        high -= high_f16(terms[k]);
    }
}

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
    if (M_RIGHT % 4 == 0) return *reinterpret_cast<const unsigned*>(at);
    int ahead = static_cast<int>(reinterpret_cast<size_t>(at) & 3);
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
        uint2 both = *reinterpret_cast<const uint2*>(row + column);
        pixels.words[0] = both.x;
        pixels.words[STEPS - 1] = both.y;
    } else {
        pixels.words[0] = load_word(row + column, end);
    }
    return pixels;
}

// d += a b with numbers split in terms: the products whose sizes matter, small ones first.
DEVICE void multiply(float d[4], const unsigned a[TERMS][4], const unsigned b[TERMS][2]) {
    UNROLL for (int order = TERMS - 1; order >= 0; --order) {
        UNROLL for (int k = 0; k <= order; ++k) mma_f16(d, a[k], b[order - k]);
    }
}

// right[column + 0 .. 3][(rank, output)] in terms, as the left operand of a product of 16 pixels.
DEVICE void load_right(uint4* terms, const float* right, float scale, int rank, int output, int column) {
    float numbers[2][4] = {};
    UNROLL for (int half = 0; half < 2; ++half) {
        UNROLL for (int k = 0; k < 4; ++k) {
            int j = output + half * 8;
            if (rank < RANK && j < N_RIGHT && column + k < M_RIGHT)
                numbers[half][k] = scale * right[(column + k) * (RANK * N_RIGHT) + rank * N_RIGHT + j];
        }
    }
    unsigned words[4][TERMS];
    UNROLL for (int k = 0; k < 4; ++k) split(numbers[k % 2][k / 2 * 2], numbers[k % 2][k / 2 * 2 + 1], words[k]);
    UNROLL for (int k = 0; k < TERMS; ++k)
        terms[32 * k] = make_uint4(words[0][k], words[1][k], words[2][k], words[3][k]);
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

// Numbers i and i + 1 of a row of `length` that begins at `row`; 0 after its end.
template <int length>
DEVICE float2 load_pair(const float* row, int i) {
    if (length % 2 == 0) return i < length ? *reinterpret_cast<const float2*>(row + i) : make_float2(0.0f, 0.0f);
    return make_float2(i < length ? row[i] : 0.0f, i + 1 < length ? row[i + 1] : 0.0f);
}

// sum[frame][column] += T_a^T left_a^T over the ranks of this block, both scaled: (16 outputs j, 8 outputs l).
DEVICE void second_product(float sum[2][WIDE][4], const float t[TILES][2][2][4], const float* left, float scale,
                           int rank, int slice, int pass) {
    int lane = threadIdx.x % 32, i = slice * 16 + lane % 4 * 2;
    UNROLL for (int tile = 0; tile < TILES; ++tile) {
        if (rank + tile >= RANK) break;
        unsigned a[2][TERMS][4];
        UNROLL for (int k = 0; k < 8; ++k) {
            const float* numbers = t[tile][k / 4][k / 2 % 2] + k % 2 * 2;
            unsigned terms[TERMS];
            split(BETWEEN * numbers[0], BETWEEN * numbers[1], terms);
            UNROLL for (int term = 0; term < TERMS; ++term) a[k / 4][term][k % 4] = terms[term];
        }
        UNROLL for (int column = 0; column < WIDE; ++column) {
            int l = (pass * WIDE + column) * 8 + lane / 4;
            unsigned b[TERMS][2] = {};
            const float* row = left + (static_cast<size_t>(rank + tile) * N_LEFT + min(l, N_LEFT - 1)) * M_LEFT;
            UNROLL for (int half = 0; half < 2; ++half) {
                float2 pair = load_pair<M_LEFT>(row, i + half * 8);
                unsigned terms[TERMS];
                split(scale * pair.x, scale * pair.y, terms);
                UNROLL for (int term = 0; term < TERMS; ++term) b[term][half] = terms[term];
            }
            UNROLL for (int frame = 0; frame < 2; ++frame) {
                float part[4] = {};
                multiply(part, a[frame], b);
                UNROLL for (int e = 0; e < 4; ++e) sum[frame][column][e] += part[e];
            }
        }
    }
}

// Keeps T, scaled back, as `[RANK, frames, N_RIGHT, M_LEFT]`.
DEVICE void save(float* saved, const float t[TILES][2][2][4], float back, int rank, int output, int frame, int frames,
                 int slice) {
    int lane = threadIdx.x % 32;
    UNROLL for (int k = 0; k < TILES * 8; ++k) {
        int tile = k / 8, which = k / 4 % 2, half = k / 2 % 2, e = k % 2 * 2;
        int a = rank + tile, j = output + lane / 4 + k % 2 * 8, i = slice * 16 + half * 8 + lane % 4 * 2;
        if (a >= RANK || j >= N_RIGHT || frame + which >= frames) continue;
        float* to = saved + ((static_cast<size_t>(a) * frames + frame + which) * N_RIGHT + j) * M_LEFT + i;
        const float* from = t[tile][which][half] + e;
        if (M_LEFT % 2 == 0) {
            if (i < M_LEFT) *reinterpret_cast<float2*>(to) = make_float2(back * from[0], back * from[1]);
        } else {
            if (i < M_LEFT) to[0] = back * from[0];
            if (i + 1 < M_LEFT) to[1] = back * from[1];
        }
    }
}

// y `[PARTS, frames, N_LEFT * N_RIGHT]`, to be summed over the parts, and T unless `saved` is null.
// Grid: (any, parts of N_RIGHT by 16 times PARTS). A block holds its part of `right` in shared memory and takes
// 2 * GROUPS frames at a time, a warp 16 rows of two frames; sums over warps are taken in their order.
KERNEL_OF(tt_forward, GROUPS * WARPS * 32, 1)
(const unsigned char* x, const float* right, const float* left, float* y, float* saved, int frames) {
    SHARED(uint4, right_terms);
    float* all_sums = reinterpret_cast<float*>(right_terms + CHUNKS * STEPS * TILES * TERMS * 32);
    float* scales = all_sums + GROUPS * (WARPS * SUMS + 2 * PASSES * WIDE * 8 * 16);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % WARPS, group = threadIdx.x / 32 / WARPS;
    int part = blockIdx.y % PARTS, rank = part * TILES, output = blockIdx.y / PARTS * 16;
    int member = threadIdx.x % (WARPS * 32);  // of the group
    float* sums = all_sums + group * (WARPS * SUMS);
    float* totals = all_sums + GROUPS * WARPS * SUMS + group * (2 * PASSES * WIDE * 8 * 16);
    const unsigned char* end = x + static_cast<size_t>(frames) * (M_LEFT * M_RIGHT);

    // Limits that keep the product of both scales in the range of f32; in shared memory, as registers are scarce.
    Scale of_right = scale_for(largest(right, M_RIGHT * RANK * N_RIGHT, all_sums, GROUPS * WARPS), 48);
    Scale of_left = scale_for(largest(left, RANK * N_LEFT * M_LEFT, all_sums, GROUPS * WARPS), 48);
    if (threadIdx.x == 0) {
        scales[0] = of_right.back;
        scales[1] = of_left.times;
        scales[2] = of_right.back * of_left.back / BETWEEN;
    }
    for (int k = threadIdx.x; k < CHUNKS * STEPS * TILES * 32; k += GROUPS * WARPS * 32) {
        int step = k / 32 / TILES, tile = k / 32 % TILES, of = k % 32;
        int column = step / STEPS * (4 * VECTOR) + of % 4 * VECTOR + step % STEPS * 4;
        load_right(right_terms + (step * TILES + tile) * (TERMS * 32) + of, right, of_right.times, rank + tile,
                   output + of / 4, column);
    }
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
                if (saved) save(saved, t, scales[0], rank, output, frame, frames, slice);
            }
            for (int pass = 0; pass < PASSES; ++pass) {
                float sum[2][WIDE][4] = {};
                if (slice < SLICES) second_product(sum, t, left, scales[1], rank, slice, pass);
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
                            y[at * N_RIGHT + j] = value * scales[2];
                    }
                    __syncthreads();
                }
            }
        }
    }
}
EMULATED(tt_forward)

// Four pixels of each of the four rows that a lane needs of a slice of 16; of rows after the last, any.
DEVICE void load_rows(unsigned words[4], const unsigned char* frame, int slice, int column, const unsigned char* end) {
    UNROLL for (int k = 0; k < 4; ++k) {
        int i = min(slice * 16 + static_cast<int>(threadIdx.x) % 4 * 2 + k % 2 + k / 2 * 8, M_LEFT - 1);
        words[k] = column < M_RIGHT ? load_word(frame + (i * M_RIGHT + column), end) : 0;
    }
}

// What a lane holds of dt in the left operand for 16 rows: j and i of the fragment's registers. 0 outside.
DEVICE float2 load_gradient(const float* dt, int a, int frame, int frames, int j, int i) {
    if (a >= RANK || j >= N_RIGHT) return make_float2(0.0f, 0.0f);
    return load_pair<M_LEFT>(dt + ((static_cast<size_t>(a) * frames + frame) * N_RIGHT + j) * M_LEFT, i);
}

// Gradient of `right`, transposed, from that of T: parts `[gridDim.x, RANK * N_RIGHT, M_RIGHT]`, the sums over the
// frames of a block, from dt `[RANK, frames, N_RIGHT, M_LEFT]`.
// Grid: (any, parts of N_RIGHT by 16 times GRADIENT_PARTS, parts of M_RIGHT by 32 * GRADIENT_WARPS). The block splits
// dt of a frame into terms in shared memory, scaled by its own power of two; a warp takes 32 pixels of all rows.
KERNEL_OF(pixel_gradient, GRADIENT_WARPS * 32, 1)
(const unsigned char* x, const float* dt, float* parts, int frames) {
    SHARED(uint4, terms);
    float* scratch = reinterpret_cast<float*>(terms + STAGE * GRADIENT_TILES * TERMS * 32);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int rank = blockIdx.y % GRADIENT_PARTS * GRADIENT_TILES, output = blockIdx.y / GRADIENT_PARTS * 16;
    int first = (blockIdx.z * GRADIENT_WARPS + warp) * 32, column = first + lane / 4 * 4;
    const unsigned char* end = x + static_cast<size_t>(frames) * (M_LEFT * M_RIGHT);
    float sum[GRADIENT_TILES][4][4] = {};

    for (int frame = blockIdx.x; frame < frames; frame += gridDim.x) {
        const unsigned char* pixels = x + static_cast<size_t>(frame) * (M_LEFT * M_RIGHT);
        for (int start = 0; start < SLICES; start += STAGE) {
            int slices = min(STAGE, SLICES - start);
            float most = 0.0f;
            for (int k = threadIdx.x; k < slices * GRADIENT_TILES * 32 * 4; k += GRADIENT_WARPS * 32) {
                int tile = k / 128 % GRADIENT_TILES, of = k / 4 % 32, e = k % 4;
                float2 pair = load_gradient(dt, rank + tile, frame, frames, output + of / 4 + e % 2 * 8,
                                            (start + k / 128 / GRADIENT_TILES) * 16 + of % 4 * 2 + e / 2 * 8);
                most = fmaxf(most, fmaxf(fabsf(pair.x), fabsf(pair.y)));
            }
            // This is also where all warps are done with the terms of the stage before.
            Scale scale = scale_for(largest_of_block(most, scratch, GRADIENT_WARPS), 112);
            for (int k = threadIdx.x; k < slices * GRADIENT_TILES * 32; k += GRADIENT_WARPS * 32) {
                int tile = k / 32 % GRADIENT_TILES, of = k % 32;
                unsigned words[4][TERMS];
                UNROLL for (int e = 0; e < 4; ++e) {
                    float2 pair = load_gradient(dt, rank + tile, frame, frames, output + of / 4 + e % 2 * 8,
                                                (start + k / 32 / GRADIENT_TILES) * 16 + of % 4 * 2 + e / 2 * 8);
                    split(scale.times * pair.x, scale.times * pair.y, words[e]);
                }
                UNROLL for (int term = 0; term < TERMS; ++term)
                    terms[(k / 32 * TERMS + term) * 32 + of] =
                        make_uint4(words[0][term], words[1][term], words[2][term], words[3][term]);
            }
            __syncthreads();
            if (first >= M_RIGHT) continue;
            unsigned next[4];
            load_rows(next, pixels, start, column, end);
            for (int slice = 0; slice < slices; ++slice) {
                unsigned b[4][2];
                UNROLL for (int k = 0; k < 4; ++k) {
                    b[k][0] = pixels_across(next[0], next[1], k);
                    b[k][1] = pixels_across(next[2], next[3], k);
                }
                load_rows(next, pixels, start + slice + 1, column, end);
                UNROLL for (int tile = 0; tile < GRADIENT_TILES; ++tile) {
                    float part[4][4] = {};
                    UNROLL for (int term = TERMS - 1; term >= 0; --term) {
                        uint4 from = terms[((slice * GRADIENT_TILES + tile) * TERMS + term) * 32 + lane];
                        unsigned a[4] = {from.x, from.y, from.z, from.w};
                        UNROLL for (int k = 0; k < 4; ++k) mma_f16(part[k], a, b[k]);
                    }
                    UNROLL for (int k = 0; k < 16; ++k) sum[tile][k / 4][k % 4] += scale.back * part[k / 4][k % 4];
                }
            }
        }
    }

    UNROLL for (int k = 0; k < GRADIENT_TILES * 16; ++k) {
        int tile = k / 16, a = rank + tile, j = output + lane / 4 + k / 2 % 2 * 8;
        int m = first + (lane % 4 * 2 + k % 2) * 4 + k / 4 % 4;
        if (a < RANK && j < N_RIGHT && m < M_RIGHT)
            parts[(static_cast<size_t>(blockIdx.x) * (RANK * N_RIGHT) + a * N_RIGHT + j) * M_RIGHT + m] =
                sum[tile][k / 4 % 4][k % 4];
    }
}
EMULATED(pixel_gradient)

// sum[k] = the sum over p of parts[p, k], in the order of p.
KERNEL_OF(sum_parts, 256, 1)(const float* parts, float* sum, int count, int number) {
    for (int k = blockIdx.x * 256 + threadIdx.x; k < count; k += gridDim.x * 256) {
        float value = 0.0f;
        for (int p = 0; p < number; ++p) value += parts[static_cast<size_t>(p) * count + k];
        sum[k] = value;
    }
}
EMULATED(sum_parts)
