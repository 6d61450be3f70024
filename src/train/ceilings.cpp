#include "train/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "backend/tuner.h"
#include "core/dtype.h"
#include "core/random.h"
#include "ops/attention/pieces.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t alignment = 4096;
constexpr std::int64_t zero_bytes = 64 << 20;
constexpr std::int64_t little_workspace = 64 << 20;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::int64_t bytes_of(const ValueType& type) { return type.shape.count() * size_of(type.dtype); }
std::int64_t aligned(std::int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }
bool is_number(DType type) { return type == DType::f32 || type == DType::bf16; }

}  // namespace

LooseOp product_op(DType type, std::int64_t m, std::int64_t k, std::int64_t n) {
  const Dim batch{Axis::batch, 1}, time{Axis::time, m};
  LooseOp out;
  out.types = {{type, {batch, time, {Axis::model, k}}},
               {type, {{Axis::model, k}, {Axis::hidden, n}}},
               {type, {batch, time, {Axis::hidden, n}}}};
  out.op = Linear{.x = 0, .w = 1, .bias = no_value, .y = 2};
  return out;
}

LooseOp attention_op(DType type, const AttentionSizes& s, bool backward, AttentionKernels kernels) {
  const Dim batch{Axis::batch, s.batch}, time{Axis::time, s.sequence}, heads{Axis::heads, s.heads},
      head{Axis::head, s.head};
  const Shape qkv{batch, time, {Axis::parts, 3}, heads, head}, y{batch, time, heads, head};
  LooseOp out;
  out.types = {{type, qkv}, {DType::i32, {batch, time}},
               {type, y},   {DType::f32, {batch, heads, time}},
               {type, y},   {type, qkv}};
  const float scale = 0.125f;
  if (backward)
    out.op = AttentionGrad{.q = {0, 0, 3},
                           .k = {0, 1, 3},
                           .v = {0, 2, 3},
                           .starts = 1,
                           .y = 2,
                           .lse = 3,
                           .dy = 4,
                           .dq = {5, 0, 3},
                           .dk = {5, 1, 3},
                           .dv = {5, 2, 3},
                           .scale = scale,
                           .kernels = kernels};
  else
    out.op = Attention{.q = {0, 0, 3},
                       .k = {0, 1, 3},
                       .v = {0, 2, 3},
                       .starts = 1,
                       .y = 2,
                       .lse = 3,
                       .scale = scale,
                       .kernels = kernels};
  return out;
}

Ceilings::Ceilings(Backend& backend, std::int64_t bytes, int threads)
    : backend_(backend),
      bytes_(aligned(bytes)),
      threads_(threads),
      workspace_room_(little_workspace + (backend.host_sees() ? 0 : most_attention_workspace)) {
  read_.data = backend.take(bytes_);
  written_.data = backend.take(bytes_);
  zeros_ = backend.take(zero_bytes);
  workspace_ = backend.take(workspace_room_);
  fill();
}

// One stretch of numbers again and again: normal ones as bf16, which as float32 are some, too. Its
// length is a prime number, so that rows of matrices differ.
void Ceilings::fill() {
  constexpr std::int64_t most = 1'299'709;
  const std::int64_t count = std::min(most, bytes_ / size_of(DType::bf16));
  std::vector<bf16> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = bf16(random_normal(1, 2, i));
  const std::int64_t stretch = count * size_of(DType::bf16);
  std::byte* const host = backend_.take_host(stretch);
  std::memcpy(host, numbers.data(), static_cast<std::size_t>(stretch));
  backend_.copy_in(read_.data, host, stretch);
  for (std::int64_t done = stretch; done < bytes_; done *= 2)
    backend_.copy_within(read_.data + done, read_.data, std::min(done, bytes_ - done));
  backend_.copy_within(written_.data, read_.data, bytes_);  // its pages are there
  backend_.finish();
}

std::byte* Ceilings::place(Area& area, std::int64_t bytes) {
  if (area.next + bytes > bytes_) area.next = 0;
  std::byte* const out = area.data + area.next;
  area.next += aligned(bytes);
  return out;
}

bool Ceilings::fits(const LooseOp& op) const {
  bool out = workspace_bytes(op.op, op.types, {threads_}) <= workspace_room_;
  for_each_operand(op.op, [&](Id id, Access) {
    const ValueType& type = op.types[static_cast<std::size_t>(id)];
    out = out && bytes_of(type) <= (is_number(type.dtype) ? bytes_ : zero_bytes);
  });
  return out;
}

Frame Ceilings::frame_of(const LooseOp& op) {
  values_.assign(op.types.size(), Tensor());
  for_each_operand(op.op, [&](Id id, Access access) {
    Tensor& value = values_[static_cast<std::size_t>(id)];
    const ValueType& type = op.types[static_cast<std::size_t>(id)];
    if (value) return;
    std::byte* data = zeros_;
    if (is_number(type.dtype))
      data = place(access == Access::read ? read_ : written_, bytes_of(type));
    value = Tensor(data, type.dtype, type.shape);
  });
  return {.values = values_, .workspace = {workspace_, static_cast<std::size_t>(workspace_room_)}};
}

void Ceilings::tune(const std::vector<LooseOp>& ops) {
  ProductTuner* const tuner = backend_.tuner();
  if (tuner == nullptr) return;
  AlgorithmTable table = tuner->machine();
  for (const LooseOp& one : ops)
    for (const ProductShape& shape : tuner->products_of(one.op, frame_of(one)))
      if (!table.products.contains(shape)) table.products[shape] = tuner->tune(shape);
  tuner->use(table);
}

double Ceilings::run(const std::vector<LooseOp>& ops, double seconds) {
  const auto round = [&] {
    for (const LooseOp& one : ops) backend_.run(one.op, frame_of(one));
  };
  const auto timed = [&](std::int64_t rounds) {
    const Clock::time_point begin = Clock::now();
    for (std::int64_t i = 0; i < rounds; ++i) round();
    backend_.finish();
    return since(begin);
  };
  timed(1);  // libraries load, pages are there
  const double once = std::max(1e-9, timed(1));
  // In stretches, so that a first guess of the length matters little.
  double all = 0;
  std::int64_t rounds = 0;
  while (all < seconds || rounds == 0) {
    const double left = std::max(once, seconds - all);
    const auto next = std::max<std::int64_t>(1, static_cast<std::int64_t>(0.5 * left / once));
    all += timed(next);
    rounds += next;
  }
  return all / static_cast<double>(rounds);
}

double Ceilings::rate(const LooseOp& op, double seconds) {
  return cost(op.op, op.types).flops / run({op}, seconds);
}

double Ceilings::copy(double seconds) {
  const Clock::time_point warm = Clock::now();
  backend_.copy_within(written_.data, read_.data, bytes_);
  backend_.finish();
  const double once = std::max(1e-9, since(warm));
  const auto rounds = std::max<std::int64_t>(2, static_cast<std::int64_t>(seconds / once));
  const Clock::time_point begin = Clock::now();
  for (std::int64_t i = 0; i < rounds; ++i) backend_.copy_within(written_.data, read_.data, bytes_);
  backend_.finish();
  return 2.0 * static_cast<double>(bytes_ * rounds) / since(begin);
}

double Ceilings::launch() {
  const Shape shape{{Axis::scalar, 16}};
  const LooseOp op{Scale{.x = 0, .y = 1}, {{DType::f32, shape}, {DType::f32, shape}}};
  return run(std::vector<LooseOp>(200, op), 0.02) / 200;
}

LinkRates measure_link(Backend& backend, std::int64_t bytes, double seconds) {
  std::byte* const device[2] = {backend.take(bytes), backend.take(bytes)};
  std::byte* const host[2] = {backend.take_host(bytes), backend.take_host(bytes)};
  const auto copy = [&](bool in) {
    in ? backend.copy_in(device[0], host[0], bytes) : backend.copy_out(host[1], device[1], bytes);
  };
  // Bytes per second of one way, until that many seconds are over.
  const auto rate = [&](bool in, double share) {
    copy(in);
    std::int64_t copies = 0;
    const Clock::time_point begin = Clock::now();
    for (; copies < 2 || since(begin) < share; ++copies) copy(in);
    return static_cast<double>(copies * bytes) / since(begin);
  };
  LinkRates out;
  out.in = rate(true, seconds / 3);
  out.out = rate(false, seconds / 3);
  double other = 0;
  std::thread beside([&] { other = rate(false, seconds / 3); });
  const double one = rate(true, seconds / 3);
  beside.join();
  out.both = one + other;
  return out;
}

}  // namespace sluice
