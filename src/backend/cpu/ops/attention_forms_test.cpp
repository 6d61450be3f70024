// Attention in bf16 and with dropout: close to the loop at odd sizes, the same bits for any number
// of threads and however the gradient is cut, the same mask however a batch is split.
#include <gtest/gtest.h>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, N = Axis::heads, H = Axis::head, S = Axis::scalar;

using Numbers = std::vector<double>;

struct Form {
  std::int64_t batch, time, heads, key_heads, size;
  float dropped = 0;
  DType dtype = DType::bf16;
  std::int64_t document = 0;
};

// Forward, then backward, as the reference computes them from the numbers that are stored.
struct Built {
  RandomFrame frame, expected;  // expected: after forward, with the values of backward
  Attention forward;
  AttentionGrad backward;
};

Built build(const Form& form) {
  RandomFrame f(21);
  const Shape qs{{B, form.batch}, {T, form.time}, {N, form.heads}, {H, form.size}};
  const Shape ks = qs.with(N, form.key_heads), tokens{{B, form.batch}, {T, form.time}};
  Numbers first(static_cast<std::size_t>(form.batch * form.time), 0.0);
  if (form.document > 0) {
    for (std::size_t i = 0; i < first.size(); ++i) {
      const std::int64_t t = static_cast<std::int64_t>(i) % form.time;
      first[i] = static_cast<double>(t / form.document * form.document);
    }
  }
  const double deviation = form.size < 30 ? 1 : 0.5;
  const Slice q{f.random(qs, deviation, 0, form.dtype)}, k{f.random(ks, deviation, 0, form.dtype)};
  const Slice v{f.random(ks, 1, 0, form.dtype)};
  Built all{f, f, {}, {}};
  const Id starts = all.frame.numbers(tokens, DType::i32, first);
  const Id control = all.frame.numbers({{S, Control::slots}}, DType::f64, {1e-3, 11, 2});
  const Id y = all.frame.poisoned(qs, form.dtype);
  const Id lse = all.frame.poisoned({{B, form.batch}, {N, form.heads}, {T, form.time}});
  const DropoutKey dropout{.rate = form.dropped, .seed = 5, .stream = 6};
  all.forward = {.q = q,
                 .k = k,
                 .v = v,
                 .starts = starts,
                 .y = y,
                 .lse = lse,
                 .scale = 0.3f,
                 .control = control,
                 .dropout = dropout};
  all.expected = all.frame;
  all.expected.run(all.forward);
  const Id dy = all.expected.random(qs, 1, 0, form.dtype);
  const Id dq = all.expected.poisoned(qs, form.dtype);
  const Id dk = all.expected.poisoned(ks, form.dtype), dv = all.expected.poisoned(ks, form.dtype);
  all.backward = {.q = q,
                  .k = k,
                  .v = v,
                  .starts = starts,
                  .y = y,
                  .lse = lse,
                  .dy = dy,
                  .dq = {dq},
                  .dk = {dk},
                  .dv = {dv},
                  .scale = 0.3f,
                  .control = control,
                  .dropout = dropout};
  return all;
}

TestFrame run_on(Isa isa, int threads, const Op& op, const std::vector<RefValue>& values,
                 int layer = 0) {
  CpuBackend cpu({.threads = threads, .isa = isa});
  for (int i = 0; i < threads; ++i) std::memset(cpu.scratch(i).data(), 0xff, cpu.scratch(i).size());
  TestFrame result(OpCase{"", op, values}, {.threads = threads});
  Frame frame = result.frame();
  frame.layer = layer;
  cpu.run(op, frame);
  EXPECT_TRUE(result.guards_hold());
  return result;
}

// The rounding of what is stored alone is 1.2e-3; that of probabilities adds a little.
constexpr double tolerance_y = 4e-3, tolerance_gradient = 6e-3;

TEST(CpuAttentionForms, Bf16IsCloseForEverySize) {
  for (const std::int64_t size : {1, 7, 16, 33, 64, 80, 130}) {
    for (const float dropped : {0.0f, 0.25f}) {
      const Built all =
          build({2, 133, 4, size == 80 ? 1 : 2, size, dropped, DType::bf16, size == 33 ? 50 : 0});
      RandomFrame gradients = all.expected;
      gradients.run(all.backward);
      const auto& f = all.forward;
      const auto& b = all.backward;
      for (const Isa isa : available_isas()) {
        SCOPED_TRACE(fmt::format("size {}, {} dropped, {}", size, dropped, name_of(isa)));
        const TestFrame y = run_on(isa, 2, f, all.frame.values());
        EXPECT_LT(relative_error(y.numbers(f.y), all.expected[f.y].numbers), tolerance_y);
        EXPECT_LT(relative_error(y.numbers(f.lse), all.expected[f.lse].numbers), 1e-5);
        const TestFrame d = run_on(isa, 2, b, all.expected.values());
        for (const Id id : {b.dq.id, b.dk.id, b.dv.id}) {
          EXPECT_LT(relative_error(d.numbers(id), gradients[id].numbers), tolerance_gradient) << id;
          Numbers moved = d.numbers(id);  // by one row
          std::rotate(moved.begin(), moved.begin() + size, moved.end());
          EXPECT_GT(relative_error(moved, gradients[id].numbers), 10 * tolerance_gradient) << id;
        }
      }
    }
  }
}

// 16 threads are too many for the key heads there are, so that keys and queries are cut apart.
TEST(CpuAttentionForms, PartsAndThreadsKeepTheBits) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const float dropped : {0.0f, 0.4f}) {
      const Built all = build({2, 331, 4, 2, 24, dropped, dtype, 270});
      for (const Isa isa : available_isas()) {
        const TestFrame y = run_on(isa, 1, all.forward, all.frame.values());
        const TestFrame d = run_on(isa, 1, all.backward, all.expected.values());
        const OpCase forward{"", all.forward, {}}, backward{"", all.backward, {}};
        for (const int threads : {2, 16}) {
          SCOPED_TRACE(fmt::format("{}, {}, {} threads", name_of(dtype), name_of(isa), threads));
          EXPECT_TRUE(same_bits(forward, y, run_on(isa, threads, all.forward, all.frame.values())));
          EXPECT_TRUE(
              same_bits(backward, d, run_on(isa, threads, all.backward, all.expected.values())));
        }
        const TestFrame other = run_on(isa, 1, all.forward, all.frame.values(), 1);
        EXPECT_EQ(same_bits(forward, y, other), dropped == 0) << "another layer, another mask";
      }
    }
  }
}

// One row of a frame whose batch has several; `first_row` of its control moves along.
std::vector<RefValue> row_of(const std::vector<RefValue>& values, std::int64_t row,
                             std::int64_t first_row) {
  std::vector<RefValue> result = values;
  for (RefValue& value : result) {
    Shape& shape = value.type.shape;
    if (!shape.has(B)) {
      value.numbers[Control::first_row] = static_cast<double>(first_row);
      continue;
    }
    const std::int64_t count = shape.count() / shape.size(B);
    shape = shape.with(B, 1);
    value.numbers = {value.numbers.begin() + row * count,
                     value.numbers.begin() + (row + 1) * count};
  }
  return result;
}

TEST(CpuAttentionForms, SplitBatchesDropTheSame) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Built all = build({3, 77, 2, 2, 24, 0.3f, dtype, 0});
    for (const Isa isa : available_isas()) {
      const TestFrame whole = run_on(isa, 2, all.forward, all.frame.values());
      const TestFrame whole_back = run_on(isa, 2, all.backward, all.expected.values());
      const auto same = [&](std::int64_t b, std::int64_t first_row) {
        const TestFrame y = run_on(isa, 2, all.forward, row_of(all.frame.values(), b, first_row));
        const TestFrame d =
            run_on(isa, 2, all.backward, row_of(all.expected.values(), b, first_row));
        const auto row = [&](const TestFrame& frame, Id id) {
          const std::string bytes = frame.bytes(id);
          return bytes.substr(bytes.size() / 3 * static_cast<std::size_t>(b), bytes.size() / 3);
        };
        return y.bytes(all.forward.y) == row(whole, all.forward.y) &&
               d.bytes(all.backward.dq.id) == row(whole_back, all.backward.dq.id) &&
               d.bytes(all.backward.dv.id) == row(whole_back, all.backward.dv.id);
      };
      for (std::int64_t b = 0; b < 3; ++b) {
        EXPECT_TRUE(same(b, 2 + b)) << name_of(isa);
        EXPECT_FALSE(same(b, 3 + b)) << name_of(isa);
      }
    }
  }
}

// Keys and values join the caches as they are, and every position sees what training saw.
void expect_caches_close_to_training(std::int64_t size) {
  const std::int64_t time = 150, room = 160, heads = 4;
  const Built all = build({2, time, heads, 2, size});
  const auto& q = all.frame[all.forward.q.id].numbers;
  const auto& k = all.frame[all.forward.k.id].numbers;
  const auto& v = all.frame[all.forward.v.id].numbers;
  const auto& y = all.expected[all.forward.y].numbers;
  // Tokens [at, at + count) of both rows.
  const auto tokens = [&](const Numbers& x, std::int64_t at, std::int64_t count) {
    const auto width = static_cast<std::int64_t>(x.size()) / (2 * time);
    Numbers result;
    for (std::int64_t b = 0; b < 2; ++b)
      result.insert(result.end(), x.begin() + (b * time + at) * width,
                    x.begin() + (b * time + at + count) * width);
    return result;
  };
  for (const Isa isa : available_isas()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    Numbers k_cache(static_cast<std::size_t>(2 * room * 2 * size), nan), v_cache = k_cache;
    for (std::int64_t at = 0; at < time;) {
      const std::int64_t step = at == 0 ? 66 : at == 66 ? 9 : 1;
      RandomFrame f(1);
      const Shape qs{{B, 2}, {T, step}, {N, heads}, {H, size}}, ks = qs.with(N, 2);
      Attention op{.q = {f.numbers(qs, DType::bf16, tokens(q, at, step))},
                   .k = {f.numbers(ks, DType::bf16, tokens(k, at, step))},
                   .v = {f.numbers(ks, DType::bf16, tokens(v, at, step))},
                   .scale = 0.3f};
      const auto length = static_cast<double>(at);
      op.lengths = f.numbers({{B, 2}}, DType::i32, {length, length});
      op.k_cache = f.numbers(ks.with(T, room), DType::bf16, k_cache);
      op.v_cache = f.numbers(ks.with(T, room), DType::bf16, v_cache);
      op.y = f.poisoned(qs, DType::bf16);
      const TestFrame run = run_on(isa, 3, op, f.values());
      k_cache = run.numbers(op.k_cache), v_cache = run.numbers(op.v_cache);
      EXPECT_LT(relative_error(run.numbers(op.y), tokens(y, at, step)), 6e-3)
          << name_of(isa) << ", position " << at;
      const std::int64_t other = at == 0 ? 1 : at - 1;
      EXPECT_GT(relative_error(run.numbers(op.y), tokens(y, other, step)), 0.05);
      at += step;
    }
    const auto begin = k_cache.begin();
    EXPECT_TRUE(std::equal(begin, begin + time * 2 * size, k.begin()));
    EXPECT_FALSE(std::equal(begin, begin + time * 2 * size, v.begin()));
  }
}

TEST(CpuAttentionForms, Bf16CachesAreCloseToTraining) {
  for (const std::int64_t size : {13, 40, 64}) expect_caches_close_to_training(size);
}

}  // namespace
}  // namespace sluice
