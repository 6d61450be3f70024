#include "inference/staging.h"

namespace sluice {
namespace {

constexpr std::string_view array_names[] = {"ids", "targets", "positions", "starts", "weights"};

}  // namespace

Staging::Staging(const BatchLayout& layout, int micro_batches) {
  const Shape& tokens = layout.find("ids")->type.shape;
  rows_ = tokens.size(Axis::batch);
  time_ = tokens.size(Axis::time);
  for (std::size_t i = 0; i < arrays; ++i) {
    const BatchLayout::Field* field = layout.find(array_names[i]);
    offset_[i] = field == nullptr ? -1 : field->offset;
  }
  if (const BatchLayout::Field* field = layout.find("control")) control_ = field->offset;
  unread_.resize(static_cast<std::size_t>(arrays * rows_ * time_ * 4));
  for (int micro = 0; micro < micro_batches; ++micro) {
    memory_.emplace_back(static_cast<std::size_t>(layout.bytes));
    blocks_.push_back(memory_.back().data());
  }
}

template <class T>
std::span<T> Staging::array(Array which, int micro) {
  static_assert(sizeof(T) == 4);
  const std::int64_t count = rows_ * time_;
  std::byte* const at = offset_[which] < 0
                            ? unread_.data() + which * count * 4
                            : memory_[static_cast<std::size_t>(micro)].data() + offset_[which];
  return {reinterpret_cast<T*>(at), static_cast<std::size_t>(count)};
}

BatchView Staging::view(int micro) {
  return {.batch = rows_,
          .time = time_,
          .ids = array<std::int32_t>(ids, micro),
          .targets = array<std::int32_t>(targets, micro),
          .positions = array<std::int32_t>(positions, micro),
          .starts = array<std::int32_t>(starts, micro),
          .weights = array<float>(weights, micro)};
}

double* Staging::control(int micro) {
  if (control_ < 0) return nullptr;
  return reinterpret_cast<double*>(memory_[static_cast<std::size_t>(micro)].data() + control_);
}

}  // namespace sluice
