// Kernels of the end of a step; the formats are those of ops/optimizer/formats.h, bit for bit. See
// kernels.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sluice::gpu {

// *norm = Σ x²; parts: one double per chunk.
constexpr std::int64_t squared_norm_chunk = 4096;
void squared_norm(cudaStream_t s, const float* x, std::int64_t n, double* parts, double* norm);

// Slots of the tables that ops/optimizer/optimizer.h describes, for device code.
struct FinishTables {
  const double *stats, *norms, *control;
  double *pending, *results, *spikes;  // spikes may be null
  std::int64_t tensors;
  float clip, deviations;
};
void finish_step(cudaStream_t s, const FinishTables& t);

void round_bf16(cudaStream_t s, float* g, std::int64_t n);
// Rows of `row` numbers in `blocks` blocks of 128; draws as Draws of formats.h.
struct Drawn {
  std::int64_t rows, row, blocks;
  std::uint64_t seed, stream;
  int layer;
};
// codes and scales may be null: then only g is rounded.
void round_int8(cudaStream_t s, float* g, const Drawn& d, const double* control,
                std::uint8_t* codes, float* scales);
void restore_int8(cudaStream_t s, const std::uint8_t* codes, const float* scales, float* g,
                  std::int64_t rows, std::int64_t row, std::int64_t blocks);

struct AdamWParts {
  float lr[3] = {}, decay[3] = {}, eps[3] = {};
  int parts = 1;
  std::int64_t inner = 0;
  float beta1 = 0, beta2 = 0;
};
struct AdamWState {
  void* w = nullptr;            // float, or bf16 bits with `low` or with scales
  std::int16_t* low = nullptr;  // exact
  const float* g = nullptr;
  void *m = nullptr, *v = nullptr;               // float, or codes with scales
  float *m_scale = nullptr, *v_scale = nullptr;  // compact
  const double* pending = nullptr;
};
void adamw(cudaStream_t s, const AdamWState& t, const AdamWParts& p, std::int64_t n);
void adamw_compact(cudaStream_t s, const AdamWState& t, const AdamWParts& p, const Drawn& d);
// w float, bf16 bits (coded), or with `low` a master.
void ema(cudaStream_t s, const void* w, bool coded, const std::int16_t* low, float* average,
         const double* pending, float decay, std::int64_t n);

}  // namespace sluice::gpu
