#include "diff_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"

namespace sluice {
namespace {

constexpr std::int64_t piece_numbers = 1 << 20;

struct Difference {
  std::string name;
  std::int64_t numbers = 0;  // that differ
  double largest = 0;        // |a - b|
  double distance = 0;       // ‖a - b‖ / ‖b‖
};

class Opened {
 public:
  explicit Opened(const std::string& path)
      : folder(find_checkpoint(path)),
        model(read_model_config(folder.path)),
        files(WeightFiles::open(folder.path)),
        tensors(model_tensors(model)) {
    check_weights(files, model, tensors);
  }
  ModelFolder folder;
  ModelConfig model;
  WeightFiles files;
  std::vector<ModelTensor> tensors;
};

Difference compare(const Opened& a, const Opened& b, const ModelTensor& tensor) {
  const StoredTensor& first = require_stored(a.files, tensor.name, tensor.shape);
  const StoredTensor& second = require_stored(b.files, tensor.name, tensor.shape);
  Difference out{tensor.name};
  double off = 0, norm = 0;
  std::vector<float> x, y;
  for (std::int64_t at = 0; at < tensor.count(); at += piece_numbers) {
    x.resize(static_cast<std::size_t>(std::min(piece_numbers, tensor.count() - at)));
    y.resize(x.size());
    read_numbers(first, at, x);
    read_numbers(second, at, y);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double gap = std::abs(static_cast<double>(x[i]) - y[i]);
      norm += static_cast<double>(y[i]) * y[i];
      if (x[i] == y[i] || std::bit_cast<std::uint32_t>(x[i]) == std::bit_cast<std::uint32_t>(y[i]))
        continue;
      ++out.numbers;
      off += gap * gap;
      if (!(gap <= out.largest)) out.largest = gap;
    }
    const auto read = static_cast<std::int64_t>(x.size());
    a.files.forget(first, bytes_of_piece(first, at, read));
    b.files.forget(second, bytes_of_piece(second, at, read));
  }
  out.distance = norm > 0 ? std::sqrt(off / norm) : off > 0 ? INFINITY : 0;
  return out;
}

void require_same_tensors(const Opened& a, const Opened& b) {
  const auto text = [](const ModelTensor& tensor) {
    return fmt::format("{} [{}]", tensor.name, fmt::join(tensor.shape, ", "));
  };
  const std::size_t most = std::max(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < most; ++i) {
    const std::string first = i < a.tensors.size() ? text(a.tensors[i]) : "no more tensors";
    const std::string second = i < b.tensors.size() ? text(b.tensors[i]) : "no more tensors";
    require(first == second, [&] {
      return Error(Exit::input, {"the two checkpoints are different models",
                                 b.folder.path.string(),
                                 fmt::format("{}, as {} has", first, a.folder.path.string()),
                                 second,
                                 {}});
    });
  }
}

}  // namespace

int diff_weights(const std::string& first, const std::string& second, Context& context) {
  const Opened a(first), b(second);
  require_same_tensors(a, b);
  std::vector<Difference> differences;
  for (const ModelTensor& tensor : a.tensors)
    if (Difference found = compare(a, b, tensor); found.numbers > 0)
      differences.push_back(std::move(found));
  nlohmann::json out = {{"equal", differences.empty()},
                        {"compared", "weights"},
                        {"tensors", a.tensors.size()},
                        {"different", nlohmann::json::array()}};
  std::string text = fmt::format("equal: the numbers of {} weights compared\n", a.tensors.size());
  if (!differences.empty())
    text = fmt::format("{} of {} weights differ:\n", differences.size(), a.tensors.size());
  for (const Difference& d : differences) {
    out["different"].push_back({{"name", d.name},
                                {"numbers", d.numbers},
                                {"largest", d.largest},
                                {"distance", d.distance}});
    text += fmt::format("  {}: {} numbers, by up to {:.3g}, {:.3g} of its norm\n", d.name,
                        d.numbers, d.largest, d.distance);
  }
  if (context.json)
    write_json(out);
  else
    write_out(text);
  return differences.empty() ? 0 : 1;
}

}  // namespace sluice
