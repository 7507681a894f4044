// How the blocks of a group give each other numbers, in turns: all blocks give theirs, then each takes all of them. There is room for
// two turns: a block that has all of one turn knows that the one before was read everywhere.

// Sets the vectors to 0, for what lies after H stays so.
DEVICE void clear(float* tile, int count) {
    for (int e = threadIdx.x; e < count; e += THREADS) tile[e] = 0.0f;
}

#if CLUSTER

// A group is a cluster: numbers go from registers straight into the shared memory of all of its blocks, which counts
// them.
struct Exchange {
    // [2]
    unsigned long long* arrivals;
    // [2, COPIES, rows, K]
    float* tile;
    unsigned long long* report;
    int first;
    unsigned turn;

    // Takes its shared memory; returns what follows. Every thread of the group must come here.
    METHOD float* set_up(float* shared, unsigned long long*, unsigned long long* reports, int, int own) {
        arrivals = reinterpret_cast<unsigned long long*>(shared);
        tile = shared + 4, report = reports, first = own, turn = 0;
        clear(tile, 2 * COPIES * ROWS * K);
        if (threadIdx.x < 2) set_up_arrivals(arrivals + threadIdx.x);
        cluster_barrier();
        return tile + 2 * COPIES * ROWS * K;
    }

    // Gives a number of an own unit.
    METHOD void give(int slot, int r, int j, float value) const {
        const float* to = tile + ((turn % 2 * COPIES + slot) * ROWS + r) * K + first + j;
        UNROLL
        for (int peer = 0; peer < PEERS; peer++) send(in_block(to, peer), value, in_block(arrivals + turn % 2, peer));
    }

    // Waits in step `t` for the numbers of the first `slots` slots of the first `rows` clips; returns them, [slots, ROWS,
    // K].
    METHOD const float* take(int t, int rows, int slots) {
        unsigned long long* there = arrivals + turn % 2;
        if (threadIdx.x == 0) expect_bytes(there, slots * rows * HIDDEN * 4);
        long long start = 0;
        while (!have_arrived(there, turn / 2)) {
            if (start == 0) start = clock64();
            spin();
            if (clock64() - start > PATIENCE) give_up(report, t);
        }
        return tile + turn++ % 2 * COPIES * ROWS * K;
    }

    // No block ends while another may still send it something.
    METHOD void end() const { cluster_barrier(); }
};

#else

// Numbers pass through global memory, each with the mark of its turn in one word, which is what the others wait for. So all
// blocks must run at once: a cooperative launch.
struct Exchange {
    // [COPIES, rows, K]
    float* tile;
    // [2, COPIES, rows, HIDDEN], which begins at 0.
    unsigned long long* words;
    // Where a wait without an end is reported.
    unsigned long long* report;
    int first;
    unsigned turn;

    // Takes its shared memory; returns what follows.
    METHOD float* set_up(float* shared, unsigned long long* all, unsigned long long* reports, int group, int own) {
        tile = shared, report = reports, first = own, turn = 1;
        words = all + (long long)group * (2 * COPIES * ROWS * HIDDEN);
        clear(tile, COPIES * ROWS * K);
        return tile + COPIES * ROWS * K;
    }

    // Gives a number of an own unit.
    METHOD void give(int slot, int r, int j, float value) const {
        store_marked(words + ((turn % 2 * COPIES + slot) * ROWS + r) * HIDDEN + first + j, value, turn);
    }

    // Waits in step `t` for the numbers of the first `slots` slots of the first `rows` clips; returns them, [slots, ROWS,
    // K]. Four words of a thread are on their way at once.
    METHOD const float* take(int t, int rows, int slots) {
        const unsigned long long* from = words + turn % 2 * COPIES * ROWS * HIDDEN;
        int count = slots * rows * HIDDEN;
        for (int e = threadIdx.x; e < count; e += 4 * THREADS) {
            int places[4];
            unsigned long long numbers[4];
            UNROLL
            for (int q = 0; q < 4; q++) {
                // From [slots, rows, HIDDEN] to [slots, ROWS, HIDDEN].
                int row = (e + q * THREADS) / HIDDEN;
                places[q] = e + q * THREADS;
                for (int slot = 1; slot < slots; slot++) places[q] += row >= slot * rows ? (ROWS - rows) * HIDDEN : 0;
                bool inside = e + q * THREADS < count;
                numbers[q] = inside ? load_marked(from + places[q]) : (unsigned long long)turn << 32;
            }
            long long start = 0;
            for (;;) {
                bool missing = false;
                UNROLL
                for (int q = 0; q < 4; q++) {
                    if ((unsigned)(numbers[q] >> 32) == turn) continue;
                    missing = true;
                    numbers[q] = load_marked(from + places[q]);
                }
                if (!missing) break;
                if (start == 0) start = clock64();
                spin();
                if (clock64() - start > PATIENCE) give_up(report, t);
            }
            UNROLL
            for (int q = 0; q < 4; q++) {
                if (e + q * THREADS >= count) break;
                tile[places[q] / HIDDEN * K + places[q] % HIDDEN] = __uint_as_float((unsigned)numbers[q]);
            }
        }
        turn += 1;
        __syncthreads();
        return tile;
    }

    METHOD void end() const {}
};

#endif
