// Back-propagation through time; see group.cu.

// u, mask, sorted, activations, state and extra as in the forward pass in training; dlast [B, H]; dx [n, G H].
RECURRENCE(recurrence_backward)(
    int clips, const float* u, const float* mask, const unsigned* sorted, const float* activations, const float* state,
    const float* extra, const float* dlast, float* dx, unsigned long long* exchange, unsigned long long* report
) {
    SHARED(float, shared);
    Block b(clips, shared, exchange, report);
    // Of the GRU the gradients of z and the candidate first, then of the reset gate; else of all gates.
    Product<0, 2, 2> early;
    Product<CELL == GRU, 1, CELL == GRU ? 1 : GATES> late;
    if (CELL == GRU) early.keep(u, b.first, b.mine, false);
    late.keep(u, b.first, b.mine, false);
    // The record of step `t`: activations, then the state and, for the LSTM, the cell before it.
    auto fetch = [&](int t, int count) {
        b.each(count, [&](int r, int j) {
            if (t < 0 || t >= b.length[r]) return;
            long long row = b.start[r] + t;
            b.fetch(t, r, 0, GATES, j, activations + row * GATES * HIDDEN + b.first + j);
            if (CELL == GRU) b.fetch(t, r, GATES, 1, j, state + row * HIDDEN + b.first + j);
            if (CELL == LSTM) b.fetch(t, r, GATES, 1, j, extra + row * HIDDEN + b.first + j);
        });
        copy_async_commit();
    };
    for (int lot = 0;; lot++) {
        int count = b.take(lot, sorted);
        if (count == 0) break;
        b.each(count, [&](int r, int j) {
            b.begin(mask, r, j, dlast[(long long)b.clip[r] * HIDDEN + b.first + j]);
        });
        int steps = b.length[0], active = 0;
        for (int t = steps - 1; t > steps - AHEAD; t--) fetch(t, count);
        for (int t = steps - 1; t >= 0; t--) {
            // Clips whose last step is this one join.
            while (active < count && b.length[active] > t) active++;
            fetch(t - (AHEAD - 1), count);
            copy_async_wait<AHEAD - 1>();
            b.each(active, [&](int r, int j) {
                float* out = dx + (long long)(b.start[r] + t) * GATES * HIDDEN + b.first + j;
                float a[4], d[4];
                UNROLL
                for (int g = 0; g < GATES; g++) a[g] = b.fetched(t, r, g, j);
                float dh = b.state(0, r, j), before = b.fetched(t, r, GATES, j);
                if (CELL == RNN) d[0] = dh * (1.0f - a[0] * a[0]);
                if (CELL == GRU) {
                    float carry = dh * a[0];
                    d[0] = b.through_gate(a[0], dh * (before - a[2]));
                    d[1] = (dh - carry) * (1.0f - a[2] * a[2]);
                    b.state(0, r, j) = carry;
                }
                if (CELL == LSTM) {
                    float y = tanhf(fmaf(a[1], before, a[0] * a[2]));
                    float dc = fmaf(dh * a[3], 1.0f - y * y, b.state(1, r, j));
                    d[0] = b.through_gate(a[0], dc * a[2]);
                    d[1] = b.through_gate(a[1], dc * before);
                    d[2] = dc * a[0] * (1.0f - a[2] * a[2]);
                    d[3] = b.through_gate(a[3], dh * y);
                    b.state(1, r, j) = dc * a[1];
                }
                // Those of the first step have no use for others, but for the GRU's.
                UNROLL
                for (int g = 0; g < COPIES; g++) {
                    if (t > 0 || CELL == GRU) b.exchange.give(g, r, j, d[g]);
                }
                UNROLL
                for (int g = 0; g < COPIES; g++) out[(CELL == GRU ? 2 * g : g) * HIDDEN] = d[g];
            });
            if (CELL == GRU) {
                early.multiply(b.exchange.take(t, active, 2), true, active, b.sums);
                __syncthreads();
                b.each(active, [&](int r, int j) {
                    float reset = b.fetched(t, r, 1, j);
                    float d = b.factor(GATES - 1, r, j) * b.sum(r, GATES - 1, j);
                    float dr = b.through_gate(reset, d * b.fetched(t, r, GATES, j));
                    if (t > 0) b.exchange.give(0, r, j, dr);
                    dx[((b.start[r] + t) * (long long)GATES + 1) * HIDDEN + b.first + j] = dr;
                    float carry = fmaf(d, reset, b.state(0, r, j));
                    b.state(0, r, j) = fmaf(b.factor(0, r, j), b.sum(r, 0, j), carry);
                });
            }
            if (t == 0) break;
            late.multiply(b.exchange.take(t, active, CELL == GRU ? 1 : GATES), CELL != GRU, active, b.sums);
            __syncthreads();
            b.each(active, [&](int r, int j) {
                float dh = CELL == GRU ? b.state(0, r, j) : 0.0f;
                UNROLL
                for (int g = CELL == GRU; g < (CELL == GRU ? 2 : GATES); g++) {
                    dh = fmaf(b.factor(g, r, j), b.sum(r, g, j), dh);
                }
                b.state(0, r, j) = dh;
            });
        }
        copy_async_wait<0>();
    }
    b.exchange.end();
}
EMULATED(recurrence_backward)
