// Shape rules, costs and workspace bounds.
#include <gtest/gtest.h>

#include "ops/random_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, P = Axis::parts, N = Axis::heads,
               H = Axis::head, F = Axis::hidden, V = Axis::vocab, S = Axis::scalar;

ValueType f32(const Shape& shape) { return {DType::f32, shape}; }
ValueType i32(const Shape& shape) { return {DType::i32, shape}; }
ValueType f64(const Shape& shape) { return {DType::f64, shape}; }

// What the shape rule says, on one line; "fits" when it has no objection.
std::string verdict(const Op& op, const std::vector<ValueType>& types) {
  try {
    check(op, types);
  } catch (const Error& e) {
    const Report& r = e.report();
    return fmt::format("{}; expected {}; found {}", r.what, r.expected, r.found);
  }
  return "fits";
}

// Every operand of every case, made one longer or of another type, is refused.
TEST(ShapeRules, RefuseEveryOperandOfAnotherShapeOrType) {
  int refused = 0;
  for (const OpCase& one : op_cases()) {
    SCOPED_TRACE(one.label);
    for_each_operand(one.op, [&](Id id, Access) {
      SCOPED_TRACE(fmt::format("value {}", id));
      const auto index = static_cast<std::size_t>(id);
      auto types = types_of(one.frame);
      types[index].dtype = types[index].dtype == DType::u8 ? DType::f32 : DType::u8;
      EXPECT_NE(verdict(one.op, types), "fits") << "as bytes, or bytes as numbers";
      types = types_of(one.frame);
      const Shape& shape = types[index].shape;
      types[index].shape = shape.with(shape[shape.rank() - 1].axis, shape.last() + 1);
      // A norm may be taken of anything, into a table of any length; any gradient may be rounded.
      const bool any_length =
          std::holds_alternative<SquaredNorm>(one.op) ||
          (std::holds_alternative<RoundGradient>(one.op) &&
           id == std::get<RoundGradient>(one.op).g) ||
          (std::holds_alternative<FinishStep>(one.op) && id == std::get<FinishStep>(one.op).norms);
      if (any_length) return;
      EXPECT_NE(verdict(one.op, types), "fits") << "one longer";
      ++refused;
    });
  }
  EXPECT_GT(refused, 500);
}

TEST(ShapeRules, SayOperandExpectedAndFound) {
  const ValueType ids = i32({{B, 2}, {T, 3}});
  const ValueType x = f32({{B, 2}, {T, 3}, {D, 4}});
  const ValueType y = f32({{B, 2}, {T, 3}, {F, 5}});
  const Linear linear{.x = 0, .w = 1, .bias = 2, .y = 3};
  EXPECT_EQ(verdict(linear, {x, f32({{D, 4}, {F, 5}}), f32({{F, 5}}), y}), "fits");
  EXPECT_EQ(verdict(linear, {x, f32({{F, 5}, {D, 4}}), f32({{F, 5}}), y}),
            "linear: shapes do not fit; expected w f32 of 4 rows x 5 columns ([in out]) for x [B2 "
            "T3 D4] and y [B2 T3 F5]; found f32[F5 D4]");
  EXPECT_EQ(verdict(linear, {x, f32({{D, 4}, {F, 5}}), f32({{F, 4}}), y}),
            "linear: shapes do not fit; expected bias f32 of 5 elements; found f32[F4]");
  EXPECT_EQ(verdict(linear, {x, f32({{D, 4}, {F, 5}}), f32({{F, 5}}), x}),
            "linear: shapes do not fit; expected w f32 of 4 rows x 4 columns ([in out]) for x [B2 "
            "T3 D4] and y [B2 T3 D4]; found f32[D4 F5]");
  EXPECT_EQ(verdict(linear, {x, f32({{D, 4}, {F, 5}}), f32({{F, 5}}), f32({{T, 6}, {F, 5}})}),
            "linear: shapes do not fit; expected y f32 or bf16[B T …]; found f32[T6 F5]");
  EXPECT_EQ(verdict(linear, {x, f32({{D, 4}, {F, 5}}), f32({{F, 5}})}),
            "linear: shapes do not fit; expected operands among 3 values; found value 3");

  EXPECT_EQ(verdict(Embed{.ids = 0, .table = 1, .y = 2},
                    {f32({{B, 2}, {T, 3}}), f32({{V, 9}, {D, 4}}), x}),
            "embed: shapes do not fit; expected ids i32[B2 T3]; found f32[B2 T3]");
  EXPECT_EQ(verdict(Embed{.ids = no_value, .table = 1, .y = 2}, {ids, f32({{V, 9}, {D, 4}}), x}),
            "embed: shapes do not fit; expected an operand ids; found none");
  EXPECT_EQ(verdict(Add{.a = 0, .b = 1, .y = 0}, {x, y}),
            "add: shapes do not fit; expected b f32[B2 T3 D4]; found f32[B2 T3 F5]");
  EXPECT_EQ(verdict(Rotary{.x = 0, .positions = 1, .y = 0, .dims = 6},
                    {f32({{B, 2}, {T, 3}, {N, 2}, {H, 4}}), ids}),
            "rotary: shapes do not fit; expected an even number of turned numbers, at most 4; "
            "found 6");
}

TEST(ShapeRules, Attention) {
  const auto heads = [](std::int64_t n) { return f32({{B, 2}, {T, 3}, {N, n}, {H, 4}}); };
  const ValueType fused = f32({{B, 2}, {T, 3}, {P, 3}, {N, 6}, {H, 4}});
  const ValueType starts = i32({{B, 2}, {T, 3}});
  Attention op{.q = {0}, .k = {1}, .v = {2}, .starts = 3, .y = 4};
  EXPECT_EQ(verdict(op, {heads(6), heads(2), heads(2), starts, heads(6)}), "fits");
  EXPECT_EQ(verdict(op, {heads(6), heads(4), heads(4), starts, heads(6)}),
            "attention: shapes do not fit; expected k like q [B2 T3 N6 H4], its heads a divisor of "
            "6; found [B2 T3 N4 H4]");
  EXPECT_EQ(verdict(op, {heads(6), heads(2), heads(3), starts, heads(6)}),
            "attention: shapes do not fit; expected v like k [B2 T3 N2 H4]; found [B2 T3 N3 H4]");
  op.k = {1, 3, 3};
  EXPECT_EQ(verdict(op, {heads(6), fused, heads(6), starts, heads(6)}),
            "attention: shapes do not fit; expected k f32 or bf16[B T P3 N H], part 3; found "
            "f32[B2 T3 P3 "
            "N6 H4]");
  op.k = {1, 1, 3};
  EXPECT_EQ(verdict(op, {heads(6), fused, heads(6), starts, heads(6)}), "fits");
  op.starts = no_value;
  EXPECT_EQ(verdict(op, {heads(6), fused, heads(6), starts, heads(6)}),
            "attention: shapes do not fit; expected an operand starts; found none");

  AttentionGrad back{.q = {0, 0, 3},
                     .k = {0, 1, 3},
                     .v = {0, 2, 3},
                     .starts = 1,
                     .y = 2,
                     .lse = 3,
                     .dy = 2,
                     .dq = {4, 0, 3},
                     .dk = {4, 1, 3},
                     .dv = {4, 2, 3}};
  const std::vector<ValueType> types{fused, starts, heads(6), f32({{B, 2}, {N, 6}, {T, 3}}), fused};
  EXPECT_EQ(verdict(back, types), "fits");
  back.dv.part = 1;
  EXPECT_EQ(verdict(back, types),
            "attention_grad: shapes do not fit; expected all 3 parts of a gradient, each once; "
            "found 3 slices of it");
}

TEST(ShapeRules, HeadLossMakesWeightGradientsOnlyBesideDx) {
  HeadLoss op{.x = 0, .w = 1, .targets = 2, .weights = 3, .stats = 4, .vocab = 7};
  const std::vector<ValueType> types{f32({{B, 1}, {T, 3}, {D, 4}}), f32({{V, 8}, {D, 4}}),
                                     i32({{B, 1}, {T, 3}}), f32({{B, 1}, {T, 3}}), f64({{S, 2}})};
  EXPECT_EQ(verdict(op, types), "fits");
  op.dw = 1;
  EXPECT_EQ(verdict(op, types),
            "head_loss: shapes do not fit; expected dw and dbias together with dx, or none of them "
            "(a frozen one is absent); found dx false, dw true, dbias false");
  op.dx = 0;
  EXPECT_EQ(verdict(op, types), "fits");
  op.dw = no_value;  // frozen
  EXPECT_EQ(verdict(op, types), "fits");
  op.vocab = 9;
  EXPECT_EQ(verdict(op, types),
            "head_loss: shapes do not fit; expected a vocabulary of 1 to 8 tokens (rows of w); "
            "found 9");
}

TEST(ShapeRules, AdamWPartsDivideTheWeight) {
  AdamW op{.w = 0, .g = 0, .m = 0, .v = 0, .pending = 1, .part = {}};
  const std::vector<ValueType> types{f32({{D, 5}, {P, 3}, {F, 4}}), f64({{S, Pending::slots}})};
  EXPECT_EQ(verdict(op, types), "fits");
  op.parts = 3;
  op.parts_inner = 4;
  EXPECT_EQ(verdict(op, types), "fits");
  op.parts_inner = 7;
  EXPECT_EQ(verdict(op, types),
            "adamw: shapes do not fit; expected 3 parts of equal size in w [D5 P3 F4]; found 7 "
            "numbers per part");
}

TEST(CostRules, ProductsCountMultiplyAndAdd) {
  const std::vector<ValueType> types{f32({{B, 2}, {T, 3}, {D, 4}}), f32({{D, 4}, {F, 5}}),
                                     f32({{F, 5}}), f32({{B, 2}, {T, 3}, {F, 5}}),
                                     f32({{Axis::bytes, packed_count(4, 5)}})};
  Linear op{.x = 0, .w = 1, .bias = 2, .y = 3};
  const Cost plain = cost(op, types);
  EXPECT_EQ(plain.flops, 2 * 6 * 4 * 5);
  EXPECT_EQ(plain.read_bytes, 4 * (24 + 20 + 5));
  EXPECT_EQ(plain.write_bytes, 4 * 30);
  op.packed = 4;
  EXPECT_EQ(cost(op, types).read_bytes, 4 * (24 + 64 + 5)) << "packed tiles instead of w";
  const LinearGradWeight back{.x = 0, .dy = 3, .dw = 1, .dbias = 2};
  EXPECT_EQ(cost(back, types).flops, plain.flops);
  EXPECT_EQ(cost(back, types).write_bytes, 4 * (20 + 5));
  EXPECT_EQ(workspace_bytes(op, types, {}), 0);
  EXPECT_EQ(workspace_bytes(back, types, {}), 0);
}

TEST(CostRules, CausalAttentionCountsVisiblePairs) {
  const std::vector<ValueType> types{f32({{B, 2}, {T, 7}, {P, 3}, {N, 5}, {H, 4}}),
                                     i32({{B, 2}, {T, 7}}), f32({{B, 2}, {T, 7}, {N, 5}, {H, 4}}),
                                     f32({{B, 2}, {N, 5}, {T, 7}})};
  const Attention op{.q = {0, 0, 3}, .k = {0, 1, 3}, .v = {0, 2, 3}, .starts = 1, .y = 2, .lse = 3};
  const Cost forward = cost(op, types);
  EXPECT_EQ(forward.flops, 2 * 2 * 2 * 5 * 4 * 28);
  EXPECT_EQ(forward.read_bytes, 4 * (840 + 14)) << "the fused value once";
  const AttentionGrad back{.q = op.q,
                           .k = op.k,
                           .v = op.v,
                           .starts = 1,
                           .y = 2,
                           .lse = 3,
                           .dy = 2,
                           .dq = op.q,
                           .dk = op.k,
                           .dv = op.v};
  EXPECT_EQ(cost(back, types).flops, 2.5 * forward.flops);
  EXPECT_EQ(workspace_bytes(back, types, {}), 0);
}

TEST(CostRules, HeadLossWorksInChunks) {
  const std::vector<ValueType> types{f32({{B, 2}, {T, 300}, {D, 80}}), f32({{V, 1024}, {D, 80}}),
                                     i32({{B, 2}, {T, 300}}), f32({{B, 2}, {T, 300}}),
                                     f64({{S, 2}})};
  HeadLoss op{.x = 0, .w = 1, .targets = 2, .weights = 3, .stats = 4, .vocab = 1003, .chunk = 64};
  const double forward = cost(op, types).flops;
  EXPECT_EQ(workspace_bytes(op, types, {}), 64 * (1024 * 4 + 8));
  op.dx = 0;
  op.dw = 1;
  EXPECT_EQ(cost(op, types).flops - forward, 2 * 2.0 * 600 * 80 * 1024);
  op.chunk = 4096;
  EXPECT_EQ(workspace_bytes(op, types, {}), (600 * (1024 * 4 + 8) + 255) / 256 * 256);
}

// Only rows that are looked up move, whatever the table's size.
TEST(CostRules, EmbedDoesNotReadTheTable) {
  const std::vector<ValueType> types{i32({{B, 1}, {T, 4}}), f32({{V, 50304}, {D, 8}}),
                                     f32({{B, 1}, {T, 4}, {D, 8}})};
  EXPECT_EQ(cost(Embed{.ids = 0, .table = 1, .y = 2}, types).read_bytes, 4 * (4 + 32));
  EXPECT_EQ(cost(EmbedGrad{.ids = 0, .dy = 2, .dtable = 1}, types).write_bytes, 4 * 32);
}

TEST(CostRules, PartialSumsOfReductions) {
  const std::vector<ValueType> types{f32({{B, 2}, {T, 77}, {D, 80}}), f32({{B, 2}, {T, 77}}),
                                     f32({{D, 80}}), f64({{S, 4}}), f32({{D, 140001}})};
  const LayerNormGradWeight norm{
      .x = 0, .mean = 1, .rstd = 1, .dy = 0, .dgain = 2, .dbias = no_value};
  EXPECT_EQ(workspace_bytes(norm, types, {}), 2048) << "3 chunks x 2 x 80 floats, rounded up";
  EXPECT_EQ(workspace_bytes(SquaredNorm{.x = 4, .norms = 3}, types, {}), 256);
  EXPECT_EQ(cost(SquaredNorm{.x = 4, .norms = 3}, types).flops, 2 * 140001);
}

}  // namespace
}  // namespace sluice
