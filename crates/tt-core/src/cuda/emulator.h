// CUDA kernels on the CPU, one fiber a thread: slow, single-threaded, deterministic, with the checks that a GPU
// does not make. Every launch runs twice, threads first in order, then in reverse: a kernel whose bits depend on the
// order (a missing barrier, an atomic sum of floats) fails.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <sys/mman.h>
#include <type_traits>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#include <vector>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace emulator {

constexpr size_t STACK = 64 << 10;
constexpr size_t PAGE = 4096;

// Threads that wait for each other; `generation` counts the meetings.
struct Meeting {
    unsigned arrived = 0, generation = 0;
};

// What the lanes of a warp show each other, in turn in two slots: no lane can be two meetings ahead.
struct Shown {
    const char* what;
    unsigned words[8];
};

struct Warp {
    Meeting meeting;
    unsigned alive = 32;
    Shown shown[2][32];
};

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
};

// Numbers and copies on their way to the shared memory of a block, and the bytes that are expected and have not come.
struct Arrivals {
    unsigned waits_for = 1, phase = 0;
    long bytes = 0;
    std::vector<std::pair<unsigned char*, unsigned>> open;
    std::vector<Copy> copies;
};

// A product of four warps that one lane has a part in: its sums, and the registers of the lanes that have its rows.
struct Product {
    int* d;
    size_t sums;
    const unsigned* a[4];
    unsigned long long b;
    bool add;
};

struct Block {
    dim3 index;
    unsigned char* shared = nullptr;
    unsigned alive = 0;
    Meeting barriers[16];
    std::vector<Warp> warps;
    // The blocks of its cluster, from the first.
    Block* cluster = nullptr;
    // In the first of them.
    Meeting of_cluster;
    std::map<const void*, Arrivals> arrivals;
    // Of the warps that start products together.
    Meeting fours[8];
};

struct Fiber {
    dim3 index;
    Block* block = nullptr;
    Warp* warp = nullptr;
    unsigned lane = 0, turn = 0;
    ucontext_t entry;
    jmp_buf state;
    bool started = false, done = false;
    const Meeting* waits = nullptr;
    unsigned generation = 0;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
    std::vector<Product> open_products;
    std::deque<std::vector<Product>> products;
    bool fenced = false;
};

struct Argument {
    bool buffer;
    std::vector<unsigned char> bytes;
    unsigned char* memory = nullptr;
};

inline Fiber* now = nullptr;
inline jmp_buf scheduler;
inline unsigned long progress = 0, idle = 0;
inline bool released = false;
inline dim3 grid, block_size;
inline unsigned cluster_size = 1;
inline size_t shared_size = 0;
// Whether numbers sent to another block are there at once, or only when all that are expected have come.
inline bool early = false;
inline void (*body)() = nullptr;

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "emulator: %s", what);
    if (now)
        std::fprintf(stderr, " (block %u %u %u, thread %u %u %u)", now->block->index.x, now->block->index.y,
                     now->block->index.z, now->index.x, now->index.y, now->index.z);
    std::fputc('\n', stderr);
    std::_Exit(1);
}

inline void fault(int signal) {
    // The compiler's own check ends in an illegal instruction.
    fail(signal == SIGILL ? "a vector that is not aligned to its size"
                          : "access outside of a buffer, of shared memory or of the stack");
}

// Memory whose end is followed by a page that nobody may touch; `bytes` is rounded up to 16.
inline unsigned char* guarded(size_t bytes) {
    size_t whole = (bytes + 15) / 16 * 16, pages = (whole + PAGE - 1) / PAGE * PAGE;
    void* base = mmap(nullptr, pages + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) fail("no memory left");
    unsigned char* first = static_cast<unsigned char*>(base);
    mprotect(first, PAGE, PROT_NONE);
    mprotect(first + PAGE + pages, PAGE, PROT_NONE);
    std::memset(first + PAGE, 0xff, pages); // NaN in every type
    return first + PAGE + pages - whole;
}

inline void release(unsigned char* memory, size_t bytes) {
    size_t whole = (bytes + 15) / 16 * 16, pages = (whole + PAGE - 1) / PAGE * PAGE;
    munmap(memory + whole - pages - PAGE, pages + 2 * PAGE);
}

inline void yield() {
    if (_setjmp(now->state) == 0) _longjmp(scheduler, 1);
}

// Lets the other blocks see a word before this one goes on.
inline void release_block() {
    progress += 1;
    released = true;
    yield();
}

inline void meet(Meeting& meeting, unsigned expected) {
    progress += 1;
    if (++meeting.arrived == expected) {
        meeting.arrived = 0;
        meeting.generation += 1;
        return;
    }
    if (meeting.arrived > expected) fail("more threads at a barrier than it has");
    now->waits = &meeting;
    now->generation = meeting.generation;
    yield();
    now->waits = nullptr;
}

// The block of this cluster that has an address in its shared memory.
inline Block& owner(const unsigned char* address) {
    for (unsigned rank = 0; rank < cluster_size; ++rank) {
        Block& block = now->block->cluster[rank];
        if (address >= block.shared && address < block.shared + shared_size) return block;
    }
    fail("an address outside of the cluster's shared memory");
}

inline Arrivals& arrivals_at(Block& block, const void* address) {
    auto found = block.arrivals.find(address);
    if (found == block.arrivals.end()) fail("arrivals that were not set up");
    return found->second;
}

// Ends a phase if all is there.
inline void settle(Arrivals& arrivals) {
    progress += 1;
    if (arrivals.waits_for > 0 || arrivals.bytes != 0) return;
    for (auto& [to, bits] : arrivals.open) std::memcpy(to, &bits, 4);
    arrivals.open.clear();
    arrivals.waits_for = 1;
    arrivals.phase += 1;
}

// Carries out bulk copies.
inline void arrive(Arrivals& arrivals) {
    std::vector<Copy> copies = std::move(arrivals.copies);
    arrivals.copies.clear();
    for (const Copy& copy : copies) {
        std::memcpy(copy.to, copy.from, copy.bytes);
        arrivals.bytes -= static_cast<long>(copy.bytes);
        settle(arrivals);
    }
}

// Shows words to the warp and returns what all lanes showed.
inline const Shown* show(const char* what, unsigned mask, const void* words, size_t bytes) {
    Warp& warp = *now->warp;
    if (mask != 0xffffffffu) fail("warp operations with a partial mask are not emulated");
    if (warp.alive != 32) fail("a warp operation after some of its lanes have returned");
    Shown* shown = warp.shown[now->turn];
    now->turn ^= 1;
    shown[now->lane].what = what;
    std::memcpy(shown[now->lane].words, words, bytes);
    meet(warp.meeting, 32);
    if (std::strcmp(shown[0].what, what) != 0) fail("lanes of one warp at different warp operations");
    return shown;
}

template <class T>
T shuffle(const char* what, unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) == 4, "4-byte values");
    const Shown* shown = show(what, mask, &value, 4);
    std::memcpy(&value, shown[from].words, 4);
    return value;
}

inline void run_fiber() {
    body();
    if (!now->open.empty() || !now->groups.empty()) fail("the kernel ended before its copies");
    if (!now->open_products.empty() || !now->products.empty()) fail("the kernel ended before its products");
    now->done = true;
    progress += 1;
    Block& block = *now->block;
    block.alive -= 1;
    now->warp->alive -= 1;
    Meeting& barrier = block.barriers[0];
    if (block.alive > 0 && barrier.arrived == block.alive) {
        barrier.arrived = 0;
        barrier.generation += 1;
    }
    _longjmp(scheduler, 1);
}

// Lets the fiber `now` run until it yields or ends. Only its first switch is one of the slow kind, with system calls.
[[gnu::noinline]] inline void resume(unsigned char* stack) {
    if (_setjmp(scheduler) != 0) return;
    if (now->started) _longjmp(now->state, 1);
    now->started = true;
    getcontext(&now->entry);
    now->entry.uc_stack.ss_sp = stack + PAGE;
    now->entry.uc_stack.ss_size = STACK - PAGE;
    now->entry.uc_link = nullptr;
    makecontext(&now->entry, run_fiber, 0);
    setcontext(&now->entry);
}

// Runs some blocks at the same time, to their end.
inline void run_blocks(const std::vector<dim3>& indices, size_t shared_bytes, bool reverse, unsigned char* stacks) {
    unsigned threads = block_size.x * block_size.y * block_size.z;
    std::vector<Block> blocks(indices.size());
    std::vector<Fiber> fibers(indices.size() * threads);
    for (size_t b = 0; b < blocks.size(); ++b) {
        blocks[b].index = indices[b];
        blocks[b].cluster = &blocks[b - b % cluster_size];
        blocks[b].alive = threads;
        blocks[b].warps.resize(threads / 32);
        blocks[b].shared = guarded(shared_bytes);
        for (unsigned t = 0; t < threads; ++t) {
            Fiber& fiber = fibers[b * threads + t];
            fiber.index = {t % block_size.x, t / block_size.x % block_size.y, t / block_size.x / block_size.y};
            fiber.block = &blocks[b];
            fiber.warp = &blocks[b].warps[t / 32];
            fiber.lane = t % 32;
        }
    }
    size_t left = fibers.size();
    idle = 0;
    while (left > 0) {
        unsigned long before = progress;
        for (size_t b = 0; b < blocks.size(); ++b) {
            // A block runs as far ahead of the others as it can, but at a release the others go first: a block that
            // should have waited for them is found out, and one that released what it had not written yet.
            size_t first = (reverse ? blocks.size() - 1 - b : b) * threads;
            for (unsigned long last = progress - 1; last != progress;) {
                last = progress;
                for (unsigned t = 0; t < threads; ++t) {
                    size_t index = first + (reverse ? threads - 1 - t : t);
                    Fiber& fiber = fibers[index];
                    if (fiber.done || (fiber.waits && fiber.waits->generation == fiber.generation)) continue;
                    now = &fiber;
                    resume(stacks + index * STACK);
                    if (fiber.done) left -= 1;
                    if (released) break;
                }
                if (std::exchange(released, false)) break;
            }
        }
        now = nullptr;
        idle = progress == before ? idle + 1 : 0;
        if (idle > 1000) fail("deadlock: every thread waits");
    }
    for (Block& block : blocks) {
        for (const Meeting& barrier : block.barriers)
            if (barrier.arrived != 0) fail("threads were left at a barrier");
        if (block.of_cluster.arrived != 0) fail("threads were left at a barrier");
        for (const Meeting& four : block.fours)
            if (four.arrived != 0) fail("warps were left at a product of four");
        for (const auto& [address, arrivals] : block.arrivals)
            if (!arrivals.open.empty() || !arrivals.copies.empty() || arrivals.bytes != 0) fail("numbers were sent that nobody waited for");
        release(block.shared, shared_bytes);
    }
}

inline void run_grid(size_t shared_bytes, bool cooperative, bool reverse) {
    std::vector<dim3> all;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) all.push_back({x, y, z});
    unsigned threads = block_size.x * block_size.y * block_size.z;
    if (grid.x % cluster_size != 0) fail("clusters do not fill the grid");
    early = reverse;
    shared_size = shared_bytes;
    size_t together = (cooperative ? all.size() : cluster_size) * threads;
    void* base = mmap(nullptr, together * STACK, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) fail("no memory for the stacks");
    unsigned char* stacks = static_cast<unsigned char*>(base);
    for (size_t k = 0; k < together; ++k) mprotect(stacks + k * STACK, PAGE, PROT_NONE);
    if (cooperative) {
        run_blocks(all, shared_bytes, reverse, stacks);
    } else {
        size_t clusters = all.size() / cluster_size;
        for (size_t k = 0; k < clusters; ++k) {
            auto first = all.begin() + (reverse ? clusters - 1 - k : k) * cluster_size;
            run_blocks({first, first + cluster_size}, shared_bytes, reverse, stacks);
        }
    }
    munmap(base, together * STACK);
}

template <class T>
T argument(Argument& given) {
    if constexpr (std::is_pointer_v<T>) {
        if (!given.buffer) fail("a scalar where the kernel takes a pointer");
        return reinterpret_cast<T>(given.memory);
    } else {
        if (given.buffer || given.bytes.size() != sizeof(T)) fail("a scalar of another size than the kernel takes");
        T value;
        std::memcpy(&value, given.bytes.data(), sizeof(T));
        return value;
    }
}

struct Kernel {
    const char* name;
    void (*call)(std::vector<Argument>&);
    Kernel* next;
};
inline Kernel* kernels = nullptr;
inline std::vector<Argument>* arguments = nullptr;

template <class... T, size_t... k>
void call(void (*kernel)(T...), std::vector<Argument>& given, std::index_sequence<k...>) {
    if (given.size() != sizeof...(T)) fail("the kernel takes another number of arguments");
    kernel(argument<T>(given[k])...);
}

template <class... T>
void call(void (*kernel)(T...), std::vector<Argument>& given) {
    call(kernel, given, std::index_sequence_for<T...>{});
}

struct Register {
    Kernel entry;
    Register(const char* name, void (*function)(std::vector<Argument>&)) : entry{name, function, kernels} {
        kernels = &entry;
    }
};

// The file of the result.
inline const char* result = nullptr;

// What a trap leaves: the buffers as they are, for memory of the host survives, and an error.
[[noreturn]] inline void trap() {
    std::FILE* file = std::fopen(result, "wb");
    for (Argument& one : *arguments)
        if (one.buffer && !one.bytes.empty() && std::fwrite(one.memory, 1, one.bytes.size(), file) != one.bytes.size())
            fail("cannot write the result");
    std::fclose(file);
    fail("the kernel gave up");
}

inline Kernel* chosen = nullptr;
inline void run_chosen() { chosen->call(*arguments); }

inline void read(std::FILE* file, void* to, size_t bytes) {
    if (bytes > 0 && std::fread(to, 1, bytes, file) != bytes) fail("the call's file is too short");
}

inline uint64_t number(std::FILE* file) {
    uint64_t value = 0;
    read(file, &value, 8);
    return value;
}

// Puts the arguments into fresh guarded memory and runs; returns the buffers.
inline std::vector<std::vector<unsigned char>> run_once(std::vector<Argument>& given, size_t shared_bytes,
                                                        bool cooperative, bool reverse) {
    for (Argument& one : given) {
        if (!one.buffer || one.bytes.empty()) continue;
        one.memory = guarded(one.bytes.size());
        std::memcpy(one.memory, one.bytes.data(), one.bytes.size());
    }
    run_grid(shared_bytes, cooperative, reverse);
    std::vector<std::vector<unsigned char>> results;
    for (Argument& one : given) {
        if (!one.buffer) continue;
        results.emplace_back(one.memory, one.memory + one.bytes.size());
        for (size_t k = one.bytes.size(); k % 16 != 0; ++k)
            if (one.memory[k] != 0xff) fail("a write past the end of a buffer");
        if (one.memory) release(one.memory, one.bytes.size());
    }
    return results;
}

// The call is a file of 8-byte numbers (length of the kernel's name, the name itself, grid, block, bytes of shared
// memory, cooperative or not, blocks of a cluster, number of arguments, and for each whether it is a buffer, its length, its bytes); the
// result is a file of the buffers' bytes after the call, one after the other.
inline int run_file(const char* in, const char* out) {
    result = out;
    std::FILE* file = std::fopen(in, "rb");
    if (!file) fail("cannot open the call's file");
    std::vector<char> name(number(file) + 1, 0);
    read(file, name.data(), name.size() - 1);
    for (dim3* size : {&grid, &block_size}) {
        size->x = number(file);
        size->y = number(file);
        size->z = number(file);
    }
    size_t shared_bytes = number(file);
    bool cooperative = number(file) != 0;
    cluster_size = number(file);
    std::vector<Argument> given(number(file));
    for (Argument& one : given) {
        one.buffer = number(file) != 0;
        one.bytes.resize(number(file));
        read(file, one.bytes.data(), one.bytes.size());
    }
    std::fclose(file);
    unsigned threads = block_size.x * block_size.y * block_size.z;
    if (threads == 0 || threads > 1024 || threads % 32 != 0) fail("a block needs 32, 64 .. 1024 threads");
    if (shared_bytes > 227 << 10) fail("more shared memory than a block can have");
    for (chosen = kernels; chosen && std::strcmp(chosen->name, name.data()) != 0;) chosen = chosen->next;
    if (!chosen) fail("no kernel of this name");
    arguments = &given;
    body = run_chosen;

    static unsigned char signal_stack[64 << 10];
    stack_t alternative = {};
    alternative.ss_sp = signal_stack;
    alternative.ss_size = sizeof signal_stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_handler = fault;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    sigaction(SIGILL, &action, nullptr);

    auto results = run_once(given, shared_bytes, cooperative, false);
    if (run_once(given, shared_bytes, cooperative, true) != results)
        fail("the result depends on the order in which threads run");
    file = std::fopen(out, "wb");
    if (!file) fail("cannot write the result");
    for (auto& bytes : results)
        if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) fail("cannot write the result");
    std::fclose(file);
    return 0;
}

} // namespace emulator

int main(int count, char** names) {
    if (count != 3) emulator::fail("usage: CALL RESULT");
    return emulator::run_file(names[1], names[2]);
}
