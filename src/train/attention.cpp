#include "train/attention.h"

#include "ops/attention/pieces.h"

namespace sluice {
namespace {

AttentionExtent extent_of(const Config& config, const Plan& plan, bool gradient) {
  return {.kernels = plan.numerics.attention,
          .type = plan.numerics.precision,
          .gradient = gradient,
          .dropped = config.model.dropout > 0,
          .batch = plan.micro_batch,
          .time = config.batch.sequence,
          .heads = config.model.heads,
          .key_heads = config.model.heads,
          .head = config.model.width / config.model.heads};
}

std::string pieces_text(const AttentionExtent& e, const AttentionPieces& pieces) {
  if (pieces.heads < e.heads)
    return fmt::format("pieces of {} heads of one sequence", pieces.heads);
  const std::int64_t count = (e.batch + pieces.sequences - 1) / pieces.sequences;
  if (count == 1) return "in one piece";
  return fmt::format("{} pieces of {} sequences", count, pieces.sequences);
}

}  // namespace

std::string attention_text(const Config& config, const Plan& plan) {
  const AttentionExtent forward = extent_of(config, plan, false);
  const AttentionExtent gradient = extent_of(config, plan, true);
  const char* const own = "our own kernels";
  std::string out = pieces_of(forward) ? "cuDNN" : own;
  const AttentionPieces pieces = pieces_of(gradient);
  if (!pieces) return out + fmt::format("; gradient: {}", own);
  const bool any = plan.numerics.attention == AttentionKernels::unordered;
  return out +
         fmt::format("; gradient: cuDNN, {}, {}",
                     any ? "sums in any order: other bits each time" : "every sum in one order",
                     pieces_text(gradient, pieces));
}

}  // namespace sluice
