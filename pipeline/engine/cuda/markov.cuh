// The tokens of a block, each chosen by its logits and by the token before. Needs choice.cuh.

constexpr int MOST_BANNED = 4;

// The plan: T and B, then per row its last token, MOST_BANNED tokens that the first one chosen
// can't be, and T tokens that stand, -1 where one is to be chosen.
struct Blocks {
  const int* plan;
  __device__ int width() const { return plan[0]; }
  __device__ int rows() const { return plan[1]; }
  __device__ int told() const { return 1 + MOST_BANNED + width(); }
  __device__ const int* row(int b) const { return plan + 2 + b * told(); }
  __device__ bool stands(int b, int k) const { return row(b)[1 + MOST_BANNED + k] >= 0; }
};

// The likeliest token of each thread's class, and its logit: for all slots at once, as what comes
// before changes neither. They go to candidates [B, T, CHOOSERS].
template <int VOCABULARY>
__device__ void best_of_classes(const bf16* logits, const Blocks& blocks, float2* candidates) {
  const int width = blocks.width(), thread = threadIdx.x;
  for (int slot = blockIdx.x; slot < blocks.rows() * width; slot += gridDim.x) {
    if (blocks.stands(slot / width, slot % width)) continue;
    const bf16* scores = logits + static_cast<size_t>(slot) * VOCABULARY;
    Best best{-as_float(0x7f800000u), as_float(0x7f800000u)};
#pragma unroll 32
    for (int token = thread; token < VOCABULARY; token += CHOOSERS)
      best.look_at(low(load_one(scores + token)), static_cast<float>(token));
    candidates[static_cast<size_t>(slot) * CHOOSERS + thread] = {best.value, best.token};
  }
}

// A thread's candidate for a slot, with what it is worth after any token.
template <int RANK>
struct Candidate {
  float value, token;
  uint4 line[RANK / 8];
  __device__ void load(const float2* from, const bf16* after, int vocabulary) {
    const float2 pair = load_two(from);
    value = pair.x;
    token = pair.y;
    const bf16* its = after + static_cast<size_t>(token < vocabulary ? token : 0) * RANK;
#pragma unroll
    for (int i = 0; i < RANK / 8; i++) line[i] = load_weights(its + 8 * i);
  }
  __device__ float score(const float* wanted) const {
    float sum = value;
#pragma unroll
    for (int i = 0; i < RANK / 8; i++) {
      const unsigned pairs[] = {line[i].x, line[i].y, line[i].z, line[i].w};
#pragma unroll
      for (int j = 0; j < 8; j++)
        sum += wanted[8 * i + j] * (j % 2 ? high(pairs[j / 2]) : low(pairs[j / 2]));
    }
    return sum;
  }
};

// The tokens [T] of a row. gates [B, T, RANK], before and after [VOCABULARY, RANK], shared:
// RANK + 32 floats and what a row is told: that lies in the host's memory, far away.
template <int VOCABULARY, int RANK>
__device__ void choose_row(const bf16* gates, const bf16* before, const bf16* after,
                           const Blocks& blocks, int row, const float2* candidates, int* chosen,
                           float* shared) {
  const int width = blocks.width(), thread = threadIdx.x;
  const size_t slots = static_cast<size_t>(row) * width;
  float *wanted = shared, *bests = shared + RANK;
  int* own = reinterpret_cast<int*>(shared + RANK + 32);
  for (int i = thread; i < blocks.told(); i += CHOOSERS) own[i] = blocks.row(row)[i];
  __syncthreads();
  const int* given = own + 1 + MOST_BANNED;
  int first = 0;
  while (first < width && given[first] >= 0) first++;
  int previous = first ? given[first - 1] : own[0];
  for (int k = thread; k < first; k += CHOOSERS) chosen[slots + k] = given[k];
  Candidate<RANK> here, next;
  if (first < width)
    next.load(candidates + (slots + first) * CHOOSERS + thread, after, VOCABULARY);
#pragma unroll 1
  for (int k = first; k < width; k++) {
    here = next;
    if (k + 1 < width)  // on its way while this slot is decided
      next.load(candidates + (slots + k + 1) * CHOOSERS + thread, after, VOCABULARY);
    for (int r = thread; r < RANK; r += CHOOSERS)
      wanted[r] = low(load_one(gates + (slots + k) * RANK + r)) *
                  low(load_one(before + static_cast<size_t>(previous) * RANK + r));
    __syncthreads();
    Best best{here.value, here.token};
    if (here.token < VOCABULARY) {
      best.value = here.score(wanted);
      for (int i = 0; i < MOST_BANNED; i++)
        if (k == first && own[1 + i] == static_cast<int>(here.token))
          best.value = -as_float(0x7f800000u);
    }
    const float token = best_of_block(best, bests);
    previous = token < VOCABULARY ? static_cast<int>(token) : 0;
    if (thread == 0) chosen[slots + k] = previous;
  }
}

template <int VOCABULARY, int RANK>
__device__ void choose_blocks(const bf16* logits, const bf16* gates, const bf16* before,
                              const bf16* after, const int* plan, float2* candidates, int* chosen,
                              unsigned* arrived, float* shared) {
  const Blocks blocks{plan};
  unsigned turn = 0;
  best_of_classes<VOCABULARY>(logits, blocks, candidates);
  all_blocks(arrived, turn);
  for (int row = blockIdx.x; row < blocks.rows(); row += gridDim.x) {
    choose_row<VOCABULARY, RANK>(gates, before, after, blocks, row, candidates, chosen, shared);
    __syncthreads();
  }
  leave(arrived);
}
