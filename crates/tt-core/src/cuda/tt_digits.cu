// T and y from the pixels' bytes and the digits of `right`, for compute capability 9.0: see tt.cu, and for digits
// tt-core/src/digits, whose T this is, bit for bit.
//
// Each column of `right` is scaled to whole numbers of 24 bits and cut into three digits of base 256 from -128 to 127. Tensor
// cores multiply bytes by digits and add up exactly in 32 bits; three sums become a number of T in one fixed order. Pixels
// are not converted, and an instruction does twice the products of one in f16.
//
// Rows of pixels have any length, and descriptors know none but multiples of 16 bytes: rows come through registers, from
// where the copy engine left them as they are in memory. Digits are in shared memory for all warps of a block. A warp
// takes frames of its own, slice by slice, so that its sums of y stay in registers; four warps start a product together.
//
// Macros: GROUPS of four warps in a block, and BUFFERS slices of pixels of a warp, one to multiply and others on their way.

static_assert(M_RIGHT >= 16, "only the last slice of all frames may end in a piece of 16 bytes that is not whole");
constexpr int STEPS = (M_RIGHT + 31) / 32;                  // products of 32 pixels in a row
constexpr int AT_ONCE = 2;                                  // of them in a group
constexpr int STAGES = (STEPS + AT_ONCE - 1) / AT_ONCE;     // groups
constexpr int DIGITS = 3 * TILES * 16;                      // columns of a product, (digit, rank, output), the highest digit first
constexpr int STEP_BYTES = DIGITS * 32;
constexpr int RIGHT_BYTES = STEPS * STEP_BYTES;
constexpr int PIXELS = (16 * M_RIGHT + 64 + 15) / 16 * 16;  // bytes of a slice, with room for what is copied and read beside it

// `right` in digits, `[STEPS, 2, DIGITS / 8]` blocks of 8 columns by 16 bytes; of each of its columns the unit of its whole
// numbers, what brings T to the size of f16, and what brings it back.
static_assert(RIGHT_WORDS == RIGHT_BYTES / 4, "what a block holds of the right half");
constexpr int UNIT_AT = FACTORS_AT;
constexpr int TIMES_AT = UNIT_AT + RIGHT_COLUMNS;
constexpr int RIGHT_BACK_AT = TIMES_AT + RIGHT_COLUMNS;

// Cuts a column of `right` into digits. What is not finite makes its unit NaN, and all of T that comes from it.
DEVICE void prepare_right(const float* right, unsigned* halves, int column) {
    int lane = threadIdx.x % 32, a = column / (OUTPUTS * 16), j = column % (OUTPUTS * 16);
    bool inside = a < RANK && j < N_RIGHT;
    auto number = [&](int m) { return inside && m < M_RIGHT ? right[m * (RANK * N_RIGHT) + a * N_RIGHT + j] : 0.0f; };
    // As whole numbers magnitudes keep their order, with what is not finite above all others.
    unsigned most = 0;
    for (int m = lane; m < M_RIGHT; m += 32) most = max(most, __float_as_uint(fabsf(number(m))));
    UNROLL for (int step = 16; step > 0; step /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, step));
    float largest = __uint_as_float(most);
    bool finite = most < 0x7f800000u;
    float unit = 0.0f;
    // Above the quotient, so that the largest number stays within three digits: 127 * (65536 + 256 + 1).
    if (most != 0) unit = __uint_as_float(__float_as_uint(static_cast<float>(static_cast<double>(largest) / 8355711.0)) + 1);
    double factor = most != 0 && finite ? 1.0 / static_cast<double>(unit) : 0.0;
    unsigned* to = halves + (j / 16 * PARTS + a / TILES) * RIGHT_WORDS;
    for (int quad = lane; quad < STEPS * 8; quad += 32) {
        unsigned words[3] = {};
        UNROLL for (int k = 0; k < 4; ++k) {
            float value = finite ? number(quad * 4 + k) : 0.0f;
            // The bytes of a number plus 2^7 + 2^15 + 2^23 are its digits plus 2^7.
            unsigned biased = 0x808080u + __double2int_rn(__dmul_rn(static_cast<double>(value), factor));
            UNROLL for (int digit = 0; digit < 3; ++digit)
                words[digit] |= (biased >> (16 - 8 * digit) & 0xff ^ 0x80) << 8 * k;
        }
        // A lane of a product has eight pixels of a row, four in each half of the sum.
        int half = quad / 8 * 2 + quad % 2, word = quad % 8 / 2;
        UNROLL for (int digit = 0; digit < 3; ++digit) {
            int of = (digit * TILES + a % TILES) * 16 + j % 16;
            to[(half * DIGITS + of) * 4 + word] = words[digit];
        }
    }
    if (lane == 0) {
        Scale scale = scale_for(finite ? largest : 0.0f, 48);
        halves[UNIT_AT + column] = __float_as_uint(finite ? unit : __uint_as_float(0x7fc00000u));
        halves[TIMES_AT + column] = __float_as_uint(scale.times * BETWEEN);
        halves[RIGHT_BACK_AT + column] = __float_as_uint(scale.back);
    }
}

// Starts to bring so many bytes from any address to `to`, where they begin as far behind a multiple of 16 as in memory.
DEVICE void fetch(unsigned char* to, unsigned long long* arrivals, const unsigned char* from, int bytes,
                  const unsigned char* end) {
    int lane = threadIdx.x % 32, ahead = static_cast<int>(reinterpret_cast<size_t>(from) & 15);
    from -= ahead;
    int whole = (ahead + bytes + 15) / 16 * 16;
    if (end - from < whole) {
        // Memory after the last frame is not ours: the last bytes of the last slice are copied one by one.
        int there = static_cast<int>(end - from);
        whole = there / 16 * 16;
        if (whole + lane < there) to[whole + lane] = from[whole + lane];
    }
    if (lane == 0) {
        expect_bytes(arrivals, whole);
        if (whole > 0) copy_bulk(to, from, whole, arrivals);
    }
}

// Waits for phase `phase` of arrivals.
DEVICE void wait_for(unsigned long long* arrivals, unsigned phase, unsigned long long* report, unsigned what) {
    long long start = 0;
    while (!have_arrived(arrivals, phase)) {
        if (start == 0) start = clock64();
        spin();
        if (clock64() - start > PATIENCE) give_up(report, what);
    }
    __syncwarp();
}

// Eight pixels at any address: two words.
DEVICE void load_pixels(unsigned& low, unsigned& high, const unsigned char* at) {
    if (M_RIGHT % 8 == 0) {
        uint2 both = *reinterpret_cast<const uint2*>(at);
        low = both.x;
        high = both.y;
    } else {
        unsigned ahead = static_cast<unsigned>(reinterpret_cast<size_t>(at) & 3), from = 0x3210u + 0x1111u * ahead;
        const unsigned* words = reinterpret_cast<const unsigned*>(at - ahead);
        low = __byte_perm(words[0], words[1], from);
        high = __byte_perm(words[1], words[2], from);
    }
}

// Starts the sums of 16 rows of a warp by all columns, `rows[k]` of lane 4 g + t begins at pixel 8 t of row g + 8 k; returns
// when the rows have been read, into `a`, which products read until they are done. Pixels after the end of a row are any:
// their digits are 0.
DEVICE void start_sums(int (&sums)[DIGITS / 2], unsigned (&a)[2][AT_ONCE][4], const unsigned char* const rows[2],
                       const unsigned char* digits) {
    unsigned long long right = describe(digits, DIGITS * 16, 128);
    UNROLL for (int stage = 0; stage < STAGES; ++stage) {
        UNROLL for (int k = 0; k < AT_ONCE; ++k) {
            int step = stage * AT_ONCE + k;
            if (step >= STEPS) break;
            UNROLL for (int row = 0; row < 2; ++row)
                load_pixels(a[stage % 2][k][row], a[stage % 2][k][row + 2], rows[row] + step * 32);
        }
        products_fence();
        UNROLL for (int k = 0; k < AT_ONCE; ++k) {
            int step = stage * AT_ONCE + k;
            if (step < STEPS) start_product(sums, a[stage % 2][k], right + step * (STEP_BYTES / 16), step > 0);
        }
        products_commit();
        // The pixels of the stage before are free.
        products_wait<1>(sums);
    }
}

// A number of T, as the digits of a CPU combine it.
DEVICE float combine(int high, int middle, int low, float unit) {
    float sum = static_cast<float>(low) * unit;
    return fmaf(static_cast<float>(high), unit * 65536.0f, fmaf(static_cast<float>(middle), unit * 256.0f, sum));
}

// y `[PARTS, frames, N_LEFT * N_RIGHT]`, to be summed over the parts, and T `[frames, N_RIGHT, RANK, M_LEFT]` unless `saved` is
// null, from what `prepare` left. Grid: (any, parts of N_RIGHT by 16 times PARTS). In `report` a block says which of its turns
// it waited for in vain, counted from 1; 0 are the digits.
KERNEL_OF(tt_digits, GROUPS * 128, 1)
(const unsigned char* x, const unsigned* halves, float* y, float* saved, int frames, unsigned long long* report) {
    static_assert(PASSES == 1, "all sums of y stay in registers");
    SHARED(unsigned char, digits);
    float4* factors = reinterpret_cast<float4*>(digits + RIGHT_BYTES);  // unit and times of two columns
    float* right_back = reinterpret_cast<float*>(factors + TILES * 8);
    unsigned long long* all_arrivals = reinterpret_cast<unsigned long long*>(right_back + TILES * 16);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int part = blockIdx.y % PARTS, rank = part * TILES, output = blockIdx.y / PARTS * 16;
    unsigned long long* arrivals = all_arrivals + warp * BUFFERS;
    unsigned long long* digits_arrivals = all_arrivals + GROUPS * 4 * BUFFERS;
    unsigned char* pixels = reinterpret_cast<unsigned char*>(all_arrivals + GROUPS * 4 * BUFFERS + 2) + warp * (BUFFERS * PIXELS);
    const unsigned char* end = x + static_cast<size_t>(frames) * (M_LEFT * M_RIGHT);

    // A warp's turns are slices of frames that are `apart` items of four from each other.
    int first = blockIdx.x * GROUPS + warp / 4, apart = gridDim.x * GROUPS;
    auto slice_of = [&](int item, int slice) {
        // Frames after the last are the last again; nothing is written for them.
        int frame = min(item * 4 + warp % 4, frames - 1);
        return x + (static_cast<size_t>(frame) * M_LEFT + slice * 16) * M_RIGHT;
    };
    auto bring = [&](int turn) {
        int item = first + turn / SLICES * apart, slice = turn % SLICES, buffer = turn % BUFFERS;
        if (item * 4 >= frames) return;
        fetch(pixels + buffer * PIXELS, arrivals + buffer, slice_of(item, slice), min(16, M_LEFT - slice * 16) * M_RIGHT, end);
    };
    // Row in a slice and output of element e of a fragment of sums.
    auto row_of = [&](int e) { return lane / 4 + e / 2 * 8; };
    auto output_of = [&](int half, int e) { return output + half * 8 + lane % 4 * 2 + e % 2; };

    if (lane < BUFFERS) set_up_arrivals(arrivals + lane);
    if (threadIdx.x == 0) set_up_arrivals(digits_arrivals);
    for (int k = threadIdx.x; k < TILES * 16; k += GROUPS * 128) {
        int column = (rank + k / 16) * (OUTPUTS * 16) + output + k % 16;
        float* pair = reinterpret_cast<float*>(factors + k / 2) + k % 2;
        pair[0] = __uint_as_float(halves[UNIT_AT + column]);
        pair[2] = __uint_as_float(halves[TIMES_AT + column]);
        right_back[k] = __uint_as_float(halves[RIGHT_BACK_AT + column]);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        expect_bytes(digits_arrivals, RIGHT_BYTES);
        copy_bulk(digits, halves + blockIdx.y * RIGHT_WORDS, RIGHT_BYTES, digits_arrivals);
    }
    for (int turn = 0; turn < BUFFERS; ++turn) bring(turn);
    wait_for(digits_arrivals, 0, report, 0);

    int turn = 0;
    for (int item = first; item * 4 < frames; item += apart) {
        int frame = item * 4 + warp % 4;
        float sum[1][WIDE][4] = {};
        for (int slice = 0; slice < SLICES; ++slice, ++turn) {
            const unsigned char* buffer = pixels + turn % BUFFERS * PIXELS;
            const unsigned char* rows[2];
            UNROLL for (int k = 0; k < 2; ++k) {
                int row = min(lane / 4 + k * 8, M_LEFT - 1 - slice * 16);
                rows[k] = buffer + (reinterpret_cast<size_t>(slice_of(item, slice)) & 15) + row * M_RIGHT + lane % 4 * 8;
            }
            wait_for(arrivals + turn % BUFFERS, turn / BUFFERS, report, turn + 1);
            int sums[DIGITS / 2];
            unsigned a[2][AT_ONCE][4];
            start_sums(sums, a, rows, digits);
            // All lanes have their pixels in registers: products have been started with them.
            __syncwarp();
            bring(turn + BUFFERS);
            products_wait<0>(sums);

            // Where T of this lane's first row and output is kept.
            float* keep = nullptr;
            if (saved && frame < frames)
                keep = saved + ((static_cast<size_t>(frame) * N_RIGHT + output_of(0, 0)) * RANK + rank) * M_LEFT + slice * 16 + row_of(0);
            UNROLL for (int tile = 0; tile < TILES; ++tile) {
                if (rank + tile >= RANK) break;
                unsigned between[1][TERMS][4];
                UNROLL for (int half = 0; half < 2; ++half) {
                    float4 of = factors[(tile * 2 + half) * 4 + lane % 4];
                    float t[4];
                    UNROLL for (int e = 0; e < 4; ++e) {
                        const int* at = sums + (tile * 2 + half) * 4 + e;
                        t[e] = combine(at[0], at[TILES * 8], at[TILES * 16], e % 2 == 0 ? of.x : of.y);
                        bool inside = output_of(half, e) < N_RIGHT && slice * 16 + row_of(e) < M_LEFT;
                        if (keep && inside) keep[((half * 8 + e % 2) * RANK + tile) * M_LEFT + e / 2 * 8] = t[e];
                    }
                    UNROLL for (int k = 0; k < 2; ++k) {
                        unsigned terms[TERMS];
                        split(of.z * t[2 * k], of.w * t[2 * k + 1], terms);
                        UNROLL for (int term = 0; term < TERMS; ++term) between[0][term][half + 2 * k] = transpose(terms[term]);
                    }
                }
                times_left<1>(sum, between, halves, right_back + tile * 16, rank + tile, slice, 0);
            }
        }
        UNROLL for (int k = 0; k < WIDE * 4; ++k) {
            int l = k / 4 * 8 + lane % 4 * 2 + k % 2, j = output + lane / 4 + k / 2 % 2 * 8;
            if (l < N_LEFT && j < N_RIGHT && frame < frames)
                y[((static_cast<size_t>(part) * frames + frame) * N_LEFT + l) * N_RIGHT + j] = sum[0][k / 4][k % 4];
        }
    }
}
EMULATED(tt_digits)
