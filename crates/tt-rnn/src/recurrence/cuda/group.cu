// The recurrence over packed clips as one persistent kernel: plain RNN, GRU (reset before U) and LSTM, forward and
// back-propagation through time, f32.
//
// A group of blocks handles some clips, which step together, the longest first. Each block of it owns a slice of the
// units and keeps their weights in registers for good; what all units need of a step (h, the masked r*h; backward the
// gradients of the pre-activations) passes between the blocks by an `Exchange` (exchange.cu). What a step reads of global
// memory is on its way to shared memory for AHEAD - 1 steps.
//
// A sum over k is 32 partial sums (k mod 32, ascending) added in a fixed tree, whatever the launch: the numbers do
// not depend on how units and clips are dealt.
//
// Macros: CELL; HIDDEN units; PEERS blocks of a group, UNITS of a block and ROWS clips of a group at once, at most; HARD gates
// instead of logistic ones; MASKS 0 none, 1 one for all gates, 2 one for each; THREADS of a block; CLUSTER, whether a group
// is a cluster.

#ifdef __CUDACC_RTC__
#define METHOD __device__ __forceinline__
#else
#define METHOD inline
#endif

// CELL is one of these.
#define RNN 0
#define GRU 1
#define LSTM 2

constexpr int GATES = CELL == RNN ? 1 : CELL == GRU ? 3 : 4;
// The gates whose product is with h.
constexpr int ON_STATE = CELL == GRU ? 2 : GATES;
// Vectors of H beside each other in the tile, at most.
constexpr int COPIES = CELL == RNN ? 1 : CELL == GRU ? 2 : 4;
constexpr int WARPS = THREADS / 32;
// H rounded up to whole warps.
constexpr int K = (HIDDEN + 31) / 32 * 32;
// Steps of which a block holds what global memory has, and numbers of a unit in each.
constexpr int AHEAD = 4;
constexpr int FETCHED = GATES + 1;

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

constexpr int power_from(int number) { return number <= 1 ? 1 : 2 * power_from((number + 1) / 2); }
constexpr int least(int a, int b) { return a < b ? a : b; }

// The products of a vector of H with the weights of the own units, for COUNT gates from FIRST on, STRIDE apart. A warp
// keeps the weights of WIDE units of one gate; where there are more warps than that takes, they share the clips.
template <int FIRST, int STRIDE, int COUNT> struct Product {
    static_assert(WARPS >= COUNT, "a warp for each gate");
    static constexpr int WIDE = power_from((UNITS + WARPS / COUNT - 1) / (WARPS / COUNT));
    static constexpr int SLICES = (UNITS + WIDE - 1) / WIDE;
    static constexpr int SHARES = WARPS / (COUNT * SLICES);
    // Clips at once.
    static constexpr int TALL = least(least(4, power_from(ROWS)), 32 / WIDE);

    float weights[WIDE][K / 32];
    // The vector, the gate and the first unit of this warp, and which of the clips.
    int slot, gate, unit, share;

    // Reads the weights: a column of U for each unit, or a row of each gate.
    METHOD void keep(const float* u, int first, int mine, bool columns) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        slot = warp % (COUNT * SLICES) / SLICES, gate = FIRST + slot * STRIDE;
        unit = warp % SLICES * WIDE, share = warp / (COUNT * SLICES);
        UNROLL
        for (int c = 0; c < WIDE; c++) {
            UNROLL
            for (int i = 0; i < K / 32; i++) {
                int own = first + unit + c, other = 32 * i + lane;
                bool inside = unit + c < mine && other < HIDDEN;
                int from = columns ? other : own, to = columns ? own : other;
                weights[c][i] = inside ? u[((long long)from * GATES + gate) * HIDDEN + to] : 0.0f;
            }
        }
    }

    // `sums[row, gate] = tile[slot, row] . weights` for the first clips; each gate has its own vector in the tile, or all
    // share the first.
    METHOD void multiply(const float* tile, bool copies, int active, float* sums) const {
        constexpr int N = WIDE * TALL;
        if (share >= SHARES) return;
        int lane = threadIdx.x % 32;
        const float* vectors = tile + (copies ? slot * ROWS * K : 0) + lane;
        for (int row = share * TALL; row < active; row += SHARES * TALL) {
            const float* from[TALL];
            float acc[N];
            UNROLL
            for (int r = 0; r < TALL; r++) from[r] = vectors + min(row + r, active - 1) * K;
            UNROLL
            for (int i = 0; i < N; i++) acc[i] = 0.0f;
            UNROLL
            for (int i = 0; i < K / 32; i++) {
                UNROLL
                for (int r = 0; r < TALL; r++) {
                    float v = from[r][32 * i];
                    UNROLL
                    for (int c = 0; c < WIDE; c++) acc[c * TALL + r] = fmaf(v, weights[c][i], acc[c * TALL + r]);
                }
            }
            add_lanes<N, 16>(acc, lane);
            int value = lane / (32 / N), r = row + value % TALL, j = unit + value / TALL;
            if (lane % (32 / N) == 0 && r < active && j < UNITS) sums[(r * GATES + gate) * UNITS + j] = acc[0];
        }
    }
};
