#include "train/measure_gpu.h"

#include <atomic>
#include <thread>

#include "train/ceilings.h"

namespace sluice {
namespace {

struct Product {
  std::int64_t m, k, n;
  bool quick;  // measured then, too
};
// Large ones, and those of the models that most people train.
constexpr Product products[] = {
    {8192, 8192, 8192, true},     {16384, 4096, 4096, true},   {16384, 4096, 16384, false},
    {16384, 4096, 12288, false},  {16384, 16384, 4096, false}, {8192, 4096, 50304, false},
    {65536, 12288, 12288, false}, {16384, 768, 768, true},     {16384, 768, 3072, false},
    {16384, 3072, 768, false},    {4096, 768, 50304, false},   {16384, 2048, 2048, false},
    {16384, 2048, 8192, false},   {16384, 8192, 2048, false},
};
constexpr AttentionSizes attentions[] = {
    {64, 12, 1024, 64}, {16, 12, 2048, 64}, {8, 32, 2048, 128}, {8, 16, 2048, 256}};

constexpr std::int64_t link_bytes = std::int64_t{512} << 20;
constexpr std::int64_t piece = link_bytes / 4;  // of the copies beside a product

// cuDNN's, as runs take it, where it can be loaded.
AttentionKernels attention_kernels(Ceilings& ceilings) {
  try {
    (void)ceilings.rate(
        attention_op(DType::bf16, {1, 2, 128, 64}, false, AttentionKernels::library), 0);
    return AttentionKernels::library;
  } catch (const Error& e) {
    if (e.code() != Exit::usage) throw;
    return AttentionKernels::own;
  }
}

// How much slower a product is beside copies both ways, and what those reach.
void measure_beside(Backend& backend, Ceilings& ceilings, double seconds, const std::string& from,
                    Machine& machine) {
  const LooseOp op = product_op(DType::bf16, 8192, 8192, 8192);
  const double alone = ceilings.rate(op, seconds / 2);
  std::byte* const device[2] = {backend.take(piece), backend.take(piece)};
  std::byte* const host[2] = {backend.take_host(piece), backend.take_host(piece)};
  std::atomic<bool> stop = false;
  std::atomic<std::int64_t> copies = 0;
  const auto copying = [&](bool in) {
    while (!stop) {
      if (in)
        backend.copy_in(device[0], host[0], piece);
      else
        backend.copy_out(host[1], device[1], piece);
      ++copies;
    }
  };
  std::thread in([&] { copying(true); }), out([&] { copying(false); });
  const auto begin = std::chrono::steady_clock::now();
  const double beside = ceilings.rate(op, seconds / 2);
  const double copied =
      static_cast<double>(copies * piece) /
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  stop = true;
  in.join(), out.join();
  machine.slowing_part = {std::max(0.0, 1 - beside / alone), Origin::measured, from};
  machine.slowing_rate = {copied, Origin::measured, from};
}

}  // namespace

void measure_gpu(Backend& backend, const GpuMeasuring& how, Machine& machine) {
  const auto measured = [&](double value) { return Figure{value, Origin::measured, how.from}; };
  const double share = how.quick ? 0.08 : 0.3;
  const std::int64_t room = (how.quick ? std::int64_t{1} : std::int64_t{3}) << 30;
  const std::int64_t before = how.taken();
  Ceilings ceilings(backend, room);
  const std::int64_t took = how.taken() - before;
  std::vector<Product> measurable;
  std::vector<LooseOp> ops;
  for (const Product& p : products) {
    LooseOp op = product_op(DType::bf16, p.m, p.k, p.n);
    if ((how.quick && !p.quick) || !ceilings.fits(op)) continue;
    measurable.push_back(p);
    ops.push_back(std::move(op));
  }
  ceilings.tune(ops);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const Product& p = measurable[i];
    machine.gemm.push_back({p.m, p.k, p.n, "bf16", measured(ceilings.rate(ops[i], share))});
  }
  const LooseOp plain = product_op(DType::f32, 4096, 4096, 4096);
  machine.gemm.push_back({4096, 4096, 4096, "float32", measured(ceilings.rate(plain, share))});
  const AttentionKernels kernels = attention_kernels(ceilings);
  for (const AttentionSizes& one : attentions)
    for (const bool backward : {false, true}) {
      const LooseOp op = attention_op(DType::bf16, one, backward, kernels);
      if (!ceilings.fits(op)) continue;
      machine.attention.push_back({one.head, one.sequence, backward ? "backward" : "forward",
                                   measured(ceilings.rate(op, share))});
    }
  machine.memory_rate = measured(ceilings.copy(share));
  machine.launch = measured(ceilings.launch());
  // All that was needed so far is loaded.
  machine.device_reserved = measured(static_cast<double>(how.taken() - took));
  const LinkRates link = measure_link(backend, how.quick ? piece : link_bytes, 3 * share);
  machine.host_in = measured(link.in), machine.host_out = measured(link.out);
  machine.host_both = measured(link.both);
  measure_beside(backend, ceilings, 2 * share, how.from, machine);
}

}  // namespace sluice
