#include "program/build.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "program/plumbing.h"

namespace sluice {
namespace {

class ProgramBuilder {
 public:
  ProgramBuilder(const Plumbing& plumbing, const ProgramSet& set, std::string name, bool backward)
      : plumbing_(plumbing), set_(set), model_(*plumbing.model), backward_(backward) {
    program_.name = std::move(name);
    program_.model = plumbing.model;
    program_.batch = plumbing.batch;
  }

  Program build(const std::vector<Scheduled>& schedule, int micro_batches) {
    program_.micro_batches = micro_batches;
    last_reader_.assign(batch_slots, -1);
    loaded_.assign(static_cast<std::size_t>(micro_batches), -1);
    for (const Scheduled& item : schedule) add(item);
    for (int slot = 0; slot < batch_slots; ++slot)
      program_.milestones[slot] = last_reader_[static_cast<std::size_t>(slot)];
    program_.milestones[static_cast<int>(Milestone::end)] =
        static_cast<int>(program_.actions.size()) - 1;
    return std::move(program_);
  }

 private:
  void add(const Scheduled& item) {
    Action action;
    action.phase = item.phase;
    action.layer = item.layer;
    action.micro = item.micro;
    action.first = item.micro == 0;
    if (item.phase == Phase::load) {
      add_load(action);
    } else {
      const int slot = item.micro % batch_slots;
      std::tie(action.list, action.binding) = bind(item, slot);
      const OpList& list = program_.lists[static_cast<std::size_t>(action.list)];
      if (reads_batch(list)) {
        const int load = loaded_[static_cast<std::size_t>(item.micro)];
        action.waits.push_back({load});
        last_reader_[static_cast<std::size_t>(slot)] = static_cast<int>(program_.actions.size());
      }
      if (list.ops.empty()) return;
      drop_implied_wait(action);
    }
    program_.actions.push_back(std::move(action));
  }

  // The compute lane needs one wait per load: what follows on the lane is ordered behind it.
  void drop_implied_wait(Action& action) {
    if (action.waits.empty()) return;
    const int load = action.waits.front().action;
    if (load <= joined_load_) action.waits.clear();
    joined_load_ = std::max(joined_load_, load);
  }

  void add_load(Action& action) {
    const int slot = action.micro % batch_slots;
    action.lane = Lane::in;
    action.load_bytes = plumbing_.batch.bytes;
    action.load_offset = slot_offset(slot);
    const int reader = last_reader_[static_cast<std::size_t>(slot)];
    if (reader >= 0)
      action.waits.push_back({reader});
    else
      action.waits.push_back({-1, static_cast<Milestone>(slot)});
    loaded_[static_cast<std::size_t>(action.micro)] = static_cast<int>(program_.actions.size());
  }

  std::int64_t slot_offset(int slot) const {
    return set_.memory.base(Region::batch) + slot * align_up(plumbing_.batch.bytes, blob_alignment);
  }

  bool reads_batch(const OpList& list) const {
    const LayerGraph& graph = model_.of(list.kind);
    bool reads = false;
    for (const Op& op : list.ops)
      for_each_operand(op, [&](Id id, Access) { reads |= graph[id].kind == ValueKind::batch; });
    return reads;
  }

  LayerKind kind_of(const Scheduled& item) const {
    return item.phase == Phase::finish ? LayerKind::step : model_.kind_of(item.layer);
  }

  const std::vector<Op>& ops_of(const Scheduled& item) const {
    const LayerGraph& graph = model_.of(kind_of(item));
    const Segments& segments = plumbing_.of(kind_of(item), backward_);
    switch (item.phase) {
      case Phase::forward:
        return segments.forward;
      case Phase::input_grad:
        return segments.backward_input;
      case Phase::weight_grad:
        return segments.backward_weight;
      case Phase::norm:
        return graph.norm;
      case Phase::update:
        return graph.update;
      case Phase::derive:
        return graph.derive;
      case Phase::finish:
        return graph.forward;
      case Phase::load:
        break;
    }
    throw Error("a load has no op list");
  }

  // The op list and binding of an action; equal ones are shared.
  std::pair<int, int> bind(const Scheduled& item, int slot) {
    const LayerKind kind = kind_of(item);
    const auto [list, new_list] =
        lists_.try_emplace({kind, item.phase}, static_cast<int>(program_.lists.size()));
    if (new_list)
      program_.lists.push_back(
          {fmt::format("{}.{}", name_of(kind), name_of(item.phase)), kind, ops_of(item)});
    const auto [binding, new_binding] = bindings_.try_emplace(
        {item.phase, item.layer, slot}, static_cast<int>(program_.bindings.size()));
    if (new_binding) program_.bindings.push_back(make_binding(item, slot));
    return {list->second, binding->second};
  }

  Binding make_binding(const Scheduled& item, int slot) const {
    const LayerKind kind = kind_of(item);
    const LayerGraph& graph = model_.of(kind);
    Binding out;
    out.offsets.assign(graph.values.size(), -1);
    for (std::size_t v = 0; v < graph.values.size(); ++v)
      out.offsets[v] = offset_of(item, slot, kind, static_cast<Id>(v));
    const FrameLayout* frame = frame_of(item, kind);
    const std::size_t ops = ops_of(item).size();
    out.workspace.assign(ops, -1);
    const std::int64_t frame_base = set_.memory.base(Region::frame);
    const std::size_t skip =
        item.phase == Phase::weight_grad ? plumbing_.of(kind, backward_).backward_input.size() : 0;
    for (std::size_t i = 0; i < ops; ++i) {
      if (frame == nullptr)
        out.workspace[i] = frame_base;  // once-a-step lists: scratch alone
      else if (frame->workspace[i + skip] >= 0)
        out.workspace[i] = frame_base + frame->workspace[i + skip];
    }
    if (frame != nullptr) add_freed(out, *frame, graph, skip, ops);
    if (item.phase == Phase::weight_grad) add_freed_after_backward(out, graph);
    return out;
  }

  static std::int64_t rounded_bytes(const Value& value) {
    return align_up(value_bytes(value.type), tensor_alignment);
  }

  void add_freed(Binding& binding, const FrameLayout& frame, const LayerGraph& graph,
                 std::size_t skip, std::size_t ops) const {
    for (std::size_t v = 0; v < graph.values.size(); ++v) {
      const int op = frame.last_use[v] - static_cast<int>(skip);
      if (frame.last_use[v] >= 0 && op >= 0 && op < static_cast<int>(ops))
        binding.freed.push_back({op, binding.offsets[v], rounded_bytes(graph.values[v])});
    }
  }

  // After W nobody reads this layer's stash, nor the gradient that came from above.
  void add_freed_after_backward(Binding& binding, const LayerGraph& graph) const {
    const Segments& segments = plumbing_.of(graph.kind, backward_);
    const int last = static_cast<int>(segments.backward_weight.size()) - 1;
    for (std::size_t v = 0; v < graph.values.size(); ++v)
      if (segments.stash[v] || static_cast<Id>(v) == graph.d_carry_out)
        binding.freed.push_back({last, binding.offsets[v], rounded_bytes(graph.values[v])});
  }

  const FrameLayout* frame_of(const Scheduled& item, LayerKind kind) const {
    if (kind == LayerKind::step) return nullptr;
    const Segments& segments = plumbing_.of(kind, backward_);
    if (item.phase == Phase::forward) return &segments.forward_frame;
    if (item.phase == Phase::input_grad || item.phase == Phase::weight_grad)
      return &segments.backward_frame;
    return nullptr;
  }

  std::int64_t offset_of(const Scheduled& item, int slot, LayerKind kind, Id id) const {
    const LayerGraph& graph = model_.of(kind);
    const Value& value = graph[id];
    if (const Place place = set_.residency->find(model_, item.layer, value); place.known())
      return set_.memory.base(place.region) + place.offset;
    if (value.kind == ValueKind::batch)
      return slot_offset(slot) + plumbing_.batch.find(value.name)->offset;
    if (value.kind == ValueKind::cache) return cache_offset(item.layer, value);
    if (kind == LayerKind::step) return -1;
    if (id == graph.carry_in) return carry_offset(item.layer);
    if (id == graph.carry_out) return carry_offset(item.layer + 1);
    if (id == graph.d_carry_out) return gradient_carry(item.layer);
    if (id == graph.d_carry_in) return gradient_carry(item.layer - 1);
    const Segments& segments = plumbing_.of(kind, backward_);
    if (const std::int64_t at = segments.stash_offset[static_cast<std::size_t>(id)]; at >= 0)
      return stash(item.layer) + at;
    const FrameLayout* frame = frame_of(item, kind);
    if (frame == nullptr || frame->offset[static_cast<std::size_t>(id)] < 0) return -1;
    return set_.memory.base(Region::frame) + frame->offset[static_cast<std::size_t>(id)];
  }

  std::int64_t stash(int layer) const {
    return set_.memory.base(Region::stash) + plumbing_.stash_base[static_cast<std::size_t>(layer)];
  }

  // The input of a layer: written by the layer below straight into the stash that keeps it, or into
  // one of two alternating carries when nothing keeps it.
  std::int64_t carry_offset(int layer) const {
    const LayerGraph& graph = model_.of(model_.kind_of(layer));
    const Segments& segments = plumbing_.of(graph.kind, backward_);
    const std::int64_t kept = segments.stash_offset[static_cast<std::size_t>(graph.carry_in)];
    return kept >= 0 ? stash(layer) + kept : gradient_carry(layer);
  }

  std::int64_t gradient_carry(int layer) const {
    return set_.memory.base(Region::carry) + (layer % 2) * plumbing_.carry_bytes;
  }

  std::int64_t cache_offset(int layer, const Value& value) const {
    const std::int64_t bytes = align_up(value_bytes(value.type), blob_alignment);
    const std::int64_t index = 2 * (layer - 1) + (value.name == "v_cache" ? 1 : 0);
    return set_.memory.base(Region::cache) + index * bytes;
  }

  const Plumbing& plumbing_;
  const ProgramSet& set_;
  const ModelGraphs& model_;
  bool backward_;
  Program program_;
  std::map<std::pair<LayerKind, Phase>, int> lists_;
  std::map<std::tuple<Phase, int, int>, int> bindings_;
  std::vector<int> last_reader_, loaded_;
  int joined_load_ = -1;
};

Program forward_program(const Plumbing& plumbing, const ProgramSet& set, const std::string& name,
                        int micro_batches) {
  const ScheduleSpec spec{plumbing.model->layer_count(), micro_batches, false, false};
  return ProgramBuilder(plumbing, set, name, false).build(micro_batch_major(spec), micro_batches);
}

void add_training(ProgramSet& set, const Plumbing& plumbing, const BuildOptions& options) {
  const int layers = plumbing.model->layer_count();
  std::vector<int> counts{options.micro_batches};
  counts.insert(counts.end(), options.later_micro_batches.begin(),
                options.later_micro_batches.end());
  for (std::size_t stretch = 0; stretch < counts.size(); ++stretch)
    for (const bool update : {false, true}) {
      const ScheduleSpec spec{layers, counts[stretch], update, true};
      const std::string name = stretch_name(update ? "steady" : "first", stretch);
      ProgramBuilder builder(plumbing, set, name, true);
      set.programs.push_back(builder.build(micro_batch_major(spec), counts[stretch]));
    }
  set.programs.push_back(
      ProgramBuilder(plumbing, set, "flush", true).build(every_layer(layers, Phase::update), 0));
}

}  // namespace

std::string stretch_name(const char* program, std::size_t stretch) {
  return stretch == 0 ? program : fmt::format("{}-{}", program, stretch);
}

ProgramSet build_programs(const ProgramSpec& spec) {
  ProgramSet set;
  set.model = spec.model;
  set.workers = spec.options.workers;
  std::vector<const ModelGraphs*> all{spec.model.get()};
  for (const CachedModel& cached : spec.cached) all.push_back(cached.model.get());
  set.residency = std::make_shared<Residency>(all, set.memory);
  // Every program's needs first: only then are the regions' places in the arena known.
  const Plumbing plumbing(spec.model, spec.options, spec.training, set.memory);
  std::vector<Plumbing> cached;
  for (const CachedModel& one : spec.cached)
    cached.emplace_back(one.model, spec.options, false, set.memory);

  if (spec.training) add_training(set, plumbing, spec.options);
  set.programs.push_back(ProgramBuilder(plumbing, set, "derive", spec.training)
                             .build(every_layer(spec.model->layer_count(), Phase::derive), 0));
  set.programs.push_back(forward_program(plumbing, set, "eval", spec.options.eval_micro_batches));
  for (std::size_t i = 0; i < cached.size(); ++i)
    set.programs.push_back(forward_program(cached[i], set, spec.cached[i].name, 1));
  return set;
}

}  // namespace sluice
