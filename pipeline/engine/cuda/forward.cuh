// A small transformer's whole forward in one launch, for GPUs where its many kernels' launches
// would cost far more than their work.
//
// Every multiprocessor runs one block; between two phases all blocks wait for each other. A phase
// is a product with what stands around it (norm before; rotation, gate or sum after), or the
// attention. What a token gets never depends on the other tokens of the forward: sums always run
// in the same order, whatever the numbers of rows and of tokens. So drafts that are verified
// together get, bit by bit, what one token after the other would have got.
//
// Keys and values are written straight into the rows' places in the cache.
//
// Layout of the products: `mma` adds up pairs of k that a lane holds; which k they are does not
// matter as long as both sides agree, so a lane reads eight neighbours at once (16 bytes) and uses
// them as the pairs of two steps. Likewise for the columns of V.

constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;
constexpr int CHUNK = 32;     // k or columns that a warp takes at a time
constexpr int EIGHTS = CHUNK / 8;
constexpr int HEAD = 64;      // size of a head: lane i has its elements i and i + 32
constexpr int STRIDE = HEAD + 4;
constexpr int MOST_MEASURED = 32;  // rows whose norm a block measures at a time
constexpr float NOTHING = -1e30f;

// A token of a tree: how many new tokens of its row it follows; the first leaf at or behind it; and
// its path, four bits for each depth: the token there, itself included.
struct Branch {
  int depth, leaf;
  unsigned early, late;
  __device__ int at(int deep) const { return (deep < 8 ? early : late) >> 4 * (deep % 8) & 15; }
};

// Which tokens a forward has. Token m is token m % width of row m / width.
struct Tokens {
  int rows, width, columns;
  const int* places;       // per row its slot in the cache, and its first new column
  const int* ids;          // [M]
  const Branch* branches;  // [M], where rows are trees
  __device__ int count() const { return rows * width; }
  __device__ int slot(int row) const { return places[2 * row]; }
  __device__ int start(int row) const { return places[2 * row + 1]; }
  // How many new tokens of its row token t follows. It is written to column start + t all the same.
  template <bool TREES>
  __device__ int depth(int row, int t) const {
    return TREES ? branches[row * width + t].depth : t;
  }
};

// What `told` says: numbers of rows, of tokens and of columns, one more, the rows' places, what is
// to be known of trees, and the tokens, unless those are elsewhere. The places are taken along into
// `room`, for MOST_PLACES rows: they lie in the host's memory, where reading them takes longer than
// the products between which they are needed. Likewise the branches, of a token for each thread at
// most; all is on its way before any of it is kept. Trees are always few enough: where they lie is
// then known when this is compiled, and no register has to hold it.
constexpr int MOST_PLACES = 256;
template <bool TREES = false>
__device__ inline Tokens tokens_of(const int* told, const int* elsewhere, float* room) {
  constexpr int WORDS = sizeof(Branch) / 4;
  Tokens tokens{told[0], told[1], told[2], told + 4, told + 4 + 2 * told[0], nullptr};
  const int* branches = tokens.ids;
  const int words = WORDS * tokens.count();
  if (TREES) tokens.ids += words;
  if (elsewhere) tokens.ids = elsewhere;
  if (!TREES && tokens.rows > MOST_PLACES) return tokens;
  int* held = reinterpret_cast<int*>(room);
  int* kept = held + 2 * MOST_PLACES;
  int taken[WORDS];
  if (TREES) {
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
      const int i = threadIdx.x + w * THREADS;
      taken[w] = i < words ? branches[i] : 0;
    }
  }
  for (int i = threadIdx.x; i < 2 * tokens.rows; i += THREADS) held[i] = tokens.places[i];
  if (TREES) {
#pragma unroll
    for (int w = 0; w < WORDS; w++) kept[threadIdx.x + w * THREADS] = taken[w];
  }
  __syncthreads();
  tokens.places = held;
  if (TREES) tokens.branches = reinterpret_cast<const Branch*>(kept);
  return tokens;
}

struct Lane {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int group = lane / 4, quad = lane % 4;
};

// How many times to issue loads into `each` registers before the first is used: a trip to memory
// takes far longer than the work. More than 100 registers are not to be had.
constexpr int at_once(int times, int each) {
  return each > 100 ? 1 : times < 100 / each ? times : 100 / each;
}

// Two floats rounded to bfloat16.
__device__ inline void round_pair(float* to, float first, float second) {
  unsigned rounded = pack(first, second);
  to[0] = low(rounded);
  to[1] = high(rounded);
}

// One over the root mean square of a row of K numbers, which the lanes of a warp share.
template <int K, int LOADS>
__device__ inline float inverse_of(const uint4 (&row)[LOADS], float eps) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < LOADS; i++) {
    for (unsigned pair : {row[i].x, row[i].y, row[i].z, row[i].w}) {
      sum += low(pair) * low(pair) + high(pair) * high(pair);
    }
  }
  for (int bit = 16; bit; bit /= 2) sum += exchange(sum, bit);
  return rsqrtf(sum / K + eps);
}

// The same of MB * 16 rows from m0.
template <int K, int MB, class At>
__device__ void measure_rows(At at, int m0, int count, float eps, float* inverse) {
  static_assert(16 * MB <= MOST_MEASURED, "no room for so many");
  constexpr int LOADS = (K + 255) / 256, ROWS = 16 * MB / WARPS, TAKEN = at_once(ROWS, 4 * LOADS);
  Lane own;
#pragma unroll 1
  for (int first = 0; first < ROWS; first += TAKEN) {
    uint4 x[TAKEN][LOADS];
#pragma unroll
    for (int r = 0; r < TAKEN; r++) {
      int row = own.warp + (first + r) * WARPS;
#pragma unroll
      for (int i = 0; i < LOADS; i++) {
        int k = 8 * own.lane + 256 * i;
        x[r][i] = {};
        if (first + r < ROWS && m0 + row < count && k < K) x[r][i] = load_shared8(at(m0 + row, k));
      }
    }
#pragma unroll
    for (int r = 0; r < TAKEN; r++) {
      float found = inverse_of<K>(x[r], eps);
      if (own.lane == 0 && first + r < ROWS) inverse[own.warp + (first + r) * WARPS] = found;
    }
  }
  __syncthreads();
}

__device__ inline unsigned scaled(unsigned x, unsigned weight, float inverse) {
  return pack(low(x) * inverse * low(weight), high(x) * inverse * high(weight));
}

__device__ inline uint4 scaled8(uint4 x, uint4 weight, float inverse) {
  return {scaled(x.x, weight.x, inverse), scaled(x.y, weight.y, inverse),
          scaled(x.z, weight.z, inverse), scaled(x.w, weight.w, inverse)};
}

// The norm of a product's rows. `room`: for rows of K once they have it, or null; then the blocks
// wait for each other in between.
struct Norm {
  const bf16* weights = nullptr;
  float eps = 0;
  bf16* room = nullptr;
  unsigned *arrived = nullptr, *turn = nullptr;
};

// Rows of K numbers with their norm, [count, K]: the bits that `product` makes of them.
template <int K, class At>
__device__ void apply_norm(At at, const Norm& norm, int count) {
  constexpr int LOADS = (K + 255) / 256;
  Lane own;
  for (int m = blockIdx.x * WARPS + own.warp; m < count; m += gridDim.x * WARPS) {
    uint4 x[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      int k = 8 * own.lane + 256 * i;
      x[i] = {};
      if (k < K) x[i] = load_shared8(at(m, k));
    }
    float inverse = inverse_of<K>(x, norm.eps);
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      int k = 8 * own.lane + 256 * i;
      if (k < K) {
        store_eight(norm.room + static_cast<size_t>(m) * K + k,
                    scaled8(x[i], load_weights(norm.weights + k), inverse));
      }
    }
  }
  all_blocks(norm.arrived, *norm.turn);
}

// What a lane has of two rows that are 8 apart, as the two steps of a chunk take it.
__device__ inline uint4 first_step(uint4 a, uint4 c) { return {a.x, c.x, a.y, c.y}; }
__device__ inline uint4 second_step(uint4 a, uint4 c) { return {a.z, c.z, a.w, c.w}; }

// Where in its row a pair of outputs is kept: four rows of one column are in different banks.
template <int NB>
__device__ inline int place_of(int row, int pair) {
  constexpr int BY = NB % 4 == 0 ? 1 : NB % 2 == 0 ? 2 : 0;
  return BY ? (pair + 4 * (row / BY % 4)) % (4 * NB) : pair;
}

// Parts of a product: MB * 16 rows from m0 by NB * 8 outputs from n0. Warp w adds up every eighth
// chunk of k into parts[w]; `sum_of` adds the warps up.
template <int K, int NB, int MB, bool NORM, class At>
__device__ void product(At at, const bf16* weights, const bf16* norm, int m0, int n0, int count,
                        float* parts, const float* inverse) {
  constexpr int CHUNKS = K / CHUNK, STEPS = (CHUNKS + WARPS - 1) / WARPS;
  constexpr int TAKEN = at_once(STEPS, 4 * (NB + 2 * MB));
  Lane own;
  float sums[MB][NB][4] = {};
#pragma unroll 1
  for (int first = 0; first < STEPS; first += TAKEN) {
    uint4 b[TAKEN][NB], scale[TAKEN], rows[TAKEN][MB][2];
#pragma unroll
    for (int s = 0; s < TAKEN; s++) {
      int chunk = own.warp + (first + s) * WARPS, k = chunk * CHUNK + own.quad * 8;
      bool is_one = chunk < CHUNKS;
#pragma unroll
      for (int j = 0; j < NB; j++) {
        b[s][j] = {};
        if (is_one) {
          b[s][j] = load_weights(weights + static_cast<size_t>(n0 + 8 * j + own.group) * K + k);
        }
      }
      scale[s] = {};
      if (NORM && is_one) scale[s] = load_weights(norm + k);
#pragma unroll
      for (int i = 0; i < 2 * MB; i++) {
        int row = m0 + 8 * i + own.group;
        rows[s][i / 2][i % 2] = {};
        if (is_one && row < count) rows[s][i / 2][i % 2] = load_shared8(at(row, k));
      }
    }
#pragma unroll
    for (int s = 0; s < TAKEN; s++) {
      if (own.warp + (first + s) * WARPS < CHUNKS) {
#pragma unroll
        for (int i = 0; i < MB; i++) {
          uint4 a = rows[s][i][0], c = rows[s][i][1];
          if (NORM) {
            a = scaled8(a, scale[s], inverse[16 * i + own.group]);
            c = scaled8(c, scale[s], inverse[16 * i + own.group + 8]);
          }
          uint4 first = first_step(a, c), second = second_step(a, c);
#pragma unroll
          for (int j = 0; j < NB; j++) {
            multiply(sums[i][j], first, b[s][j].x, b[s][j].y);
            multiply(sums[i][j], second, b[s][j].z, b[s][j].w);
          }
        }
      }
    }
  }
  float2* mine = reinterpret_cast<float2*>(parts) + own.warp * 16 * MB * 4 * NB;
#pragma unroll
  for (int i = 0; i < MB; i++) {
#pragma unroll
    for (int j = 0; j < NB; j++) {
      float2* to = mine + (16 * i + own.group) * 4 * NB + place_of<NB>(own.group, 4 * j + own.quad);
      to[0] = {sums[i][j][0], sums[i][j][1]};
      to[8 * 4 * NB] = {sums[i][j][2], sums[i][j][3]};
    }
  }
  __syncthreads();
}

// Outputs 2 pair and 2 pair + 1 of a row.
template <int NB, int MB>
__device__ float2 sum_of(const float* parts, int row, int pair) {
  const float2* from = reinterpret_cast<const float2*>(parts) + row * 4 * NB;
  from += place_of<NB>(row, pair);
  float2 sum = {0, 0};
#pragma unroll
  for (int w = 0; w < WARPS; w++) {
    float2 part = from[w * 16 * MB * 4 * NB];
    sum.x += part.x;
    sum.y += part.y;
  }
  return sum;
}

template <int K, int N, int NB, int MB, bool NORM, class At, class Held, class Done>
__device__ void run_product(At at, const bf16* weights, const Norm& norm, int count, float* shared,
                            Held held, Done done) {
  static_assert(K % CHUNK == 0 && N % (8 * NB) == 0, "sizes that the tiles can't cover");
  constexpr int GROUPS = N / (8 * NB), PAIRS = 4 * NB;
  float* inverse = shared;
  float* parts = shared + MOST_MEASURED;
  int items = GROUPS * ((count + 16 * MB - 1) / (16 * MB)), measured = -1;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    int n0 = item % GROUPS * 8 * NB, m0 = item / GROUPS * 16 * MB;
    if (NORM && m0 != measured) measure_rows<K, MB>(at, m0, count, norm.eps, inverse);
    measured = m0;
    product<K, NB, MB, NORM>(at, weights, norm.weights, m0, n0, count, parts, inverse);
    for (int i = threadIdx.x; i < 16 * MB * PAIRS; i += THREADS) {
      int row = i / PAIRS, pair = i % PAIRS;
      int m = m0 + row, n = n0 + 2 * pair;
      if (m < count) done(m, n, sum_of<NB, MB>(parts, row, pair), held(m, n));
    }
    __syncthreads();
  }
}

// How many outputs / 8 a block takes at a time: few where there are few.
constexpr int few_enough(int outputs) {
  return outputs >= 16384 ? 4 : outputs >= 2048 && outputs % 24 == 0 ? 3 : outputs >= 2048 ? 2 : 1;
}

// As many as that, or more where there are many tokens: weights and rows are then read less often.
constexpr int wider(int outputs, int few) {
  int many = few == 3 ? 6 : 4;
  return outputs % (8 * many) == 0 ? many : few;
}

// Products of many tokens. The warps of a block, four by two, each take MB * 16 rows by NB * 8
// outputs of a tile. Chunks of k come through shared memory, TAKEN to a stage; while one stage is
// multiplied the next are on their way. The sums are those of `product`: every eighth chunk from
// the first, then from the second, and so on.
constexpr int TAKEN = 3;
constexpr int ROOM = 2 * TAKEN * EIGHTS * (128 + 96);  // for stages, in uint4

template <int K>
struct Stages {
  static constexpr int CHUNKS = K / CHUNK, PARTS = CHUNKS < WARPS ? CHUNKS : WARPS;
  static constexpr int PIECES = ((CHUNKS + WARPS - 1) / WARPS + TAKEN - 1) / TAKEN;  // of a part
  static constexpr int COUNT = PARTS * PIECES;
  static constexpr bool FULL = CHUNKS % (WARPS * TAKEN) == 0;
  // The s-th chunk of a stage; whether there is one; whether the stage ends a part.
  __device__ static int chunk(int stage, int s) {
    return stage / PIECES + WARPS * (stage % PIECES * TAKEN + s);
  }
  __device__ static bool has(int stage, int s) { return FULL || chunk(stage, s) < CHUNKS; }
  __device__ static bool ends_part(int stage) { return stage % PIECES == PIECES - 1; }
};

// A warp's lines of one chunk, as the hardware multiplies them.
template <int NB, int MB>
struct Fragments {
  uint4 steps[MB][2], outputs[NB];
};

template <int NB, int MB>
__device__ inline Fragments<NB, MB> take_chunk(const uint4* rows, const uint4* outputs,
                                               unsigned selector) {
  Fragments<NB, MB> taken;
#pragma unroll
  for (int j = 0; j < NB; j++) taken.outputs[j] = outputs[8 * j * EIGHTS];
#pragma unroll
  for (int i = 0; i < MB; i++) {
    uint4 a = rows[16 * i * EIGHTS], c = rows[(16 * i + 8) * EIGHTS];
    taken.steps[i][0] = same(first_step(a, c), selector);
    taken.steps[i][1] = same(second_step(a, c), selector);
  }
  return taken;
}

template <int NB, int MB>
__device__ inline void multiply_chunk(const Fragments<NB, MB>& taken, float (&sums)[MB][NB][4]) {
#pragma unroll
  for (int i = 0; i < MB; i++) {
    const uint4(&y)[NB] = taken.outputs;
#pragma unroll
    for (int j = 0; j < NB; j++) multiply(sums[i][j], taken.steps[i][0], y[j].x, y[j].y);
#pragma unroll
    for (int j = 0; j < NB; j++) multiply(sums[i][j], taken.steps[i][1], y[j].z, y[j].w);
  }
}

template <int K, int NB, int MB, class At>
__device__ void tile_product(At at, const bf16* weights, int m0, int n0, int count,
                             float (&sums)[MB][NB][4], uint4* stages) {
  constexpr int ROWS = 64 * MB, OUTPUTS = 16 * NB, LINES = ROWS + OUTPUTS;
  constexpr int STAGE = TAKEN * LINES * EIGHTS, RING = ROOM / STAGE < 4 ? ROOM / STAGE : 4;
  static_assert(RING >= 2, "one stage is multiplied while another comes");
  Lane own;
  const int eighth = threadIdx.x % EIGHTS, line = threadIdx.x / EIGHTS;
  const unsigned selector = same_selector(count);
  auto fetch = [&](int stage) {
#pragma unroll
    for (int s = 0; s < TAKEN; s++) {
      if (stage >= Stages<K>::COUNT || !Stages<K>::has(stage, s)) continue;
      int k = Stages<K>::chunk(stage, s) * CHUNK + 8 * eighth;
      uint4* to = stages + stage % RING * STAGE + s * LINES * EIGHTS + eighth;
#pragma unroll
      for (int i = 0; i < ROWS; i += 64) {
        copy_ahead(to + (line + i) * EIGHTS, at(min(m0 + line + i, count - 1), k));
      }
#pragma unroll
      for (int i = 0; i < OUTPUTS; i += 64) {
        const bf16* from = weights + static_cast<size_t>(n0 + line + i) * K + k;
        if (line + i < OUTPUTS) copy_ahead(to + (ROWS + line + i) * EIGHTS, from);
      }
    }
    end_copies();
  };
  float part[MB][NB][4] = {};
#pragma unroll
  for (int i = 0; i < 4 * MB * NB; i++) (&sums[0][0][0])[i] = 0;
  const int row = own.warp / 2 * 16 * MB + own.group, output = own.warp % 2 * 8 * NB + own.group;
#pragma unroll
  for (int i = 0; i < RING - 1; i++) fetch(i);
#pragma unroll 1
  for (int stage = 0; stage < Stages<K>::COUNT; stage++) {
    await_copies<RING - 2>();
    __syncthreads();
    fetch(stage + RING - 1);
    const uint4* from = stages + stage % RING * STAGE + own.quad;
#pragma unroll
    for (int s = 0; s < TAKEN; s++, from += LINES * EIGHTS) {
      if (!Stages<K>::has(stage, s)) continue;
      multiply_chunk<NB, MB>(take_chunk<NB, MB>(from + row * EIGHTS,
                                                from + (ROWS + output) * EIGHTS, selector),
                             part);
    }
    if (Stages<K>::ends_part(stage)) {
#pragma unroll
      for (int i = 0; i < 4 * MB * NB; i++) {
        (&sums[0][0][0])[i] += (&part[0][0][0])[i];
        (&part[0][0][0])[i] = 0;
      }
    }
  }
  __syncthreads();
}

template <int K, int N, int NB, int MB, class At, class Held, class Done>
__device__ void run_tiles(At at, const bf16* weights, int count, float* shared, Held held,
                          Done done) {
  constexpr int GROUPS = N / (16 * NB), ROWS = 64 * MB;
  Lane own;
  int items = GROUPS * ((count + ROWS - 1) / ROWS);
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    int n0 = item % GROUPS * 16 * NB, m0 = item / GROUPS * ROWS;
    float sums[MB][NB][4];
    tile_product<K, NB, MB>(at, weights, m0, n0, count, sums, reinterpret_cast<uint4*>(shared));
    int m = m0 + own.warp / 2 * 16 * MB + own.group, n = n0 + own.warp % 2 * 8 * NB + 2 * own.quad;
    unsigned old[2 * MB][NB];
#pragma unroll
    for (int i = 0; i < 2 * MB; i++) {
#pragma unroll
      for (int j = 0; j < NB; j++) {
        old[i][j] = m + 8 * i < count ? held(m + 8 * i, n + 8 * j) : 0;
      }
    }
#pragma unroll
    for (int i = 0; i < 2 * MB; i++) {
#pragma unroll
      for (int j = 0; j < NB; j++) {
        const float* sum = sums[i / 2][j] + i % 2 * 2;
        if (m + 8 * i < count) done(m + 8 * i, n + 8 * j, float2{sum[0], sum[1]}, old[i][j]);
      }
    }
  }
}

// Cycles that products take on an H200, about: the blocks take `items` tiles in turns.
__device__ constexpr int turns_of(int items, int blocks) { return (items + blocks - 1) / blocks; }

template <int K, int NB, int MB, bool NORM>
__device__ int cost_of(int items) {
  constexpr int EACH = (48 + 16 * MB + 8 * NB) * (16 + K / 20);
  return turns_of(items, gridDim.x) * (NORM ? EACH + EACH / 3 : EACH);
}

template <int K, int NB, int MB, bool NORM>
__device__ int tile_cost_of(int items) {
  constexpr int LINES = 64 * MB + 16 * NB;
  return turns_of(items, gridDim.x) * (1500 + LINES * (20 + 3 * K / CHUNK)) + (NORM ? 5000 : 0);
}

// Outputs / 16 of a tile, or 0 where none of them fits.
constexpr int tile_width(int outputs, int most) {
  return most >= 6 && outputs % 96 == 0 ? 6 : outputs % 48 == 0 ? 3 : outputs % 64 == 0 ? 4 : 0;
}

// done(m, n, float2, held(m, n)) for every token m and pair of outputs n, n + 1 of [M, K] x [N, K]:
// by the tiles that cost least; few tokens take NB * 8 outputs at a time. The sums are the same.
template <int K, int N, int NB, bool NORM, class At, class Held, class Done>
__device__ void multiply_rows(At at, const bf16* weights, const Norm& norm, int count,
                              float* shared, Held held, Done done) {
  constexpr int WIDE = wider(N, NB), SMALL = tile_width(N, 3), LARGE = tile_width(N, 6);
  if (count <= 16) {
    run_product<K, N, NB, 1, NORM>(at, weights, norm, count, shared, held, done);
    return;
  }
  if constexpr (SMALL > 0) {
    int small = tile_cost_of<K, SMALL, 1, NORM>(N / (16 * SMALL) * turns_of(count, 64));
    int large = tile_cost_of<K, LARGE, 2, NORM>(N / (16 * LARGE) * turns_of(count, 128));
    int few = cost_of<K, WIDE, 2, NORM>(N / (8 * WIDE) * turns_of(count, 32));
    if (min(small, large) < few && (!NORM || norm.room)) {
      auto run = [&](auto from) {
        if (small < large) {
          run_tiles<K, N, SMALL, 1>(from, weights, count, shared, held, done);
        } else {
          run_tiles<K, N, LARGE, 2>(from, weights, count, shared, held, done);
        }
      };
      if constexpr (NORM) {
        apply_norm<K>(at, norm, count);
        const bf16* room = norm.room;
        run([=](int m, int k) { return room + static_cast<size_t>(m) * K + k; });
      } else {
        run(at);
      }
      return;
    }
  }
  run_product<K, N, WIDE, 2, NORM>(at, weights, norm, count, shared, held, done);
}

// Nothing is there that a product's outputs are added to.
struct Nothing {
  __device__ unsigned operator()(int, int) const { return 0; }
};

// done(m, head, first, second) for the rows of a tile [ROWS, STRIDE] from m0.
template <int ROWS, class Done>
__device__ void finish_heads(const float* tile, int m0, int head, int count, Done done) {
  Lane own;
#pragma unroll 4
  for (int row = own.warp; row < ROWS; row += WARPS) {
    const float* from = tile + row * STRIDE + own.lane;
    if (m0 + row < count) done(m0 + row, head, from[0], from[32]);
  }
  __syncthreads();
}

template <int K, int HEADS, int MB, class At, class Done>
__device__ void run_heads(At at, const bf16* weights, const Norm& norm, int count, float* shared,
                          Done done) {
  constexpr int ROWS = 16 * MB;
  float* inverse = shared;
  float* parts = shared + MOST_MEASURED;
  float* tile = parts + WARPS * ROWS * HEAD;
  int items = HEADS * ((count + ROWS - 1) / ROWS);
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    int head = item % HEADS, m0 = item / HEADS * ROWS;
    measure_rows<K, MB>(at, m0, count, norm.eps, inverse);
    product<K, HEAD / 8, MB, true>(at, weights, norm.weights, m0, head * HEAD, count, parts,
                                   inverse);
    for (int i = threadIdx.x; i < ROWS * HEAD / 2; i += THREADS) {
      int row = i / (HEAD / 2), pair = i % (HEAD / 2);
      float2 sum = sum_of<HEAD / 8, MB>(parts, row, pair);
      round_pair(tile + row * STRIDE + 2 * pair, sum.x, sum.y);
    }
    __syncthreads();
    finish_heads<ROWS>(tile, m0, head, count, done);
  }
}

// As `run_heads`, by tiles of 64 rows that have their norm by one head.
template <int K, int HEADS, class At, class Done>
__device__ void run_head_tiles(At at, const bf16* weights, int count, float* shared, Done done) {
  constexpr int ROWS = 64, NB = HEAD / 16;
  Lane own;
  int items = HEADS * ((count + ROWS - 1) / ROWS);
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    int head = item % HEADS, m0 = item / HEADS * ROWS;
    float sums[1][NB][4];
    tile_product<K, NB, 1>(at, weights, m0, head * HEAD, count, sums,
                           reinterpret_cast<uint4*>(shared));
    float* to = shared + (own.warp / 2 * 16 + own.group) * STRIDE + own.warp % 2 * 8 * NB;
#pragma unroll
    for (int j = 0; j < NB; j++) {
      round_pair(to + 8 * j + 2 * own.quad, sums[0][j][0], sums[0][j][1]);
      round_pair(to + 8 * STRIDE + 8 * j + 2 * own.quad, sums[0][j][2], sums[0][j][3]);
    }
    __syncthreads();
    finish_heads<ROWS>(shared, m0, head, count, done);
  }
}

// done(m, head, first, second) by the lanes of one warp, each with its two elements of the head.
template <int K, int HEADS, class At, class Done>
__device__ void multiply_heads(At at, const bf16* weights, const Norm& norm, int count,
                               float* shared, Done done) {
  constexpr int NB = HEAD / 8;
  int few = cost_of<K, NB, 1, true>(HEADS * turns_of(count, 16));
  int some = cost_of<K, NB, 2, true>(HEADS * turns_of(count, 32));
  int many = tile_cost_of<K, HEAD / 16, 1, true>(HEADS * turns_of(count, 64));
  if (norm.room && many < min(few, some)) {
    apply_norm<K>(at, norm, count);
    const bf16* room = norm.room;
    run_head_tiles<K, HEADS>(
        [=](int m, int k) { return room + static_cast<size_t>(m) * K + k; }, weights, count,
        shared, done);
  } else if (few <= some) {
    run_heads<K, HEADS, 1>(at, weights, norm, count, shared, done);
  } else {
    run_heads<K, HEADS, 2>(at, weights, norm, count, shared, done);
  }
}

__device__ inline float rounded(float value) { return low(pack(value, 0.0f)); }

// What is in the hidden state and what a layer adds to it.
__device__ inline unsigned added(unsigned old, float2 sum) {
  return pack(low(old) + rounded(sum.x), high(old) + rounded(sum.y));
}

__device__ inline float silu(float x) { return x / (1.0f + exp2f(-1.4426950408889634f * x)); }

// The norm of a head, as Qwen3 has it.
__device__ inline void norm_head(float& first, float& second, const bf16* norm, float eps) {
  Lane own;
  float sum = first * first + second * second;
  for (int bit = 16; bit; bit /= 2) sum += exchange(sum, bit);
  float inverse = rsqrtf(sum / HEAD + eps);
  first = rounded(first * inverse * low(load_pair(norm + (own.lane & ~1)) >> (own.lane % 2 * 16)));
  second = rounded(second * inverse *
                   low(load_pair(norm + 32 + (own.lane & ~1)) >> (own.lane % 2 * 16)));
}

// The rotary position: elements i and i + 32 turn together. turns: [positions, 32] of (cos, sin).
__device__ inline void rotate(float& first, float& second, const float* turns, int position) {
  Lane own;
  float2 turn = load_turn(turns + (static_cast<size_t>(position) * 32 + own.lane) * 2);
  float x = first, y = second;
  first = x * turn.x - y * turn.y;
  second = x * turn.y + y * turn.x;
}

__device__ inline void store_head(bf16* to, float first, float second) {
  Lane own;
  store_one(to + own.lane, first);
  store_one(to + own.lane + 32, second);
}

__device__ inline size_t cache_place(const Tokens& tokens, int row, int group, int groups,
                                     int column) {
  return ((static_cast<size_t>(tokens.slot(row)) * groups + group) * tokens.columns + column) *
         HEAD;
}

// The attention's state of 16 queries in a warp: rows `group` and `group + 8`.
struct Attended {
  float most[2] = {NOTHING, NOTHING}, total[2] = {0, 0};
  float out[HEAD / 8][4] = {};
};

// Keys or values of 32 columns, as the lane needs them.
struct Keys {
  uint4 of[4][2];
};
struct Values {
  uint4 of[2][4];
};

// Those from `column` to `end`, zeros after it; place(column) is where a column lies.
template <class Place>
__device__ inline Keys load_keys(const bf16* keys, int column, int end, Place place) {
  Lane own;
  Keys taken;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    int at = column + 8 * j + own.group;
    taken.of[j][0] = taken.of[j][1] = {};
    if (at < end) {
      const size_t from = static_cast<size_t>(place(at)) * HEAD;
      taken.of[j][0] = load_shared8(keys + from + own.quad * 8);
      taken.of[j][1] = load_shared8(keys + from + 32 + own.quad * 8);
    }
  }
  return taken;
}

template <class Place>
__device__ inline Values load_values(const bf16* values, int column, int end, Place place) {
  Lane own;
  Values taken;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int at = column + i / 4 * 16 + 2 * own.quad + i % 2 + i % 4 / 2 * 8;
    uint4& value = taken.of[i / 4][i % 4];
    value = {};
    if (at < end) {
      value = load_shared8(values + static_cast<size_t>(place(at)) * HEAD + own.group * 8);
    }
  }
  return taken;
}

// Both.
struct Columns {
  Keys keys;
  Values values;
};
template <class Place>
__device__ inline Columns load_columns(const bf16* keys, const bf16* values, int column, int end,
                                       Place place) {
  return {load_keys(keys, column, end, place), load_values(values, column, end, place)};
}

// What 32 columns weigh, as the lane needs it.
struct Weighed {
  unsigned of[4][2];
};

// Takes 32 columns in, all but their values. `q`: by half of the head, and by step. The softmax so
// far is scaled to the new largest score (Milakov and Gimelshein 2018). `ends`: the first column
// that either query of the lane does not see.
__device__ inline Weighed weigh(Attended& own_part, const uint4 (&q)[2][2], const Keys& taken,
                                int column, const int (&ends)[2], float scale) {
  Lane own;
  float scores[4][4] = {};
#pragma unroll
  for (int j = 0; j < 4; j++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4& b = taken.of[j][half];
      multiply(scores[j], q[half][0], b.x, b.y);
      multiply(scores[j], q[half][1], b.z, b.w);
    }
  }
  Weighed weights;
  float shrink[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float most = own_part.most[r];
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float& s = scores[j][2 * r + i];
        s = column + 8 * j + 2 * own.quad + i < ends[r] ? s * scale : NOTHING;
        most = max(most, s);
      }
    }
    most = max(most, exchange(most, 1));
    most = max(most, exchange(most, 2));
    shrink[r] = exp2f(own_part.most[r] - most);
    own_part.most[r] = most;
    float total = 0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      float p[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float s = scores[j][2 * r + i];
        p[i] = s > NOTHING ? exp2f(s - most) : 0.0f;
        total += p[i];
      }
      weights.of[j][r] = pack(p[0], p[1]);
    }
    own_part.total[r] = own_part.total[r] * shrink[r] + total;
  }
#pragma unroll
  for (int d = 0; d < HEAD / 8; d++) {
#pragma unroll
    for (int i = 0; i < 4; i++) own_part.out[d][i] *= shrink[i / 2];
  }
  return weights;
}

// Adds up their values.
__device__ inline void add_values(Attended& own_part, const Weighed& weights,
                                  const Values& taken) {
#pragma unroll
  for (int step = 0; step < 2; step++) {  // 16 columns each
    const uint4(&v)[4] = taken.of[step];
    const unsigned *w = weights.of[2 * step], *next = weights.of[2 * step + 1];
    const uint4 a = {w[0], w[1], next[0], next[1]};
    unsigned words[4][4] = {{v[0].x, v[0].y, v[0].z, v[0].w}, {v[1].x, v[1].y, v[1].z, v[1].w},
                            {v[2].x, v[2].y, v[2].z, v[2].w}, {v[3].x, v[3].y, v[3].z, v[3].w}};
#pragma unroll
    for (int d = 0; d < 4; d++) {  // a lane's group stands for 8 elements, its word d for two
      multiply(own_part.out[2 * d], a, lows(words[0][d], words[1][d]),
               lows(words[2][d], words[3][d]));
      multiply(own_part.out[2 * d + 1], a, highs(words[0][d], words[1][d]),
               highs(words[2][d], words[3][d]));
    }
  }
}

// Where the warps leave their states of a tile's 16 queries. What each lane has of the totals is
// kept, too, where another warp is to go on from there.
struct Kept {
  float *most, *total;  // [WARPS, 16]
  float* parts;         // [WARPS, 16, STRIDE]
  float* lanes;         // [WARPS, 16, 4]
  __device__ explicit Kept(float* shared)
      : most(shared), total(most + WARPS * 16), parts(total + WARPS * 16),
        lanes(parts + WARPS * 16 * STRIDE) {}
  // The state that is to be a warp's: of the lane's queries `group` and `group + 8`, if wanted.
  __device__ void put(const Attended& part, int warp, bool first, bool second) const {
    Lane own;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float sum = part.total[r];
      sum += exchange(sum, 1);
      sum += exchange(sum, 2);
      int place = warp * 16 + own.group + 8 * r;
      if (!(r ? second : first)) continue;
      if (own.quad == 0) {
        most[place] = part.most[r];
        total[place] = sum;
      }
#pragma unroll
      for (int d = 0; d < HEAD / 8; d++) {
        parts[place * STRIDE + 16 * own.quad + d] = part.out[d][2 * r];
        parts[place * STRIDE + 16 * own.quad + 8 + d] = part.out[d][2 * r + 1];
      }
    }
  }
  __device__ void put_lanes(const Attended& part, int warp) const {
    Lane own;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      lanes[(warp * 16 + own.group + 8 * r) * 4 + own.quad] = part.total[r];
    }
  }
  // What was put for a warp; nothing where it is not wanted.
  __device__ Attended take(int warp, bool first, bool second) const {
    Lane own;
    Attended part;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!(r ? second : first)) continue;
      int place = warp * 16 + own.group + 8 * r;
      part.most[r] = most[place];
      part.total[r] = lanes[place * 4 + own.quad];
#pragma unroll
      for (int d = 0; d < HEAD / 8; d++) {
        part.out[d][2 * r] = parts[place * STRIDE + 16 * own.quad + d];
        part.out[d][2 * r + 1] = parts[place * STRIDE + 16 * own.quad + 8 + d];
      }
    }
    return part;
  }
};

// How a row that is a tree is taken in. Columns before its new ones are as in other rows. A chunk
// with new ones is taken in once for each leaf, with those of its path, in their order: in such a
// pass only the leaf's queries go on from what the chunk's warp has so far. So each gets the very
// sums that it would get if its path were all there is. Any warp can do any pass, see `Kept`. There
// are 16 new columns at most.
struct Passes {
  const Branch* branches;  // of the row
  int start, first, last;  // the first new column; the chunks with new ones, one or two
  __device__ Passes(const Branch* row, int new_from, int width)
      : branches(row), start(new_from), first(start / CHUNK), last((start + width - 1) / CHUNK) {}
  // How many chunks without new columns a warp has; and after how many the states are there from
  // which the passes go on. Warps from that of `first` on have no more of them then.
  __device__ int olds(int warp) const { return (first - warp + WARPS - 1) / WARPS; }
  __device__ int meeting() const { return last / WARPS; }
  // A warp's passes, as bits: by leaf, of the first chunk, and from 16 on of another last one. The
  // warps that have least to do get the first.
  __device__ unsigned of(int warp, int width) const {
    unsigned all = 0;
#pragma unroll
    for (int t = 0; t < 16; t++) {
      if (t >= width || branches[t].leaf != t) continue;
      all |= 1u << t;  // where no path reaches nothing is to be seen
      if (first < last && last * CHUNK <= start + branches[t].depth) all |= 1u << (16 + t);
    }
    return without(all, (warp - first) & (WARPS - 1));
  }
  __device__ static unsigned without(unsigned bits, int lowest) {
    for (int i = 0; i < lowest; i++) bits &= bits - 1;
    return bits;
  }
  __device__ int chunk(int pass) const { return pass < 16 ? first : last; }
  // Where the columns of a path lie; and the first that is not there.
  __device__ auto place(const Branch& path) const {
    const int from = start;
    return [=](int at) { return at < from ? at : from + path.at(at - from); };
  }
  __device__ int end(const Branch& path) const { return start + path.depth + 1; }
};

// The states of a tile's queries, of a row that is a tree. Only keys are on their way ahead, while
// values are added: for more there are no registers, and what they can't hold comes from far away
// again in every phase. Each warp waits for the others once, when the passes may begin: some have a
// chunk more, which they take in then, while others do passes.
__device__ inline void attend_tree(const Passes& passes, int width, const uint4 (&q)[2][2],
                                   const bf16* keys, const bf16* values, const int (&ends)[2],
                                   const int (&leaves)[2], float scale, const Kept& kept) {
  Lane own;
  auto same_place = [](int column) { return column; };
  const int olds = passes.olds(own.warp);
  Keys next = {};
  if (olds) next = load_keys(keys, own.warp * CHUNK, passes.start, same_place);
  unsigned left = passes.of(own.warp, width);
  auto load_pass = [&] {
    if (!left) return;
    const int pass = lowest_bit(left);
    const Branch path = passes.branches[pass % 16];
    next = load_keys(keys, passes.chunk(pass) * CHUNK, passes.end(path), passes.place(path));
  };
  if (!olds) load_pass();
  Attended part;
#pragma unroll 1
  for (int i = 0; i < olds; i++) {
    if (i == passes.meeting()) __syncthreads();
    const int column = (i * WARPS + own.warp) * CHUNK;
    const Values now = load_values(values, column, passes.start, same_place);
    const Weighed weights = weigh(part, q, next, column, ends, scale);
    if (i + 1 < olds) {
      next = load_keys(keys, column + WARPS * CHUNK, passes.start, same_place);
    } else {
      load_pass();
    }
    add_values(part, weights, now);
  }
  kept.put(part, own.warp, true, true);
  kept.put_lanes(part, own.warp);
  if (olds <= passes.meeting()) __syncthreads();
#pragma unroll 1
  while (left) {
    const int pass = lowest_bit(left), leaf = pass % 16;
    const int chunk = passes.chunk(pass), column = chunk * CHUNK;
    const Branch path = passes.branches[leaf];
    const bool own_leaf[2] = {leaves[0] == leaf, leaves[1] == leaf};
    const int seen[2] = {own_leaf[0] ? ends[0] : 0, own_leaf[1] ? ends[1] : 0};
    const Values now = load_values(values, column, passes.end(path), passes.place(path));
    part = kept.take(chunk % WARPS, own_leaf[0], own_leaf[1]);
    const Weighed weights = weigh(part, q, next, column, seen, scale);
    left = Passes::without(left, WARPS);
    load_pass();
    add_values(part, weights, now);
    kept.put(part, chunk % WARPS, own_leaf[0], own_leaf[1]);
  }
}

// Attention: q [M, H * 64] over the cache, out likewise. Each block takes 16 queries of a row that
// share keys (heads of a group, tokens); its warps take every eighth chunk of columns.
template <int HEADS, int GROUPS, bool CAUSAL, bool TREES>
__device__ void attention(const Tokens& tokens, const bf16* q, const bf16* keys,
                          const bf16* values, bf16* out, float* shared) {
  constexpr int SHARING = HEADS / GROUPS;
  Lane own;
  const float scale = 1.4426950408889634f / 8.0f;  // of base 2; 8 is the root of 64
  const int width = tokens.width, queries = SHARING * width, tiles = (queries + 15) / 16;
  const Kept kept(shared);
  int items = tokens.rows * GROUPS * tiles;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    int tile = item % tiles, group = item / tiles % GROUPS, row = item / tiles / GROUPS;
    int start = tokens.start(row);
    uint4 pairs[2][2] = {};
    int ends[2], leaves[2] = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int query = 16 * tile + own.group + 8 * r;
      bool is_one = query < queries;
      int t = query % width, head = group * SHARING + query / width;
      ends[r] = !is_one ? 0 : CAUSAL ? start + tokens.depth<TREES>(row, t) + 1 : start + width;
      if (TREES) leaves[r] = tokens.branches[row * width + t].leaf;
      if (is_one) {
        const bf16* from = q + (static_cast<size_t>(row * width + t) * HEADS + head) * HEAD;
        pairs[0][r] = load_shared8(from + own.quad * 8);
        pairs[1][r] = load_shared8(from + 32 + own.quad * 8);
      }
    }
    const uint4 q16[2][2] = {
        {first_step(pairs[0][0], pairs[0][1]), second_step(pairs[0][0], pairs[0][1])},
        {first_step(pairs[1][0], pairs[1][1]), second_step(pairs[1][0], pairs[1][1])}};
    size_t at = cache_place(tokens, row, group, GROUPS, 0);
    if constexpr (TREES) {
      const Passes passes(tokens.branches + row * width, start, width);
      attend_tree(passes, width, q16, keys + at, values + at, ends, leaves, scale, kept);
    } else {
      Attended part;
      // What no query of the tile sees would add nothing. The same for all warps.
      int first = 16 * tile % width, last = start + width;
      if (CAUSAL && first + 16 <= width) last = start + first + 16;
      auto place = [](int column) { return column; };
      Columns next = load_columns(keys + at, values + at, own.warp * CHUNK, last, place);
      for (int column = own.warp * CHUNK; column < last; column += WARPS * CHUNK) {
        Columns now = next;
        next = load_columns(keys + at, values + at, column + WARPS * CHUNK, last, place);
        add_values(part, weigh(part, q16, now.keys, column, ends, scale), now.values);
      }
      kept.put(part, own.warp, true, true);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 16 * HEAD / 2; i += THREADS) {
      int place = i / (HEAD / 2), d = i % (HEAD / 2) * 2, query = 16 * tile + place;
      if (query >= queries) continue;
      float largest = NOTHING, sum = 0, first = 0, second = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) largest = max(largest, kept.most[w * 16 + place]);
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        float share = exp2f(kept.most[w * 16 + place] - largest);
        sum += kept.total[w * 16 + place] * share;
        first += kept.parts[(w * 16 + place) * STRIDE + d] * share;
        second += kept.parts[(w * 16 + place) * STRIDE + d + 1] * share;
      }
      int m = row * width + query % width, head = group * SHARING + query / width;
      store_pair(out + (static_cast<size_t>(m) * HEADS + head) * HEAD + d,
                 pack(first / sum, second / sum));
    }
    __syncthreads();
  }
}

// Has the first weights of the next product on their way while the blocks wait for each other.
template <int K, int N, int NB>
__device__ void fetch_ahead(const bf16* weights) {
  constexpr int GROUPS = N / (8 * NB), LINES = 8 * NB * K / 64;  // of 128 bytes
  const bf16* from = weights + static_cast<size_t>(blockIdx.x % GROUPS) * 8 * NB * K;
  for (int i = threadIdx.x; i < LINES; i += THREADS) prefetch(from + 64 * i);
}

// Has the rows' keys and values on their way while few blocks multiply and the others have nothing
// to do: the few that attend then would wait for memory. Very many would push weights out.
constexpr int MOST_FETCHED = 16384;
template <int BUSY, int GROUPS>
__device__ void fetch_columns(const Tokens& tokens, const bf16* keys, const bf16* values) {
  int busy = BUSY * ((tokens.count() + 15) / 16), blocks = static_cast<int>(gridDim.x);
  if (busy >= blocks || static_cast<int>(blockIdx.x) < busy) return;
  int columns = 0;
  for (int row = 0; row < tokens.rows; row++) columns += tokens.start(row);
  if (columns > MOST_FETCHED) return;
  int first = (blockIdx.x - busy) * THREADS + threadIdx.x, step = (blocks - busy) * THREADS;
  for (int row = 0; row < tokens.rows; row++) {
    for (int i = first; i < 2 * GROUPS * tokens.start(row); i += step) {
      int column = i / (2 * GROUPS), group = i / 2 % GROUPS;
      prefetch((i % 2 ? values : keys) + cache_place(tokens, row, group, GROUPS, column));
    }
  }
}

// What a model's layers are made of: all weights of a kind in one array, by layer.
struct Weights {
  const bf16 *qkv, *o, *gate_up, *down;  // [L, N, K]; gate and up in turns
  const bf16 *norms;                     // [L, 2, D]
  const bf16 *head_norms;                // [L, 2, 64] of q and k, or null
  const float* turns;
};

struct Scratch {
  bf16 *hidden, *q, *attended, *gated;
};

// The tokens' rows of the table [V, D], to hidden [M, D].
template <int D>
__device__ void embed(const Tokens& tokens, const bf16* table, bf16* hidden) {
  for (int m = blockIdx.x; m < tokens.count(); m += gridDim.x) {
    const bf16* from = table + static_cast<size_t>(tokens.ids[m]) * D;
    for (int k = 8 * threadIdx.x; k < D; k += 8 * THREADS) {
      store_eight(hidden + static_cast<size_t>(m) * D + k, load_weights(from + k));
    }
  }
}

// The layers, of scratch.hidden [M, D]. tapped(layer, m, n, pair) gets every layer's output.
template <int LAYERS, int D, int HEADS, int GROUPS, int INNER, bool HEAD_NORM, bool CAUSAL,
          bool TREES = false, class Tapped>
__device__ __forceinline__ void run_layers(const Tokens& tokens, const Weights& weights,
                                           bf16* const* keys, bf16* const* values,
                                           const Scratch& scratch, float eps, unsigned* arrived,
                                           unsigned& turn, float* shared, Tapped tapped) {
  constexpr int QKV = (HEADS + 2 * GROUPS) * HEAD, Q = HEADS * HEAD;
  constexpr int WIDE = few_enough(2 * INNER), NARROW = few_enough(D);
  const int count = tokens.count();
  auto held = [=](int m, int n) {
    return load_pair(scratch.hidden + static_cast<size_t>(m) * D + n);
  };
#pragma unroll 1
  for (int layer = 0; layer < LAYERS; layer++) {
    const bf16* norms = weights.norms + layer * 2 * D;
    bf16 *k = keys[layer], *v = values[layer];
    fetch_columns<HEADS + 2 * GROUPS, GROUPS>(tokens, k, v);
    multiply_heads<D, HEADS + 2 * GROUPS>(
        [=](int m, int at) { return scratch.hidden + static_cast<size_t>(m) * D + at; },
        weights.qkv + static_cast<size_t>(layer) * QKV * D,
        Norm{norms, eps, D <= Q ? scratch.attended : nullptr, arrived, &turn}, count, shared,
        [=](int m, int head, float first, float second) {
          int row = m / tokens.width, t = m % tokens.width, column = tokens.start(row) + t;
          if (head < HEADS + GROUPS) {
            if (HEAD_NORM) {
              const bf16* norm = weights.head_norms + (layer * 2 + (head >= HEADS)) * HEAD;
              norm_head(first, second, norm, eps);
            }
            int position = tokens.start(row) + tokens.depth<TREES>(row, t);
            rotate(first, second, weights.turns, position);
          }
          if (head < HEADS) {
            store_head(scratch.q + (static_cast<size_t>(m) * HEADS + head) * HEAD, first, second);
          } else if (head < HEADS + GROUPS) {
            store_head(k + cache_place(tokens, row, head - HEADS, GROUPS, column), first, second);
          } else {
            store_head(v + cache_place(tokens, row, head - HEADS - GROUPS, GROUPS, column), first,
                       second);
          }
        });
    fetch_ahead<Q, D, NARROW>(weights.o + static_cast<size_t>(layer) * D * Q);
    all_blocks(arrived, turn);
    attention<HEADS, GROUPS, CAUSAL, TREES>(tokens, scratch.q, k, v, scratch.attended, shared);
    all_blocks(arrived, turn);
    multiply_rows<Q, D, NARROW, false>(
        [=](int m, int at) { return scratch.attended + static_cast<size_t>(m) * Q + at; },
        weights.o + static_cast<size_t>(layer) * D * Q, Norm{}, count, shared, held,
        [=](int m, int n, float2 sum, unsigned old) {
          store_pair(scratch.hidden + static_cast<size_t>(m) * D + n, added(old, sum));
        });
    fetch_ahead<D, 2 * INNER, WIDE>(weights.gate_up + static_cast<size_t>(layer) * 2 * INNER * D);
    all_blocks(arrived, turn);
    multiply_rows<D, 2 * INNER, WIDE, true>(
        [=](int m, int at) { return scratch.hidden + static_cast<size_t>(m) * D + at; },
        weights.gate_up + static_cast<size_t>(layer) * 2 * INNER * D,
        Norm{norms + D, eps, D <= Q ? scratch.q : nullptr, arrived, &turn}, count, shared,
        Nothing(), [=](int m, int n, float2 sum, unsigned) {
          float gate = rounded(sum.x), up = rounded(sum.y);
          float gated = rounded(silu(gate)) * up;
          store_one(scratch.gated + static_cast<size_t>(m) * INNER + n / 2, gated);
        });
    fetch_ahead<INNER, D, NARROW>(weights.down + static_cast<size_t>(layer) * D * INNER);
    all_blocks(arrived, turn);
    multiply_rows<INNER, D, NARROW, false>(
        [=](int m, int at) { return scratch.gated + static_cast<size_t>(m) * INNER + at; },
        weights.down + static_cast<size_t>(layer) * D * INNER, Norm{}, count, shared, held,
        [=](int m, int n, float2 sum, unsigned old) {
          unsigned now = added(old, sum);
          store_pair(scratch.hidden + static_cast<size_t>(m) * D + n, now);
          tapped(layer, m, n, now);
        });
    if (layer + 1 < LAYERS) {
      fetch_ahead<D, QKV, HEAD / 8>(weights.qkv + static_cast<size_t>(layer + 1) * QKV * D);
    }
    all_blocks(arrived, turn);
  }
}

// As `multiply_rows`, of every row's tokens from `from` to `from + taken` after the last norm.
template <int D, int N, class Done>
__device__ void multiply_taken(const Tokens& tokens, const bf16* hidden, const Norm& norm,
                               const bf16* weights, int from, int taken, float* shared,
                               Done done) {
  const int width = tokens.width;
  multiply_rows<D, N, few_enough(N), true>(
      [=](int m, int at) {
        return hidden + static_cast<size_t>(m / taken * width + from + m % taken) * D + at;
      },
      weights, norm, tokens.rows * taken, shared, Nothing(), done);
}

// Logits [rows * taken, V].
template <int D, int VOCABULARY>
__device__ void run_head(const Tokens& tokens, const bf16* hidden, const Norm& norm,
                         const bf16* table, int from, int taken, bf16* logits, float* shared) {
  multiply_taken<D, VOCABULARY>(
      tokens, hidden, norm, table, from, taken, shared,
      [=](int m, int n, float2 sum, unsigned) {
        store_pair(logits + static_cast<size_t>(m) * VOCABULARY + n, pack(sum.x, sum.y));
      });
}

// A Markov head's gates [rows * taken, RANK]; reads nothing that `run_head` writes.
template <int D, int RANK>
__device__ void run_gates(const Tokens& tokens, const bf16* hidden, const bf16* norm,
                          const bf16* gate_proj, float eps, int from, int taken, bf16* gates,
                          float* shared) {
  multiply_taken<D, RANK>(
      tokens, hidden, Norm{norm, eps}, gate_proj, from, taken, shared,
      [=](int m, int n, float2 sum, unsigned) {
        store_pair(gates + static_cast<size_t>(m) * RANK + n,
                   pack(silu(rounded(sum.x)), silu(rounded(sum.y))));
      });
}

// Keys and values of a drafter's context from its target's hidden states, taps [TAPS, M, D].
template <int LAYERS, int D, int GROUPS, int TAPS, bool TREES = false>
__device__ void run_context(const Tokens& tokens, const bf16* taps, const bf16* fc,
                            const bf16* norm, const bf16* kv, const bf16* key_norms,
                            const float* turns, bf16* const* keys, bf16* const* values,
                            bf16* features, float eps, unsigned* arrived, unsigned& turn,
                            float* shared) {
  const int count = tokens.count();
  multiply_rows<TAPS * D, D, few_enough(D), false>(
      [=](int m, int at) {
        return taps + (static_cast<size_t>(at / D) * count + m) * D + at % D;
      },
      fc, Norm{}, count, shared, Nothing(), [=](int m, int n, float2 sum, unsigned) {
        store_pair(features + static_cast<size_t>(m) * D + n, pack(sum.x, sum.y));
      });
  all_blocks(arrived, turn);
  multiply_heads<D, 2 * LAYERS * GROUPS>(
      [=](int m, int at) { return features + static_cast<size_t>(m) * D + at; }, kv,
      Norm{norm, eps}, count, shared, [=](int m, int head, float first, float second) {
        int row = m / tokens.width, t = m % tokens.width, column = tokens.start(row) + t;
        bool is_key = head < LAYERS * GROUPS;
        int layer = head / GROUPS % LAYERS, group = head % GROUPS;
        if (is_key) {
          norm_head(first, second, key_norms + layer * HEAD, eps);
          rotate(first, second, turns, tokens.start(row) + tokens.depth<TREES>(row, t));
        }
        bf16* to = is_key ? keys[layer] : values[layer];
        store_head(to + cache_place(tokens, row, group, GROUPS, column), first, second);
      });
}
