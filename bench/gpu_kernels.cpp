// What the GPU's own kernels reach of their limits: bytes that each must move, the time it takes,
// and the share of the memory's bandwidth that this is. One line for each kernel and size.
//
//   bench_gpu_kernels [TB/s of a copy, 4.3] [parts of kernels' names]…
//
// Operands are random and turn over several sets, so that what one run left in the L2 cache is
// gone. The median of 9 rounds of at least 2 ms each.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu.h"
#include "backend/cuda/ops/ops.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, F = Axis::hidden, V = Axis::vocab,
               S = Axis::scalar;
constexpr DType f32 = DType::f32, half = DType::bf16;

// Operands in turn: what an op sees of them is another set each time.
class Bench {
 public:
  Bench(double bandwidth, std::vector<std::string> filters)
      : gpu_((cuda_device(0), 0)),
        bandwidth_(bandwidth),
        filters_(std::move(filters)),
        room_(gpu_.take(room_bytes)) {
    check_cuda(cudaEventCreate(&begin_), "an event");
    check_cuda(cudaEventCreate(&end_), "an event");
  }

  Id value(DType type, const Shape& shape, double deviation = 1, double mean = 0) {
    Value one{type, shape, {}};
    std::mt19937 random(static_cast<unsigned>(values_.size()) + 1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> numbers(
        static_cast<std::size_t>(std::min<std::int64_t>(shape.count(), 1 << 20)));
    for (float& x : numbers)
      x = static_cast<float>(mean + deviation * 1.732 * static_cast<double>(uniform(random)));
    one.bytes.resize(numbers.size() * static_cast<std::size_t>(size_of(type)));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (type == half)
        reinterpret_cast<bf16*>(one.bytes.data())[i] = bf16(numbers[i]);
      else if (type == f32)
        reinterpret_cast<float*>(one.bytes.data())[i] = numbers[i];
      else
        one.bytes[i * static_cast<std::size_t>(size_of(type))] = static_cast<std::byte>(random());
    }
    values_.push_back(std::move(one));
    return static_cast<Id>(values_.size()) - 1;
  }
  Id numbers(const std::vector<double>& all) {
    Value one{DType::f64, {{S, static_cast<std::int64_t>(all.size())}}, {}};
    one.bytes.resize(all.size() * 8);
    std::memcpy(one.bytes.data(), all.data(), one.bytes.size());
    values_.push_back(std::move(one));
    return static_cast<Id>(values_.size()) - 1;
  }
  Id ids(const std::vector<std::int32_t>& all, const Shape& shape) {
    Value one{DType::i32, shape, {}};
    one.bytes.resize(all.size() * 4);
    std::memcpy(one.bytes.data(), all.data(), one.bytes.size());
    values_.push_back(std::move(one));
    return static_cast<Id>(values_.size()) - 1;
  }

  // `bytes` that the op must move.
  void time(const std::string& what, const Op& op, double bytes, bool first = true) {
    const std::string label = fmt::format("{} {}", name_of(op), what);
    if (!wanted(label)) return;
    const std::vector<std::vector<Tensor>> sets = place(op);
    std::vector<ValueType> types;
    for (const Value& one : values_) types.push_back({one.type, one.shape});
    const std::int64_t scratch = workspace_bytes(op, types, {});
    report(label, bytes, [&](std::size_t i) {
      gpu_.run(op, {.values = sets[i % sets.size()],
                    .workspace = {next_, static_cast<std::size_t>(scratch)},
                    .first = first});
    });
  }
  // The softmax of a chunk of logits by itself: logits read, dlogits written.
  void time_softmax(const char* what, std::int64_t tokens, std::int64_t vocab, std::int64_t rows) {
    const std::string label = fmt::format("softmax {} tokens, {} words, {}", tokens, vocab, what);
    if (!wanted(label)) return;
    const std::int64_t line = head_loss_line(rows, half);
    std::byte* at = room_;
    const auto take = [&](std::int64_t bytes) {
      std::byte* const out = at;
      at += (bytes + 255) / 256 * 256;
      return out;
    };
    gpu::HeadChunk chunk{.type = gpu::Type::bf16,
                         .logits = reinterpret_cast<float*>(take(tokens * line * 4)),
                         .tokens = tokens,
                         .line = line,
                         .vocab = vocab,
                         .rows = rows,
                         .gradient = true};
    std::vector<float> weights(static_cast<std::size_t>(tokens), 1);
    std::vector<std::int32_t> targets(static_cast<std::size_t>(tokens), 7);
    auto* const w = take(tokens * 4);
    gpu_.copy_in(w, reinterpret_cast<std::byte*>(weights.data()), tokens * 4);
    auto* const t = take(tokens * 4);
    gpu_.copy_in(t, reinterpret_cast<std::byte*>(targets.data()), tokens * 4);
    chunk.weights = reinterpret_cast<float*>(w), chunk.targets = reinterpret_cast<int*>(t);
    chunk.nll = reinterpret_cast<double*>(take(tokens * 8));
    std::vector<float> random(1 << 22);
    std::mt19937 source(3);
    for (float& x : random) x = static_cast<float>(source() % 1000) * 0.005f;
    for (std::int64_t i = 0; i < tokens * line; i += 1 << 22)
      gpu_.copy_in(reinterpret_cast<std::byte*>(chunk.logits + i),
                   reinterpret_cast<std::byte*>(random.data()),
                   4 * std::min<std::int64_t>(1 << 22, tokens * line - i));
    const double logits = static_cast<double>(tokens) * static_cast<double>(rows);
    report(label, 6 * logits, [&](std::size_t) {
      gpu::head_softmax(gpu_.stream(), chunk, gpu_.bad(CudaBackend::bad_target));
    });
  }
  void forget() { values_.clear(); }

 private:
  bool wanted(const std::string& label) const {
    return filters_.empty() || std::any_of(filters_.begin(), filters_.end(), [&](const auto& part) {
             return label.find(part) != std::string::npos;
           });
  }

  static constexpr std::int64_t room_bytes = std::int64_t{24} << 30;
  struct Value {
    DType type;
    Shape shape;
    std::vector<std::byte> bytes;  // repeated as often as it takes
  };

  template <class Run>
  void report(const std::string& label, double bytes, Run one) {
    std::vector<float> rounds;
    std::size_t next = 0;
    const auto run = [&](int times) {
      check_cuda(cudaEventRecord(begin_, gpu_.stream()), "an event");
      for (int i = 0; i < times; ++i) one(next++);
      check_cuda(cudaEventRecord(end_, gpu_.stream()), "an event");
      gpu_.finish();
      float ms = 0;
      check_cuda(cudaEventElapsedTime(&ms, begin_, end_), "a time");
      return ms / static_cast<float>(times);
    };
    run(2);
    const int times = std::clamp(static_cast<int>(2 / run(3)) + 1, 1, 400);
    for (int i = 0; i < 9; ++i) rounds.push_back(run(times));
    std::sort(rounds.begin(), rounds.end());
    const double ms = static_cast<double>(rounds[4]);
    const double rate = bytes / (ms * 1e-3) / 1e12;
    fmt::print("{:52} {:8.1f} MB {:9.1f} us  limit {:8.1f} us  {:5.2f} TB/s  {:3.0f}%\n", label,
               bytes / 1e6, ms * 1e3, bytes / bandwidth_ / 1e6, rate, 100 * rate / bandwidth_);
  }

  // So that operands of a power of two do not lie alike in the memory's channels.
  static constexpr std::int64_t apart = 256 * 1031;

  std::vector<std::vector<Tensor>> place(const Op& op) {
    std::vector<bool> used(values_.size());
    std::int64_t all = 0;
    for_each_operand(op, [&](Id id, Access) {
      used[static_cast<std::size_t>(id)] = true;
      const Value& one = values_[static_cast<std::size_t>(id)];
      all += one.shape.count() * size_of(one.type) + 256 + apart;
    });
    const std::int64_t count = std::clamp<std::int64_t>((std::int64_t{256} << 20) / all + 1, 1, 64);
    next_ = room_;
    std::vector<std::vector<Tensor>> sets(static_cast<std::size_t>(count));
    for (auto& set : sets)
      for (std::size_t id = 0; id < values_.size(); ++id) {
        set.emplace_back();
        if (!used[id]) continue;
        const Value& one = values_[id];
        set.back() = Tensor(next_, one.type, one.shape);
        const std::int64_t bytes = set.back().bytes();
        for (std::int64_t at = 0; at < bytes; at += static_cast<std::int64_t>(one.bytes.size()))
          gpu_.copy_in(next_ + at, one.bytes.data(),
                       std::min(bytes - at, static_cast<std::int64_t>(one.bytes.size())));
        next_ += (bytes + 255) / 256 * 256 + apart;
      }
    return sets;
  }

  CudaBackend gpu_;
  double bandwidth_;
  std::vector<std::string> filters_;
  std::byte *room_, *next_ = nullptr;
  std::vector<Value> values_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

struct Model {
  const char* name;
  std::int64_t batch, time, width, vocab;
  double tokens() const { return static_cast<double>(batch * time); }
};

void elementwise(Bench& b, const Model& m, DType type) {
  const std::int64_t inner = 4 * m.width;
  const Shape wide{{B, m.batch}, {T, m.time}, {F, inner}},
      shape{{B, m.batch}, {T, m.time}, {D, m.width}};
  const double all = m.tokens() * static_cast<double>(inner),
               size = static_cast<double>(size_of(type));
  const std::string what = fmt::format("{} {}", m.name, name_of(type));
  const Id x = b.value(type, wide), dy = b.value(type, wide), y = b.value(type, wide);
  for (const GeluForm form : {GeluForm::tanh, GeluForm::exact}) {
    const std::string more = what + (form == GeluForm::exact ? ", exact" : "");
    b.time(more, Gelu{.x = x, .y = y, .form = form}, 2 * size * all);
    b.time(more, GeluGrad{.x = x, .dy = dy, .dx = y, .form = form}, 3 * size * all);
  }
  b.time(what, Add{.a = x, .b = dy, .y = y}, 3 * size * all);
  const Id control = b.numbers({1e-3, 5, 0});
  b.time(what,
         Dropout{.x = x, .y = y, .control = control, .key = {.rate = 0.1f, .seed = 1, .stream = 2}},
         2 * size * all);
  const Id wide32 = b.value(f32, wide), sums = b.value(f32, wide);
  if (type == half) b.time(what, Cast{.x = wide32, .y = y}, 6 * all);
  if (type == half) b.time(what, AddInto{.x = wide32, .y = sums}, 12 * all);
  // The gradient of a bias alone: dw is not there.
  const Id dbias = b.value(f32, {{F, inner}});
  b.time(what + ", bias", LinearGradWeight{.x = no_value, .dy = dy, .dw = no_value, .dbias = dbias},
         size * all);
  b.forget();
}

void norms(Bench& b, const Model& m, DType type) {
  const Shape shape{{B, m.batch}, {T, m.time}, {D, m.width}}, tokens{{B, m.batch}, {T, m.time}},
      row{{D, m.width}};
  const double all = m.tokens() * static_cast<double>(m.width),
               size = static_cast<double>(size_of(type));
  const std::string what = fmt::format("{} {}", m.name, name_of(type));
  const Id x = b.value(type, shape), dy = b.value(type, shape), y = b.value(type, shape);
  const Id sum = b.value(type, shape), gain = b.value(f32, row, 0.3, 1), bias = b.value(f32, row);
  const Id mean = b.value(f32, tokens, 0.1), rstd = b.value(f32, tokens, 0.1, 1);
  const Id dgain = b.value(f32, row), dbias = b.value(f32, row);
  b.time(what, LayerNorm{.x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd},
         2 * size * all);
  b.time(what,
         ResidualNorm{.a = x,
                      .b = dy,
                      .sum = sum,
                      .gain = gain,
                      .bias = bias,
                      .y = y,
                      .mean = mean,
                      .rstd = rstd},
         4 * size * all);
  b.time(what,
         LayerNormGradInput{.x = x, .gain = gain, .mean = mean, .rstd = rstd, .dy = dy, .dx = y},
         3 * size * all);
  b.time(std::string(what) + ", plus",
         LayerNormGradInput{
             .x = x, .gain = gain, .mean = mean, .rstd = rstd, .dy = dy, .dx = y, .plus = sum},
         4 * size * all);
  b.time(what,
         LayerNormGradWeight{
             .x = x, .mean = mean, .rstd = rstd, .dy = dy, .dgain = dgain, .dbias = dbias},
         2 * size * all, false);
  b.forget();
}

// Ids as text has them: the frequency of a word is one over its rank.
std::vector<std::int32_t> text(std::int64_t count, std::int64_t vocab) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<std::int32_t> out;
  const double top = std::log(static_cast<double>(vocab));
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(static_cast<std::int32_t>(std::exp(top * uniform(random))) - 1);
  return out;
}

void embeddings(Bench& b, const Model& m) {
  const std::int64_t count = m.batch * m.time;
  const Shape tokens{{B, m.batch}, {T, m.time}}, shape{{B, m.batch}, {T, m.time}, {D, m.width}};
  const std::vector<std::int32_t> words = text(count, m.vocab);
  std::vector<std::int32_t> distinct = words;
  std::sort(distinct.begin(), distinct.end());
  const double rows =
      static_cast<double>(std::unique(distinct.begin(), distinct.end()) - distinct.begin());
  const Id ids = b.ids(words, tokens);
  const Id table = b.value(half, {{V, m.vocab}, {D, m.width}}), y = b.value(half, shape);
  const Id dtable = b.value(f32, {{V, m.vocab}, {D, m.width}});
  const double row = static_cast<double>(m.width);
  b.time(m.name, Embed{.ids = ids, .table = table, .y = y}, 4 * row * m.tokens());
  b.time(std::string(m.name) + ", later micro-batch",
         EmbedGrad{.ids = ids, .dy = y, .dtable = dtable}, 2 * row * m.tokens() + 8 * row * rows,
         false);
  b.time(std::string(m.name) + ", first micro-batch",
         EmbedGrad{.ids = ids, .dy = y, .dtable = dtable},
         2 * row * m.tokens() + 8 * row * rows + 4 * row * static_cast<double>(m.vocab));
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < count; ++i)
    positions.push_back(static_cast<std::int32_t>(i % m.time));
  const Id places = b.ids(positions, tokens);
  const Id dplaces = b.value(f32, {{V, m.time}, {D, m.width}});
  b.time(std::string(m.name) + ", positions", EmbedGrad{.ids = places, .dy = y, .dtable = dplaces},
         2 * row * m.tokens() + 8 * row * static_cast<double>(m.time), false);
  b.forget();
}

void updates(Bench& b, const char* name, const Shape& shape) {
  const double n = static_cast<double>(shape.count());
  const Id g = b.value(f32, shape), m = b.value(f32, shape, 0.1),
           v = b.value(f32, shape, 0.01, 0.03);
  const Id w = b.value(f32, shape), pending = b.numbers({1e-4, 9000, 0.01, 1});
  const Id norms = b.numbers({0, 0, 0});
  AdamW op{.w = w, .g = g, .m = m, .v = v, .pending = pending, .part = {}};
  if (shape.rank() > 2) op.parts = 3, op.parts_inner = shape.count() / shape[0].size / 3;
  b.time(fmt::format("{} float32", name), op, 28 * n);
  b.time(name, SquaredNorm{.x = g, .norms = norms}, 4 * n);
  b.time(fmt::format("{} bf16", name),
         RoundGradient{.g = g, .control = no_value, .format = GradientFormat::bf16}, 8 * n);
  const Id control = b.numbers({1e-3, 5, 0});
  RoundGradient int8{
      .g = g, .control = control, .format = GradientFormat::int8, .seed = 1, .stream = 2};
  b.time(fmt::format("{} int8", name), int8, 8 * n);
  AdamW exact = op;
  exact.w = b.value(half, shape), exact.low = b.value(DType::i16, shape);
  b.time(fmt::format("{} exact", name), exact, 28 * n);
  AdamW compact = op;
  const std::int64_t blocks = state_blocks(shape);
  compact.w = exact.w, compact.m = b.value(DType::u8, shape), compact.v = b.value(DType::u8, shape);
  compact.m_scale = b.value(f32, {{S, blocks}}, 0.01, 0.1),
  compact.v_scale = b.value(f32, {{S, blocks}}, 0.001, 0.01);
  b.time(fmt::format("{} compact", name), compact, 12 * n + 16 * static_cast<double>(blocks));
  b.time(fmt::format("{} exact", name),
         Ema{.w = exact.w, .low = exact.low, .average = m, .pending = pending}, 12 * n);
  b.forget();
}

void all(Bench& b) {
  const Model models[] = {{"124M, 32 x 1024", 32, 1024, 768, 50304},
                          {"1.3B, 8 x 2048", 8, 2048, 2048, 50304}};
  for (const Model& m : models) {
    norms(b, m, half);
    elementwise(b, m, half);
    embeddings(b, m);
    b.time_softmax(m.name, 4096, m.vocab - 47, m.vocab);
  }
  norms(b, models[0], f32);
  elementwise(b, models[0], f32);
  updates(b, "50304 x 768", {{V, 50304}, {D, 768}});
  updates(b, "768 x 3072", {{D, 768}, {F, 3072}});
  updates(b, "2048 x 3 x 2048", {{D, 2048}, {Axis::parts, 3}, {F, 2048}});
  updates(b, "2048 x 8192", {{D, 2048}, {F, 8192}});
}

}  // namespace
}  // namespace sluice

int main(int count, char** arguments) {
  try {
    std::vector<std::string> filters;
    for (int i = 2; i < count; ++i) filters.emplace_back(arguments[i]);
    sluice::Bench bench(count > 1 ? std::atof(arguments[1]) : 4.3, filters);
    sluice::all(bench);
  } catch (const sluice::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
