#include "train/hash_log.h"

#include <algorithm>

#include "core/hash.h"

namespace sluice {

HashLog::HashLog(const std::string& path, std::shared_ptr<const ProgramSet> programs,
                 std::int64_t done_steps)
    : file_(path), programs_(std::move(programs)), done_steps_(done_steps) {}

void HashLog::log(const char* phase, std::int64_t step, const Program& program,
                  const Action& action, const Value& value, const Tensor& tensor) {
  const std::uint64_t hash = hash64(tensor.raw(), static_cast<std::size_t>(tensor.bytes()));
  const auto end = fmt::format_to_n(
      buffer_.data(), buffer_.size(),
      R"({{"step":{},"phase":"{}","layer":"{}","micro":{},"name":"{}","hash":"{:016x}"}})", step,
      phase, program.model->uncut_name(action.layer), action.micro, value.name, hash);
  file_.append({buffer_.data(), std::min(end.size, buffer_.size())});
}

void HashLog::after(const Program& program, int index, std::span<const Tensor> values) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  const bool training = program.name.starts_with("first") || program.name.starts_with("steady") ||
                        program.name == "flush";  // the first two once per stretch of a batch ramp
  if (!training || action.list < 0) return;
  if (action.phase == Phase::finish) {
    ++done_steps_;
    return;
  }
  const OpList& list = program.list_of(action);
  const LayerGraph& graph = program.model->of(list.kind);
  const std::int64_t stash = programs_->memory.base(Region::stash);
  const std::int64_t stash_end = stash + programs_->memory.bytes(Region::stash);
  // What another part of the block keeps too, or the layer above, is logged where it is kept.
  const auto lies_above = [&](Id id) {
    return id == graph.carry_out || id == graph.side_out || id == graph.side_in;
  };
  for (std::size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    const bool own = value.owner == graph.kind;
    if (!values[v] || !own) continue;
    if (action.phase == Phase::update && value.kind == ValueKind::weight)
      log("weight", done_steps_, program, action, value, values[v]);
    if (action.phase == Phase::norm && value.kind == ValueKind::gradient)
      log("gradient", done_steps_ + 1, program, action, value, values[v]);
    const std::int64_t at = list.values[v].in(action.at);
    const bool kept = at >= stash && at < stash_end;
    if (action.phase == Phase::forward && kept && !lies_above(static_cast<Id>(v)))
      log("stash", done_steps_ + 1, program, action, value, values[v]);
  }
}

}  // namespace sluice
