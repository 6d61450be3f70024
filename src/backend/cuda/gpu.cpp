#include "backend/cuda/gpu.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/ops/ops.h"
#include "backend/cuda/profiled.h"
#include "backend/cuda/tuning.h"

namespace sluice {
std::unique_ptr<Backend> make_cuda(int index) {
  (void)cuda_device(index);  // refuses
  check_cuda(cudaSetDevice(index), "choosing the GPU");
  return std::make_unique<CudaBackend>(index);
}

std::int64_t cuda_bytes_in_use(int index) {
  check_cuda(cudaSetDevice(index), "choosing the GPU");
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "asking for its memory");
  return static_cast<std::int64_t>(total - free);
}

CudaBackend::CudaBackend(int index) : index_(index) {
  scratch_ = take(scratch_bytes);
  workspace_ = take(Products::workspace_bytes);
  void* flags = nullptr;
  check_cuda(cudaHostAlloc(&flags, bad_kinds * sizeof(int), cudaHostAllocDefault), "taking flags");
  host_.push_back(flags);
  bad_ = static_cast<int*>(flags);
  std::fill_n(bad_, static_cast<int>(bad_kinds), 0);
  completer_ = std::thread([this] { complete(); });
}

CudaBackend::~CudaBackend() {
  stop_ = true;
  asked_.fetch_add(1);
  asked_.notify_all();
  completer_.join();
  (void)cudaSetDevice(index_);
  (void)cudaDeviceSynchronize();
  for (void* p : device_) (void)cudaFree(p);
  for (void* p : host_) (void)cudaFreeHost(p);
}

std::byte* CudaBackend::take(std::int64_t bytes) {
  select();
  device_.reserve(device_.size() + 1);
  void* data = nullptr;
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  const cudaError_t code = cudaMalloc(&data, size);
  require(code == cudaSuccess, [&] {
    (void)cudaGetLastError();
    std::size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    return Error(Exit::memory, {fmt::format("cannot take {} bytes of the GPU's memory", bytes),
                                {},
                                "memory for the whole plan before step 1",
                                fmt::format("{} of {} bytes free", free, total),
                                {"a smaller micro-batch", "plan.recompute = block"}});
  });
  device_.push_back(data);
  check_cuda(cudaMemset(data, 0, size), "clearing memory");
  check_cuda(cudaDeviceSynchronize(), "clearing memory");
  return static_cast<std::byte*>(data);
}

std::byte* CudaBackend::take_host(std::int64_t bytes) {
  select();
  host_.reserve(host_.size() + 1);
  void* data = nullptr;
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  check_cuda(cudaMallocHost(&data, size), "taking pinned host memory");
  host_.push_back(data);
  std::fill_n(static_cast<std::byte*>(data), size, std::byte{0});
  return static_cast<std::byte*>(data);
}

void CudaBackend::prepare(const Op& op, const Frame& frame) {
  check_cuda(cudaSetDevice(index_), "choosing the GPU");
  if (const auto* one = std::get_if<Attention>(&op)) sluice::prepare(*this, frame, *one);
  if (const auto* one = std::get_if<AttentionGrad>(&op)) sluice::prepare(*this, frame, *one);
}

void CudaBackend::run(const Op& op, const Frame& frame) {
  select();
  const ProfilerRange range(name_of(op));
  std::visit([&](const auto& one) { sluice::run(*this, frame, one); }, op);
  check_cuda(cudaGetLastError(), name_of(op));
}

void CudaBackend::record() {
  select();
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal),
             "keeping a stretch of work");
}

int CudaBackend::recorded() {
  select();
  kept_.emplace_back(stream());
  return static_cast<int>(kept_.size()) - 1;
}

void CudaBackend::abandon() {
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(stream(), &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

void CudaBackend::replay(int number) {
  select();
  kept_[static_cast<std::size_t>(number)].launch(stream());
}

AlgorithmTable CudaBackend::machine() const {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index_), "looking at the GPU");
  return {properties.name, products_.version(), {}};
}

// Kernels of a product's op go into a capture that is thrown away.
std::vector<ProductShape> CudaBackend::products_of(const Op& op, const Frame& frame) {
  std::vector<ProductShape> out;
  const auto multiplies = [](const auto& one) {
    using T = std::decay_t<decltype(one)>;
    return std::is_same_v<T, Linear> || std::is_same_v<T, LinearGelu> ||
           std::is_same_v<T, LinearGradInput> || std::is_same_v<T, LinearGeluGrad> ||
           std::is_same_v<T, LinearGradWeight> || std::is_same_v<T, HeadLoss>;
  };
  if (!std::visit(multiplies, op)) return out;
  select();
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "listing");
  listed_ = &out;
  std::exception_ptr failed;
  try {
    std::visit([&](const auto& one) { sluice::run(*this, frame, one); }, op);
  } catch (...) {
    failed = std::current_exception();
  }
  listed_ = nullptr;
  abandon();
  if (failed) std::rethrow_exception(failed);
  return out;
}

TunedProduct CudaBackend::tune(const ProductShape& shape) {
  select();
  return sluice::tune(products_, stream(), workspace_, shape);
}

void CudaBackend::copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) {
  select();
  const auto size = static_cast<std::size_t>(bytes);
  check_cuda(cudaMemcpyAsync(device, host, size, cudaMemcpyHostToDevice, in_.get()), "copying in");
  check_cuda(cudaStreamSynchronize(in_.get()), "copying in");
}

void CudaBackend::copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) {
  select();
  const auto size = static_cast<std::size_t>(bytes);
  check_cuda(cudaMemcpyAsync(host, device, size, cudaMemcpyDeviceToHost, out_.get()),
             "copying out");
  check_cuda(cudaStreamSynchronize(out_.get()), "copying out");
}

void CudaBackend::copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) {
  select();
  const auto size = static_cast<std::size_t>(bytes);
  check_cuda(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream()), "copying within");
}

void CudaBackend::finish() {
  select();
  check_cuda(cudaStreamSynchronize(stream()), "waiting");
  require_good();
}

void CudaBackend::require_scratch(std::int64_t bytes) {
  require(bytes <= scratch_bytes, [&] {
    return Error(Exit::usage, {"a micro-batch is too large for the GPU's scratch memory",
                               "plan.micro_batch",
                               fmt::format("at most {} bytes", scratch_bytes),
                               fmt::format("{}", bytes),
                               {"a smaller plan.micro_batch"}});
  });
}

// What kernels found in their data.
void CudaBackend::require_good() {
  static constexpr const char* what[] = {"an id lies outside the embedding table",
                                         "a target lies outside the vocabulary",
                                         "the tokens do not fit the cache"};
  static constexpr const char* where[] = {"token {} of the batch", "token {} of a chunk",
                                          "row {} of the batch"};
  for (int kind = 0; kind < bad_kinds; ++kind) {
    const int found = *static_cast<volatile int*>(bad_ + kind);
    require(found == 0, [&] {
      return Error(Exit::input, {what[kind],
                                 fmt::format(fmt::runtime(where[kind]), found - 1),
                                 {},
                                 {},
                                 {"data written with this model's tokenizer"}});
    });
  }
}

void CudaBackend::then(Done done, void* with) {
  select();
  const std::int64_t ticket = asked_.load(std::memory_order_relaxed);
  for (std::int64_t now = answered_.load(); ticket - now >= room; now = answered_.load())
    answered_.wait(now);
  Waiting& one = waiting_[static_cast<std::size_t>(ticket % room)];
  one.done = done, one.with = with;
  check_cuda(cudaEventRecord(one.event.get(), stream()), "marking the end of work");
  asked_.store(ticket + 1, std::memory_order_release);
  asked_.notify_all();
}

void CudaBackend::complete() {
  (void)cudaSetDevice(index_);
  for (std::int64_t next = 0;; ++next) {
    for (std::int64_t now = asked_.load(std::memory_order_acquire); now <= next;
         now = asked_.load(std::memory_order_acquire))
      asked_.wait(now, std::memory_order_acquire);
    if (stop_) return;
    const Waiting& one = waiting_[static_cast<std::size_t>(next % room)];
    std::exception_ptr failed;
    try {
      check_cuda(cudaEventSynchronize(one.event.get()), "a step's work");
      require_good();
    } catch (Error& e) {
      if (e.code() == Exit::internal)
        e.report().tries = {"the same command with --eager --sync: it names the op",
                            "without them: it goes on from the last checkpoint"};
      failed = std::current_exception();
    } catch (...) {
      failed = std::current_exception();
    }
    const Done done = one.done;
    void* const with = one.with;
    answered_.store(next + 1, std::memory_order_release);
    answered_.notify_all();
    done(with, failed);
  }
}

}  // namespace sluice
