// What the launchers call: each function puts one or two kernels on a stream and returns at once.
//
// Plain pointers and sizes, so that device code sees nothing of the rest of the program. Numbers of
// a Type are computed with in float32 and rounded once, when they are stored. Sums have one order:
// no atomics on floats. Every operand was checked; element counts may pass 2³¹. Errors of a launch
// are left for cudaGetLastError().
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sluice::gpu {

enum class Type : std::uint8_t { f32, bf16, f64 };  // f64: of cast() alone

// --- elementwise.cu -------------------------------------------------------------------------

// y = a + scale * b. Results of all of these may lie where operands do.
void add(cudaStream_t s, Type type, const void* a, const void* b, float scale, void* y,
         std::int64_t n);
void scale(cudaStream_t s, Type type, const void* x, float factor, void* y, std::int64_t n);
void cast(cudaStream_t s, Type from, const void* x, Type to, void* y, std::int64_t n);
void add_into(cudaStream_t s, const float* x, float* y, std::int64_t n);
void gelu(cudaStream_t s, Type type, bool exact, const void* x, void* y, std::int64_t n);
void gelu_grad(cudaStream_t s, Type type, bool exact, const void* x, const void* dy, void* dx,
               std::int64_t n);

// Where a mask's bits come from (ops/dropout/dropout.h); control lies on the device.
struct Mask {
  const double* control = nullptr;
  std::uint64_t seed = 0, stream = 0;
  int layer = 0;
  std::uint32_t threshold = 0;  // 0: nothing is dropped
  float scale = 1;
};
// `row`: numbers of one sequence, by which control's first row counts.
void dropout(cudaStream_t s, Type type, const Mask& mask, std::int64_t row, const void* x, void* y,
             std::int64_t n);

// After a product that was left in float32, `columns` to a row; bias may be null.
//   round_bias: y = x + bias.   bias_gelu: h = x + bias, y = gelu of h as it was stored.
//   gelu_slope: dh = gelu'(h) times x rounded to h's type.
void round_bias(cudaStream_t s, const float* x, const float* bias, Type type, void* y,
                std::int64_t rows, std::int64_t columns);
void bias_gelu(cudaStream_t s, const float* x, const float* bias, Type type, bool exact, void* h,
               void* y, std::int64_t rows, std::int64_t columns);
void gelu_slope(cudaStream_t s, const float* x, Type type, bool exact, const void* h, void* dh,
                std::int64_t n);

// --- embed.cu -------------------------------------------------------------------------------

// The first index outside [0, rows) is left in *bad as token + 1 (host memory that the device
// sees), and its row is read as row 0.
void embed(cudaStream_t s, const std::int32_t* ids, std::int64_t tokens, std::int64_t rows,
           const void* table, void* y, std::int64_t row_bytes, int* bad);
// `scratch`: 2 * (rows + tokens + 1) ints. `clear`: the table begins at zero.
void embed_grad(cudaStream_t s, Type type, const std::int32_t* ids, std::int64_t tokens,
                std::int64_t rows, const void* dy, float* dtable, std::int64_t width, bool clear,
                int* scratch, int* bad);

// --- norm.cu --------------------------------------------------------------------------------

// y = norm of x; with b, of sum = x + scale * b, which is stored first. bias may be null.
void layer_norm(cudaStream_t s, Type type, const void* x, const void* b, float scale, void* sum,
                const float* gain, const float* bias, float eps, void* y, float* mean, float* rstd,
                std::int64_t rows, std::int64_t width);
// `plus`, which may be null, is added to what dx would be.
void layer_norm_grad_input(cudaStream_t s, Type type, const void* x, const float* gain,
                           const float* mean, const float* rstd, const void* dy, const void* plus,
                           void* dx, std::int64_t rows, std::int64_t width);
// parts: 2 * width floats for each 64 rows. dgain or dbias may be null.
void layer_norm_grad_weight(cudaStream_t s, Type type, const void* x, const float* mean,
                            const float* rstd, const void* dy, float* dgain, float* dbias,
                            bool accumulate, float* parts, std::int64_t rows, std::int64_t width);
// sums (+)= the sums of columns; `line` numbers from row to row. parts: column_sum_parts(…) floats.
std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns);
void column_sum(cudaStream_t s, Type type, const void* x, std::int64_t rows, std::int64_t columns,
                std::int64_t line, bool accumulate, float* sums, float* parts);

// --- rotary.cu ------------------------------------------------------------------------------

void rotary(cudaStream_t s, Type type, const void* x, const std::int32_t* positions, void* y,
            std::int64_t tokens, std::int64_t heads, std::int64_t head, int dims, float base,
            bool inverse);
// Tiles of 16 columns as ops/derived/derived.h says.
void pack(cudaStream_t s, Type type, const void* w, void* packed, std::int64_t k, std::int64_t n,
          bool transposed);

// --- gemm.cu --------------------------------------------------------------------------------

// c = alpha * op(a) op(b) + beta * c, all row-major: a [m k] (or [k m]), b [k n] (or [n k]).
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  Type type = Type::f32;  // of a and b
  const void* a = nullptr;
  std::int64_t lda = 0;
  bool a_transposed = false;
  const void* b = nullptr;
  std::int64_t ldb = 0;
  bool b_transposed = false;
  Type c_type = Type::f32;
  void* c = nullptr;
  std::int64_t ldc = 0;
  float alpha = 1, beta = 0;
};
// Our own, for shapes that the library refuses.
void gemm(cudaStream_t s, const Gemm& g);

// --- head_loss.cu ---------------------------------------------------------------------------

struct HeadChunk {
  Type type = Type::f32;    // of the dlogits
  float* logits = nullptr;  // [tokens line]; dlogits take the front of each row
  std::int64_t tokens = 0, line = 0, vocab = 0, rows = 0;
  const std::int32_t* targets = nullptr;
  const float* weights = nullptr;
  const float* bias = nullptr;  // added to the logits first; may be null
  double* nll = nullptr;        // one per token
  bool gradient = false;
};
void head_softmax(cudaStream_t s, const HeadChunk& chunk, int* bad);
// stats = (clear ? 0 : stats) + { Σ weight nll, Σ weight }
void head_losses(cudaStream_t s, const HeadChunk& chunk, double* stats, bool clear);

// --- attention.cu ---------------------------------------------------------------------------

// One part of a value [B T parts N H]; data points to the part's first number.
struct Heads {
  void* data = nullptr;
  std::int64_t token = 0, batch = 0;  // numbers from token to token, from sequence to sequence
};
struct AttentionShape {
  Type type = Type::f32;
  std::int64_t batch = 0, time = 0, heads = 0, key_heads = 0, head = 0;
  float scale = 1;
  const std::int32_t* starts = nullptr;   // training
  const std::int32_t* lengths = nullptr;  // cached
  Mask mask = {};
};
void attention(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
               float* lse);
// The new keys (or values) take their places in a cache of `capacity` tokens.
void append(cudaStream_t s, const AttentionShape& a, Heads from, Heads cache, std::int64_t capacity,
            int* bad);
struct AttentionGradients {
  Heads dq, dk, dv;
  float* delta = nullptr;  // scratch, [B N T]
};
void attention_grad(cudaStream_t s, const AttentionShape& a, Heads q, Heads k, Heads v, Heads y,
                    const float* lse, Heads dy, const AttentionGradients& out);

}  // namespace sluice::gpu
