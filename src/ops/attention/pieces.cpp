#include "ops/attention/pieces.h"

#include <algorithm>

#include "ops/rules.h"

namespace sluice {
namespace {

constexpr std::int64_t tile = 128;       // of queries and keys in the library's kernels
constexpr std::int64_t slack = 1 << 16;  // counters and alignment: 256 bytes were seen

std::int64_t pieces_for(std::int64_t whole, std::int64_t most) { return (whole + most - 1) / most; }

bool fits(const AttentionExtent& e) {
  return e.kernels != AttentionKernels::own && e.type == DType::bf16 && !e.cached && !e.dropped &&
         e.time > 1 && e.heads == e.key_heads && e.head % 8 == 0 && e.head <= 256;
}

}  // namespace

std::int64_t library_workspace(const AttentionExtent& e, std::int64_t pairs) {
  if (!e.gradient) return slack;
  const std::int64_t time = rules::round_up(e.time, tile);
  const std::int64_t sums = 4 * time;  // of dy y, one a query
  const std::int64_t more = e.kernels == AttentionKernels::unordered
                                ? 4 * time * rules::round_up(e.head, 16)
                                : 2 * time * time;
  return pairs * (sums + more) + slack;
}

AttentionPieces pieces_of(const AttentionExtent& e) {
  if (!fits(e)) return {};
  const std::int64_t per_head = library_workspace(e, 1) - slack;
  const std::int64_t pairs =
      per_head == 0 ? e.batch * e.heads : (most_attention_workspace - slack) / per_head;
  if (pairs == 0) return {};
  AttentionPieces out{.sequences = 1, .heads = e.heads};
  // Pieces as equal as can be, so that the last one is no stub.
  if (pairs >= e.heads)
    out.sequences = pieces_for(e.batch, pieces_for(e.batch, std::min(e.batch, pairs / e.heads)));
  else
    out.heads = pieces_for(e.heads, pieces_for(e.heads, pairs));
  out.workspace = library_workspace(e, out.sequences * out.heads);
  return out;
}

}  // namespace sluice
