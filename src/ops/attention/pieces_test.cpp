#include "ops/attention/pieces.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

constexpr AttentionKernels own = AttentionKernels::own, library = AttentionKernels::library,
                           unordered = AttentionKernels::unordered;

AttentionExtent extent(std::int64_t batch, std::int64_t heads, std::int64_t time, std::int64_t head,
                       bool gradient = true) {
  return {.kernels = library,
          .type = DType::bf16,
          .gradient = gradient,
          .batch = batch,
          .time = time,
          .heads = heads,
          .key_heads = heads,
          .head = head};
}

TEST(AttentionPieces, OnlyWhatTheLibraryTakes) {
  EXPECT_TRUE(pieces_of(extent(2, 3, 64, 64)));
  const auto changed = [](auto change) {
    AttentionExtent e = extent(2, 3, 64, 64);
    change(e);
    return static_cast<bool>(pieces_of(e));
  };
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.kernels = own; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.type = DType::f32; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.cached = true; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.dropped = true; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.time = 1; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.key_heads = 1; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.head = 12; }));
  EXPECT_FALSE(changed([](AttentionExtent& e) { e.head = 264; }));
  EXPECT_TRUE(changed([](AttentionExtent& e) { e.head = 256; }));
}

// A batch is cut before heads are, into pieces as equal as can be, none above the limit.
TEST(AttentionPieces, BatchThenHeadsWithinTheLimit) {
  const auto cut = [](const AttentionExtent& e) {
    const AttentionPieces pieces = pieces_of(e);
    EXPECT_LE(pieces.workspace, most_attention_workspace);
    EXPECT_EQ(pieces.workspace, library_workspace(e, pieces.sequences * pieces.heads));
    return std::pair(pieces.sequences, pieces.heads);
  };
  using Pair = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(cut(extent(16, 12, 1024, 64)), Pair(16, 12));
  EXPECT_EQ(cut(extent(64, 12, 1024, 64)), Pair(32, 12));  // 24 MiB a sequence: 42 would fit
  EXPECT_EQ(cut(extent(16, 16, 2048, 128)), Pair(6, 16));  // 128 MiB a sequence: 7 would fit
  EXPECT_EQ(cut(extent(4, 32, 8192, 128)), Pair(1, 7));    // 128 MiB a head: 7 fit, 5 times
  EXPECT_EQ(cut(extent(4, 32, 16384, 128)), Pair(1, 1));
  EXPECT_FALSE(pieces_of(extent(4, 32, 32768, 128)));  // one head is beyond it
  EXPECT_EQ(cut(extent(64, 12, 1024, 64, false)), Pair(64, 12));
  EXPECT_EQ(cut(extent(4, 32, 32768, 128, false)), Pair(4, 32));
  AttentionExtent any = extent(4, 32, 32768, 128);
  any.kernels = unordered;
  EXPECT_EQ(cut(any), Pair(1, 32));
}

TEST(AttentionPieces, TheFormulaRoundsUpToTiles) {
  EXPECT_EQ(library_workspace(extent(1, 1, 128, 64), 1), 2 * 128 * 128 + 4 * 128 + (1 << 16));
  EXPECT_EQ(library_workspace(extent(1, 1, 100, 64), 3), 3 * (2 * 128 * 128 + 4 * 128) + (1 << 16));
  EXPECT_EQ(library_workspace(extent(1, 1, 100, 64, false), 3), 1 << 16);
}

}  // namespace
}  // namespace sluice
