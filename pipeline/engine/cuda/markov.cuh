// The tokens of a block, each chosen by its logits and by the token before; a block for each row.
// Needs choice.cuh.

constexpr int MOST_BANNED = 4;

// gates [B, T, RANK], before and after [VOCABULARY, RANK], shared: RANK + 32 floats. The plan:
// T, then per row its last token, MOST_BANNED tokens that the first one chosen can't be, and T
// tokens that stand, -1 where one is to be chosen.
template <int VOCABULARY, int RANK>
__device__ void choose_block(const bf16* logits, const bf16* gates, const bf16* before,
                             const bf16* after, const int* plan, int* chosen, float* shared) {
  const int width = plan[0], row = blockIdx.x, thread = threadIdx.x;
  const int* own = plan + 1 + row * (1 + MOST_BANNED + width);
  const int* given = own + 1 + MOST_BANNED;
  const float infinity = as_float(0x7f800000u);
  float *wanted = shared, *bests = shared + RANK;
  int previous = own[0], first = 0;
  while (first < width && given[first] >= 0) first++;
  for (int k = 0; k < width; k++) {
    const size_t slot = static_cast<size_t>(row) * width + k;
    if (k < first) {
      previous = given[k];
    } else {
      for (int r = thread; r < RANK; r += CHOOSERS)
        wanted[r] = low(load_one(gates + slot * RANK + r)) *
                    low(load_one(before + static_cast<size_t>(previous) * RANK + r));
      Best best{-infinity, infinity};  // of this thread's class
      const bf16* scores = logits + slot * VOCABULARY;
#pragma unroll 8
      for (int token = thread; token < VOCABULARY; token += CHOOSERS)
        best.look_at(low(load_one(scores + token)), static_cast<float>(token));
      __syncthreads();
      if (best.token < VOCABULARY) {
        const int token = static_cast<int>(best.token);
        const bf16* line = after + static_cast<size_t>(token) * RANK;
        for (int r = 0; r < RANK; r += 8) {
          const uint4 eight = load_weights(line + r);
          const unsigned pairs[] = {eight.x, eight.y, eight.z, eight.w};
          for (int i = 0; i < 8; i++)
            best.value += wanted[r + i] * (i % 2 ? high(pairs[i / 2]) : low(pairs[i / 2]));
        }
        for (int i = 0; i < MOST_BANNED; i++)
          if (k == first && own[1 + i] == token) best.value = -infinity;
      }
      const float token = best_of_block(best, bests);
      previous = token < VOCABULARY ? static_cast<int>(token) : 0;
    }
    if (thread == 0) chosen[slot] = previous;
  }
}
