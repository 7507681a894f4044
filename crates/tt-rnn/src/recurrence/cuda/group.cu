// The recurrence over packed clips as one persistent kernel: plain RNN, GRU (reset before U) and LSTM, forward and
// back-propagation through time, f32.
//
// A group of blocks handles some clips, which step together, the longest first. Each block of it owns a slice of the
// units and keeps their weights in shared memory for good; what all units need of a step (h, the masked r*h; backward
// the gradients of the pre-activations) passes through global memory, each number with the mark of its turn in one
// word, which is what the others wait for. So all must run at once: a cooperative launch.
//
// A sum over k is 32 partial sums (k mod 32, ascending) added in a fixed tree, whatever the launch: the numbers do
// not depend on how units and clips are dealt.

#ifdef __CUDACC_RTC__
#define METHOD __device__ __forceinline__
#else
#define METHOD inline
#endif

// CELL, the one macro from outside, is one of these.
#define RNN 0
#define GRU 1
#define LSTM 2

constexpr int GATES = CELL == RNN ? 1 : CELL == GRU ? 3 : 4;
// The gates whose product is with h.
constexpr int ON_STATE = CELL == GRU ? 2 : GATES;
// Vectors of H beside each other in the tile, at most.
constexpr int COPIES = CELL == RNN ? 1 : CELL == GRU ? 2 : 4;

// Units of one product tile; a slice is padded to whole tiles.
#define TILE 4

// What a launch is told; the names are those of `Plan` in mod.rs.
struct Sizes {
    int hidden;
    int clips;
    // Blocks of a group.
    int peers;
    // Units of a block, at most.
    int units;
    // Clips of a group at once, at most; more are taken one lot after another.
    int rows;
    // Hard gates instead of logistic ones.
    int hard;
    // Masks: 0 none, 1 one for all gates, 2 one for each.
    int masks;
};

// Adds `acc` over the lanes of a warp that differ in `BIT` and below, halving the values of a lane while it has more
// than one: at the end `acc[0]` is the sum of value `lane / (32 / N)`. The tree is the same for every N.
template <int N, int BIT> DEVICE void add_lanes(float* acc, int lane) {
    constexpr int HALF = BIT * N / 32;
    if (HALF == 0) {
        acc[0] += __shfl_xor_sync(0xffffffffu, acc[0], BIT);
    } else {
        bool upper = lane & BIT;
        UNROLL
        for (int i = 0; i < HALF; i++) {
            float keep = upper ? acc[i + HALF] : acc[i];
            float give = upper ? acc[i] : acc[i + HALF];
            acc[i] = keep + __shfl_xor_sync(0xffffffffu, give, BIT);
        }
    }
    if constexpr (BIT > 1) add_lanes<N, BIT / 2>(acc, lane);
}

// The places of rows of `width` numbers that a thread takes, every blockDim.x-th: divisions at the start, none on the way.
struct Steps {
    int width, first_row, first, rows, rest;

    METHOD void of(int numbers) {
        width = numbers;
        first_row = threadIdx.x / numbers, first = threadIdx.x % numbers;
        rows = blockDim.x / numbers, rest = blockDim.x % numbers;
    }
};

// One of them among `count` rows, which may be there in several copies, one after the other.
struct Place {
    int copy, r, j;

    METHOD Place(const Steps& steps, int count) : copy(0), r(steps.first_row), j(steps.first) { fold(count); }

    METHOD void next(const Steps& steps, int count) {
        r += steps.rows, j += steps.rest;
        if (j >= steps.width) j -= steps.width, r++;
        fold(count);
    }

    METHOD void fold(int count) {
        while (r >= count) r -= count, copy++;
    }
};

// A block's place in its group and its shared memory. `pad` is the slice rounded up to whole tiles, `k` is H rounded
// up to whole warps; both are zero where there is no unit.
struct Block {
    int hidden, clips, rows, masks, hard;
    int group, groups, first, mine, pad, k;
    // Rows of own units, and of the tile.
    Steps units, vectors;
    // [gates, pad, k]
    float* weights;
    // [COPIES, rows, k]
    float* tile;
    // [rows, gates, pad]
    float* sums;
    // What the element-wise part reads of global memory, fetched while the block waits. [rows, gates + 2, pad]
    float* ahead;
    // [2, rows, pad]: h and c, or h and z; backward dh and dc.
    float* own;
    // Factors of the block's own units, 1 without dropout. [gates, rows, pad]
    float* factors;
    // Of each row: index, first packed row, frames. [rows] each
    int* clip;
    int* start;
    int* length;
    // Numbers with their marks, in two turns: a block that has all of one turn knows that the one before was read.
    // [2, GATES, rows, hidden]
    unsigned long long* exchange;
    // Where a wait without an end is reported.
    unsigned long long* report;
    // The mark of the next numbers to be exchanged; the words begin at 0.
    unsigned turn;

    METHOD Block(const Sizes& s, float* shared, unsigned long long* words, unsigned long long* reports) {
        hidden = s.hidden, clips = s.clips, rows = s.rows, masks = s.masks, hard = s.hard;
        group = blockIdx.x / s.peers;
        groups = gridDim.x / s.peers;
        first = blockIdx.x % s.peers * s.units;
        mine = min(s.units, hidden - first);
        pad = (s.units + TILE - 1) / TILE * TILE;
        k = (hidden + 31) / 32 * 32;
        units.of(mine);
        vectors.of(k);
        weights = shared;
        tile = weights + GATES * pad * k;
        sums = tile + COPIES * rows * k;
        ahead = sums + rows * GATES * pad;
        own = ahead + rows * (GATES + 2) * pad;
        factors = own + 2 * rows * pad;
        clip = (int*)(factors + GATES * rows * pad);
        start = clip + rows;
        length = start + rows;
        exchange = words + (long long)group * (2 * GATES * rows * hidden);
        report = reports;
        turn = 1;
    }

    // The word of a number of this turn.
    METHOD unsigned long long* word(int slot, int r, int i) const {
        return exchange + (((turn & 1) * GATES + slot) * rows + r) * hidden + i;
    }

    // Gives a number of an own unit to the other blocks.
    METHOD void give(int slot, int r, int j, float value) const { store_marked(word(slot, r, first + j), value, turn); }

    // Keeps the weights of the own units: a column of U each, or a row of each gate.
    METHOD void keep_weights(const float* u, bool columns) {
        for (int e = threadIdx.x; e < GATES * pad * k; e += blockDim.x) {
            // Neighbouring threads read neighbouring addresses.
            int unit = columns ? e % pad : e / k % pad;
            int other = columns ? e / pad % k : e % k;
            int gate = e / (pad * k);
            float value = 0.0f;
            if (unit < mine && other < hidden) {
                int from = columns ? other : first + unit;
                int to = columns ? first + unit : other;
                value = u[((long long)from * GATES + gate) * hidden + to];
            }
            weights[(gate * pad + unit) * k + other] = value;
        }
    }

    // Takes the next clips of the group; `sorted` holds index, first row and frames of each clip, the longest first.
    // Returns how many there are.
    METHOD int take(int lot, const unsigned* sorted, const float* mask) {
        int before = group + groups * rows * lot;
        int count = before < clips ? min(rows, (clips - before - 1) / groups + 1) : 0;
        __syncthreads();
        for (int r = threadIdx.x; r < count; r += blockDim.x) {
            const unsigned* entry = sorted + 3 * (before + groups * r);
            clip[r] = entry[0], start[r] = entry[1], length[r] = entry[2];
        }
        for (int e = threadIdx.x; e < 2 * rows * pad; e += blockDim.x) own[e] = 0.0f;
        __syncthreads();
        for (int e = threadIdx.x; e < count * mine; e += blockDim.x) {
            int r = e / mine, j = e % mine;
            for (int gate = 0; gate < GATES; gate++) {
                factors[(gate * rows + r) * pad + j] = masks ? mask[mask_at(gate, r) + first + j] : 1.0f;
            }
        }
        return count;
    }

    METHOD long long mask_at(int gate, int r) const {
        return ((long long)(masks == 2 ? gate : 0) * clips + clip[r]) * hidden;
    }

    METHOD float factor(int gate, int r, int j) const { return factors[(gate * rows + r) * pad + j]; }
    METHOD float& state(int which, int r, int j) const { return own[(which * rows + r) * pad + j]; }
    METHOD float sum(int r, int gate, int j) const { return sums[(r * GATES + gate) * pad + j]; }
    METHOD float& fetched(int r, int slot, int j) const {
        return ahead[(r * (GATES + 2) + slot) * pad + j];
    }

    // NaN stays NaN, which fminf and fmaxf would not leave.
    METHOD float gate(float x) const {
        if (!hard) return 1.0f / (1.0f + expf(-x));
        float a = fmaf(0.2f, x, 0.5f);
        return a < 0.0f ? 0.0f : a > 1.0f ? 1.0f : a;
    }

    // `d` times the slope of a gate with value `a`.
    METHOD float through_gate(float a, float d) const {
        return hard ? (a > 0.0f && a < 1.0f ? 0.2f * d : 0.0f) : d * a * (1.0f - a);
    }

    // `sums[row, gate] = tile[copy] . weights[gate]` of the own units, for `count` gates from `gate` on, `stride`
    // apart; each has its own copy in the tile, or all share the first.
    METHOD void product(int gate, int stride, int count, bool copies, int active) const {
        int tiles = active / 4 + (active >> 1 & 1) + (active & 1);
        int tasks = count * (pad / TILE) * tiles;
        for (int task = threadIdx.x / 32; task < tasks; task += blockDim.x / 32) {
            // Few clips are one tile, which spares a division.
            int rest = tiles == 1 ? task : task / tiles;
            int at = task - rest * tiles, slot = rest / (pad / TILE);
            int unit = (rest - slot * (pad / TILE)) * TILE;
            const float* a = tile + (copies ? slot : 0) * rows * k;
            int g = gate + slot * stride;
            if (at < active / 4) multiply<4>(a, g, unit, 4 * at);
            else if (at == active / 4 && (active & 2)) multiply<2>(a, g, unit, 4 * at);
            else multiply<1>(a, g, unit, active - 1);
        }
    }

    // One warp: ROWS rows by TILE units.
    template <int ROWS> METHOD void multiply(const float* a, int gate, int unit, int row) const {
        const int N = ROWS * TILE;
        float acc[N];
        UNROLL
        for (int i = 0; i < N; i++) acc[i] = 0.0f;
        int lane = threadIdx.x % 32;
        const float* left = a + row * k;
        const float* right = weights + (gate * pad + unit) * k;
#pragma unroll 4
        for (int i = lane; i < k; i += 32) {
            float v[ROWS];
            UNROLL
            for (int r = 0; r < ROWS; r++) v[r] = left[r * k + i];
            UNROLL
            for (int c = 0; c < TILE; c++) {
                float w = right[c * k + i];
                UNROLL
                for (int r = 0; r < ROWS; r++) acc[c * ROWS + r] = fmaf(v[r], w, acc[c * ROWS + r]);
            }
        }
        add_lanes<N, 16>(acc, lane);
        int value = lane / (32 / N);
        if (lane % (32 / N) == 0) {
            sums[((row + value % ROWS) * GATES + gate) * pad + unit + value / ROWS] = acc[0];
        }
    }
};

// Waits in step `t` for the numbers of this turn and fills the tile with them, of `rows` rows and slots `from`, `from +
// stride` .. for `copies` copies, each times `factor(copy, r, i)`. Four words of a thread are on their way at once.
template <class Factor>
DEVICE void collect(Block& b, int t, int rows, int from, int stride, int copies, Factor factor) {
    for (Place to(b.vectors, rows); to.copy < copies;) {
        Place place = to;
        const unsigned long long* words[4];
        unsigned long long numbers[4];
        float factors[4];
        UNROLL
        for (int q = 0; q < 4; q++) {
            bool inside = place.copy < copies && place.j < b.hidden;
            words[q] = inside ? b.word(from + place.copy * stride, place.r, place.j) : nullptr;
            numbers[q] = inside ? load_marked(words[q]) : (unsigned long long)b.turn << 32;
            factors[q] = inside ? factor(place.copy, place.r, place.j) : 0.0f;
            place.next(b.vectors, rows);
        }
        long long start = 0;
        for (;;) {
            bool missing = false;
            UNROLL
            for (int q = 0; q < 4; q++) {
                if ((unsigned)(numbers[q] >> 32) == b.turn) continue;
                missing = true;
                numbers[q] = load_marked(words[q]);
            }
            if (!missing) break;
            if (start == 0) start = clock64();
            spin();
            if (clock64() - start > PATIENCE) give_up(b.report, t);
        }
        UNROLL
        for (int q = 0; q < 4; q++) {
            if (to.copy < copies) {
                b.tile[(to.copy * b.rows + to.r) * b.k + to.j] = __uint_as_float((unsigned)numbers[q]) * factors[q];
            }
            to.next(b.vectors, rows);
        }
    }
    b.turn += 1;
    __syncthreads();
}
