// A row's first tokens, moved: onto another row, out of the cache, and in again. A head's tokens
// are one stretch of memory wherever they are: all of it is copying stretches. And single tokens,
// moved within their rows.

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

// Which tokens are moved within their rows: K, R rows and how many moves; per row its slot, its
// first move and the one after its last; per move the columns that it is from and to. It is taken
// along into `room` out of the host's memory.
struct ColumnMoves {
  int columns, rows;
  const int *told, *moves;
  __device__ ColumnMoves(const int* plan, float* room)
      : columns(plan[0]), rows(plan[1]), told(reinterpret_cast<int*>(room)),
        moves(told + 3 * rows) {
    const int count = 3 * rows + 2 * plan[2];
    int* held = reinterpret_cast<int*>(room);
    for (int i = threadIdx.x; i < count; i += MOVERS) held[i] = plan[3 + i];
    __syncthreads();
  }
};

// Block number `part` of `parts` takes its share of a buffer's pieces, eight numbers of a row's
// tokens each. A thread makes all moves of its piece, none of which is from where an earlier one
// was to: so the order of four that are under way at once does not matter.
__device__ inline void copy_columns(const Buffer& buffer, const ColumnMoves& plan, int part,
                                    int parts) {
  constexpr int EIGHTS_OF_HEAD = HEAD_SIZE / 8;
  const int pieces = buffer.heads * EIGHTS_OF_HEAD;
  for (int i = part * MOVERS + threadIdx.x; i < plan.rows * pieces; i += parts * MOVERS) {
    const int* row = plan.told + 3 * (i / pieces);
    const int head = i % pieces / EIGHTS_OF_HEAD, eighth = i % EIGHTS_OF_HEAD;
    bf16* tokens = buffer.tokens + 8 * eighth +
        (static_cast<size_t>(row[0]) * buffer.heads + head) * plan.columns * HEAD_SIZE;
    for (int move = row[1]; move < row[2]; move += 4) {
      uint4 eights[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int from = plan.moves[2 * min(move + j, row[2] - 1)];
        eights[j] = load_shared8(tokens + static_cast<size_t>(from) * HEAD_SIZE);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (move + j < row[2]) {
          const int to = plan.moves[2 * (move + j) + 1];
          store_eight(tokens + static_cast<size_t>(to) * HEAD_SIZE, eights[j]);
        }
      }
    }
  }
}
