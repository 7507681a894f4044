// The forward pass; see group.cu.

// Vectors that the state is given in: one for all gates, or one for each, times its mask.
constexpr int STATES = MASKS == 2 ? ON_STATE : 1;

// Ends a step of the forward pass: the new state goes to the other blocks, or out if it is the last.
DEVICE void pass_on(const Block& b, int r, int j, int t, float h, float* state, float* last) {
    b.state(0, r, j) = h;
    if (t + 1 < b.length[r]) {
        UNROLL
        for (int copy = 0; copy < STATES; copy++) b.exchange.give(copy, r, j, b.factor(copy, r, j) * h);
        if (state) state[((long long)b.start[r] + t + 1) * HIDDEN + b.first + j] = h;
        return;
    }
    last[(long long)b.clip[r] * HIDDEN + b.first + j] = h;
}

// x [n, G H]; u [U | b]; mask by MASKS; sorted [B, 3]; last [B, H]. In training activations [n, G H], state and extra
// [n, H] (no extra for the RNN); else none of them. exchange [groups, 2, COPIES, ROWS, H] begins at 0, and is none in
// clusters; report is a word of the host's memory.
RECURRENCE(recurrence_forward)(
    int clips, const float* x, const float* u, const float* mask, const unsigned* sorted, float* last,
    float* activations, float* state, float* extra, unsigned long long* exchange, unsigned long long* report
) {
    SHARED(float, shared);
    Block b(clips, shared, exchange, report);
    Product<0, 1, ON_STATE> on_state;
    Product<GATES - 1, 1, 1> on_reset;
    on_state.keep(u, b.first, b.mine, true);
    if (CELL == GRU) on_reset.keep(u, b.first, b.mine, true);
    for (int e = threadIdx.x; e < GATES * UNITS; e += THREADS) {
        int j = e % UNITS;
        if (j < b.mine) b.biases[e] = u[((long long)HIDDEN * GATES + e / UNITS) * HIDDEN + b.first + j];
    }
    // The pre-activations of step `t`.
    auto fetch = [&](int t, int count) {
        b.each(count, [&](int r, int j) {
            if (t < b.length[r]) b.fetch(t, r, 0, GATES, j, x + (long long)(b.start[r] + t) * GATES * HIDDEN + b.first + j);
        });
        copy_async_commit();
    };
    for (int lot = 0;; lot++) {
        int count = b.take(lot, sorted);
        if (count == 0) break;
        b.each(count, [&](int r, int j) { b.begin(mask, r, j, 0.0f); });
        for (int t = 0; t < AHEAD - 1; t++) fetch(t, count);
        int active = count;
        for (int t = 0; t < b.length[0]; t++) {
            while (b.length[active - 1] <= t) active--;
            fetch(t + AHEAD - 1, active);
            // The state before the first step is 0.
            if (t > 0) {
                on_state.multiply(b.exchange.take(t, active, STATES), MASKS == 2, active, b.sums);
                __syncthreads();
            }
            copy_async_wait<AHEAD - 1>();
            b.each(active, [&](int r, int j) {
                long long row = b.start[r] + t, unit = row * HIDDEN + b.first + j;
                float* out = activations + row * GATES * HIDDEN + b.first + j;
                float a[4];
                UNROLL
                for (int g = 0; g < ON_STATE; g++) {
                    float pre = b.fetched(t, r, g, j) + b.bias(g, j);
                    if (t > 0) pre += b.sum(r, g, j);
                    a[g] = CELL == RNN || (CELL == LSTM && g == 2) ? tanhf(pre) : b.gate(pre);
                }
                if (CELL == RNN) pass_on(b, r, j, t, a[0], state, last);
                if (CELL == GRU) {
                    float reset = a[1] * b.state(0, r, j) * b.factor(GATES - 1, r, j);
                    b.exchange.give(0, r, j, reset);
                    if (extra) extra[unit] = reset;
                    b.state(1, r, j) = a[0];
                }
                if (CELL == LSTM) {
                    float cell = b.state(1, r, j);
                    if (extra) extra[unit] = cell;
                    cell = fmaf(a[1], cell, a[0] * a[2]);
                    b.state(1, r, j) = cell;
                    pass_on(b, r, j, t, a[3] * tanhf(cell), state, last);
                }
                // What nobody waits for comes last.
                if (activations) {
                    UNROLL
                    for (int g = 0; g < ON_STATE; g++) out[g * HIDDEN] = a[g];
                }
                if (state && t == 0) state[unit] = 0.0f;
            });
            if (CELL != GRU) continue;
            on_reset.multiply(b.exchange.take(t, active, 1), false, active, b.sums);
            __syncthreads();
            b.each(active, [&](int r, int j) {
                float c = tanhf(b.sum(r, GATES - 1, j) + (b.fetched(t, r, GATES - 1, j) + b.bias(GATES - 1, j)));
                float h = fmaf(b.state(1, r, j), b.state(0, r, j) - c, c);
                pass_on(b, r, j, t, h, state, last);
                if (activations) activations[((b.start[r] + t) * (long long)GATES + GATES - 1) * HIDDEN + b.first + j] = c;
            });
        }
        copy_async_wait<0>();
    }
    b.exchange.end();
}
EMULATED(recurrence_forward)
