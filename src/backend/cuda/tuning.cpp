#include "backend/cuda/tuning.h"

#include <algorithm>

#include "backend/cuda/kernels/tuning.h"

namespace sluice {
namespace {

constexpr int most_algorithms = 24, repetitions = 20;
constexpr double least_seconds = 3e-4;  // of one measurement
constexpr std::uint64_t seed_a = 1, seed_b = 2, seed_c = 3, seed_bias = 4, seed_aux = 5;

gpu::Type type_of(DType type) { return type == DType::bf16 ? gpu::Type::bf16 : gpu::Type::f32; }

std::int64_t numbers_of(std::int64_t rows, std::int64_t columns, bool transposed,
                        std::int64_t line) {
  return (transposed ? columns : rows) * line;
}

}  // namespace

GpuTrials::Memory::Memory(std::int64_t size) : bytes(std::max<std::int64_t>(size, 256)) {
  check_cuda(cudaMalloc(&data, static_cast<std::size_t>(bytes)), "taking memory to measure in");
}

GpuTrials::GpuTrials(Products& products, cudaStream_t stream, void* workspace,
                     const ProductShape& s)
    : products_(products),
      stream_(stream),
      workspace_(workspace),
      shape_(s),
      a_(numbers_of(s.m, s.k, s.a_transposed, s.lda) * size_of(s.type)),
      b_(numbers_of(s.k, s.n, s.b_transposed, s.ldb) * size_of(s.type)),
      c_(s.m * s.ldc * size_of(s.c_type)),
      bias_(has_bias(s.epilogue) ? s.n * size_of(s.c_type) : 0),
      aux_(has_aux(s.epilogue) ? c_.bytes : 0),
      sum_(sizeof(unsigned long long)),
      algorithms_(products.answers(s, most_algorithms)) {
  product_ = {.gemm = {.m = s.m,
                       .n = s.n,
                       .k = s.k,
                       .type = type_of(s.type),
                       .a = a_.data,
                       .lda = s.lda,
                       .a_transposed = s.a_transposed,
                       .b = b_.data,
                       .ldb = s.ldb,
                       .b_transposed = s.b_transposed,
                       .c_type = type_of(s.c_type),
                       .c = c_.data,
                       .ldc = s.ldc,
                       .beta = s.adds ? 1.0f : 0.0f},
              .epilogue = s.epilogue,
              .bias = has_bias(s.epilogue) ? bias_.data : nullptr,
              .aux = has_aux(s.epilogue) ? aux_.data : nullptr};
  // The library's answers hang on alignment; these tables hold what was aligned worse, too.
  shape_ = shape_of(product_);
  const auto fill = [&](const Memory& memory, DType type, std::uint64_t seed) {
    gpu::fill_random(stream_, type_of(type), memory.data, memory.bytes / size_of(type), seed);
  };
  fill(a_, s.type, seed_a), fill(b_, s.type, seed_b), fill(c_, s.c_type, seed_c);
  fill(bias_, s.c_type, seed_bias), fill(aux_, s.c_type, seed_aux);
  check_cuda(cudaGetLastError(), "filling memory to measure in");
}

void GpuTrials::choose(int candidate) {
  if (candidate == chosen_) return;
  products_.choose(shape_, algorithm(candidate));
  chosen_ = candidate;
}

double GpuTrials::seconds(int candidate) {
  choose(candidate);
  for (;;) {
    begin_.record(stream_);
    for (int i = 0; i < runs_; ++i) run();
    end_.record(stream_);
    const double seconds = end_.seconds_since(begin_);
    if (seconds >= least_seconds || runs_ >= 1000) return seconds / runs_;
    runs_ *= 2;  // from here on for all of them
  }
}

std::uint64_t GpuTrials::fingerprint() {
  auto* const sum = static_cast<unsigned long long*>(sum_.data);
  check_cuda(cudaMemsetAsync(sum, 0, sizeof(*sum), stream_), "clearing a sum");
  for (const Memory* one : {&c_, &bias_, &aux_})
    gpu::add_fingerprint(stream_, one->data, one->bytes, sum);
  unsigned long long out = 0;
  check_cuda(cudaMemcpyAsync(&out, sum, sizeof(out), cudaMemcpyDeviceToHost, stream_), "reading");
  check_cuda(cudaStreamSynchronize(stream_), "reading");
  return out;
}

bool GpuTrials::repeats(int candidate) {
  choose(candidate);
  std::uint64_t first = 0;
  for (int i = 0; i < repetitions; ++i) {
    gpu::fill_random(stream_, type_of(shape_.c_type), c_.data, c_.bytes / size_of(shape_.c_type),
                     seed_c);
    run();
    const std::uint64_t now = fingerprint();
    if (i == 0) first = now;
    if (now != first) return false;
  }
  return true;
}

TunedProduct tune(Products& products, cudaStream_t stream, void* workspace,
                  const ProductShape& shape) {
  ProductShape aligned = shape;
  TunedProduct out;
  {
    GpuTrials trials(products, stream, workspace, shape);
    const Chosen best = choose(trials);
    out.own = best.candidate < 0;
    out.seconds = best.seconds, out.first_seconds = best.first_seconds;
    if (!out.own) out.algorithm = trials.algorithm(best.candidate);
    aligned.a_align = aligned.b_align = aligned.c_align = 256;
  }
  products.forget(aligned);
  products.forget(shape);
  return out;
}

}  // namespace sluice
