// What attention promises beyond closeness to its loop (op_cases_test): packed documents are the
// documents alone, a cache changes nothing, rows of a batch do not see each other.
#include <gtest/gtest.h>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, N = Axis::heads, H = Axis::head, P = Axis::parts;
constexpr double tolerance = 1e-6;
constexpr std::int64_t heads = 3;

using Numbers = std::vector<double>;

// One op over values in real memory, run with three threads.
TestFrame run_on(Isa isa, const Op& op, const RandomFrame& frame) {
  CpuBackend cpu({.threads = 3, .isa = isa});
  for (int i = 0; i < 3; ++i) std::memset(cpu.scratch(i).data(), 0xff, cpu.scratch(i).size());
  TestFrame result(OpCase{"", op, frame.values()}, {.threads = 3});
  cpu.run(op, result.frame());
  EXPECT_TRUE(result.guards_hold());
  return result;
}

Numbers part_of(const Numbers& x, std::int64_t begin, std::int64_t count) {
  return {x.begin() + begin, x.begin() + begin + count};
}

struct Trained {
  Numbers y, gradient;
};

// Forward and backward of one row of tokens: qkv [1 T 3 N H], dy [1 T N H].
Trained train(Isa isa, std::int64_t size, const Numbers& qkv, const Numbers& dy,
              const Numbers& starts) {
  RandomFrame f(1);
  const auto time = static_cast<std::int64_t>(starts.size());
  const Shape fused{{B, 1}, {T, time}, {P, 3}, {N, heads}, {H, size}};
  const Shape plain{{B, 1}, {T, time}, {N, heads}, {H, size}};
  const Id in = f.numbers(fused, DType::f32, qkv);
  const Id first = f.numbers({{B, 1}, {T, time}}, DType::i32, starts);
  const Id y = f.poisoned(plain);
  const Id lse = f.poisoned({{B, 1}, {N, heads}, {T, time}});
  const Attention forward{.q = {in, 0, 3},
                          .k = {in, 1, 3},
                          .v = {in, 2, 3},
                          .starts = first,
                          .y = y,
                          .lse = lse,
                          .scale = 0.2f};
  const TestFrame run = run_on(isa, forward, f);
  f[y].numbers = run.numbers(y);
  f[lse].numbers = run.numbers(lse);
  const Id up = f.numbers(plain, DType::f32, dy);
  const Id out = f.poisoned(fused);
  const AttentionGrad backward{.q = {in, 0, 3},
                               .k = {in, 1, 3},
                               .v = {in, 2, 3},
                               .starts = first,
                               .y = y,
                               .lse = lse,
                               .dy = up,
                               .dq = {out, 0, 3},
                               .dk = {out, 1, 3},
                               .dv = {out, 2, 3},
                               .scale = 0.2f};
  return {f[y].numbers, run_on(isa, backward, f).numbers(out)};
}

TEST(CpuAttention, PackedDocumentsAreTheDocumentsAlone) {
  const std::int64_t size = 24, time = 215;
  const std::int64_t ends[] = {0, 70, 73, 215};
  RandomFrame random(2);
  const Numbers qkv = random[random.random({{T, time * 3 * heads * size}})].numbers;
  const Numbers dy = random[random.random({{T, time * heads * size}})].numbers;
  Numbers starts;
  for (int d = 0; d < 3; ++d)
    starts.insert(starts.end(), static_cast<std::size_t>(ends[d + 1] - ends[d]),
                  static_cast<double>(ends[d]));
  for (const Isa isa : available_isas()) {
    const Trained packed = train(isa, size, qkv, dy, starts);
    const Trained blind = train(isa, size, qkv, dy, Numbers(static_cast<std::size_t>(time), 0.0));
    for (int d = 0; d < 3; ++d) {
      const std::int64_t begin = ends[d] * heads * size;
      const std::int64_t count = (ends[d + 1] - ends[d]) * heads * size;
      const Trained alone =
          train(isa, size, part_of(qkv, 3 * begin, 3 * count), part_of(dy, begin, count),
                Numbers(static_cast<std::size_t>(ends[d + 1] - ends[d]), 0.0));
      EXPECT_LT(relative_error(part_of(packed.y, begin, count), alone.y), tolerance);
      EXPECT_LT(relative_error(part_of(packed.gradient, 3 * begin, 3 * count), alone.gradient),
                tolerance);
      // Without the starts the later documents see the earlier ones, and all gradients differ.
      if (d > 0) {
        EXPECT_GT(relative_error(part_of(blind.y, begin, count), alone.y), 0.01);
      }
      EXPECT_GT(relative_error(part_of(blind.gradient, 3 * begin, 3 * count), alone.gradient),
                0.01);
    }
  }
}

// Rows of a batch with caches of unequal length.
struct Cached {
  std::int64_t time, size, room;
  Numbers qkv, lengths, k_cache, v_cache;
};

struct Continued {
  Numbers y, k_cache, v_cache;
};

Continued continue_rows(Isa isa, const Cached& c) {
  RandomFrame f(3);
  const auto batch = static_cast<std::int64_t>(c.lengths.size());
  const Shape plain{{B, batch}, {T, c.time}, {N, heads}, {H, c.size}};
  const Id in =
      f.numbers({{B, batch}, {T, c.time}, {P, 3}, {N, heads}, {H, c.size}}, DType::f32, c.qkv);
  const Id lengths = f.numbers({{B, batch}}, DType::i32, c.lengths);
  const Id k_cache = f.numbers(plain.with(T, c.room), DType::f32, c.k_cache);
  const Id v_cache = f.numbers(plain.with(T, c.room), DType::f32, c.v_cache);
  const Id y = f.poisoned(plain);
  const Attention op{.q = {in, 0, 3},
                     .k = {in, 1, 3},
                     .v = {in, 2, 3},
                     .lengths = lengths,
                     .k_cache = k_cache,
                     .v_cache = v_cache,
                     .y = y,
                     .scale = 0.2f};
  const TestFrame run = run_on(isa, op, f);
  return {run.numbers(y), run.numbers(k_cache), run.numbers(v_cache)};
}

TEST(CpuAttention, CachedIsCloseToUncachedAtEveryPosition) {
  const std::int64_t size = 40, time = 97, room = 100, width = heads * size;
  RandomFrame random(4);
  const Numbers qkv = random[random.random({{T, time * 3 * width}})].numbers;
  const Numbers dy(static_cast<std::size_t>(time * width), 0.0);
  const Numbers starts(static_cast<std::size_t>(time), 0.0);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Isa isa : available_isas()) {
    const Numbers whole = train(isa, size, qkv, dy, starts).y;
    const Numbers empty(static_cast<std::size_t>(room * width), nan);  // nobody may look there
    Continued now{{}, empty, empty};
    // Two prefills, then token by token.
    for (std::int64_t at = 0; at < time;) {
      const std::int64_t step = at == 0 ? 66 : at == 66 ? 9 : 1;
      now = continue_rows(isa, {step,
                                size,
                                room,
                                part_of(qkv, at * 3 * width, step * 3 * width),
                                {static_cast<double>(at)},
                                now.k_cache,
                                now.v_cache});
      for (std::int64_t t = 0; t < step; ++t) {
        const Numbers cached = part_of(now.y, t * width, width);
        EXPECT_LT(relative_error(cached, part_of(whole, (at + t) * width, width)), tolerance)
            << "position " << at + t << ", " << name_of(isa);
        const std::int64_t other = at + t == 0 ? 1 : at + t - 1;
        EXPECT_GT(relative_error(cached, part_of(whole, other * width, width)), 0.01);
      }
      at += step;
    }
  }
}

TEST(CpuAttention, RowsOfARaggedBatchAreTheRowsAlone) {
  const std::int64_t size = 24, room = 200, width = heads * size;
  const Numbers lengths{0, 5, 120};
  for (const std::int64_t time : {1, 13, 77}) {
    RandomFrame random(5);
    const Numbers qkv = random[random.random({{T, 3 * time * 3 * width}})].numbers;
    const Numbers k = random[random.random({{T, 3 * room * width}})].numbers;
    const Numbers v = random[random.random({{T, 3 * room * width}})].numbers;
    for (const Isa isa : available_isas()) {
      const Continued all = continue_rows(isa, {time, size, room, qkv, lengths, k, v});
      for (std::int64_t b = 0; b < 3; ++b) {
        const Continued one =
            continue_rows(isa, {time,
                                size,
                                room,
                                part_of(qkv, b * time * 3 * width, time * 3 * width),
                                {lengths[static_cast<std::size_t>(b)]},
                                part_of(k, b * room * width, room * width),
                                part_of(v, b * room * width, room * width)});
        EXPECT_EQ(part_of(all.y, b * time * width, time * width), one.y);
        EXPECT_EQ(part_of(all.k_cache, b * room * width, room * width), one.k_cache);
        EXPECT_EQ(part_of(all.v_cache, b * room * width, room * width), one.v_cache);
        EXPECT_NE(part_of(all.y, (b + 1) % 3 * time * width, time * width), one.y);
      }
    }
  }
}

// Sizes of heads that are no multiple of a vector, or larger than a tile; groups of query heads.
TEST(CpuAttention, IsCloseForEveryHeadSize) {
  for (const std::int64_t size : {1, 15, 33, 80, 100, 256}) {
    RandomFrame f(6);
    const Shape qs{{B, 2}, {T, 131}, {N, 4}, {H, size}};
    const Shape ks = qs.with(N, size == 80 ? 1 : 2);
    const double deviation = size < 30 ? 1 : 0.5;
    const Id q = f.random(qs, deviation), k = f.random(ks, deviation), v = f.random(ks);
    Numbers zeros(262, 0.0);
    const Id starts = f.numbers({{B, 2}, {T, 131}}, DType::i32, zeros);
    const Id y = f.poisoned(qs);
    const Id lse = f.poisoned({{B, 2}, {N, 4}, {T, 131}});
    const Attention forward{
        .q = {q}, .k = {k}, .v = {v}, .starts = starts, .y = y, .lse = lse, .scale = 0.1f};
    RandomFrame expected = f;
    expected.run(forward);
    const Id dy = expected.random(qs);
    const Id dq = expected.poisoned(qs), dk = expected.poisoned(ks), dv = expected.poisoned(ks);
    const AttentionGrad backward{.q = {q},
                                 .k = {k},
                                 .v = {v},
                                 .starts = starts,
                                 .y = y,
                                 .lse = lse,
                                 .dy = dy,
                                 .dq = {dq},
                                 .dk = {dk},
                                 .dv = {dv},
                                 .scale = 0.1f};
    RandomFrame gradients = expected;
    gradients.run(backward);
    for (const Isa isa : available_isas()) {
      const TestFrame run = run_on(isa, forward, f);
      const TestFrame back = run_on(isa, backward, expected);
      EXPECT_LT(relative_error(run.numbers(y), expected[y].numbers), tolerance) << size;
      EXPECT_LT(relative_error(run.numbers(lse), expected[lse].numbers), tolerance) << size;
      for (const Id id : {dq, dk, dv}) {
        EXPECT_LT(relative_error(back.numbers(id), gradients[id].numbers), 3 * tolerance) << size;
      }
    }
  }
}

TEST(CpuAttention, RefusesToOutgrowItsCache) {
  const std::int64_t size = 8, room = 10, width = heads * size;
  const Numbers cache(static_cast<std::size_t>(2 * room * width), 0.0);
  const Numbers qkv(static_cast<std::size_t>(2 * 3 * 3 * width), 0.0);
  EXPECT_NO_THROW(continue_rows(best_isa(), {3, size, room, qkv, {0, 7}, cache, cache}));
  for (const double length : {8.0, -1.0}) {
    try {
      continue_rows(best_isa(), {3, size, room, qkv, {0, length}, cache, cache});
      FAIL() << length;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::input);
      EXPECT_NE(error.text().find("row 1 outgrows its cache of 10 positions"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace sluice
