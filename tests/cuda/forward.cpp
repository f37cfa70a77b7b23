// The kernels of pipeline/engine/cuda on a CPU, for a model of the sizes that the compiler is told.
#include "primitives.h"
#include "../../pipeline/engine/cuda/forward.cuh"
#include "../../pipeline/engine/cuda/choice.cuh"
#include "../../pipeline/engine/cuda/markov.cuh"


extern "C" void run_target(int grid_size, const int* places, const bf16* embedding, const bf16* qkv,
                           const bf16* o, const bf16* gate_up, const bf16* down,
                           const bf16* norms, const bf16* head_norms, const float* turns,
                           bf16** keys, bf16** values, const bf16* norm, const bf16* table,
                           float eps, int from, int taken, bf16* hidden, bf16* q, bf16* attended,
                           bf16* gated, bf16* taps, bf16* logits) {
  std::vector<std::vector<float>> shared(grid_size, std::vector<float>(1 << 15));
  launch(grid_size, THREADS, [&] {
    float* own = shared[blockIdx.x].data();
    Tokens tokens = tokens_of(places, nullptr, own + (1 << 15) - 2 * MOST_PLACES);
    unsigned turn = 0, arrived[2];
    embed<M_D>(tokens, embedding, hidden);
    all_blocks(arrived, turn);
    run_layers<M_LAYERS, M_D, M_HEADS, M_GROUPS, M_INNER, M_HEAD_NORM, M_CAUSAL>(
        tokens, {qkv, o, gate_up, down, norms, head_norms, turns}, keys, values,
        {hidden, q, attended, gated}, eps, arrived, turn, own,
        [&](int layer, int m, int n, unsigned pair) {
          store_pair(taps + (static_cast<size_t>(layer) * tokens.count() + m) * M_D + n, pair);
        });
    run_head<M_D, M_VOCABULARY>(tokens, hidden, Norm{norm, eps, q, arrived, &turn}, table, from,
                                taken, logits, own);
  });
}

extern "C" void run_drafter_context(int grid_size, const int* places, const bf16* taps,
                                    const bf16* fc, const bf16* norm, const bf16* kv,
                                    const bf16* key_norms, const float* turns, bf16** keys,
                                    bf16** values, bf16* features, float eps) {
  std::vector<std::vector<float>> shared(grid_size, std::vector<float>(1 << 15));
  launch(grid_size, THREADS, [&] {
    float* own = shared[blockIdx.x].data();
    Tokens tokens = tokens_of(places, nullptr, own + (1 << 15) - 2 * MOST_PLACES);
    unsigned turn = 0, arrived[2];
    run_context<M_LAYERS, M_D, M_GROUPS, M_TAPS>(tokens, taps, fc, norm, kv, key_norms, turns, keys, values,
                                         features, eps, arrived, turn, shared[blockIdx.x].data());
  });
}

extern "C" void run_markov_gates(int grid_size, const int* places, const bf16* hidden,
                                 const bf16* norm, const bf16* gate_proj, float eps, int from,
                                 int taken, bf16* gates) {
  std::vector<std::vector<float>> shared(grid_size, std::vector<float>(1 << 15));
  launch(grid_size, THREADS, [&] {
    float* own = shared[blockIdx.x].data();
    Tokens tokens = tokens_of(places, nullptr, own + (1 << 15) - 2 * MOST_PLACES);
    run_gates<M_D, M_RANK>(tokens, hidden, norm, gate_proj, eps, from, taken, gates,
                           shared[blockIdx.x].data());
  });
}

extern "C" void run_choice(int positions, const bf16* logits, const int* plan, const int* masks,
                           int* chosen) {
  std::vector<std::vector<float>> shared(positions, std::vector<float>(1 << 10));
  launch(positions, CHOOSERS, [&] {
    int token = choose_token<M_VOCABULARY>(logits, plan, masks, shared[blockIdx.x].data());
    if (threadIdx.x == 0) chosen[blockIdx.x] = token;
  });
}

extern "C" void run_chain(int blocks, const bf16* logits, const bf16* gates, const bf16* before,
                          const bf16* after, const int* plan, int* chosen) {
  std::vector<std::vector<float>> shared(blocks, std::vector<float>(1 << 10));
  std::vector<float2> candidates(static_cast<size_t>(plan[0]) * plan[1] * CHOOSERS);
  unsigned arrived[2] = {};
  launch(blocks, CHOOSERS, [&] {
    choose_blocks<M_VOCABULARY, M_RANK>(logits, gates, before, after, plan, candidates.data(),
                                        chosen, arrived, shared[blockIdx.x].data());
  });
}

// Outputs [count, 96] of rows [count, K]: as few tokens get them, and by both kinds of tiles.
template <int K>
void multiply_all_ways(const bf16* rows, const bf16* weights, int count, bf16* outputs) {
  std::vector<std::vector<float>> shared(2, std::vector<float>(1 << 15));
  launch(2, THREADS, [&] {
    float* own = shared[blockIdx.x].data();
    auto at = [=](int m, int k) { return rows + static_cast<size_t>(m) * K + k; };
    auto keep = [=](int way) {
      return [=](int m, int n, float2 sum, unsigned old) {
        store_pair(outputs + (static_cast<size_t>(way) * count + m) * 96 + n,
                   pack(sum.x + low(old), sum.y));
      };
    };
    auto held = [](int m, int) { return m % 2 ? 0x3f80u : 0u; };
    run_product<K, 96, 3, 1, false>(at, weights, Norm{}, count, own, held, keep(0));
    run_tiles<K, 96, 3, 1>(at, weights, count, own, held, keep(1));
    run_tiles<K, 96, 6, 2>(at, weights, count, own, held, keep(2));
  });
}

extern "C" void run_products(int k, const bf16* rows, const bf16* weights, int count,
                             bf16* outputs) {
  if (k == 288) multiply_all_ways<288>(rows, weights, count, outputs);
  if (k == 768) multiply_all_ways<768>(rows, weights, count, outputs);
  if (k == 832) multiply_all_ways<832>(rows, weights, count, outputs);
}
