#include "inference/assembly.h"

#include "graph/derive.h"
#include "graph/forms.h"
#include "graph/parts.h"

namespace sluice {

std::vector<CachedModel> cached_models(const ModelConfig& config, const Parametrization& scales,
                                       std::int64_t rows, const Numerics& numerics, bool packed,
                                       Blobs blobs) {
  Numerics without_dropout = numerics;
  without_dropout.dropout = false;
  std::vector<CachedModel> out;
  for (const auto& [name, time] :
       {std::pair{"prefill", prefill_tokens}, std::pair{"decode", std::int64_t{1}}}) {
    auto model = std::make_shared<ModelGraphs>(
        build_forward(config, {rows, std::min(time, config.context)}, scales, 1, without_dropout));
    make_cached(*model, cache_capacity(config));
    if (blobs == Blobs::parts) cut_blocks(*model);
    if (packed) derive_packed_weights(*model);
    out.push_back({name, std::move(model)});
  }
  return out;
}

ProgramSpec inference_spec(const ModelConfig& config, const Parametrization& scales,
                           const InferenceOptions& options) {
  const Numerics numerics{.precision = options.precision};
  auto model = std::make_shared<ModelGraphs>(
      build_forward(config, options.evaluation, scales, options.head_chunk, numerics));
  if (options.blobs == Blobs::parts) cut_blocks(*model);
  if (options.packed) derive_packed_weights(*model);
  ProgramSpec spec{std::move(model), false, {}, options.build};
  if (options.rows > 0)
    spec.cached =
        cached_models(config, scales, options.rows, numerics, options.packed, options.blobs);
  return spec;
}

}  // namespace sluice
