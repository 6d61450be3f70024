#include "program/build.h"

#include <algorithm>
#include <map>
#include <utility>

#include "program/lists.h"

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

  Program build(const std::vector<Scheduled>& schedule, int micro_batches, int at_once = 1) {
    program_.micro_batches = micro_batches;
    program_.at_once = at_once;
    program_.last_reads.assign(static_cast<std::size_t>(program_.slots()), -1);
    loaded_.assign(static_cast<std::size_t>(micro_batches), -1);
    for (const Scheduled& item : schedule) add(item);
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
      const auto [list, reads_batch] = list_of(item);
      action.list = list;
      if (reads_batch) {
        action.waits.push_back({.action = loaded_[static_cast<std::size_t>(item.micro)]});
        last_read(item.micro) = static_cast<int>(program_.actions.size());
      }
      if (program_.list_of(action).ops.empty()) return;
      set_bases(action);
      drop_implied_wait(action);
    }
    program_.actions.push_back(std::move(action));
  }

  int& last_read(int micro) {
    return program_.last_reads[static_cast<std::size_t>(program_.slot_of(micro))];
  }

  // The compute lane needs one wait per load: what follows on the lane is ordered behind it.
  void drop_implied_wait(Action& action) {
    if (action.waits.empty()) return;
    const int load = action.waits.front().action;
    if (load <= joined_load_) action.waits.clear();
    joined_load_ = std::max(joined_load_, load);
  }

  void add_load(Action& action) {
    action.lane = Lane::in;
    action.at[Base::batch] = slot_offset(action.micro);
    if (const int reader = last_read(action.micro); reader >= 0)
      action.waits.push_back({.action = reader});
    else
      action.waits.push_back({.slot = program_.slot_of(action.micro)});
    loaded_[static_cast<std::size_t>(action.micro)] = static_cast<int>(program_.actions.size());
  }

  LayerKind kind_of(const Scheduled& item) const {
    return item.phase == Phase::finish ? LayerKind::step : model_.kind_of(item.layer);
  }

  // The op list of an action, and whether it reads the batch; equal ones are shared.
  std::pair<int, bool> list_of(const Scheduled& item) {
    const std::pair key{kind_of(item), item.phase};
    const auto [list, is_new] = lists_.try_emplace(key, static_cast<int>(program_.lists.size()));
    if (is_new) {
      program_.lists.push_back(
          make_list(plumbing_, *set_.residency, key.first, key.second, backward_));
      reads_batch_.push_back(sluice::reads_batch(model_.of(key.first), program_.lists.back().ops));
    }
    return {list->second, reads_batch_[static_cast<std::size_t>(list->second)]};
  }

  void set_bases(Action& action) const {
    Bases& at = action.at;
    at[Base::globals] = set_.memory.base(Region::globals);
    at[Base::batch] = slot_offset(action.micro);
    at[Base::frame] = set_.memory.base(Region::frame);
    if (action.phase == Phase::finish) return;
    const int layer = action.layer, last = model_.layer_count() - 1;
    const int lender = layer == 0 ? last : 0;  // a tied weight is lent both ways
    at[Base::weights] = blob(layer, Region::weights);
    at[Base::gradients] = blob(layer, Region::gradients);
    at[Base::optimizer] = blob(layer, Region::optimizer);
    at[Base::derived] = blob(layer, Region::derived);
    at[Base::lent_weights] = blob(lender, Region::weights);
    at[Base::lent_gradients] = blob(lender, Region::gradients);
    at[Base::lent_derived] = blob(lender, Region::derived);
    at[Base::norms] =
        at[Base::globals] + set_.residency->norm_index(layer) * static_cast<int>(sizeof(double));
    at[Base::cache] = cache_offset(layer);
    if (backward_) at[Base::stash] = stash(layer, action.micro);
    at[Base::x] = layer == 0 ? -1 : activation(layer, action.micro);
    at[Base::y] = layer == last ? -1 : activation(layer + 1, action.micro);
    at[Base::dx] = layer == 0 ? -1 : carry(action.micro + layer - 1);
    at[Base::dy] = layer == last ? -1 : carry(action.micro + layer);
  }

  std::int64_t blob(int layer, Region region) const {
    const std::int64_t offset = set_.residency->blob(layer, region);
    return offset < 0 ? -1 : set_.memory.base(region) + offset;
  }

  std::int64_t slot_offset(int micro) const {
    return set_.memory.base(Region::batch) + program_.slot_of(micro) * plumbing_.slot_bytes();
  }

  std::int64_t stash(int layer, int micro) const {
    return set_.memory.base(Region::stash) + plumbing_.stash_base[static_cast<std::size_t>(layer)] +
           micro % program_.at_once * plumbing_.stash_bytes(model_.kind_of(layer));
  }

  // The input of a layer: written by the layer below straight into the stash that keeps it, or into
  // a carry when nothing keeps it.
  std::int64_t activation(int layer, int micro) const {
    const LayerGraph& graph = model_.of(model_.kind_of(layer));
    const Segments& segments = plumbing_.of(graph.kind, backward_);
    const std::int64_t kept = segments.stash_offset[static_cast<std::size_t>(graph.carry_in)];
    return kept >= 0 ? stash(layer, micro) + kept : carry(micro + model_.layer_count() - layer);
  }

  // One carry more than there are micro-batches at once: each layer writes into the one that its
  // micro-batch before has just read. `turn` grows by one from micro-batch to micro-batch, and
  // falls by one from a layer to the next that runs.
  std::int64_t carry(int turn) const {
    return set_.memory.base(Region::carry) + turn % (program_.at_once + 1) * plumbing_.carry_bytes;
  }

  std::int64_t cache_offset(int layer) const {
    std::int64_t bytes = 0;
    for (const Value& value : model_.block.values)
      if (value.kind == ValueKind::cache)
        bytes += align_up(value_bytes(value.type), blob_alignment);
    return set_.memory.base(Region::cache) + (layer - 1) * bytes;
  }

  const Plumbing& plumbing_;
  const ProgramSet& set_;
  const ModelGraphs& model_;
  bool backward_;
  Program program_;
  std::map<std::pair<LayerKind, Phase>, int> lists_;
  std::vector<bool> reads_batch_;
  std::vector<int> loaded_;
  int joined_load_ = -1;
};

Program forward_program(const Plumbing& plumbing, const ProgramSet& set, const std::string& name,
                        int micro_batches) {
  const ScheduleSpec spec{plumbing.model->layer_count(), micro_batches, 1, false, false};
  return ProgramBuilder(plumbing, set, name, false).build(passes(spec), micro_batches);
}

void add_training(ProgramSet& set, const Plumbing& plumbing, const BuildOptions& options) {
  const int layers = plumbing.model->layer_count();
  const std::vector<int> counts = options.all_micro_batches();
  for (std::size_t stretch = 0; stretch < counts.size(); ++stretch)
    for (const bool update : {false, true}) {
      const int at_once = options.at_once(counts[stretch]);
      const ScheduleSpec spec{layers, counts[stretch], at_once, update, true};
      const std::string name = stretch_name(update ? "steady" : "first", stretch);
      ProgramBuilder builder(plumbing, set, name, true);
      set.programs.push_back(builder.build(passes(spec), counts[stretch], at_once));
    }
  set.programs.push_back(
      ProgramBuilder(plumbing, set, "flush", true).build(every_layer(layers, Phase::update), 0));
}

}  // namespace

std::vector<int> BuildOptions::all_micro_batches() const {
  std::vector<int> out{micro_batches};
  out.insert(out.end(), later_micro_batches.begin(), later_micro_batches.end());
  return out;
}

int BuildOptions::at_once(int count) const {
  return passes == 0 ? 1 : (count + passes - 1) / passes;
}

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
