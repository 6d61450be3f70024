// Attention by cuDNN against the double loops: odd sizes, poisoned outputs, the same bits twenty
// times with copies beside, cut into pieces, and what is left to our own kernels.
#include <gtest/gtest.h>

#include <thread>

#include "backend/cuda/cuda.h"
#include "device_frame.h"
#include "ops/attention/pieces.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, P = Axis::parts, N = Axis::heads, H = Axis::head;

struct Sizes {
  std::int64_t batch, time, heads, head, key_heads = 0;  // key_heads 0: packed q, k and v
  float dropped = 0;
  DType type = DType::bf16;
  bool lse = true;
  std::string text() const {
    return fmt::format("{} x {} tokens, {} heads of {}", batch, time, heads, head);
  }
};

struct Both {
  OpCase forward, gradient;
};

// Attention with documents joined, and its gradient after that forward.
Both cases_of(const Sizes& s, AttentionKernels kernels, float scale = 0) {
  RandomFrame f(31);
  const Shape qs{{B, s.batch}, {T, s.time}, {N, s.heads}, {H, s.head}};
  const Shape fused{{B, s.batch}, {T, s.time}, {P, 3}, {N, s.heads}, {H, s.head}};
  const auto three = [&](auto make) -> std::array<Slice, 3> {
    if (s.key_heads > 0) {
      const Shape ks = qs.with(N, s.key_heads);
      return {Slice{make(qs)}, Slice{make(ks)}, Slice{make(ks)}};
    }
    const Id id = make(fused);
    return {Slice{id, 0, 3}, Slice{id, 1, 3}, Slice{id, 2, 3}};
  };
  const auto in = three([&](const Shape& shape) { return f.random(shape, 1, 0, s.type); });
  const auto tokens = static_cast<std::size_t>(s.batch * s.time);
  Attention op{.q = in[0], .k = in[1], .v = in[2]};
  op.starts = f.numbers({{B, s.batch}, {T, s.time}}, DType::i32, std::vector<double>(tokens, 0.0));
  op.y = f.poisoned(qs, s.type);
  const Id lse = f.poisoned({{B, s.batch}, {N, s.heads}, {T, s.time}});
  op.lse = s.lse ? lse : no_value;
  op.scale = scale > 0 ? scale : static_cast<float>(1 / std::sqrt(static_cast<double>(s.head)));
  op.kernels = kernels;
  op.dropout.rate = s.dropped;
  const Id control = f.numbers({{Axis::scalar, Control::slots}}, DType::f64, {1e-3, 7, 5});
  if (s.dropped > 0) op.control = control;
  Both out{{"attention: " + s.text(), op, f.values()}, {}};
  op.lse = lse;
  f.run(op);
  const Id dy = f.random(qs, 1, 0, s.type);
  const auto d = three([&](const Shape& shape) { return f.poisoned(shape, s.type); });
  out.gradient = {"attention_grad: " + s.text(),
                  AttentionGrad{.q = op.q,
                                .k = op.k,
                                .v = op.v,
                                .starts = op.starts,
                                .y = op.y,
                                .lse = lse,
                                .dy = dy,
                                .dq = d[0],
                                .dk = d[1],
                                .dv = d[2],
                                .scale = op.scale,
                                .control = op.control,
                                .dropout = op.dropout,
                                .kernels = kernels},
                  f.values()};
  return out;
}

// Edges of tiles of 64 and 128, heads that are no power of two, up to the largest.
const Sizes taken[] = {{2, 5, 3, 8},     {1, 2, 1, 16},    {3, 77, 2, 64},  {2, 130, 3, 40},
                       {1, 129, 2, 128}, {1, 300, 1, 256}, {2, 256, 2, 64}, {1, 191, 3, 104}};

class Cudnn : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    backend() = std::make_unique<CudaBackend>((cuda_device(0), 0));
    room() = std::make_unique<DeviceRoom>(*backend(), std::int64_t{256} << 20);
  }
  static void TearDownTestSuite() {
    room().reset();
    backend().reset();
  }
  static std::unique_ptr<CudaBackend>& backend() {
    static std::unique_ptr<CudaBackend> one;
    return one;
  }
  static std::unique_ptr<DeviceRoom>& room() {
    static std::unique_ptr<DeviceRoom> one;
    return one;
  }
  static TestFrame result_of(const OpCase& one) {
    TestFrame frame(one, {}, true);
    room()->run(one.op, frame);
    return frame;
  }
};

// Errors of what a case writes, and whether they are those of bf16 and float32.
std::string errors_of(const OpCase& one, const TestFrame& result,
                      std::span<const RefValue> expected, bool& close) {
  std::string text;
  close = result.guards_hold();
  for (const Id id : written_by(one.op)) {
    const bool half = one.frame[static_cast<std::size_t>(id)].type.dtype == DType::bf16;
    const double error = error_of(id, result, expected);
    close = close && error <= (half ? 1e-2 : 1e-5);
    text += fmt::format(" {:.1e}", error);
  }
  return text;
}

TEST_F(Cudnn, IsCloseToTheLoopsAtOddSizes) {
  const auto look = [](const Sizes& sizes, AttentionKernels kernels) {
    const Both both = cases_of(sizes, kernels);
    for (const OpCase* one : {&both.forward, &both.gradient}) {
      bool close = false;
      const std::string errors = errors_of(*one, result_of(*one), expected_of(*one), close);
      EXPECT_TRUE(close) << one->label << errors;
      fmt::print("{:60}{}\n", one->label, errors);
    }
  };
  for (const Sizes& sizes : taken) look(sizes, AttentionKernels::library);
  for (const int i : {0, 2, 5}) look(taken[i], AttentionKernels::unordered);
  Sizes without = taken[2];
  without.lse = false;
  const OpCase one = cases_of(without, AttentionKernels::library).forward;
  EXPECT_LE(worst_error(one, result_of(one), expected_of(one)), 1e-2);
}

// Copies of 64 MiB both ways for as long as it lives.
class Beside {
 public:
  explicit Beside(CudaBackend& gpu)
      : gpu_(gpu), device_(gpu.take(2 * bytes)), host_(gpu.take_host(2 * bytes)) {
    in_ = std::thread([this] {
      while (!stop_) gpu_.copy_in(device_, host_, bytes);
    });
    out_ = std::thread([this] {
      while (!stop_) gpu_.copy_out(host_ + bytes, device_ + bytes, bytes);
    });
  }
  ~Beside() {
    stop_ = true;
    in_.join(), out_.join();
  }

 private:
  static constexpr std::int64_t bytes = 64 << 20;
  CudaBackend& gpu_;
  std::byte *device_, *host_;
  std::atomic<bool> stop_ = false;
  std::thread in_, out_;
};

// Numbers on the device for calls of any size, and their bits afterwards.
class Arrays {
 public:
  explicit Arrays(CudaBackend& gpu) : gpu_(gpu) {}
  std::byte* random(std::int64_t numbers) {
    std::vector<std::uint16_t> host(static_cast<std::size_t>(numbers));
    constexpr std::size_t period = (1 << 20) + 3;  // they come again, not in step with any row
    for (std::size_t i = 0; i < host.size(); ++i)
      host[i] = i < period ? bits_of(static_cast<float>(next())) : host[i - period];
    std::byte* const device = gpu_.take(2 * numbers);
    gpu_.copy_in(device, reinterpret_cast<std::byte*>(host.data()), 2 * numbers);
    return device;
  }
  std::byte* poisoned(std::int64_t bytes) {
    std::string host(static_cast<std::size_t>(bytes), '\xff');
    std::byte* const device = gpu_.take(bytes);
    gpu_.copy_in(device, reinterpret_cast<std::byte*>(host.data()), bytes);
    return device;
  }
  std::string bits(const std::byte* device, std::int64_t bytes) {
    std::string host(static_cast<std::size_t>(bytes), '\0');
    gpu_.finish();
    gpu_.copy_out(reinterpret_cast<std::byte*>(host.data()), device, bytes);
    return host;
  }

 private:
  static std::uint16_t bits_of(float x) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof(bits));
    return static_cast<std::uint16_t>(bits >> 16);
  }
  double next() { return std::uniform_real_distribution<double>(-1.7, 1.7)(random_); }
  CudaBackend& gpu_;
  std::mt19937_64 random_{5};
};

// Packed attention of a size that no double loop is patient enough for.
struct Large {
  Large(CudaBackend& gpu, const Sizes& s) : sizes(s), arrays(gpu), gpu(gpu) {
    const std::int64_t row = s.heads * s.head, tokens = s.batch * s.time;
    qkv = arrays.random(3 * tokens * row), dy = arrays.random(tokens * row);
    y = arrays.poisoned(2 * tokens * row), dqkv = arrays.poisoned(6 * tokens * row);
    lse = arrays.poisoned(4 * tokens * s.heads), room = gpu.take(most_attention_workspace);
  }
  std::int64_t row() const { return sizes.heads * sizes.head; }
  std::int64_t tokens() const { return sizes.batch * sizes.time; }
  AttentionExtent extent(bool gradient) const {
    return {.kernels = AttentionKernels::library,
            .type = DType::bf16,
            .gradient = gradient,
            .batch = sizes.batch,
            .time = sizes.time,
            .heads = sizes.heads,
            .key_heads = sizes.heads,
            .head = sizes.head};
  }
  void run(CudnnKind kind, const AttentionPieces& pieces, std::int64_t workspace) const {
    const auto heads = [&](std::byte* data, std::int64_t part, std::int64_t parts) {
      return gpu::Heads{data + 2 * part * row(), parts * row(), parts * row() * sizes.time};
    };
    gpu.cudnn().run(gpu.stream(), {.kind = kind,
                                   .pieces = pieces,
                                   .shape = {.type = gpu::Type::bf16,
                                             .batch = sizes.batch,
                                             .time = sizes.time,
                                             .heads = sizes.heads,
                                             .key_heads = sizes.heads,
                                             .head = sizes.head,
                                             .scale = 0.125f},
                                   .q = heads(qkv, 0, 3),
                                   .k = heads(qkv, 1, 3),
                                   .v = heads(qkv, 2, 3),
                                   .y = heads(y, 0, 1),
                                   .lse = reinterpret_cast<float*>(lse),
                                   .dy = heads(dy, 0, 1),
                                   .dq = heads(dqkv, 0, 3),
                                   .dk = heads(dqkv, 1, 3),
                                   .dv = heads(dqkv, 2, 3),
                                   .workspace = {room, static_cast<std::size_t>(workspace)}});
  }
  std::string bits() {
    return arrays.bits(y, 2 * tokens() * row()) + arrays.bits(lse, 4 * tokens() * sizes.heads) +
           arrays.bits(dqkv, 6 * tokens() * row());
  }

  Sizes sizes;
  Arrays arrays;
  CudaBackend& gpu;
  std::byte *qkv, *dy, *y, *dqkv, *lse, *room;
};

TEST_F(Cudnn, HasTheSameBitsTwentyTimesWithCopiesBeside) {
  CudaBackend copies(0);
  const Beside beside(copies);
  for (const Sizes& sizes : taken) {
    const Both both = cases_of(sizes, AttentionKernels::library);
    for (const OpCase* one : {&both.forward, &both.gradient}) {
      const TestFrame first = result_of(*one);
      for (int i = 1; i < 20; ++i)
        ASSERT_TRUE(same_bits(*one, first, result_of(*one))) << one->label << ", time " << i;
    }
  }
  for (const Sizes& sizes : {Sizes{8, 1024, 12, 64}, {2, 2048, 16, 128}}) {
    CudaBackend gpu(0);
    Large one(gpu, sizes);
    std::string first;
    for (int i = 0; i < 20; ++i) {
      for (const bool gradient : {false, true})
        one.run(gradient ? CudnnKind::gradient : CudnnKind::forward_lse,
                pieces_of(one.extent(gradient)), most_attention_workspace);
      const std::string bits = one.bits();
      if (i == 0) first = bits;
      ASSERT_EQ(first == bits, true) << sizes.text() << ", time " << i;
    }
  }
}

TEST_F(Cudnn, PiecesHaveTheBitsOfTheWhole) {
  CudaBackend gpu(0);
  Large one(gpu, {6, 1000, 12, 64});
  std::string whole;
  for (const auto& [sequences, heads] : {std::pair{6, 12}, {4, 12}, {1, 12}, {1, 5}, {1, 1}}) {
    const AttentionPieces pieces{.sequences = sequences, .heads = heads};
    one.run(CudnnKind::forward_lse, pieces, most_attention_workspace);
    one.run(CudnnKind::gradient, pieces, most_attention_workspace);
    const std::string bits = one.bits();
    if (whole.empty()) whole = bits;
    EXPECT_EQ(whole == bits, true) << sequences << " sequences, " << heads << " heads";
  }
  // The control: another kernel's order of sums shows.
  const AttentionPieces pieces{.sequences = 6, .heads = 12};
  one.run(CudnnKind::any_gradient, pieces, most_attention_workspace);
  EXPECT_FALSE(whole == one.bits());
}

// The formula is a bound for every shape, and pieces of it work: here cut by heads.
TEST_F(Cudnn, WantsNoMoreThanTheFormulaSays) {
  for (const Sizes& s :
       {Sizes{64, 1024, 12, 64}, {16, 2048, 16, 128}, {2, 16384, 3, 64}, {3, 9001, 9, 128}}) {
    CudaBackend gpu(0);
    Large one(gpu, s);
    for (const bool gradient : {false, true}) {
      const AttentionPieces pieces = pieces_of(one.extent(gradient));
      ASSERT_TRUE(pieces) << s.text();
      EXPECT_LE(pieces.workspace, most_attention_workspace);
      fmt::print("{:50} {} x {} heads, {} bytes\n", s.text(), pieces.sequences, pieces.heads,
                 pieces.workspace);
      one.run(gradient ? CudnnKind::gradient : CudnnKind::forward_lse, pieces, pieces.workspace);
    }
    EXPECT_EQ(one.bits().find(std::string(64, '\xff')), std::string::npos);  // all were written
  }
}

TEST_F(Cudnn, MoreThanWasPlannedIsRefused) {
  CudaBackend gpu(0);
  const Large one(gpu, {2, 256, 2, 64});
  const AttentionPieces pieces = pieces_of(one.extent(true));
  one.run(CudnnKind::forward_lse, pieces, 1 << 16);
  try {
    one.run(CudnnKind::gradient, pieces, 100);
    FAIL() << "100 bytes were enough";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("wants more memory for attention than was planned"),
              std::string::npos)
        << e.what();
  }
  one.run(CudnnKind::gradient, pieces, pieces.workspace);
  gpu.finish();
}

TEST_F(Cudnn, OtherShapesAreOurOwn) {
  const Sizes left[] = {{2, 33, 2, 12},                     // no multiple of 8
                        {2, 1, 2, 64},                      // one token
                        {2, 33, 4, 64, 2},                  // fewer key heads
                        {2, 33, 2, 64, 0, 0.2f},            // dropout
                        {2, 33, 2, 64, 0, 0, DType::f32}};  // float32
  for (const Sizes& sizes : left) {
    const Both library = cases_of(sizes, AttentionKernels::library);
    const Both own = cases_of(sizes, AttentionKernels::own);
    EXPECT_EQ(workspace_bytes(library.gradient.op, types_of(library.gradient.frame), {}), 0);
    for (const auto& [asked, ours] :
         {std::pair{&library.forward, &own.forward}, {&library.gradient, &own.gradient}}) {
      const TestFrame result = result_of(*asked);
      EXPECT_TRUE(same_bits(*asked, result, result_of(*ours))) << asked->label;
      EXPECT_LE(worst_error(*asked, result, expected_of(*asked)), 1e-2) << asked->label;
    }
  }
}

TEST_F(Cudnn, NegativeControls) {
  const Both both = cases_of(taken[2], AttentionKernels::library);
  const Both wrong = cases_of(taken[2], AttentionKernels::library, 0.2f);  // another scale
  for (const auto& [one, other] :
       {std::pair{&both.forward, &wrong.forward}, {&both.gradient, &wrong.gradient}}) {
    EXPECT_LE(worst_error(*one, result_of(*one), expected_of(*one)), 1e-2);
    EXPECT_GT(worst_error(*one, result_of(*one), expected_of(*other)), 1e-2);
    const TestFrame untouched(*one, {}, true);
    EXPECT_GT(worst_error(*one, untouched, expected_of(*one)), 1e-2);
  }
  // Not ours: the library's result has bits of its own.
  const Both own = cases_of(taken[2], AttentionKernels::own);
  EXPECT_FALSE(same_bits(both.gradient, result_of(both.gradient), result_of(own.gradient)));
}

}  // namespace
}  // namespace sluice
