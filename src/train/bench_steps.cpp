#include "train/bench_steps.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/file.h"
#include "core/random.h"
#include "graph/initial.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t stretch = 1'048'573;  // a prime number: rows differ

// Of a weight's first numbers again and again, up to `count`.
template <class T>
void repeat(T* data, std::size_t count) {
  for (std::size_t done = stretch; done < count; done *= 2)
    std::memcpy(data + done, data, std::min(done, count - done) * sizeof(T));
}

}  // namespace

RandomTokens::RandomTokens(std::int64_t vocab, std::int64_t tokens) {
  std::string name = (std::filesystem::temp_directory_path() / "sluice-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw disk_error("make", name, errno);
  folder_ = name;
  path_ = folder_ + "/random.bin";
  const auto most = static_cast<double>(std::min<std::int64_t>(vocab, 65536));
  std::string ids(static_cast<std::size_t>(2 * tokens), '\0');
  for (std::size_t i = 0; i < static_cast<std::size_t>(tokens); ++i) {
    const auto id = static_cast<std::uint16_t>(random_uniform(1, 1, i) * most);
    std::memcpy(ids.data() + 2 * i, &id, sizeof(id));
  }
  write_file_atomic(path_, ids);
}

RandomTokens::~RandomTokens() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void fill_quickly(Trainer& trainer) {
  const ModelGraphs& model = *trainer.executor().programs().model;
  const Parametrization scales = standard_parametrization();
  std::size_t index = 0;
  for (int layer = 0; layer < model.layer_count(); ++layer)
    for (const Parameter& p : model.of(model.kind_of(layer)).parameters) {
      const Tensor weight = trainer.tensor(layer, p.name, Access::write);
      const Tensor low =
          p.low == no_value ? Tensor{} : trainer.tensor(layer, "low." + p.name, Access::write);
      const auto count = static_cast<std::size_t>(weight.count());  // words that are padding, too
      fill_initial(weight, low, p, trainer.tensors()[index++].name, 1, scales, 0,
                   static_cast<std::int64_t>(std::min(count, stretch)));
      if (count <= stretch) continue;
      if (weight.dtype() == DType::f32)
        repeat(weight.data<float>(), count);
      else
        repeat(weight.data<bf16>(), count);
      if (low) repeat(low.data<std::int16_t>(), count);
    }
  trainer.derive();
}

BenchSteps run_steps(Trainer& trainer, int warm, int least, double seconds) {
  BenchSteps out;
  const Clock::time_point begin = Clock::now();
  Clock::time_point before = begin;
  const auto done = [&] {
    return static_cast<int>(out.seconds.size()) >= least &&
           std::chrono::duration<double>(before - begin).count() >= seconds;
  };
  trainer.enqueue(1);
  for (std::int64_t step = 1; !done(); ++step) {
    trainer.enqueue(step + 1);
    out.last = trainer.result(step);
    if (step > warm)
      out.seconds.push_back(std::chrono::duration<double>(out.last.ended - before).count());
    before = out.last.ended;
  }
  trainer.settle();
  return out;
}

}  // namespace sluice
