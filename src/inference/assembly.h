// Programs for using a model: evaluation over whole windows, and cached prefill and decoding.
#pragma once

#include <vector>

#include "graph/parts.h"
#include "models/family.h"
#include "program/build.h"

namespace sluice {

inline constexpr std::int64_t prefill_tokens = 64;  // prompt tokens per run of the prefill program

// Slots of a decoding cache: the context, and room for the padding of the last prefill.
inline std::int64_t cache_capacity(const ModelConfig& model) {
  return model.context + prefill_tokens;
}

// "prefill" and "decode" for `rows` sequences at a time; `packed`: their products read packed
// weights.
std::vector<CachedModel> cached_models(const ModelConfig& model, const Parametrization& scales,
                                       std::int64_t rows, const Numerics& numerics = {},
                                       bool packed = true, Blobs blobs = Blobs::layer);

struct InferenceOptions {
  BatchShape evaluation;  // windows per micro-batch, tokens per window
  std::int64_t head_chunk = 4096;
  std::int64_t rows = 1;  // sequences decoded together; 0: no decoding
  DType precision = DType::f32;
  bool packed = true;  // products read packed weights
  Blobs blobs = Blobs::layer;
  BuildOptions build;
};
// derive, eval, prefill, decode; weights alone.
ProgramSpec inference_spec(const ModelConfig& model, const Parametrization& scales,
                           const InferenceOptions& options);
inline ProgramSet assemble_inference(const ModelConfig& model, const Parametrization& scales,
                                     const InferenceOptions& options) {
  return build_programs(inference_spec(model, scales, options));
}

}  // namespace sluice
