// The best token at each position after a mask and the repetition penalty; a block for each.

constexpr int CHOOSERS = 256;

struct Best {
  float value, token;  // a token as a float: exact up to 16 million, and one kind of exchange
  __device__ void look_at(float other, float its_token) {
    if (other > value || (other == value && its_token < token)) {
      value = other;
      token = its_token;
    }
  }
};

// The best of a warp's, in every lane.
__device__ inline Best best_of_warp(Best best) {
  for (int lane_bit = 16; lane_bit; lane_bit /= 2) {
    const float value = exchange(best.value, lane_bit), token = exchange(best.token, lane_bit);
    best.look_at(value, token);
  }
  return best;
}

// The token of the best of all threads, in every thread; shared: 2 floats for each warp.
__device__ float best_of_block(Best best, float* shared) {
  const int thread = threadIdx.x;
  best = best_of_warp(best);
  __syncthreads();  // what stands there may still be read
  if (thread % 32 == 0) {
    shared[thread / 16] = best.value;
    shared[thread / 16 + 1] = best.token;
  }
  __syncthreads();
  for (int warp = 0; warp < CHOOSERS / 32; warp++)
    best.look_at(shared[2 * warp], shared[2 * warp + 1]);
  return best.token;
}

// What is chosen with: numbers of tokens T and of recent tokens N; per position its mask, its
// penalty and its line among the logits; per row how many recent tokens count, and those, N + T - 1.
struct Choice {
  const int* plan;
  int positions;
  __device__ int width() const { return plan[0]; }
  __device__ int longest() const { return plan[1]; }
  __device__ int mask(int p) const { return plan[2 + p]; }
  __device__ float penalty(int p) const {
    return as_float(static_cast<unsigned>(plan[2 + positions + p]));
  }
  __device__ int line(int p) const { return plan[2 + 2 * positions + p]; }
  __device__ int window(int row) const { return plan[2 + 3 * positions + row]; }
  __device__ const int* recent(int row) const {
    return plan + 2 + 3 * positions + positions / width() + row * (longest() + width() - 1);
  }
};

template <int VOCABULARY>
__device__ int choose_token(const bf16* logits, const int* plan, const int* masks,
                            float* shared) {
  constexpr int WORDS = VOCABULARY / 32;
  const Choice choice{plan, static_cast<int>(gridDim.x)};
  const int p = blockIdx.x, row = p / choice.width(), t = p % choice.width();
  const int thread = threadIdx.x;
  const int* mask = choice.mask(p) < 0 ? nullptr : masks + static_cast<size_t>(choice.mask(p)) * WORDS;
  const bf16* scores = logits + static_cast<size_t>(choice.line(p)) * VOCABULARY;
  unsigned* plain = reinterpret_cast<unsigned*>(shared);  // bits of tokens that no penalty touches
  for (int w = thread; w < WORDS; w += CHOOSERS) plain[w] = mask ? mask[w] : ~0u;
  __syncthreads();
  const float penalty = low(pack(choice.penalty(p), 0.0f));  // as the logits have it
  const int* recent = choice.recent(row);
  const int until = t + choice.longest();
  const int from = penalty == 1.0f ? until : until - choice.window(row);
  const float infinity = as_float(0x7f800000u);
  Best best{-infinity, infinity};
  for (int i = from + thread; i < until; i += CHOOSERS) {
    const int token = recent[i];
    if (token < 0) continue;
    clear_bit(plain + token / 32, token % 32);
    if (mask && !(mask[token / 32] >> token % 32 & 1)) continue;
    const float score = low(load_one(scores + token));
    const float lowered = low(pack(score > 0.0f ? score / penalty : score * penalty, 0.0f));
    best.look_at(lowered, static_cast<float>(token));
  }
  __syncthreads();
  for (int w = thread; w < WORDS; w += CHOOSERS) {
    const unsigned bits = plain[w];
    if (!bits) continue;
    for (int q = 0; q < 4; q++) {
      const uint4 eight = load_shared8(scores + 32 * w + 8 * q);
      const unsigned pairs[] = {eight.x, eight.y, eight.z, eight.w};
      for (int i = 0; i < 8; i++)
        if (bits >> (8 * q + i) & 1)
          best.look_at(i % 2 ? high(pairs[i / 2]) : low(pairs[i / 2]),
                       static_cast<float>(32 * w + 8 * q + i));
    }
  }
  const float token = best_of_block(best, shared);
  return token < VOCABULARY ? static_cast<int>(token) : 0;
}
