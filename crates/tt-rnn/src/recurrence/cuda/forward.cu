// The forward pass; see group.cu.

// One step further than `t`, where another block reads it: the rows of the training's record, or two buffers in turn.
DEVICE long long state_row(const Block& b, int r, int t, bool train) {
    return (train ? (long long)b.start[r] + t : (long long)(t & 1) * b.clips + b.clip[r]) * b.hidden;
}

// Pre-activations with bias of step `t`.
DEVICE void fetch_input(const Block& b, const float* x, const float* u, int t, int active) {
    const float* bias = u + (long long)b.hidden * GATES * b.hidden;
    for (int e = threadIdx.x; e < active * b.mine; e += blockDim.x) {
        int r = e / b.mine, j = e % b.mine;
        const float* row = x + (long long)(b.start[r] + t) * GATES * b.hidden;
        UNROLL
        for (int gate = 0; gate < GATES; gate++) {
            int at = gate * b.hidden + b.first + j;
            b.fetched(r, gate, j) = row[at] + bias[at];
        }
    }
}

// Fills the tile with the state before step `t`, masked.
DEVICE void load_state(const Block& b, const float* state, const float* mask, int t, int active, bool train) {
    auto load = [&](int e) {
        int r = e / b.k, i = e % b.k;
        return i < b.hidden && t > 0 ? load_fresh(state + state_row(b, r, t, train) + i) : 0.0f;
    };
    move(active * b.k, load, [&](int e, float h) {
        int r = e / b.k, i = e % b.k;
        if (b.masks == 0 || i >= b.hidden) {
            b.tile[e] = h;
        } else {
            b.tile[e] = h * mask[b.mask_at(0, r) + i];
        }
        if (b.masks != 2) return;
        for (int gate = 1; gate < ON_STATE; gate++) {
            float factor = i < b.hidden ? mask[b.mask_at(gate, r) + i] : 0.0f;
            b.tile[gate * b.rows * b.k + e] = h * factor;
        }
    });
    __syncthreads();
}

// Fills the tile with the masked r*h of step `t`.
DEVICE void load_reset(const Block& b, const float* extra, int t, int active, bool train) {
    auto load = [&](int e) {
        int r = e / b.k, i = e % b.k;
        long long row = train ? (long long)b.start[r] + t : b.clip[r];
        return i < b.hidden ? load_fresh(extra + row * b.hidden + i) : 0.0f;
    };
    move(active * b.k, load, [&](int e, float value) { b.tile[e] = value; });
    __syncthreads();
}

// Ends a step of the forward pass: the new state goes to the other blocks, or out if it is the last.
DEVICE void pass_on(const Block& b, int r, int j, int t, float h, float* state, float* last, bool train) {
    b.state(0, r, j) = h;
    if (t + 1 < b.length[r]) state[state_row(b, r, t + 1, train) + b.first + j] = h;
    else last[(long long)b.clip[r] * b.hidden + b.first + j] = h;
}

DEVICE void forward(
    const Sizes& sizes, bool train, const float* x, const float* u, const float* mask, const unsigned* sorted,
    float* last, float* activations, float* state, float* extra, unsigned* counters, unsigned long long* report,
    float* shared
) {
    Block b(sizes, shared, counters, report);
    const int hidden = b.hidden;
    b.keep_weights(u, true);
    for (int lot = 0;; lot++) {
        int active = b.take(lot, sorted, mask);
        if (active == 0) return;
        int steps = b.length[0];
        fetch_input(b, x, u, 0, active);
        for (int t = 0; t < steps; t++) {
            while (b.length[active - 1] <= t) active--;
            load_state(b, state, mask, t, active, train);
            b.product(0, 1, ON_STATE, b.masks == 2, active);
            __syncthreads();
            for (int e = threadIdx.x; e < active * b.mine; e += blockDim.x) {
                int r = e / b.mine, j = e % b.mine;
                long long row = b.start[r] + t;
                long long unit = row * hidden + b.first + j;
                float* out = activations + row * GATES * hidden + b.first + j;
                float a[ON_STATE];
                UNROLL
                for (int g = 0; g < ON_STATE; g++) {
                    float pre = b.sum(r, g, j) + b.fetched(r, g, j);
                    a[g] = CELL == RNN || (CELL == LSTM && g == 2) ? tanhf(pre) : b.gate(pre);
                    if (train) out[g * hidden] = a[g];
                }
                if (train && t == 0) state[unit] = 0.0f;
                if (CELL == RNN) pass_on(b, r, j, t, a[0], state, last, train);
                if (CELL == GRU) {
                    long long at = train ? unit : (long long)b.clip[r] * hidden + b.first + j;
                    extra[at] = a[1] * b.state(0, r, j) * b.factor(2, r, j);
                    b.state(1, r, j) = a[0];
                }
                if (CELL == LSTM) {
                    float cell = b.state(1, r, j);
                    if (train) extra[unit] = cell;
                    cell = fmaf(a[1], cell, a[0] * a[2]);
                    b.state(1, r, j) = cell;
                    pass_on(b, r, j, t, a[3] * tanhf(cell), state, last, train);
                }
            }
            if (CELL == GRU) {
                b.arrive();
                b.wait(t);
                load_reset(b, extra, t, active, train);
                b.product(2, 1, 1, false, active);
                __syncthreads();
                for (int e = threadIdx.x; e < active * b.mine; e += blockDim.x) {
                    int r = e / b.mine, j = e % b.mine;
                    float c = tanhf(b.sum(r, 2, j) + b.fetched(r, 2, j));
                    long long row = b.start[r] + t;
                    if (train) activations[(row * GATES + 2) * hidden + b.first + j] = c;
                    float h = fmaf(b.state(1, r, j), b.state(0, r, j) - c, c);
                    pass_on(b, r, j, t, h, state, last, train);
                }
            }
            if (t + 1 < steps) {
                b.arrive();
                while (b.length[active - 1] <= t + 1) active--;
                fetch_input(b, x, u, t + 1, active);
                b.wait(t);
            }
        }
    }
}


// x [n, G H]; u [U | b]; mask by `masks`; sorted [B, 3]; last [B, H]. In training activations [n, G H], state and extra
// [n, H] (no extra for the RNN); else no activations, state [2, B, H], extra [B, H] for the GRU alone. 32 counters a
// group begin at 0; report is a word of the host's memory.
KERNEL_OF(recurrence_forward, THREADS, 1)(
    int hidden, int clips, int peers, int units, int rows, int hard, int masks, int train, const float* x,
    const float* u, const float* mask, const unsigned* sorted, float* last, float* activations, float* state,
    float* extra, unsigned* counters, unsigned long long* report
) {
    SHARED(float, shared);
    Sizes sizes = {hidden, clips, peers, units, rows, hard, masks};
    forward(sizes, train, x, u, mask, sorted, last, activations, state, extra, counters, report, shared);
}
EMULATED(recurrence_forward)
