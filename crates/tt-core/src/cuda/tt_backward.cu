// The gradients of both halves; see tt.cu.
//
// Macros: GRADIENT_TILES, GRADIENT_WARPS and STAGE slices at a time in `pixel_gradient`; LEFT_WARPS warps of 8 outputs in
// `left_gradient`.

constexpr int GRADIENT_PARTS = (RANK + GRADIENT_TILES - 1) / GRADIENT_TILES;

// The inverse of a power of two in the range that `scale_for` gives.
DEVICE float inverse(float power) { return __uint_as_float((254u << 23) - __float_as_uint(power)); }

// Four pixels of each of the four rows that a lane needs of a slice of 16; of rows after the last, any.
DEVICE void load_rows(unsigned words[4], const unsigned char* frame, int slice, int column, const unsigned char* end) {
    UNROLL for (int k = 0; k < 4; ++k) {
        int i = min(slice * 16 + static_cast<int>(threadIdx.x) % 4 * 2 + k % 2 + k / 2 * 8, M_LEFT - 1);
        words[k] = column < M_RIGHT ? load_word(frame + (i * M_RIGHT + column), end) : 0;
    }
}

// Floats of a row of dt in shared memory: eight banks from row to row, so that the rows of a fragment do not meet.
constexpr int STAGE_ROW = STAGE * 16 + (STAGE % 2 == 0 ? 8 : 24);
// Floats of a row that one copy takes.
constexpr int AT_ONCE = M_LEFT % 4 == 0 ? 4 : 1;

// Starts to copy one number, or four aligned to 16 bytes.
template <int count>
DEVICE void copy_async(float* to, const float* from) {
    if (count == 4) copy_async16(to, from);
    else copy_async4(to, from);
}

// Starts to copy a stage of dt for the rows (rank, output) of a block, `[GRADIENT_TILES * 16, STAGE_ROW]`; 0 outside.
DEVICE void fetch_gradient(float* stage, const float* dt, int rank, int output, int frame, int start) {
    constexpr int COPIES = STAGE * 16 / AT_ONCE;
    for (int k = threadIdx.x; k < GRADIENT_TILES * 16 * COPIES; k += GRADIENT_WARPS * 32) {
        int row = k / COPIES, a = rank + row / 16, j = output + row % 16, i = k % COPIES * AT_ONCE;
        float* to = stage + row * STAGE_ROW + i;
        i += start * 16;
        if (a < RANK && j < N_RIGHT && i < M_LEFT) {
            size_t from = (static_cast<size_t>(frame) * N_RIGHT + j) * BETWEEN_ROW + a * M_LEFT + i;
            copy_async<AT_ONCE>(to, dt + from);
        } else {
            UNROLL for (int e = 0; e < AT_ONCE; ++e) to[e] = 0.0f;
        }
    }
    copy_async_commit();
}

// Splits a stage of dt into terms, each row scaled by its own power of two; `times` keeps the powers.
DEVICE void split_gradient(uint4* terms, float* times, const float* stage, int slices) {
    int lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < GRADIENT_TILES * 16; row += GRADIENT_WARPS) {
        float most = 0.0f;
        for (int i = lane; i < STAGE * 16; i += 32) most = fmaxf(most, fabsf(stage[row * STAGE_ROW + i]));
        float scale = scale_for(largest_of_warp(most), 112).times;
        if (lane == 0) times[row] = scale;
    }
    __syncthreads();
    for (int k = threadIdx.x; k < slices * GRADIENT_TILES * 32; k += GRADIENT_WARPS * 32) {
        int of = k % 32, first = k / 32 % GRADIENT_TILES * 16 + of / 4;
        int i = k / 32 / GRADIENT_TILES * 16 + of % 4 * 2;
        unsigned words[4][TERMS];
        UNROLL for (int e = 0; e < 4; ++e) {
            int row = first + e % 2 * 8;
            float2 pair = *reinterpret_cast<const float2*>(stage + row * STAGE_ROW + i + e / 2 * 8);
            split(times[row] * pair.x, times[row] * pair.y, words[e]);
        }
        UNROLL for (int term = 0; term < TERMS; ++term)
            terms[(k / 32 * TERMS + term) * 32 + of] =
                make_uint4(words[0][term], words[1][term], words[2][term], words[3][term]);
    }
}

// Gradient of `right`, transposed, from that of T: parts `[gridDim.x, RANK * N_RIGHT, M_RIGHT]`, the sums over the
// frames of a block, from dt `[frames, N_RIGHT, RANK, M_LEFT]`.
// Grid: (any, parts of N_RIGHT by 16 times GRADIENT_PARTS, parts of M_RIGHT by 32 * GRADIENT_WARPS). While warps multiply
// one stage of dt, each 32 pixels of all rows, the next is on its way to shared memory.
KERNEL_OF(pixel_gradient, GRADIENT_WARPS * 32, 1)
(const unsigned char* x, const float* dt, float* parts, int frames) {
    SHARED(uint4, terms);
    float* stage = reinterpret_cast<float*>(terms + STAGE * GRADIENT_TILES * TERMS * 32);
    float* times = stage + GRADIENT_TILES * 16 * STAGE_ROW;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int rank = blockIdx.y % GRADIENT_PARTS * GRADIENT_TILES, output = blockIdx.y / GRADIENT_PARTS * 16;
    int first = (blockIdx.z * GRADIENT_WARPS + warp) * 32, column = first + lane / 4 * 4;
    const unsigned char* end = x + static_cast<size_t>(frames) * (M_LEFT * M_RIGHT);
    float sum[GRADIENT_TILES][4][4] = {};

    fetch_gradient(stage, dt, rank, output, blockIdx.x, 0);
    for (int frame = blockIdx.x, start = 0; frame < frames;) {
        const unsigned char* pixels = x + static_cast<size_t>(frame) * (M_LEFT * M_RIGHT);
        int slices = min(STAGE, SLICES - start);
        unsigned next[4];
        load_rows(next, pixels, start, column, end);
        copy_async_wait<0>();
        __syncthreads();  // the stage is there, and all warps are done with the terms of the one before
        split_gradient(terms, times, stage, slices);
        __syncthreads();
        int now = start;
        start += STAGE;
        if (start >= SLICES) start = 0, frame += gridDim.x;
        if (frame < frames) fetch_gradient(stage, dt, rank, output, frame, start);
        if (first >= M_RIGHT) continue;
        float back[GRADIENT_TILES][2];
        UNROLL for (int k = 0; k < GRADIENT_TILES * 2; ++k)
            back[k / 2][k % 2] = inverse(times[k / 2 * 16 + lane / 4 + k % 2 * 8]);
        for (int slice = 0; slice < slices; ++slice) {
            unsigned b[4][2];
            UNROLL for (int k = 0; k < 4; ++k) {
                b[k][0] = pixels_across(next[0], next[1], k);
                b[k][1] = pixels_across(next[2], next[3], k);
            }
            load_rows(next, pixels, now + slice + 1, column, end);
            UNROLL for (int tile = 0; tile < GRADIENT_TILES; ++tile) {
                float part[4][4] = {};
                UNROLL for (int term = TERMS - 1; term >= 0; --term) {
                    uint4 from = terms[((slice * GRADIENT_TILES + tile) * TERMS + term) * 32 + lane];
                    unsigned a[4] = {from.x, from.y, from.z, from.w};
                    UNROLL for (int k = 0; k < 4; ++k) mma_f16(part[k], a, b[k]);
                }
                UNROLL for (int k = 0; k < 16; ++k)
                    sum[tile][k / 4][k % 4] = fmaf(back[tile][k / 2 % 2], part[k / 4][k % 4], sum[tile][k / 4][k % 4]);
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

// Columns of T that a block of `left_gradient` takes, and floats of a tile: 16 outputs j of T, then of dy.
constexpr int LEFT_WIDTH = 256;
constexpr int LEFT_TILE = 16 * (LEFT_WIDTH + LEFT_WARPS * 8);

// Starts to copy 16 outputs j of a frame: T from `column` on, `[16, LEFT_WIDTH]`, and dy from `first` on, transposed,
// `[16, LEFT_WARPS * 8]`; 0 outside.
DEVICE void fetch_outputs(float* tile, const float* t, const float* dy, int frame, int output, int column, int first) {
    constexpr int WIDE_COPY = BETWEEN_ROW % 4 == 0 ? 4 : 1, COPIES = LEFT_WIDTH / WIDE_COPY;
    for (int k = threadIdx.x; k < 16 * COPIES; k += LEFT_WARPS * 32) {
        int j = output + k / COPIES, at = k % COPIES * WIDE_COPY;
        float* to = tile + k / COPIES * LEFT_WIDTH + at;
        if (j < N_RIGHT && column + at < BETWEEN_ROW) {
            copy_async<WIDE_COPY>(to, t + (static_cast<size_t>(frame) * N_RIGHT + j) * BETWEEN_ROW + column + at);
        } else {
            UNROLL for (int e = 0; e < WIDE_COPY; ++e) to[e] = 0.0f;
        }
    }
    for (int k = threadIdx.x; k < 16 * LEFT_WARPS * 8; k += LEFT_WARPS * 32) {
        int j = output + k % 16, l = first + k / 16;
        float* to = tile + 16 * LEFT_WIDTH + k % 16 * (LEFT_WARPS * 8) + k / 16;
        if (j < N_RIGHT && l < N_LEFT) copy_async4(to, dy + (static_cast<size_t>(frame) * N_LEFT + l) * N_RIGHT + j);
        else *to = 0.0f;
    }
    copy_async_commit();
}

// Gradient of `left`: parts `[gridDim.x, N_LEFT, RANK * M_LEFT]`, the sums over the frames of a block, from T and dy
// `[frames, N_LEFT, N_RIGHT]`, in f32. Grid: (any, parts of RANK * M_LEFT by LEFT_WIDTH, parts of N_LEFT by 8 *
// LEFT_WARPS). A warp takes 8 outputs l of all columns of its block.
KERNEL_OF(left_gradient, LEFT_WARPS * 32, 2)
(const float* t, const float* dy, float* parts, int frames) {
    SHARED(float, tiles);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int column = blockIdx.y * LEFT_WIDTH, first = blockIdx.z * (LEFT_WARPS * 8);
    float sum[8][8] = {};
    fetch_outputs(tiles, t, dy, blockIdx.x, 0, column, first);
    for (int frame = blockIdx.x, output = 0, turn = 0; frame < frames; turn ^= 1) {
        copy_async_wait<0>();
        __syncthreads();
        output += 16;
        if (output >= N_RIGHT) output = 0, frame += gridDim.x;
        // The other tile was read before the barrier.
        if (frame < frames) fetch_outputs(tiles + (1 - turn) * LEFT_TILE, t, dy, frame, output, column, first);
        const float* from = tiles + turn * LEFT_TILE;
        const float* outputs = from + 16 * LEFT_WIDTH + warp * 8;
        UNROLL for (int j = 0; j < 16; ++j) {
            float4 numbers[4];
            UNROLL for (int k = 0; k < 2; ++k) {
                numbers[k] = reinterpret_cast<const float4*>(outputs + j * (LEFT_WARPS * 8))[k];
                numbers[2 + k] = reinterpret_cast<const float4*>(from + j * LEFT_WIDTH)[k * 32 + lane];
            }
            const float* rows = reinterpret_cast<const float*>(numbers);
            UNROLL for (int k = 0; k < 64; ++k) sum[k / 8][k % 8] = fmaf(rows[k / 8], rows[8 + k % 8], sum[k / 8][k % 8]);
        }
    }
    UNROLL for (int k = 0; k < 64; ++k) {
        int l = first + warp * 8 + k / 8, at = column + k % 8 / 4 * 128 + lane * 4 + k % 4;
        if (l < N_LEFT && at < BETWEEN_ROW)
            parts[(static_cast<size_t>(blockIdx.x) * N_LEFT + l) * BETWEEN_ROW + at] = sum[k / 8][k % 8];
    }
}
EMULATED(left_gradient)

// sum[k] = the sum over p of parts[p, k], in the order of p.
KERNEL_OF(sum_parts, 256, 1)(const float* parts, float* sum, int count, int number) {
    for (int k = blockIdx.x * 256 + threadIdx.x; k < count; k += gridDim.x * 256) {
        float value = 0.0f;
        for (int p = 0; p < number; ++p) value += parts[static_cast<size_t>(p) * count + k];
        sum[k] = value;
    }
}
EMULATED(sum_parts)
