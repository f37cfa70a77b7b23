// What the kernels ask of the hardware, in one place: `forward.cuh` has no other inline assembly.
// A test replaces this file by one for the CPU, where a thread is a coroutine.

using bf16 = __nv_bfloat16;

__device__ inline float as_float(unsigned bits) { return __uint_as_float(bits); }
__device__ inline float low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ inline int lowest_bit(unsigned bits) { return __ffs(bits) - 1; }

// Two floats rounded to bfloat16, the first in the low half.
__device__ inline unsigned pack(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Halves of two words: (low, low) and (high, high).
__device__ inline unsigned lows(unsigned a, unsigned b) { return __byte_perm(a, b, 0x5410); }
__device__ inline unsigned highs(unsigned a, unsigned b) { return __byte_perm(a, b, 0x7632); }

// Eight weights, which nobody writes while the kernel runs.
__device__ inline uint4 load_weights(const bf16* from) {
  return __ldg(reinterpret_cast<const uint4*>(from));
}

// A cosine and a sine, likewise.
__device__ inline float2 load_turn(const float* from) {
  return __ldg(reinterpret_cast<const float2*>(from));
}

// Eight numbers that another block may have written before `all_blocks`, which empties the first
// cache; there they stay for whoever reads them again.
__device__ inline uint4 load_shared8(const bf16* from) {
  return __ldca(reinterpret_cast<const uint4*>(from));
}

__device__ inline unsigned load_pair(const bf16* from) {
  return __ldcg(reinterpret_cast<const unsigned*>(from));
}

__device__ inline unsigned load_one(const bf16* from) {
  return __ldcg(reinterpret_cast<const unsigned short*>(from));
}

__device__ inline float2 load_two(const float2* from) { return __ldcg(from); }

__device__ inline void clear_bit(unsigned* word, int bit) { atomicAnd(word, ~(1u << bit)); }

__device__ inline void store_pair(bf16* to, unsigned pair) {
  *reinterpret_cast<unsigned*>(to) = pair;
}

__device__ inline void store_eight(bf16* to, uint4 eight) {
  *reinterpret_cast<uint4*>(to) = eight;
}

__device__ inline void store_one(bf16* to, float value) {
  *reinterpret_cast<unsigned short*>(to) = static_cast<unsigned short>(pack(value, 0.0f));
}

__device__ inline void prefetch(const void* line) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
}

__device__ inline float exchange(float value, int lane_bit) {
  return __shfl_xor_sync(0xffffffffu, value, lane_bit);
}

// Copies eight numbers to shared memory, while other things are done. (PTX ISA, "cp.async".)
__device__ inline void copy_ahead(uint4* to, const bf16* from) {
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until of the thread's copies no more than the last LEFT ends are on their way.
template <int LEFT>
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// The same words, put into neighbouring registers once: of a move the compiler would make one for
// every product. It can't know the selector.
__device__ inline unsigned same_selector(int count) { return count == 0x7fffffff ? 0 : 0x3210; }
__device__ inline uint4 same(uint4 words, unsigned selector) {
  return {__byte_perm(words.x, 0, selector), __byte_perm(words.y, 0, selector),
          __byte_perm(words.z, 0, selector), __byte_perm(words.w, 0, selector)};
}

// c += a b: [16, 16] by [16, 8], in float32. (PTX ISA, "mma.m16n8k16 with .bf16".) `a` should be
// one load: the hardware wants neighbouring registers, and moves take longer than the product.
__device__ inline void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Waits until all blocks are here; all must run at once, one on a multiprocessor at most. What any
// of them has written is then seen by all. (PTX ISA, "Release and acquire patterns".)
__device__ inline void all_blocks(unsigned* arrived, unsigned& turn) {
  __syncthreads();
  if (threadIdx.x == 0) {
    turn += gridDim.x;
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
    unsigned seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
    } while (seen < turn);
  }
  __syncthreads();
}

// Leaves the counters as they were found: the last block to leave does it.
__device__ inline void leave(unsigned* arrived) {
  __syncthreads();
  if (threadIdx.x == 0 && atomicAdd(arrived + 1, 1u) == gridDim.x - 1) {
    arrived[0] = 0;
    arrived[1] = 0;
    __threadfence();
  }
}
