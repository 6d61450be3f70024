// Embeddings, rotations, products, attention and the head on tensors of more than 2^31 elements:
// reserved, never filled. What lies at the start, across element 2^31 and at the end is held
// against the same numbers in a small tensor. Only what is written becomes resident.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, S = Axis::scalar,
               F = Axis::hidden, P = Axis::parts, N = Axis::heads, H = Axis::head;
constexpr std::int64_t border = std::int64_t{1} << 31;

// A frame over address space with nothing behind it until it is written.
class Reserved {
 public:
  Reserved() = default;
  ~Reserved() {
    for (const auto& [data, bytes] : memory_) ::munmap(data, bytes);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;

  Id add(const Shape& shape, DType dtype = DType::f32) {
    tensors_.emplace_back(take(shape.count() * size_of(dtype)), dtype, shape);
    return static_cast<Id>(tensors_.size() - 1);
  }
  void add_workspace(std::int64_t bytes) {
    workspace_ = {static_cast<std::byte*>(take(bytes)), static_cast<std::size_t>(bytes)};
  }
  Frame frame(bool first = true) const { return {tensors_, workspace_, first}; }
  float* floats(Id id, std::int64_t at = 0) const {
    return tensors_[static_cast<std::size_t>(id)].data<float>() + at;
  }
  std::int32_t* integers(Id id) const {
    return tensors_[static_cast<std::size_t>(id)].data<std::int32_t>();
  }
  std::int64_t count(Id id) const { return tensors_[static_cast<std::size_t>(id)].count(); }

 private:
  void* take(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(count);
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(data != MAP_FAILED, [] { return Error("cannot reserve address space"); });
    (void)::madvise(data, bytes, MADV_NOHUGEPAGE);  // residency as fine as it can be
    memory_.emplace_back(data, bytes);
    return data;
  }
  std::vector<std::pair<void*, std::size_t>> memory_;
  std::vector<Tensor> tensors_;
  std::span<std::byte> workspace_;
};

void fill(float* data, std::int64_t count, std::int64_t seed) {
  for (std::int64_t i = 0; i < count; ++i)
    data[i] = static_cast<float>(((i + seed) * 7919 + seed * 13) % 1009) / 1009.0f - 0.5f;
}

::testing::AssertionResult same(const float* a, const float* b, std::int64_t count) {
  if (std::memcmp(a, b, static_cast<std::size_t>(count) * 4) == 0)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "other bits";
}

void expect_small() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  EXPECT_LE(usage.ru_maxrss, 2 << 20);  // KiB
}

class TokensBeyondAll : public ::testing::Test {
 protected:
  void TearDown() override { expect_small(); }
  CpuBackend cpu{{.threads = 2, .isa = best_isa()}};
};

TEST_F(TokensBeyondAll, EmbeddingTables) {
  constexpr std::int64_t width = 640, rows = border / width + 50;
  const std::int64_t places[] = {0, border / width - 1, border / width, rows - 1};
  Reserved r;
  const Id ids = r.add({{B, 1}, {T, 4}}, DType::i32);
  const Id table = r.add({{V, rows}, {D, width}});
  const Id y = r.add({{B, 1}, {T, 4}, {D, width}});
  for (int i = 0; i < 4; ++i) {
    r.integers(ids)[i] = static_cast<std::int32_t>(places[i]);
    fill(r.floats(table, places[i] * width), width, i);
  }
  run(cpu, r.frame(), Embed{.ids = ids, .table = table, .y = y});
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(same(r.floats(y, i * width), r.floats(table, places[i] * width), width));
    EXPECT_FALSE(same(r.floats(y, i * width), r.floats(table, places[i] * width + 1), width));
  }
  // Each row gains what it holds: exactly its double.
  run(cpu, r.frame(false), EmbedGrad{.ids = ids, .dy = y, .dtable = table});
  for (int i = 0; i < 4; ++i)
    for (std::int64_t d = 0; d < width; ++d)
      ASSERT_EQ(r.floats(table, places[i] * width)[d], 2 * r.floats(y, i * width)[d]);
}

TEST_F(TokensBeyondAll, EmbeddedTokens) {
  constexpr std::int64_t width = 640, count = border / width + 2 * embed_tile + 5;
  Reserved r;
  const Id ids = r.add({{B, 1}, {T, count}}, DType::i32);
  const Id table = r.add({{V, 9}, {D, width}});
  const Id y = r.add({{B, 1}, {T, count}, {D, width}});
  fill(r.floats(table), 9 * width, 3);
  const std::int64_t tiles = (count + embed_tile - 1) / embed_tile;
  std::vector<double> expected(9 * width, 0.0);
  for (const std::int64_t tile : {std::int64_t{0}, border / width / embed_tile, tiles - 1}) {
    const std::int64_t begin = tile * embed_tile, end = std::min(count, begin + embed_tile);
    for (std::int64_t i = begin; i < end; ++i)
      r.integers(ids)[i] = static_cast<std::int32_t>(1 + i % 8);
    run(cpu, r.frame(), Embed{.ids = ids, .table = table, .y = y}, {tile, tile + 1});
    for (std::int64_t i = begin; i < end; ++i) {
      EXPECT_TRUE(same(r.floats(y, i * width), r.floats(table, (1 + i % 8) * width), width));
      EXPECT_FALSE(same(r.floats(y, i * width), r.floats(table, i % 8 * width), width));
      for (std::int64_t d = 0; d < width; ++d)
        expected[static_cast<std::size_t>((1 + i % 8) * width + d)] += r.floats(y, i * width)[d];
    }
  }
  // All other tokens have id 0 and a gradient of zero.
  const Id dtable = r.add({{V, 9}, {D, width}});
  run(cpu, r.frame(), EmbedGrad{.ids = ids, .dy = y, .dtable = dtable});
  for (std::int64_t i = 0; i < 9 * width; ++i)
    ASSERT_NEAR(r.floats(dtable)[i], expected[static_cast<std::size_t>(i)], 1e-5) << i;
}

TEST_F(TokensBeyondAll, Rotations) {
  constexpr std::int64_t heads = 10, size = 64, width = heads * size;
  constexpr std::int64_t count = border / width + 2 * rotary_tile + 5;
  const auto make = [&](Reserved& r, std::int64_t time) {
    const Shape shape{{B, 1}, {T, time}, {N, heads}, {H, size}};
    const Id x = r.add(shape), positions = r.add({{B, 1}, {T, time}}, DType::i32);
    return Rotary{.x = x, .positions = positions, .y = r.add(shape), .dims = 48};
  };
  Reserved large;
  const Rotary op = make(large, count);
  const std::int64_t tiles = (count + rotary_tile - 1) / rotary_tile;
  for (const std::int64_t tile : {std::int64_t{0}, border / width / rotary_tile, tiles - 1}) {
    const std::int64_t begin = tile * rotary_tile;
    const std::int64_t time = std::min(rotary_tile, count - begin);
    Reserved small;
    make(small, time);
    for (std::int64_t t = 0; t < time; ++t) {
      large.integers(op.positions)[begin + t] = static_cast<std::int32_t>(t + 3);
      small.integers(op.positions)[t] = static_cast<std::int32_t>(t + 3);
    }
    fill(large.floats(op.x, begin * width), time * width, tile);
    fill(small.floats(op.x), time * width, tile);
    run(cpu, large.frame(), op, {tile, tile + 1});
    run(cpu, small.frame(), op);
    EXPECT_TRUE(same(large.floats(op.y, begin * width), small.floats(op.y), time * width));
    EXPECT_FALSE(same(large.floats(op.y, begin * width), small.floats(op.x), time * width));
  }
}

// Forward and backward over many rows of a batch; both qkv and y pass element 2^31.
struct Trained {
  Attention forward;
  AttentionGrad backward;
};
constexpr std::int64_t tokens_of_row = 70, heads = 4, size = 64;
constexpr std::int64_t row_of_y = tokens_of_row * heads * size;

Trained make_attention(Reserved& r, std::int64_t batch) {
  const Shape fused{{B, batch}, {T, tokens_of_row}, {P, 3}, {N, heads}, {H, size}};
  const Shape plain{{B, batch}, {T, tokens_of_row}, {N, heads}, {H, size}};
  const Id in = r.add(fused), starts = r.add({{B, batch}, {T, tokens_of_row}}, DType::i32);
  const Id y = r.add(plain), lse = r.add({{B, batch}, {N, heads}, {T, tokens_of_row}});
  const Id dy = r.add(plain), out = r.add(fused);
  const Slice q{in, 0, 3}, k{in, 1, 3}, v{in, 2, 3}, dq{out, 0, 3}, dk{out, 1, 3}, dv{out, 2, 3};
  return {{.q = q, .k = k, .v = v, .starts = starts, .y = y, .lse = lse, .scale = 0.3f},
          {.q = q,
           .k = k,
           .v = v,
           .starts = starts,
           .y = y,
           .lse = lse,
           .dy = dy,
           .dq = dq,
           .dk = dk,
           .dv = dv,
           .scale = 0.3f}};
}

TEST_F(TokensBeyondAll, AttentionOverManyRows) {
  constexpr std::int64_t batch = border / row_of_y + 3;
  Reserved large;
  const auto [forward, backward] = make_attention(large, batch);
  const Id in = forward.q.id, out = backward.dq.id;
  for (const std::int64_t b :
       {std::int64_t{0}, border / (3 * row_of_y), border / row_of_y, batch - 1}) {
    Reserved small;
    make_attention(small, 1);
    for (Reserved* r : {&large, &small}) {
      const std::int64_t row = r == &large ? b : 0;
      fill(r->floats(in, row * 3 * row_of_y), 3 * row_of_y, b);
      fill(r->floats(backward.dy, row * row_of_y), row_of_y, b + 1);
      run(cpu, r->frame(), forward, {row * 2 * heads, (row + 1) * 2 * heads});
      run(cpu, r->frame(), backward, {row * heads, (row + 1) * heads});
    }
    EXPECT_TRUE(same(large.floats(forward.y, b * row_of_y), small.floats(forward.y), row_of_y));
    EXPECT_TRUE(same(large.floats(out, b * 3 * row_of_y), small.floats(out), 3 * row_of_y));
    EXPECT_FALSE(same(large.floats(out, b * 3 * row_of_y), small.floats(in), 3 * row_of_y));
  }
}

// One head whose only row is a cache of 2^31 numbers and more. The last key outweighs all others.
TEST_F(TokensBeyondAll, LongCaches) {
  constexpr std::int64_t room = border / size + 10;
  for (const std::int64_t time : {1, 3}) {
    Reserved r;
    const Shape plain{{B, 1}, {T, time}, {N, 1}, {H, size}};
    const Id q = r.add(plain), k = r.add(plain), v = r.add(plain), y = r.add(plain);
    const Id lengths = r.add({{B, 1}}, DType::i32);
    const Id k_cache = r.add(plain.with(T, room)), v_cache = r.add(plain.with(T, room));
    r.integers(lengths)[0] = static_cast<std::int32_t>(room - time);
    for (std::int64_t i = 0; i < time * size; ++i) r.floats(q)[i] = r.floats(k)[i] = 1;
    for (std::int64_t t = 0; t < time; ++t)  // each key outweighs those before it
      for (std::int64_t h = 0; h < size; ++h) r.floats(k)[t * size + h] = static_cast<float>(t + 1);
    fill(r.floats(v), time * size, 5);
    run(cpu, r.frame(),
        Attention{.q = {q},
                  .k = {k},
                  .v = {v},
                  .lengths = lengths,
                  .k_cache = k_cache,
                  .v_cache = v_cache,
                  .y = y});
    EXPECT_TRUE(same(r.floats(k_cache, (room - time) * size), r.floats(k), time * size));
    EXPECT_TRUE(same(r.floats(v_cache, (room - time) * size), r.floats(v), time * size));
    for (std::int64_t i = 0; i < time * size; ++i)
      ASSERT_NEAR(r.floats(y)[i], r.floats(v)[i], 1e-6) << i;
    EXPECT_EQ(r.floats(k_cache)[0], 0);
  }
}

// Products whose left side has 2^31 numbers and more: all rows are zero but for three.
TEST_F(TokensBeyondAll, Products) {
  constexpr std::int64_t wide = 1024, count = border / wide + 3;
  const std::int64_t places[] = {0, border / wide - 1, border / wide, count - 1};
  Reserved large, small;
  Id ids[6] = {};
  for (Reserved* r : {&large, &small}) {
    const std::int64_t time = r == &large ? count : 4;
    ids[0] = r->add({{B, 1}, {T, time}, {D, wide}});  // x of width 1024, or dy
    ids[1] = r->add({{B, 1}, {T, time}, {F, 1}});
    ids[2] = r->add({{D, wide}, {F, 1}});  // w [in out], or [out in] of the other direction
    ids[3] = r->add({{D, wide}, {F, 1}});
    ids[4] = r->add({{B, 1}, {T, time}, {F, 1}});
    ids[5] = r->add({{F, 1}});
    fill(r->floats(ids[2]), wide, 1);
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = r == &large ? places[i] : i;
      fill(r->floats(ids[0], row * wide), wide, i + 2);
    }
    run(cpu, r->frame(), Linear{.x = ids[0], .w = ids[2], .bias = no_value, .y = ids[1]});
    run(cpu, r->frame(), LinearGradInput{.dy = ids[0], .w = ids[2], .dx = ids[4], .out_in = true});
    run(cpu, r->frame(),
        LinearGradWeight{.x = ids[0], .dy = ids[1], .dw = ids[3], .dbias = ids[5]});
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(large.floats(ids[1])[places[i]], small.floats(ids[1])[i]);
    EXPECT_EQ(large.floats(ids[4])[places[i]], small.floats(ids[4])[i]);
    EXPECT_NE(large.floats(ids[1])[places[i]], small.floats(ids[1])[(i + 1) % 4]);
  }
  // The sums over tokens have the same terms, in blocks cut elsewhere.
  for (std::int64_t i = 0; i < wide; ++i)
    ASSERT_NEAR(large.floats(ids[3])[i], small.floats(ids[3])[i], 1e-5);
  EXPECT_NEAR(large.floats(ids[5])[0], small.floats(ids[5])[0], 1e-5);
}

// Some rows of a product; `beside` them is one that is not to be written.
struct Rows {
  std::int64_t first, last;
  std::int64_t count() const { return last - first; }
  std::int64_t beside() const { return first == 0 ? last : first - 1; }
};
constexpr std::int64_t wide_row = 1000;  // does not divide 2^31: a row lies across it
constexpr std::int64_t many_rows = border / wide_row + 6;
constexpr Rows product_rows[] = {
    {0, 3}, {border / wide_row - 1, border / wide_row + 2}, {many_rows - 2, many_rows}};

// Only `rows` of the large matrix were made, and they are the rows of the small one.
void expect_rows(const Reserved& large, const Reserved& small, Id id, const Rows& rows) {
  SCOPED_TRACE(rows.first);
  const float* const made = large.floats(id, rows.first * wide_row);
  EXPECT_TRUE(same(made, small.floats(id), rows.count() * wide_row));
  EXPECT_FALSE(same(made, small.floats(id, wide_row), wide_row));
  const float* const beside = large.floats(id, rows.beside() * wide_row);
  EXPECT_TRUE(std::all_of(beside, beside + wide_row, [](float x) { return x == 0; }));
}

// y of Linear, and dx of LinearGradInput where it has the same factors.
TEST_F(TokensBeyondAll, ProductsOfManyRows) {
  constexpr std::int64_t narrow = 8;
  constexpr Id x = 0, w = 1, bias = 2, y = 3, dx = 4;
  for (const bool out_in : {false, true}) {
    const auto make = [&](Reserved& r, std::int64_t time) {
      r.add({{B, 1}, {T, time}, {D, narrow}});
      r.add(out_in ? Shape{{F, wide_row}, {D, narrow}} : Shape{{D, narrow}, {F, wide_row}});
      r.add({{F, wide_row}});
      for (int i = 0; i < 2; ++i) r.add({{B, 1}, {T, time}, {F, wide_row}});
      fill(r.floats(w), narrow * wide_row, 1);
      fill(r.floats(bias), wide_row, 2);
    };
    const Linear forward{.x = x, .w = w, .bias = bias, .y = y, .out_in = out_in};
    const LinearGradInput backward{.dy = x, .w = w, .dx = dx, .out_in = !out_in};
    Reserved large;
    make(large, many_rows);
    for (const Rows& rows : product_rows) {
      Reserved small;
      make(small, rows.count());
      fill(large.floats(x, rows.first * narrow), rows.count() * narrow, rows.first);
      fill(small.floats(x), rows.count() * narrow, rows.first);
      run(cpu, large.frame(), forward, {rows.first, rows.last});
      run(cpu, large.frame(), backward, {rows.first, rows.last});
      run(cpu, small.frame(), forward);
      run(cpu, small.frame(), backward);
      expect_rows(large, small, y, rows);
      expect_rows(large, small, dx, rows);
    }
  }
}

TEST_F(TokensBeyondAll, GradientsOfEnormousWeights) {
  constexpr std::int64_t time = 5;
  constexpr Id left = 0, right = 1, dw = 2;
  for (const bool out_in : {false, true}) {
    const auto make = [&](Reserved& r, std::int64_t rows) {
      r.add({{B, 1}, {T, time}, {D, rows}});
      r.add({{B, 1}, {T, time}, {F, wide_row}});
      r.add({{D, rows}, {F, wide_row}});
      fill(r.floats(right), time * wide_row, 1);
    };
    LinearGradWeight op{.x = left, .dy = right, .dw = dw, .dbias = no_value, .out_in = out_in};
    if (out_in) std::swap(op.x, op.dy);
    Reserved large;
    make(large, many_rows);
    for (const Rows& rows : product_rows) {
      Reserved small;
      make(small, rows.count());
      for (std::int64_t t = 0; t < time; ++t) {
        fill(large.floats(left, t * many_rows + rows.first), rows.count(), rows.first + t);
        fill(small.floats(left, t * rows.count()), rows.count(), rows.first + t);
      }
      for (const bool first : {true, false}) {
        run(cpu, large.frame(first), op, {rows.first, rows.last});
        run(cpu, small.frame(first), op);
      }
      expect_rows(large, small, dw, rows);
    }
  }
}

// Tiles of 256 rows x 128 columns at the start, where weight and packed weight pass 2^31, at the
// end.
TEST_F(TokensBeyondAll, PackedWeights) {
  constexpr std::int64_t k = 70'000, n = 31'000, rows = 256, columns = 128;
  constexpr std::int64_t blocks = (k + rows - 1) / rows, strips = (n + columns - 1) / columns;
  for (const bool transposed : {false, true})
    for (const std::int64_t tile :
         {std::int64_t{0}, border / k / columns * blocks + border / n / rows,
          strips * blocks - 1}) {
      const std::int64_t row = tile % blocks * rows, column = tile / blocks * columns;
      const std::int64_t height = std::min(rows, k - row), width = std::min(columns, n - column);
      const auto pack = [&](Reserved& m, std::int64_t kk, std::int64_t nn, std::int64_t r0,
                            std::int64_t c0, Tiles tiles) {
        const Id w = m.add(transposed ? Shape{{V, nn}, {D, kk}} : Shape{{D, kk}, {F, nn}});
        const Id packed = m.add({{Axis::bytes, packed_count(kk, nn)}});
        for (std::int64_t r = 0; r < height; ++r)
          for (std::int64_t c = 0; c < width; ++c)
            *m.floats(w, transposed ? (c0 + c) * kk + r0 + r : (r0 + r) * nn + c0 + c) =
                static_cast<float>(r * columns + c + 1);
        run(cpu, m.frame(), Pack{w, packed, kk, nn, transposed}, tiles);
        return m.floats(packed);
      };
      Reserved large, small;
      const float* whole = pack(large, k, n, row, column, {tile, tile + 1});
      const float* alone = pack(small, height, width, 0, 0, {});
      for (std::int64_t panel = 0; panel < (width + 15) / 16; ++panel)
        EXPECT_TRUE(same(whole + (column / 16 + panel) * 16 * k + row * 16,
                         alone + panel * 16 * height, height * 16))
            << tile << " panel " << panel;
    }
}

TEST_F(TokensBeyondAll, HeadOverManyTokens) {
  constexpr std::int64_t wide = 1024, count = border / wide + 3, vocab = 5;
  const std::int64_t places[] = {0, border / wide - 1, border / wide, count - 1};
  double nll[2][2];
  for (const bool large : {false, true}) {
    Reserved r;
    const std::int64_t time = large ? count : 4;
    const Id x = r.add({{B, 1}, {T, time}, {D, wide}}), w = r.add({{V, vocab}, {D, wide}});
    const Id targets = r.add({{B, 1}, {T, time}}, DType::i32);
    const Id weights = r.add({{B, 1}, {T, time}}), stats = r.add({{S, 2}}, DType::f64);
    r.add_workspace(4096 * (16 * 4 + 16));
    fill(r.floats(w), vocab * wide, 1);
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = large ? places[i] : i;
      fill(r.floats(x, row * wide), wide, i + 2);
      r.integers(targets)[row] = i;
      r.floats(weights)[row] = static_cast<float>(i + 1);
    }
    run(cpu, r.frame(),
        HeadLoss{.x = x,
                 .w = w,
                 .targets = targets,
                 .weights = weights,
                 .stats = stats,
                 .vocab = vocab});
    std::memcpy(nll[large], r.frame()[stats].data<double>(), sizeof(nll[0]));
  }
  EXPECT_EQ(nll[0][0], nll[1][0]);
  EXPECT_EQ(nll[1][1], 10);
  EXPECT_GT(nll[1][0], 1);
}

// Training's head: chunks at the start, before and across element 2^31 of x and dx, and at the end,
// one call each, are the chunks of one small tensor; dw, dbias and the losses sum over them.
TEST_F(TokensBeyondAll, GradientsOfTheHeadOverManyTokens) {
  constexpr std::int64_t vocab = 5, chunk = 64, across = border / wide_row / chunk;
  constexpr std::int64_t places[] = {0, across - 1, across, across + 3}, odd = 5;
  constexpr Id x = 0, w = 1, targets = 2, weights = 3, stats = 4, dx = 5, dw = 6, dbias = 7;
  const HeadLoss op{.x = x,
                    .w = w,
                    .targets = targets,
                    .weights = weights,
                    .stats = stats,
                    .dx = dx,
                    .dw = dw,
                    .dbias = dbias,
                    .vocab = vocab,
                    .chunk = chunk};
  const auto make = [&](Reserved& r, std::int64_t time) {
    r.add({{B, 1}, {T, time}, {D, wide_row}});
    r.add({{V, vocab}, {D, wide_row}});
    r.add({{B, 1}, {T, time}}, DType::i32);
    r.add({{B, 1}, {T, time}});
    r.add({{S, 2}}, DType::f64);
    r.add({{B, 1}, {T, time}, {D, wide_row}});
    r.add({{V, vocab}, {D, wide_row}});
    r.add({{V, vocab}});
    r.add_workspace(chunk * (16 * 4 + 8));
    fill(r.floats(w), vocab * wide_row, 1);
  };
  const auto fill_tokens = [&](Reserved& r, std::int64_t begin, std::int64_t count, int seed) {
    fill(r.floats(x, begin * wide_row), count * wide_row, seed);
    fill(r.floats(weights, begin), count, seed);
    for (std::int64_t t = 0; t < count; ++t)
      r.integers(targets)[begin + t] = static_cast<std::int32_t>((t + seed) % vocab);
  };
  Reserved large, small;
  make(large, places[3] * chunk + odd);
  make(small, 3 * chunk + odd);
  for (int i = 0; i < 4; ++i) fill_tokens(small, i * chunk, i < 3 ? chunk : odd, i);
  run(cpu, small.frame(), op);
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(same(large.floats(dw), small.floats(dw), vocab * wide_row)) << i;
    const std::int64_t begin = places[i] * chunk, count = i < 3 ? chunk : odd;
    fill_tokens(large, begin, count, i);
    run(cpu, large.frame(i == 0), op, {places[i], places[i] + 1});
    const float* const made = large.floats(dx, begin * wide_row);
    EXPECT_TRUE(same(made, small.floats(dx, i * chunk * wide_row), count * wide_row)) << i;
    EXPECT_FALSE(same(made, small.floats(dx, (i * chunk + 1) * wide_row), wide_row)) << i;
  }
  EXPECT_TRUE(same(large.floats(dw), small.floats(dw), vocab * wide_row));
  EXPECT_TRUE(same(large.floats(dbias), small.floats(dbias), vocab));
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(large.frame()[stats].data<double>()[i], small.frame()[stats].data<double>()[i]);
}

// A vocabulary whose weight passes element 2^31: all logits are zero but for three.
TEST_F(TokensBeyondAll, HeadOverAnEnormousVocabulary) {
  constexpr std::int64_t wide = 1024, vocab = border / wide + 5;
  Reserved r;
  const Id x = r.add({{B, 1}, {T, 2}, {D, wide}}), w = r.add({{V, vocab}, {D, wide}});
  const Id targets = r.add({{B, 1}, {T, 2}}, DType::i32);
  const Id weights = r.add({{B, 1}, {T, 2}}), stats = r.add({{S, 2}}, DType::f64);
  r.add_workspace(2 * (vocab + 16) * 4 + 64);
  const std::int64_t places[] = {0, border / wide, vocab - 1};
  double sum = static_cast<double>(vocab - 3), logits[3];
  for (std::int64_t t = 0; t < 2; ++t) {
    r.floats(x)[t * wide + wide - 1] = 2;
    r.floats(weights)[t] = 1;
    r.integers(targets)[t] = static_cast<std::int32_t>(places[t + 1]);
  }
  for (int i = 0; i < 3; ++i) {
    r.floats(w, places[i] * wide)[wide - 1] = static_cast<float>(6 + i);
    logits[i] = 2 * (6 + i);
    sum += std::exp(logits[i]);
  }
  run(cpu, r.frame(),
      HeadLoss{
          .x = x, .w = w, .targets = targets, .weights = weights, .stats = stats, .vocab = vocab});
  const double expected = 2 * std::log(sum) - logits[1] - logits[2];
  EXPECT_NEAR(r.frame()[stats].data<double>()[0], expected, 1e-5 * expected);
}

}  // namespace
}  // namespace sluice
