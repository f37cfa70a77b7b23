// The kernels' primitives on a CPU: every CUDA thread is a coroutine, and whoever waits for others
// (of the warp, the block or the grid) gives way to them.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __forceinline__ inline

using bf16 = uint16_t;
using std::max;
using std::min;
struct float2 { float x, y; };
struct uint4 { unsigned x, y, z, w; };
struct Place { unsigned x; };

struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  int thread, block;
  bool done = false;
};

static Thread* running;
static ucontext_t scheduler;
static std::deque<Thread*> ready;
static Place gridDim;
#define threadIdx (Place{static_cast<unsigned>(running->thread)})
#define blockIdx (Place{static_cast<unsigned>(running->block)})

struct Meeting {
  int expected = 0;
  std::vector<Thread*> waiting;
  void meet() {
    if (static_cast<int>(waiting.size()) + 1 == expected) {
      for (Thread* other : waiting) ready.push_back(other);
      waiting.clear();
      return;
    }
    waiting.push_back(running);
    swapcontext(&running->context, &scheduler);
  }
};

struct Warp {
  Meeting meeting;
  unsigned words[32][6];
};

static std::vector<Meeting> blocks;
static std::vector<Warp> warps;
static Meeting grid;
static int threads_of_block;

static Warp& own_warp() {
  return warps[running->block * (threads_of_block / 32) + running->thread / 32];
}

inline float as_float(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
inline unsigned as_bits(float f) { unsigned bits; memcpy(&bits, &f, 4); return bits; }
inline float low(unsigned pair) { return as_float(pair << 16); }
inline float high(unsigned pair) { return as_float(pair & 0xffff0000u); }
inline int lowest_bit(unsigned bits) { return __builtin_ctz(bits); }
inline unsigned to_bf16(float f) {
  unsigned bits = as_bits(f);
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline unsigned pack(float first, float second) { return to_bf16(first) | to_bf16(second) << 16; }
inline unsigned lows(unsigned a, unsigned b) { return (a & 0xffff) | b << 16; }
inline unsigned highs(unsigned a, unsigned b) { return a >> 16 | (b & 0xffff0000u); }
inline uint4 load_weights(const bf16* from) { uint4 x; memcpy(&x, from, 16); return x; }
inline float2 load_turn(const float* from) { return {from[0], from[1]}; }
inline uint4 load_shared8(const bf16* from) { return load_weights(from); }
inline unsigned load_pair(const bf16* from) { unsigned x; memcpy(&x, from, 4); return x; }
inline unsigned load_one(const bf16* from) { return *from; }
inline float2 load_two(const float2* from) { return *from; }
inline void clear_bit(unsigned* word, int bit) { *word &= ~(1u << bit); }
inline void store_pair(bf16* to, unsigned pair) { memcpy(to, &pair, 4); }
inline void store_eight(bf16* to, uint4 eight) { memcpy(to, &eight, 16); }
inline void store_one(bf16* to, float value) { *to = static_cast<bf16>(to_bf16(value)); }
inline void prefetch(const void*) {}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline void __syncthreads() { blocks[running->block].meet(); }

inline float exchange(float value, int lane_bit) {
  Warp& warp = own_warp();
  int lane = running->thread % 32;
  warp.words[lane][0] = as_bits(value);
  warp.meeting.meet();
  float other = as_float(warp.words[lane ^ lane_bit][0]);
  warp.meeting.meet();
  return other;
}

inline void copy_ahead(uint4* to, const bf16* from) { *to = load_weights(from); }
inline void end_copies() {}
template <int LEFT>
inline void await_copies() {}
inline unsigned same_selector(int) { return 0; }
inline uint4 same(uint4 words, unsigned) { return words; }

inline void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
  Warp& warp = own_warp();
  int lane = running->thread % 32;
  unsigned mine[6] = {a.x, a.y, a.z, a.w, b0, b1};
  memcpy(warp.words[lane], mine, sizeof mine);
  warp.meeting.meet();
  for (int i = 0; i < 4; i++) {
    int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; k++) {
      unsigned x = warp.words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      unsigned y = warp.words[column * 4 + k % 8 / 2][4 + k / 8];
      c[i] += (k % 2 ? high(x) : low(x)) * (k % 2 ? high(y) : low(y));
    }
  }
  warp.meeting.meet();
}

inline void all_blocks(unsigned*, unsigned&) { grid.meet(); }
inline void leave(unsigned*) { grid.meet(); }

// Runs `kernel` as so many blocks of threads.
static std::function<void()> kernel_body;
static void enter() {
  kernel_body();
  running->done = true;
  swapcontext(&running->context, &scheduler);
}

static void launch(int grid_size, int block_size, std::function<void()> body) {
  kernel_body = body;
  gridDim = {static_cast<unsigned>(grid_size)};
  threads_of_block = block_size;
  blocks.assign(grid_size, {});
  warps.assign(grid_size * block_size / 32, {});
  for (auto& block : blocks) block.expected = block_size;
  for (auto& warp : warps) warp.meeting.expected = 32;
  grid = {};
  grid.expected = grid_size * block_size;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int b = 0; b < grid_size; b++) {
    for (int t = 0; t < block_size; t++) {
      threads.push_back(std::make_unique<Thread>());
      Thread& thread = *threads.back();
      thread.stack.resize(1 << 16);
      thread.thread = t;
      thread.block = b;
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.data();
      thread.context.uc_stack.ss_size = thread.stack.size();
      makecontext(&thread.context, enter, 0);
      ready.push_back(&thread);
    }
  }
  size_t ended = 0;
  while (ended < threads.size()) {
    if (ready.empty()) abort();  // a meeting that not all came to
    running = ready.front();
    ready.pop_front();
    swapcontext(&scheduler, &running->context);
    ended += running->done;
  }
}
