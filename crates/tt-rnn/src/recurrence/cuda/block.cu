// What a block of the recurrence holds; see group.cu.

// A block's place in its group and its shared memory. Thread by thread the same own units of the same clips are taken all
// the time, so that only `sums` and the tile need barriers.
struct Block {
    int clips, group, groups, first, mine;
    Exchange exchange;
    // [rows, gates, units]
    float* sums;
    // What steps read of global memory. [AHEAD, rows, FETCHED, units]
    float* ahead;
    // [2, rows, units]: h and c, or h and z; backward dh and dc.
    float* own;
    // Factors of the block's own units; none without dropout. [gates, rows, units]
    float* factors;
    // [gates, units]
    float* biases;
    // Of each row: index, first packed row, frames. [rows] each
    int* clip;
    int* start;
    int* length;

    METHOD Block(int all, float* shared, unsigned long long* words, unsigned long long* report) {
        clips = all;
        group = blockIdx.x / PEERS;
        groups = gridDim.x / PEERS;
        first = blockIdx.x % PEERS * UNITS;
        mine = HIDDEN % UNITS == 0 ? UNITS : min(UNITS, HIDDEN - first);
        sums = exchange.set_up(shared, words, report, group, first);
        ahead = sums + ROWS * GATES * UNITS;
        own = ahead + AHEAD * ROWS * FETCHED * UNITS;
        factors = own + 2 * ROWS * UNITS;
        biases = factors + GATES * ROWS * UNITS;
        clip = (int*)(biases + GATES * UNITS);
        start = clip + ROWS;
        length = start + ROWS;
    }

    // Takes the next clips of the group; `sorted` holds index, first row and frames of each clip, the longest first.
    // Returns how many there are.
    METHOD int take(int lot, const unsigned* sorted) {
        int before = group + groups * ROWS * lot;
        int count = before < clips ? min(ROWS, (clips - before - 1) / groups + 1) : 0;
        __syncthreads();
        for (int r = threadIdx.x; r < count; r += THREADS) {
            const unsigned* entry = sorted + 3 * (before + groups * r);
            clip[r] = entry[0], start[r] = entry[1], length[r] = entry[2];
        }
        __syncthreads();
        return count;
    }

    // Calls `act(r, j)` for this thread's units of the first `rows` clips.
    template <class Act> METHOD void each(int rows, Act act) const {
        for (int e = threadIdx.x; e < rows * UNITS; e += THREADS) {
            if (HIDDEN % UNITS == 0 || e % UNITS < mine) act(e / UNITS, e % UNITS);
        }
    }

    // The state before the first step, and the factors of the clips.
    METHOD void begin(const float* mask, int r, int j, float state0) const {
        state(0, r, j) = state0, state(1, r, j) = 0.0f;
        UNROLL
        for (int gate = 0; gate < (MASKS == 0 ? 0 : GATES); gate++) {
            long long row = (long long)(MASKS == 2 ? gate : 0) * clips + clip[r];
            factors[(gate * ROWS + r) * UNITS + j] = mask[row * HIDDEN + first + j];
        }
    }

    METHOD float factor(int gate, int r, int j) const {
        return MASKS == 0 ? 1.0f : factors[(gate * ROWS + r) * UNITS + j];
    }
    METHOD float& state(int which, int r, int j) const { return own[(which * ROWS + r) * UNITS + j]; }
    METHOD float sum(int r, int gate, int j) const { return sums[(r * GATES + gate) * UNITS + j]; }
    METHOD float bias(int gate, int j) const { return biases[gate * UNITS + j]; }
    METHOD float& fetched(int t, int r, int slot, int j) const {
        return ahead[((t % AHEAD * ROWS + r) * FETCHED + slot) * UNITS + j];
    }

    // Starts to copy `count` numbers of step `t`, HIDDEN apart.
    METHOD void fetch(int t, int r, int slot, int count, int j, const float* from) const {
        UNROLL
        for (int k = 0; k < count; k++) copy_async4(&fetched(t, r, slot + k, j), from + k * HIDDEN);
    }

    // NaN stays NaN, which fminf and fmaxf would not leave.
    METHOD float gate(float x) const {
        if (!HARD) return 1.0f / (1.0f + expf(-x));
        float a = fmaf(0.2f, x, 0.5f);
        return a < 0.0f ? 0.0f : a > 1.0f ? 1.0f : a;
    }

    // `d` times the slope of a gate with value `a`.
    METHOD float through_gate(float a, float d) const {
        return HARD ? d * (a > 0.0f && a < 1.0f ? 0.2f : 0.0f) : d * a * (1.0f - a);
    }
};

// A kernel of the recurrence.
#if CLUSTER
#define RECURRENCE(name) KERNEL_OF_CLUSTERS(name, THREADS, PEERS)
#else
#define RECURRENCE(name) KERNEL_OF(name, THREADS, 1)
#endif
