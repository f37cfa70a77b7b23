// A row's first tokens, moved: onto another row, out of the cache, and in again. A head's tokens
// are one stretch of memory wherever they are: all of it is copying stretches.

constexpr int MOVERS = 256;
constexpr int HEAD_SIZE = 64;

// One layer's keys or values, [R, heads, K, HEAD_SIZE]; so many heads of other buffers come before
// its own in a prefix.
struct Buffer {
  bf16* tokens;
  int heads, before;
};

// What is moved: K, how many tokens of each head, the row's slot, and where it goes to or comes
// from: another slot; or how many tokens of each head the prefix has.
struct Move {
  int columns, length, slot, other;
  __device__ explicit Move(const int* plan)
      : columns(plan[0]), length(plan[1]), slot(plan[2]), other(plan[3]) {}
};

// The heads of a row or of a prefix: where the first begins, and how far the next is.
struct Stretches {
  bf16* first;
  size_t step;
};

__device__ inline Stretches row_of(const Buffer& buffer, const Move& move, int slot) {
  const size_t step = static_cast<size_t>(move.columns) * HEAD_SIZE;
  return {buffer.tokens + static_cast<size_t>(slot) * buffer.heads * step, step};
}

// A prefix is [N, move.other, HEAD_SIZE], the heads of all buffers one after the other.
__device__ inline Stretches prefix_of(const Buffer& buffer, const Move& move, bf16* prefix) {
  const size_t step = static_cast<size_t>(move.other) * HEAD_SIZE;
  return {prefix + buffer.before * step, step};
}

// Copies a buffer's heads; block number `part` of `parts` takes its share of each. Four loads are
// under way at once.
__device__ inline void copy_heads(const Stretches& from, const Stretches& to, int heads, int length,
                                  int part, int parts) {
  const int count = length * (HEAD_SIZE / 8), step = parts * MOVERS;
  for (int head = 0; head < heads; head++) {
    const bf16* source = from.first + head * from.step;
    bf16* target = to.first + head * to.step;
    for (int start = part * MOVERS + threadIdx.x; start < count; start += 4 * step) {
      uint4 eights[4];
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (start + i * step < count) eights[i] = load_shared8(source + 8 * (start + i * step));
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (start + i * step < count) store_eight(target + 8 * (start + i * step), eights[i]);
    }
  }
}
