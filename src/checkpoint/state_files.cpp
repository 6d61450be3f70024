#include "checkpoint/state_files.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/tensor_files.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

constexpr const char* state_file = "optimizer.safetensors";
constexpr const char* average_file = "average.safetensors";

// "m.wte" of "wte", "m.transformer.wte.weight" of the name outside.
std::string of_kind(const std::string& kind, const std::string& name) { return kind + "." + name; }

// Rows of a tensor: [first, first + count).
struct Rows {
  std::int64_t first, count;
};

// The state of some rows as float32 numbers, padding apart.
struct Decoded {
  std::vector<float> master, m, v;
};

// Reads and writes the state of one tensor in any form.
class Converter {
 public:
  Converter(const SafetensorsFile& model, const SafetensorsFile& state, const ModelTensor& tensor)
      : model_(model), state_(state), tensor_(tensor) {}

  // The form that the file has: low, m, v …
  bool has(const char* kind) const {
    return find_tensor(state_, of_kind(kind, tensor_.name)) != nullptr;
  }
  bool same_form() const {
    const TensorInfo* weight = find_tensor(model_, tensor_.name);
    if (weight == nullptr || weight->dtype != file_type(tensor_.type)) return false;
    for (const char* kind : {"low", "m", "m_scale", "v", "v_scale"}) {
      const bool wanted = std::any_of(tensor_.state.begin(), tensor_.state.end(),
                                      [&](const StateTensor& s) { return s.kind == kind; });
      if (wanted != has(kind)) return false;
    }
    return true;
  }

  // Piece by piece: no more than that is in memory as float32.
  void convert(TensorAccess access) const {
    constexpr std::int64_t piece_numbers = 64 << 10;
    const std::int64_t most = std::max<std::int64_t>(1, piece_numbers / columns());
    for (std::int64_t first = 0; first < tensor_.rows; first += most) {
      const Rows rows{first, std::min(most, tensor_.rows - first)};
      encode(rows, decode(rows), access);
    }
  }

 private:
  Decoded decode(const Rows& rows) const {
    Decoded out;
    out.master = weight(rows);
    const std::size_t count = out.master.size();
    if (!has("m")) {  // it was frozen until now
      out.m.resize(count), out.v.resize(count);
    } else if (has("m_scale")) {
      out.m.resize(count), out.v.resize(count);
      const Shape shape = blocks_shape(rows);
      decode_m(shape, read<std::uint8_t>("m", rows), scales("m_scale", rows), out.m);
      decode_v(shape, read<std::uint8_t>("v", rows), scales("v_scale", rows), out.v);
    } else {
      out.m = read<float>("m", rows), out.v = read<float>("v", rows);
    }
    return out;
  }

  void encode(const Rows& rows, const Decoded& from, TensorAccess access) const {
    const Tensor weight = access(tensor_.layer, tensor_.value);
    const auto to = [&](const char* kind) {
      return access(tensor_.layer, of_kind(kind, tensor_.value));
    };
    const auto begin = static_cast<std::size_t>(rows.first * columns());
    const auto in = [&]<class T>(const Tensor& tensor, T) {
      return std::span<T>(tensor.data<T>() + begin, from.master.size());
    };
    const bool compact = tensor_.type == DType::bf16 && tensor_.state.size() == 4;
    if (weight.dtype() == DType::f32) {
      std::copy(from.master.begin(), from.master.end(), in(weight, float{}).begin());
    } else {
      std::vector<std::int16_t> unused(compact ? from.master.size() : 0);
      split_masters(from.master, in(weight, bf16{}),
                    compact ? std::span<std::int16_t>(unused) : in(to("low"), std::int16_t{}));
    }
    if (!compact) {
      std::copy(from.m.begin(), from.m.end(), in(to("m"), float{}).begin());
      std::copy(from.v.begin(), from.v.end(), in(to("v"), float{}).begin());
      return;
    }
    const Shape shape = blocks_shape(rows);
    const auto scale = [&](const char* kind) {
      return std::span<float>(to(kind).data<float>() + rows.first * row_blocks(shape),
                              static_cast<std::size_t>(state_blocks(shape)));
    };
    encode_m(shape, from.m, in(to("m"), std::uint8_t{}), scale("m_scale"));
    encode_v(shape, from.v, in(to("v"), std::uint8_t{}), scale("v_scale"));
  }

  std::int64_t columns() const { return tensor_.count() / tensor_.rows; }
  // The rows as blocks see them.
  Shape blocks_shape(const Rows& rows) const {
    return {{Axis::model, rows.count}, {Axis::model_out, columns()}};
  }

  // Rows of a tensor of the file that has so many numbers in each.
  template <class T>
  std::vector<T> numbers(const SafetensorsFile& file, const std::string& name,
                         const std::vector<std::int64_t>& shape, const Rows& rows,
                         std::int64_t in_row) const {
    const TensorInfo& info = require_tensor(file, name, {dtype_of<T>()}, shape);
    const std::int64_t row_bytes = in_row * static_cast<std::int64_t>(sizeof(T));
    const std::span<const std::byte> bytes =
        file.bytes(info).subspan(static_cast<std::size_t>(rows.first * row_bytes),
                                 static_cast<std::size_t>(rows.count * row_bytes));
    std::vector<T> out(bytes.size() / sizeof(T));
    std::memcpy(out.data(), bytes.data(), bytes.size());
    file.forget(bytes);
    return out;
  }
  template <class T>
  std::vector<T> read(const char* kind, const Rows& rows) const {
    return numbers<T>(state_, of_kind(kind, tensor_.name), tensor_.shape, rows, columns());
  }
  std::vector<float> scales(const char* kind, const Rows& rows) const {
    const std::int64_t blocks = row_blocks(blocks_shape(rows));
    return numbers<float>(state_, of_kind(kind, tensor_.name), {tensor_.rows, blocks}, rows,
                          blocks);
  }

  std::vector<float> weight(const Rows& rows) const {
    const TensorInfo& info =
        require_tensor(model_, tensor_.name, {DType::f32, DType::bf16}, tensor_.shape);
    if (info.dtype == file_type(DType::f32))
      return numbers<float>(model_, tensor_.name, tensor_.shape, rows, columns());
    const std::vector<bf16> half =
        numbers<bf16>(model_, tensor_.name, tensor_.shape, rows, columns());
    const std::vector<std::int16_t> low =
        has("low") ? read<std::int16_t>("low", rows) : std::vector<std::int16_t>(half.size());
    std::vector<float> out(half.size());
    join_masters(half, low, out);
    return out;
  }

  const SafetensorsFile& model_;
  const SafetensorsFile& state_;
  const ModelTensor& tensor_;
};

void begin_average(const ModelTensor& tensor, TensorAccess access) {
  const Tensor weight = access(tensor.layer, tensor.value);
  float* const to = access(tensor.layer, of_kind("average", tensor.value)).data<float>();
  if (weight.dtype() == DType::f32) {
    std::copy_n(weight.data<float>(), weight.count(), to);
    return;
  }
  const bool exact = tensor.state.front().kind == "low";
  const std::int16_t* low =
      exact ? access(tensor.layer, of_kind("low", tensor.value)).data<std::int16_t>() : nullptr;
  for (std::int64_t i = 0; i < weight.count(); ++i)
    to[i] = join_master(weight.data<bf16>()[i], low == nullptr ? std::int16_t{0} : low[i]);
}

}  // namespace

std::int64_t checkpoint_bytes(const std::vector<ModelTensor>& tensors) {
  constexpr std::int64_t rest = 32 << 10;    // config.json, the manifest with the run's config
  constexpr std::int64_t entry_bytes = 128;  // of a header, a name apart
  const bool averaged =
      std::any_of(tensors.begin(), tensors.end(), [](const ModelTensor& t) { return t.averaged; });
  std::int64_t bytes = rest;
  for (const ModelTensor& tensor : tensors) {
    const auto entry = static_cast<std::int64_t>(tensor.name.size()) + entry_bytes;
    bytes += entry + tensor.bytes;
    for (const StateTensor& state : tensor.state) bytes += entry + state.bytes;
    if (averaged) bytes += entry + (tensor.averaged ? tensor.count() * 4 : tensor.bytes);
  }
  return bytes;
}

void save_state(CheckpointSave& save, const std::vector<ModelTensor>& tensors,
                TensorAccess access) {
  std::vector<Source> sources, averages;
  for (const ModelTensor& tensor : tensors) {
    for (const StateTensor& state : tensor.state)
      sources.push_back({of_kind(state.kind, tensor.name), state.type, state.shape, tensor.layer,
                         of_kind(state.kind, tensor.value)});
    if (tensor.averaged)
      averages.push_back(
          {tensor.name, DType::f32, tensor.shape, tensor.layer, of_kind("average", tensor.value)});
  }
  write_tensors(save, state_file, sources, access);
  if (averages.empty()) return;
  // The file is a whole model: what is frozen is its own average.
  for (const ModelTensor& tensor : tensors)
    if (!tensor.averaged)
      averages.push_back({tensor.name, tensor.type, tensor.shape, tensor.layer, tensor.value});
  write_tensors(save, average_file, averages, access);
}

LoadedState load_state(const std::filesystem::path& dir, const std::vector<ModelTensor>& tensors,
                       TensorAccess access) {
  const SafetensorsFile model = SafetensorsFile::open(dir / "model.safetensors");
  const SafetensorsFile state = SafetensorsFile::open(dir / state_file);
  LoadedState out;
  for (const ModelTensor& tensor : tensors) {
    if (tensor.frozen) continue;
    const Converter converter(model, state, tensor);
    if (converter.same_form()) {
      for (const StateTensor& one : tensor.state)
        copy_bytes(state,
                   require_tensor(state, of_kind(one.kind, tensor.name), {one.type}, one.shape),
                   access(tensor.layer, of_kind(one.kind, tensor.value)));
    } else {
      converter.convert(access);
      out.converted = true;
    }
  }
  const bool averaged =
      std::any_of(tensors.begin(), tensors.end(), [](const ModelTensor& t) { return t.averaged; });
  if (!averaged) return out;
  out.began_average = !std::filesystem::exists(dir / average_file);
  if (out.began_average) {
    begin_averages(tensors, access);
    return out;
  }
  const SafetensorsFile averages = SafetensorsFile::open(dir / average_file);
  for (const ModelTensor& tensor : tensors) {
    if (!tensor.averaged) continue;
    const TensorInfo& info =
        require_tensor(averages, tensor.name, {DType::f32, DType::bf16}, tensor.shape);
    if (info.dtype == file_type(DType::f32))
      copy_bytes(averages, info, access(tensor.layer, of_kind("average", tensor.value)));
    else
      begin_average(tensor, access);  // it was frozen until now
  }
  return out;
}

void begin_averages(const std::vector<ModelTensor>& tensors, TensorAccess access) {
  for (const ModelTensor& tensor : tensors)
    if (tensor.averaged) begin_average(tensor, access);
}

}  // namespace sluice
