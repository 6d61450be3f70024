#include "ops/optimizer/optimizer.h"

#include "ops/optimizer/formats.h"
#include "ops/rules.h"

namespace sluice::rules {

namespace {

constexpr std::int64_t norm_chunk = 65536;  // elements per partial sum of a squared norm

double count_of(Types types, Id id) { return static_cast<double>(shape_of(types, id).count()); }

}  // namespace

void check(const SquaredNorm& op, Types types) {
  const Operands operands(op.name, types);
  operands.expect("x", op.x, operands.at("x", op.x).shape);
  const std::int64_t slots = operands.at("norms", op.norms).shape.count();
  operands.expect_count("norms", op.norms, slots, DType::f64);
  operands.expect_that(op.index >= 0 && op.index < slots,
                       fmt::format("an index below {} (norms)", slots),
                       fmt::format("{}", op.index));
}

void check(const FinishStep& op, Types types) {
  const Operands operands(op.name, types);
  operands.expect_count("stats", op.stats, 2, DType::f64);
  operands.expect_count("norms", op.norms, operands.at("norms", op.norms).shape.count(),
                        DType::f64);
  operands.expect_count("control", op.control, Control::slots, DType::f64);
  operands.expect_count("pending", op.pending, Pending::slots, DType::f64);
  operands.expect_count("results", op.results, 2 * Results::slots, DType::f64);
  operands.expect_count_if_present("spikes", op.spikes, Spikes::slots, DType::f64);
}

void check(const RoundGradient& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& g = operands.at("g", op.g).shape;
  operands.expect("g", op.g, g);
  operands.expect_that(op.format != GradientFormat::int8 || g.rank() >= 2,
                       "a matrix for blocks of 8 bits", "g " + g.text());
  operands.expect_count("control", op.control, Control::slots, DType::f64);
  const bool stored = op.codes != no_value;
  operands.expect_that(stored == (op.scales != no_value), "codes and scales together",
                       stored ? "codes alone" : "scales alone");
  operands.expect_that(!stored || op.format == GradientFormat::int8, "codes of int8 alone",
                       "codes of another format");
  operands.expect_if_present("codes", op.codes, g, DType::u8);
  if (stored) operands.expect_count("scales", op.scales, state_blocks(g));
}

void check(const RestoreGradient& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& g = operands.at("g", op.g).shape;
  operands.expect("g", op.g, g);
  operands.expect_that(g.rank() >= 2, "a matrix of blocks of 8 bits", "g " + g.text());
  operands.expect("codes", op.codes, g, DType::u8);
  operands.expect_count("scales", op.scales, state_blocks(g));
}

void check(const AdamW& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& w = operands.at("w", op.w).shape;
  const DType type = operands.floating("w", op.w);
  const bool compact = type == DType::bf16 && op.low == no_value;
  operands.expect_that(type == DType::bf16 || op.low == no_value, "low beside a bf16 w only",
                       "low beside an f32 w");
  operands.expect_if_present("low", op.low, w, DType::i16);
  operands.expect("g", op.g, w);
  operands.expect("m", op.m, w, compact ? DType::u8 : DType::f32);
  operands.expect("v", op.v, w, compact ? DType::u8 : DType::f32);
  operands.expect_that(compact == (op.m_scale != no_value) && compact == (op.v_scale != no_value),
                       "scales of m and v in the compact form, and only there", "otherwise");
  operands.expect_that(!compact || w.rank() >= 2, "a matrix in the compact form", "w " + w.text());
  operands.expect_count_if_present("m_scale", op.m_scale, state_blocks(w));
  operands.expect_count_if_present("v_scale", op.v_scale, state_blocks(w));
  operands.expect_count("pending", op.pending, Pending::slots, DType::f64);
  operands.expect_that(op.parts >= 1 && op.parts <= 3, "1 to 3 parts", fmt::format("{}", op.parts));
  operands.expect_that(
      op.parts == 1 || (op.parts_inner > 0 && w.count() % (op.parts * op.parts_inner) == 0),
      fmt::format("{} parts of equal size in w {}", op.parts, w.text()),
      fmt::format("{} numbers per part", op.parts_inner));
}

void check(const Ema& op, Types types) {
  const Operands operands(op.name, types);
  const Shape& w = operands.at("w", op.w).shape;
  const DType type = operands.floating("w", op.w);
  operands.expect_that(type == DType::bf16 || op.low == no_value, "low beside a bf16 w only",
                       "low beside an f32 w");
  operands.expect_if_present("low", op.low, w, DType::i16);
  operands.expect("average", op.average, w);
  operands.expect_count("pending", op.pending, Pending::slots, DType::f64);
}

Cost cost(const SquaredNorm& op, Types types) {
  return {.flops = 2 * count_of(types, op.x),
          .read_bytes = bytes_of(types, op.x),
          .write_bytes = static_cast<double>(size_of(DType::f64))};
}

Cost cost(const FinishStep& op, Types types) {
  return cost_of(op, types, count_of(types, op.norms));
}

Cost cost(const RoundGradient& op, Types types) {
  return cost_of(op, types, 4 * count_of(types, op.g));
}

Cost cost(const RestoreGradient& op, Types types) {
  return cost_of(op, types, count_of(types, op.g));
}

Cost cost(const Ema& op, Types types) { return cost_of(op, types, 3 * count_of(types, op.w)); }

Cost cost(const AdamW& op, Types types) { return cost_of(op, types, 16 * count_of(types, op.w)); }

std::int64_t workspace_bytes(const SquaredNorm& op, Types types, Workers) {
  return (shape_of(types, op.x).count() + norm_chunk - 1) / norm_chunk * 8;
}

}  // namespace sluice::rules
