// Frames of a batch from where they lie in a card's memory: row r is the WIDTH bytes from `base + offsets[r]` on, every
// address a multiple of WORD. A block copies row after row, four words of a thread on their way at once.

#if WORD == 16
using Word = uint4;
#elif WORD == 8
using Word = uint2;
#elif WORD == 4
using Word = unsigned;
#else
using Word = unsigned char;
#endif

KERNEL_OF(gather_rows, 256, 1)
(const unsigned char* base, const long long* offsets, unsigned char* to, int rows) {
    constexpr int COUNT = WIDTH / WORD;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const Word* from = reinterpret_cast<const Word*>(base + offsets[row]);
        Word* there = reinterpret_cast<Word*>(to + static_cast<size_t>(row) * WIDTH);
        for (int k = threadIdx.x; k < COUNT; k += 4 * 256) {
            Word words[4];
            UNROLL for (int q = 0; q < 4; ++q) {
                if (k + q * 256 < COUNT) words[q] = from[k + q * 256];
            }
            UNROLL for (int q = 0; q < 4; ++q) {
                if (k + q * 256 < COUNT) there[k + q * 256] = words[q];
            }
        }
    }
}
EMULATED(gather_rows)
