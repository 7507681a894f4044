// Back-propagation through time; see group.cu.

// The record of step `t`: activations, then the state and, for the LSTM, the cell before it.
DEVICE void fetch_record(
    const Block& b, const float* activations, const float* state, const float* extra, int t, int active
) {
    for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
        int r = e.r, j = e.j;
        long long row = b.start[r] + t;
        UNROLL
        for (int g = 0; g < GATES; g++) {
            b.fetched(r, g, j) = activations[(row * GATES + g) * b.hidden + b.first + j];
        }
        if (CELL == GRU) b.fetched(r, GATES, j) = state[row * b.hidden + b.first + j];
        if (CELL == LSTM) b.fetched(r, GATES, j) = extra[row * b.hidden + b.first + j];
    }
}

// Fills the tile with the gradients of `count` gates, from `gate` on, `stride` apart.
DEVICE void load_gradients(Block& b, int t, int active, int gate, int stride, int count) {
    collect(b, t, active, gate, stride, count, [](int, int, int) { return 1.0f; });
}

// Keeps a gradient of a pre-activation and gives it to the other blocks; those of the first step have no use for it.
DEVICE void pass_back(const Block& b, float* out, int gate, int r, int j, int t, float value) {
    out[gate * b.hidden] = value;
    if (t > 0 || (CELL == GRU && gate != 1)) b.give(gate, r, j, value);
}

DEVICE void backward(
    const Sizes& sizes, const float* u, const float* mask, const unsigned* sorted, const float* activations,
    const float* state, const float* extra, const float* dlast, float* dx, unsigned long long* exchange,
    unsigned long long* report, float* shared
) {
    Block b(sizes, shared, exchange, report);
    const int hidden = b.hidden;
    b.keep_weights(u, false);
    for (int lot = 0;; lot++) {
        int count = b.take(lot, sorted, mask);
        if (count == 0) return;
        int steps = b.length[0];
        int active = 0;
        while (active < count && b.length[active] >= steps) active++;
        fetch_record(b, activations, state, extra, steps - 1, active);
        for (int t = steps - 1; t >= 0; t--) {
            for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
                int r = e.r, j = e.j;
                float* out = dx + (long long)(b.start[r] + t) * GATES * hidden + b.first + j;
                float a[GATES];
                UNROLL
                for (int g = 0; g < GATES; g++) a[g] = b.fetched(r, g, j);
                float dh = b.state(0, r, j);
                if (t + 1 == b.length[r]) dh = dlast[(long long)b.clip[r] * hidden + b.first + j];
                if (CELL == RNN) pass_back(b, out, 0, r, j, t, dh * (1.0f - a[0] * a[0]));
                if (CELL == GRU) {
                    float carry = dh * a[0];
                    pass_back(b, out, 0, r, j, t, b.through_gate(a[0], dh * (b.fetched(r, GATES, j) - a[2])));
                    pass_back(b, out, 2, r, j, t, (dh - carry) * (1.0f - a[2] * a[2]));
                    b.state(0, r, j) = carry;
                }
                if (CELL == LSTM) {
                    float cell = b.fetched(r, GATES, j);
                    float y = tanhf(fmaf(a[1], cell, a[0] * a[2]));
                    float dc = fmaf(dh * a[3], 1.0f - y * y, b.state(1, r, j));
                    pass_back(b, out, 0, r, j, t, b.through_gate(a[0], dc * a[2]));
                    pass_back(b, out, 1, r, j, t, b.through_gate(a[1], dc * cell));
                    pass_back(b, out, 2, r, j, t, dc * a[0] * (1.0f - a[2] * a[2]));
                    pass_back(b, out, 3, r, j, t, b.through_gate(a[3], dh * y));
                    b.state(1, r, j) = dc * a[1];
                }
            }
            if (CELL == GRU) {
                load_gradients(b, t, active, 0, 2, 2);
                b.product(0, 2, 2, true, active);
                __syncthreads();
                for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
                    int r = e.r, j = e.j;
                    float reset = b.fetched(r, 1, j);
                    float d = b.factor(2, r, j) * b.sum(r, 2, j);
                    float* out = dx + (long long)(b.start[r] + t) * GATES * hidden + b.first + j;
                    pass_back(b, out, 1, r, j, t, b.through_gate(reset, d * b.fetched(r, GATES, j)));
                    float carry = fmaf(d, reset, b.state(0, r, j));
                    b.state(0, r, j) = fmaf(b.factor(0, r, j), b.sum(r, 0, j), carry);
                }
            }
            if (t == 0) break;
            // Clips whose last step is the next one join with it.
            int joined = active;
            while (joined < count && b.length[joined] >= t) joined++;
            fetch_record(b, activations, state, extra, t - 1, joined);
            if (CELL == GRU) load_gradients(b, t, active, 1, 1, 1);
            else load_gradients(b, t, active, 0, 1, GATES);
            b.product(CELL == GRU, 1, CELL == GRU ? 1 : GATES, true, active);
            __syncthreads();
            for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
                int r = e.r, j = e.j;
                float dh = CELL == GRU ? b.state(0, r, j) : 0.0f;
                UNROLL
                for (int g = CELL == GRU; g < (CELL == GRU ? 2 : GATES); g++) {
                    dh = fmaf(b.factor(g, r, j), b.sum(r, g, j), dh);
                }
                b.state(0, r, j) = dh;
            }
            active = joined;
        }
    }
}

// u, mask, sorted, activations, state and extra as in the forward pass in training; dlast [B, H]; dx [n, G H].
KERNEL_OF(recurrence_backward, THREADS, 1)(
    int hidden, int clips, int peers, int units, int rows, int hard, int masks, const float* u, const float* mask,
    const unsigned* sorted, const float* activations, const float* state, const float* extra, const float* dlast,
    float* dx, unsigned long long* exchange, unsigned long long* report
) {
    SHARED(float, shared);
    Sizes sizes = {hidden, clips, peers, units, rows, hard, masks};
    backward(sizes, u, mask, sorted, activations, state, extra, dlast, dx, exchange, report, shared);
}
EMULATED(recurrence_backward)
