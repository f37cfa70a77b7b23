// The tokens of a block, each chosen by its logits and by the token before; or a tree of them. Needs
// choice.cuh.

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

// What `Candidate::score` is given of the token before a slot: [RANK].
template <int RANK>
__device__ inline void want(const bf16* gates, const bf16* before, size_t slot, int previous,
                            float* wanted) {
  for (int r = threadIdx.x; r < RANK; r += CHOOSERS)
    wanted[r] = low(load_one(gates + slot * RANK + r)) *
                low(load_one(before + static_cast<size_t>(previous) * RANK + r));
}

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
    want<RANK>(gates, before, slots + k, previous, wanted);
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

constexpr int CHILDREN = 4;      // tokens that may follow one token of a tree
constexpr int MOST_GROWN = 16;   // tokens of a tree
constexpr int NO_TOKEN = -2;     // -1 is what the host takes for not there yet

__device__ inline Best no_best() { return {-as_float(0x7f800000u), as_float(0x7f800000u)}; }

// The best few of a warp's, in order, in every lane.
__device__ inline void best_few_of_warp(Best own, Best (&few)[CHILDREN]) {
#pragma unroll
  for (int i = 0; i < CHILDREN; i++) {
    few[i] = best_of_warp(own);
    if (own.token == few[i].token) own = no_best();
  }
}

// What may follow a token, the likeliest first, with its log-probability among all candidates.
struct Followers {
  Best best[CHILDREN];
};

// Those out of all threads' candidates, in every thread; lists: room for what every warp found, its
// best few and the sum of its exponentials below the first. Nobody reads it any more who has not
// come to the caller's last __syncthreads.
constexpr int LIST = 2 * CHILDREN + 1, LISTS = CHOOSERS / 32 * LIST;
__device__ inline Followers followers_of_block(const Best& own, float* lists) {
  static_assert(CHOOSERS / 32 * CHILDREN == 32, "a warp looks at all lists at once");
  const float lowest = -1e30f;  // where there is no candidate
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Followers found;
  best_few_of_warp(own, found.best);
  float sum = expf(own.value - max(found.best[0].value, lowest));
  for (int lane_bit = 16; lane_bit; lane_bit /= 2) sum += exchange(sum, lane_bit);
  if (lane == 0) {
    float* list = lists + warp * LIST;
#pragma unroll
    for (int i = 0; i < CHILDREN; i++) {
      list[2 * i] = found.best[i].value;
      list[2 * i + 1] = found.best[i].token;
    }
    list[2 * CHILDREN] = sum;
  }
  __syncthreads();
  const float* list = lists + lane / CHILDREN * LIST;
  best_few_of_warp({list[lane % CHILDREN * 2], list[lane % CHILDREN * 2 + 1]}, found.best);
  const float top = max(found.best[0].value, lowest);
  float whole = 0;
#pragma unroll
  for (int w = 0; w < CHOOSERS / 32; w++)
    whole += lists[w * LIST + 2 * CHILDREN] * expf(max(lists[w * LIST], lowest) - top);
  const float logarithm = top + logf(whole);
#pragma unroll
  for (int i = 0; i < CHILDREN; i++) found.best[i].value -= logarithm;
  return found;
}

// Tokens that may be picked for a tree, in the order in which they were made: each with its path's
// log-probability, its parent's number, and how many tokens of the tree come before what follows it.
struct Frontier {
  static constexpr int ROOM = CHILDREN * MOST_GROWN;
  float* values;  // [ROOM]
  int *tokens, *parents, *depths;
  int made = 0;
  unsigned taken[2] = {0, 0};  // of all that were made, as bits; every thread knows
  __device__ explicit Frontier(float* room)
      : values(room), tokens(reinterpret_cast<int*>(room + ROOM)), parents(tokens + ROOM),
        depths(parents + ROOM) {}
  // All threads call it with the same; it can be picked after the next __syncthreads.
  __device__ void add(float value, int token, int parent, int depth) {
    if (threadIdx.x == 0) {
      values[made] = value;
      tokens[made] = token;
      parents[made] = parent;
      depths[made] = depth;
    }
    made++;
  }
  // The place of the likeliest, the earliest of equals, which is then taken; -1 if there is none.
  __device__ int pick() {
    const int lane = threadIdx.x % 32;
    Best best = no_best();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int i = lane + 32 * half;
      if (i < made && !(taken[half] >> lane & 1)) best.look_at(values[i], static_cast<float>(i));
    }
    best = best_of_warp(best);
    if (!(best.token < made)) return -1;
    const int place = static_cast<int>(best.token);
    if (place < 32) taken[0] |= 1u << place;
    else taken[1] |= 1u << (place - 32);
    return place;
  }
};

// The tree of a row, grown by likelihood behind the tokens that stand: tokens [count], then their
// parents' numbers, in the order in which they are picked. As `choose_row`; shared: RANK floats,
// LISTS, a frontier and what a row is told. All warps pick the same, each for itself, so nobody
// waits for it.
template <int VOCABULARY, int RANK>
__device__ void grow_row(const bf16* gates, const bf16* before, const bf16* after,
                         const Blocks& blocks, int row, int count, const float2* candidates,
                         int* chosen, float* shared) {
  const int width = blocks.width(), thread = threadIdx.x;
  const size_t slots = static_cast<size_t>(row) * width;
  float *wanted = shared, *lists = wanted + RANK;
  Frontier open(lists + LISTS);
  int* own = reinterpret_cast<int*>(lists + LISTS + 4 * Frontier::ROOM);
  int* parents = chosen + count;
  for (int i = thread; i < blocks.told(); i += CHOOSERS) own[i] = blocks.row(row)[i];
  __syncthreads();
  const int* given = own + 1 + MOST_BANNED;
  int first = 0;
  while (first < width && given[first] >= 0) first++;
  Candidate<RANK> here;
  if (first < width) here.load(candidates + (slots + first) * CHOOSERS + thread, after, VOCABULARY);
  int previous = first ? given[first - 1] : own[0], depth = first, loaded = first, picked = 0;
  float path = 0;
  while (picked < count) {
    if (depth < width) {
      if (loaded != depth)
        here.load(candidates + (slots + depth) * CHOOSERS + thread, after, VOCABULARY);
      want<RANK>(gates, before, slots + depth, previous, wanted);
      __syncthreads();
      Best best{here.value, here.token};
      if (best.token < VOCABULARY) {
        best.value = here.score(wanted);
        for (int i = 0; i < MOST_BANNED; i++)
          if (depth == first && own[1 + i] == static_cast<int>(best.token))
            best.value = -as_float(0x7f800000u);
      }
      loaded = depth + 1;  // most often what follows is next: on its way meanwhile
      if (loaded < width)
        here.load(candidates + (slots + loaded) * CHOOSERS + thread, after, VOCABULARY);
      const Followers found = followers_of_block(best, lists);
#pragma unroll
      for (int i = 0; i < CHILDREN; i++) {
        const Best& next = found.best[i];
        if (next.token < VOCABULARY && next.value > -1e30f)
          open.add(path + next.value, static_cast<int>(next.token), picked, depth + 1);
      }
      __syncthreads();
    }
    const int place = open.pick();
    if (place < 0) break;
    previous = open.tokens[place];
    depth = open.depths[place];
    path = open.values[place];
    if (thread == 0) {
      chosen[picked] = previous;
      parents[picked] = open.parents[place];
    }
    picked++;
  }
  for (int i = picked + thread; i < count; i += CHOOSERS) chosen[i] = parents[i] = NO_TOKEN;
}

// As `choose_blocks`, to chosen [B, 2, count]; after the plan's rows comes count.
template <int VOCABULARY, int RANK>
__device__ void grow_blocks(const bf16* logits, const bf16* gates, const bf16* before,
                            const bf16* after, const int* plan, float2* candidates, int* chosen,
                            unsigned* arrived, float* shared) {
  const Blocks blocks{plan};
  const int count = *blocks.row(blocks.rows());
  unsigned turn = 0;
  best_of_classes<VOCABULARY>(logits, blocks, candidates);
  all_blocks(arrived, turn);
  for (int row = blockIdx.x; row < blocks.rows(); row += gridDim.x) {
    grow_row<VOCABULARY, RANK>(gates, before, after, blocks, row, count, candidates,
                               chosen + 2 * count * row, shared);
    __syncthreads();
  }
  leave(arrived);
}
