// bench_gpu_attention [ROUNDS]: what attention takes on this GPU, by our own kernels and by
// cuDNN's, whole and in pieces of less and less workspace. Packed bf16, causal, random data;
// TFLOP/s count the causal half: 4 b h T² d / 2 forward, 2.5 times that backward. Each figure is
// the median of ROUNDS rounds (default 5), in which all candidates take turns.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <random>

#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu.h"
#include "backend/cuda/kernels/kernels.h"

namespace sluice {
namespace {

struct Sizes {
  std::int64_t batch, heads, time, head;
};

struct Candidate {
  std::string name;
  double flops = 0;
  std::function<void()> run;
  std::vector<float> times = {};
};

// Packed values of a micro-batch on the device.
class Values {
 public:
  Values(CudaBackend& gpu, const Sizes& s) : gpu_(gpu), s_(s) {
    const std::int64_t row = s.heads * s.head, tokens = s.batch * s.time;
    qkv_ = random(3 * tokens * row), dy_ = random(tokens * row);
    y_ = gpu.take(2 * tokens * row), dqkv_ = gpu.take(6 * tokens * row);
    lse_ = gpu.take(4 * tokens * s.heads), delta_ = gpu.take(4 * tokens * s.heads);
    starts_ = gpu.take(4 * tokens);
    workspace_ = gpu.take(most_attention_workspace);
  }

  gpu::AttentionShape shape() const {
    return {.type = gpu::Type::bf16,
            .batch = s_.batch,
            .time = s_.time,
            .heads = s_.heads,
            .key_heads = s_.heads,
            .head = s_.head,
            .scale = 0.125f,
            .starts = reinterpret_cast<std::int32_t*>(starts_)};
  }
  void own(bool gradient) const {
    float* const lse = reinterpret_cast<float*>(lse_);
    if (!gradient)
      return gpu::attention(gpu_.stream(), shape(), of(qkv_, 0), of(qkv_, 1), of(qkv_, 2), y(),
                            lse);
    gpu::attention_grad(gpu_.stream(), shape(), of(qkv_, 0), of(qkv_, 1), of(qkv_, 2), y(), lse,
                        {dy_, s_.heads * s_.head, s_.time * s_.heads * s_.head},
                        {.dq = of(dqkv_, 0),
                         .dk = of(dqkv_, 1),
                         .dv = of(dqkv_, 2),
                         .delta = reinterpret_cast<float*>(delta_)});
  }
  void library(CudnnKind kind, const AttentionPieces& pieces) const {
    gpu_.cudnn().run(
        gpu_.stream(),
        {.kind = kind,
         .pieces = pieces,
         .shape = shape(),
         .q = of(qkv_, 0),
         .k = of(qkv_, 1),
         .v = of(qkv_, 2),
         .y = y(),
         .lse = reinterpret_cast<float*>(lse_),
         .dy = {dy_, s_.heads * s_.head, s_.time * s_.heads * s_.head},
         .dq = of(dqkv_, 0),
         .dk = of(dqkv_, 1),
         .dv = of(dqkv_, 2),
         .workspace = {workspace_, static_cast<std::size_t>(most_attention_workspace)}});
  }

 private:
  gpu::Heads of(std::byte* data, std::int64_t part) const {
    const std::int64_t row = s_.heads * s_.head;
    return {data + 2 * part * row, 3 * row, 3 * row * s_.time};
  }
  gpu::Heads y() const { return {y_, s_.heads * s_.head, s_.time * s_.heads * s_.head}; }
  std::byte* random(std::int64_t numbers) {
    std::mt19937_64 bits(7);
    std::normal_distribution<float> normal;
    std::vector<std::uint16_t> host(static_cast<std::size_t>(numbers));
    constexpr std::size_t period = (1 << 20) + 3;
    for (std::size_t i = 0; i < host.size(); ++i) {
      const float x = i < period ? normal(bits) : 0;
      std::uint32_t as_bits = 0;
      std::memcpy(&as_bits, &x, sizeof(x));
      host[i] = i < period ? static_cast<std::uint16_t>(as_bits >> 16) : host[i - period];
    }
    std::byte* const device = gpu_.take(2 * numbers);
    gpu_.copy_in(device, reinterpret_cast<const std::byte*>(host.data()), 2 * numbers);
    return device;
  }

  CudaBackend& gpu_;
  Sizes s_;
  std::byte *qkv_, *dy_, *y_, *dqkv_, *lse_, *delta_, *starts_, *workspace_;
};

float milliseconds(CudaBackend& gpu, const Candidate& one, int times) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check_cuda(cudaEventCreate(&begin), "an event");
  check_cuda(cudaEventCreate(&end), "an event");
  check_cuda(cudaEventRecord(begin, gpu.stream()), "an event");
  for (int i = 0; i < times; ++i) one.run();
  check_cuda(cudaEventRecord(end, gpu.stream()), "an event");
  check_cuda(cudaEventSynchronize(end), "waiting");
  float out = 0;
  check_cuda(cudaEventElapsedTime(&out, begin, end), "an event");
  (void)cudaEventDestroy(begin), (void)cudaEventDestroy(end);
  return out / static_cast<float>(times);
}

// As many sequences, or heads of one, as need at most `bytes`.
AttentionPieces pieces_within(const Sizes& s, std::int64_t bytes) {
  const std::int64_t head = 2 * s.time * s.time + 4 * s.time;
  const std::int64_t pairs = std::max<std::int64_t>(1, bytes / head);
  if (pairs < s.heads) return {.sequences = 1, .heads = pairs};
  return {.sequences = std::min(s.batch, pairs / s.heads), .heads = s.heads};
}

std::vector<Candidate> candidates(const Values& values, const Sizes& s) {
  const double forward = 2.0 * static_cast<double>(s.batch * s.heads * s.time * s.time * s.head);
  const AttentionPieces whole{.sequences = s.batch, .heads = s.heads};
  std::vector<Candidate> out;
  out.push_back({"own forward", forward, [&values] { values.own(false); }});
  out.push_back({"cudnn forward", forward,
                 [&values, whole] { values.library(CudnnKind::forward_lse, whole); }});
  out.push_back({"own backward", 2.5 * forward, [&values] { values.own(true); }});
  out.push_back({"cudnn backward, any order", 2.5 * forward,
                 [&values, whole] { values.library(CudnnKind::any_gradient, whole); }});
  AttentionPieces before;
  for (const std::int64_t mib : {1000, 512, 256, 128, 96, 64, 48, 32, 24, 16, 8}) {
    const AttentionPieces pieces = pieces_within(s, mib << 20);
    if (pieces.sequences == before.sequences && pieces.heads == before.heads) continue;
    before = pieces;
    out.push_back(
        {fmt::format("cudnn backward, {} MiB, {} x {}", mib, pieces.sequences, pieces.heads),
         2.5 * forward, [&values, pieces] { values.library(CudnnKind::gradient, pieces); }});
  }
  return out;
}

void time_all(const Sizes& s, int rounds) {
  CudaBackend gpu(0);
  const Values values(gpu, s);
  std::vector<Candidate> all = candidates(values, s);
  for (const Candidate& one : all) one.run();
  gpu.finish();
  for (int round = 0; round < rounds; ++round)
    for (Candidate& one : all) one.times.push_back(milliseconds(gpu, one, 5));
  std::fflush(stdout);
  fmt::print("({}, {}, {}, {})\n", s.batch, s.heads, s.time, s.head);
  for (Candidate& one : all) {
    std::sort(one.times.begin(), one.times.end());
    const double ms = one.times[one.times.size() / 2];
    fmt::print("  {:44} {:8.3f} ms {:6.0f} TFLOP/s\n", one.name, ms, one.flops / ms / 1e9);
  }
}

// What the library asks for, beside the formula that the plan counts.
void print_workspaces() {
  const CudnnAttention loaded;
  const CudnnHandle handle;
  fmt::print("cuDNN {}\nworkspace: call, asked, formula\n", loaded.version());
  for (const std::int64_t head : {136, 256})
    for (const std::int64_t time : {129, 1000})
      for (const auto& [batch, heads] : {std::pair{4, 6}})
        for (const CudnnKind kind :
             {CudnnKind::forward_lse, CudnnKind::gradient, CudnnKind::any_gradient}) {
          CudnnCall call{kind, batch, heads, time, head, 0.125f, {}, {}};
          call.token.fill(3 * heads * head), call.sequence.fill(3 * heads * head * time);
          const CudnnGraph graph(handle, call);
          const bool any = kind == CudnnKind::any_gradient;
          const AttentionExtent extent{
              .kernels = any ? AttentionKernels::unordered : AttentionKernels::library,
              .type = DType::bf16,
              .gradient = kind != CudnnKind::forward_lse,
              .time = time,
              .head = head};
          const std::int64_t formula = library_workspace(extent, batch * heads);
          if (!graph.refusal().empty())
            fmt::print("  {} {} {} {} {}: refused: {}\n", static_cast<int>(kind), batch, heads,
                       time, head, graph.refusal());
          else if (graph.workspace() > formula || time >= 1000)
            fmt::print("  {} {} {} {} {}: {} {}{}\n", static_cast<int>(kind), batch, heads, time,
                       head, graph.workspace(), formula,
                       graph.workspace() > formula ? " MORE" : "");
        }
}

}  // namespace
}  // namespace sluice

int main(int count, char** values) {
  using namespace sluice;
  try {
    (void)cuda_device(0);
    for (const Sizes& s :
         {Sizes{16, 12, 1024, 64}, Sizes{64, 12, 1024, 64}, Sizes{16, 16, 2048, 128},
          Sizes{8, 25, 1024, 64}, Sizes{4, 32, 2048, 128}})
      time_all(s, count > 1 ? std::atoi(values[1]) : 5);
    print_workspaces();
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
  return 0;
}
