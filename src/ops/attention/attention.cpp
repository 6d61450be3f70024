#include "ops/attention/attention.h"

#include <utility>

#include "ops/attention/pieces.h"
#include "ops/rules.h"

namespace sluice::rules {

namespace {

// q [B Tq N H] against k and v [B Tq K H]; returns q's shape.
Shape check_heads(const Operands& operands, const char* const names[3], Slice q, Slice k, Slice v) {
  const Shape qs = operands.heads(names[0], q);
  const Shape ks = operands.heads(names[1], k);
  const Shape vs = operands.heads(names[2], v);
  const std::int64_t heads = qs[2].size;
  const std::int64_t key_heads = ks[2].size;
  const bool ok = ks == qs.with(Axis::heads, key_heads) && key_heads > 0 && heads % key_heads == 0;
  operands.expect_that(
      ok,
      fmt::format("{} like {} {}, its heads a divisor of {}", names[1], names[0], qs.text(), heads),
      ks.text());
  operands.expect_that(vs == ks, fmt::format("{} like {} {}", names[2], names[1], ks.text()),
                       vs.text());
  const DType type = operands.dtype(names[0], q.id);
  operands.expect_that(
      operands.dtype(names[1], k.id) == type && operands.dtype(names[2], v.id) == type,
      fmt::format("{} and {} of {}'s type", names[1], names[2], names[0]), "several types");
  return qs;
}

Shape statistics_shape(const Shape& q) { return {q[0], q[2], q[1]}; }  // [B N T]

// Pairs (query, key) that one head of one row may see. Packed documents see fewer: an upper bound.
double causal_pairs(std::int64_t time) {
  return 0.5 * static_cast<double>(time) * static_cast<double>(time + 1);
}

// FLOPs of one of the products over (query, key) pairs: H multiply-adds per pair and head.
double product_flops(const Shape& y, double pairs) {
  return 2.0 * static_cast<double>(y[0].size * y[2].size * y[3].size) * pairs;
}

void check_dropout(const Operands& operands, const DropoutKey& key, Id control) {
  operands.expect_that(key.rate >= 0 && key.rate < 1, "0 <= rate < 1", fmt::format("{}", key.rate));
  if (key.rate > 0) operands.expect_count("control", control, Control::slots, DType::f64);
}

// Of q and, for a cached query, the cache.
template <class OneOp>
AttentionExtent extent_of(const OneOp& op, Types types, bool cached, bool gradient) {
  const Shape& q = shape_of(types, op.q.id);
  return {.kernels = op.kernels,
          .type = type_of(types, op.q.id).dtype,
          .gradient = gradient,
          .cached = cached,
          .dropped = op.dropout.rate > 0,
          .batch = q.size(Axis::batch),
          .time = q.size(Axis::time),
          .heads = q.size(Axis::heads),
          .key_heads = shape_of(types, op.k.id).size(Axis::heads),
          .head = q.size(Axis::head)};
}

// A fused gradient is written whole: every part of it is one of the three results.
void check_all_parts(const Operands& operands, const AttentionGrad& op) {
  const Slice out[3] = {op.dq, op.dk, op.dv};
  for (const Slice& one : out) {
    std::int32_t slices = 0;
    unsigned written = 0;
    for (const Slice& other : out) {
      if (other.id != one.id) continue;
      ++slices;
      written |= 1u << other.part;
    }
    operands.expect_that(slices == one.parts && written == (1u << one.parts) - 1u,
                         fmt::format("all {} parts of a gradient, each once", one.parts),
                         fmt::format("{} slices of it", slices));
  }
}

}  // namespace

void check(const Attention& op, Types types) {
  const Operands operands(op.name, types);
  const char* const names[3] = {"q", "k", "v"};
  const Shape qs = check_heads(operands, names, op.q, op.k, op.v);
  const DType type = operands.dtype("q", op.q.id);
  operands.expect("y", op.y, qs, type);
  operands.expect_if_present("lse", op.lse, statistics_shape(qs));
  check_dropout(operands, op.dropout, op.control);
  if (op.lengths == no_value) {
    operands.expect_that(op.k_cache == no_value && op.v_cache == no_value,
                         "caches only together with lengths", "a cache without lengths");
    operands.expect("starts", op.starts, token_axes(qs), DType::i32);
    return;
  }
  operands.expect_that(op.starts == no_value, "no starts together with lengths", "starts");
  operands.expect("lengths", op.lengths, {qs[0]}, DType::i32);
  const Shape& cache = operands.at("k_cache", op.k_cache).shape;
  const Shape ks = operands.heads("k", op.k);
  operands.expect_that(cache.has(Axis::time), "k_cache [B T N H]", cache.text());
  const Shape expected = ks.with(Axis::time, cache.size(Axis::time));
  operands.expect("k_cache", op.k_cache, expected, type);
  operands.expect("v_cache", op.v_cache, expected, type);
}

void check(const AttentionGrad& op, Types types) {
  const Operands operands(op.name, types);
  const char* const names[3] = {"q", "k", "v"};
  const char* const gradients[3] = {"dq", "dk", "dv"};
  const Shape qs = check_heads(operands, names, op.q, op.k, op.v);
  const Shape dqs = check_heads(operands, gradients, op.dq, op.dk, op.dv);
  operands.expect_that(dqs == qs, "dq like q " + qs.text(), dqs.text());
  operands.expect_that(operands.heads("dk", op.dk) == operands.heads("k", op.k), "dk like k",
                       operands.heads("dk", op.dk).text());
  check_all_parts(operands, op);
  const DType type = operands.dtype("q", op.q.id);
  for (const auto& [what, id] : {std::pair{"dq", op.dq.id}, {"y", op.y}, {"dy", op.dy}})
    operands.expect_that(operands.dtype(what, id) == type, fmt::format("{} of q's type", what),
                         std::string(name_of(operands.dtype(what, id))));
  operands.expect("y", op.y, qs, type);
  operands.expect("dy", op.dy, qs, type);
  check_dropout(operands, op.dropout, op.control);
  operands.expect("lse", op.lse, statistics_shape(qs));
  operands.expect("starts", op.starts, token_axes(qs), DType::i32);
}

// Scores and their product with the values. A cached query is counted against the whole cache.
Cost cost(const Attention& op, Types types) {
  const Shape& y = shape_of(types, op.y);
  const std::int64_t time = y.size(Axis::time);
  double pairs = causal_pairs(time);
  if (op.lengths != no_value)
    pairs = static_cast<double>(time) *
            static_cast<double>(shape_of(types, op.k_cache).size(Axis::time));
  return cost_of(op, types, 2 * product_flops(y, pairs));
}

// Five products: scores again, dp, dq, dk, dv.
Cost cost(const AttentionGrad& op, Types types) {
  const Shape& y = shape_of(types, op.y);
  return cost_of(op, types, 5 * product_flops(y, causal_pairs(y.size(Axis::time))));
}

// What a piece of the library's wants; our kernels keep their scores in registers.
std::int64_t workspace_bytes(const Attention& op, Types types, Workers) {
  return pieces_of(extent_of(op, types, op.lengths != no_value, false)).workspace;
}

std::int64_t workspace_bytes(const AttentionGrad& op, Types types, Workers) {
  return pieces_of(extent_of(op, types, false, true)).workspace;
}

void gradient(const Attention& op, GradientBuilder& builder) {
  const Id dy = builder.gradient_of(op.y);
  if (dy == no_value) return;
  if (op.lengths != no_value) no_gradient(op.name, "this one reads a cache");
  if (op.lse == no_value) no_gradient(op.name, "it keeps no lse");
  if (!builder.wants(op.q.id) && !builder.wants(op.k.id) && !builder.wants(op.v.id)) return;
  const Slice dq = builder.contribution(op.q);
  const Slice dk = builder.contribution(op.k);
  const Slice dv = builder.contribution(op.v);
  builder.emit_input(AttentionGrad{.q = op.q,
                                   .k = op.k,
                                   .v = op.v,
                                   .starts = op.starts,
                                   .y = op.y,
                                   .lse = op.lse,
                                   .dy = dy,
                                   .dq = dq,
                                   .dk = dk,
                                   .dv = dv,
                                   .scale = op.scale,
                                   .control = op.control,
                                   .dropout = op.dropout,
                                   .kernels = op.kernels});
  // Slices of one fused value share one gradient, which is declared once.
  if (builder.wants(op.q.id)) builder.add(op.q.id, dq.id);
  if (builder.wants(op.k.id) && dk.id != dq.id) builder.add(op.k.id, dk.id);
  if (builder.wants(op.v.id) && dv.id != dq.id && dv.id != dk.id) builder.add(op.v.id, dv.id);
}

}  // namespace sluice::rules
