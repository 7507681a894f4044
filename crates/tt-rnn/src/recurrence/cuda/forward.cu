// The forward pass; see group.cu.

// Pre-activations with bias of step `t`.
DEVICE void fetch_input(const Block& b, const float* x, const float* u, int t, int active) {
    const float* bias = u + (long long)b.hidden * GATES * b.hidden;
    for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
        int r = e.r, j = e.j;
        const float* row = x + (long long)(b.start[r] + t) * GATES * b.hidden;
        UNROLL
        for (int gate = 0; gate < GATES; gate++) {
            int at = gate * b.hidden + b.first + j;
            b.fetched(r, gate, j) = row[at] + bias[at];
        }
    }
}

// Fills the tile with the state before step `t`, masked.
DEVICE void load_state(Block& b, const float* mask, int t, int active) {
    int copies = b.masks == 2 ? ON_STATE : 1;
    if (t > 0) {
        // Masks are asked for beside the state, not after it.
        collect(b, t, active, 0, 0, copies, [&](int gate, int r, int i) {
            return b.masks == 0 ? 1.0f : mask[b.mask_at(gate, r) + i];
        });
        return;
    }
    for (int e = threadIdx.x; e < copies * b.rows * b.k; e += blockDim.x) b.tile[e] = 0.0f;
    __syncthreads();
}

// Ends a step of the forward pass: the new state goes to the other blocks, or out if it is the last.
DEVICE void pass_on(const Block& b, int r, int j, int t, float h, float* state, float* last, bool train) {
    b.state(0, r, j) = h;
    if (t + 1 < b.length[r]) {
        b.give(0, r, j, h);
        if (train) state[((long long)b.start[r] + t + 1) * b.hidden + b.first + j] = h;
        return;
    }
    last[(long long)b.clip[r] * b.hidden + b.first + j] = h;
}

DEVICE void forward(
    const Sizes& sizes, bool train, const float* x, const float* u, const float* mask, const unsigned* sorted,
    float* last, float* activations, float* state, float* extra, unsigned long long* exchange, unsigned long long* report,
    float* shared
) {
    Block b(sizes, shared, exchange, report);
    const int hidden = b.hidden;
    b.keep_weights(u, true);
    for (int lot = 0;; lot++) {
        int active = b.take(lot, sorted, mask);
        if (active == 0) return;
        int steps = b.length[0];
        fetch_input(b, x, u, 0, active);
        for (int t = 0; t < steps; t++) {
            while (b.length[active - 1] <= t) active--;
            load_state(b, mask, t, active);
            b.product(0, 1, ON_STATE, b.masks == 2, active);
            __syncthreads();
            for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
                int r = e.r, j = e.j;
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
                    float reset = a[1] * b.state(0, r, j) * b.factor(2, r, j);
                    b.give(0, r, j, reset);
                    if (train) extra[unit] = reset;
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
                collect(b, t, active, 0, 0, 1, [](int, int, int) { return 1.0f; });
                b.product(2, 1, 1, false, active);
                __syncthreads();
                for (Place e(b.units, active); e.copy == 0; e.next(b.units, active)) {
                    int r = e.r, j = e.j;
                    float c = tanhf(b.sum(r, 2, j) + b.fetched(r, 2, j));
                    long long row = b.start[r] + t;
                    if (train) activations[(row * GATES + 2) * hidden + b.first + j] = c;
                    float h = fmaf(b.state(1, r, j), b.state(0, r, j) - c, c);
                    pass_on(b, r, j, t, h, state, last, train);
                }
            }
            if (t + 1 < steps) {
                while (b.length[active - 1] <= t + 1) active--;
                fetch_input(b, x, u, t + 1, active);
            }
        }
    }
}


// x [n, G H]; u [U | b]; mask by `masks`; sorted [B, 3]; last [B, H]. In training activations [n, G H], state and extra
// [n, H] (no extra for the RNN); else none of them. exchange [groups, 2, G, rows, H] begins at 0; report is a word of the
// host's memory.
KERNEL_OF(recurrence_forward, THREADS, 1)(
    int hidden, int clips, int peers, int units, int rows, int hard, int masks, int train, const float* x,
    const float* u, const float* mask, const unsigned* sorted, float* last, float* activations, float* state,
    float* extra, unsigned long long* exchange, unsigned long long* report
) {
    SHARED(float, shared);
    Sizes sizes = {hidden, clips, peers, units, rows, hard, masks};
    forward(sizes, train, x, u, mask, sorted, last, activations, state, extra, exchange, report, shared);
}
EMULATED(recurrence_forward)
