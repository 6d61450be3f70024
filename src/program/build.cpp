#include "program/build.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "program/lists.h"

namespace sluice {
namespace {

struct Shape {
  int micro_batches = 0, at_once = 1;
  bool begins_settled = true, ends_settled = true;
};

class ProgramBuilder {
 public:
  ProgramBuilder(const Plumbing& plumbing, const ProgramSet& set, std::string name, bool backward)
      : plumbing_(plumbing), set_(set), model_(*plumbing.model), backward_(backward) {
    program_.name = std::move(name);
    program_.model = plumbing.model;
    program_.batch = plumbing.batch;
  }

  Program build(const std::vector<Scheduled>& schedule, const Shape& shape) {
    program_.micro_batches = shape.micro_batches;
    program_.at_once = shape.at_once;
    program_.begins_settled = shape.begins_settled;
    program_.ends_settled = shape.ends_settled;
    program_.marks.assign(static_cast<std::size_t>(set_.marks.count()), -1);
    loaded_.assign(static_cast<std::size_t>(shape.micro_batches), -1);
    for (std::size_t k = 0; k < fetched_.size(); ++k)
      fetched_[k].assign(static_cast<std::size_t>(set_.residency->slots(static_cast<Kind>(k))), -1);
    for (const Scheduled& item : schedule)
      if (item.phase != Phase::load) list_of(item);  // lists in the order of their first use
    const CopySpec copies{set_.residency.get(), model_.layer_count(), shape.begins_settled,
                          shape.ends_settled, [&](const Scheduled& item) {
                            return lists_of_[static_cast<std::size_t>(list_of(item))].uses;
                          }};
    for (const Stop& stop : with_copies(schedule, copies)) add(stop);
    claim_batch_slots();
    return std::move(program_);
  }

 private:
  struct Known {
    bool reads_batch;
    BlobUses uses;
  };

  void add(const Stop& stop) {
    Action action;
    action.phase = stop.item.phase;
    action.layer = stop.item.layer;
    action.micro = stop.item.micro;
    action.first = stop.item.micro == 0;
    switch (stop.item.phase) {
      case Phase::load:
        add_load(action);
        break;
      case Phase::fetch:
        add_fetch(action, stop.kind);
        break;
      case Phase::leave:
        add_leave(action, stop.kind);
        break;
      case Phase::read:
        add_read(action, stop.kind);
        break;
      case Phase::write:
        add_write(action, stop.kind);
        break;
      default:
        action.list = list_of(stop.item);
        if (program_.list_of(action).ops.empty()) return;
        set_bases(action);
        add_uses(action);
        break;
    }
    program_.actions.push_back(std::move(action));
  }

  int next() const { return static_cast<int>(program_.actions.size()); }
  int& mark(Mark mark) { return program_.marks[static_cast<std::size_t>(mark)]; }

  // A wait for an action of this run, unless the lane has waited for it, or for a later one of the
  // same lane, before.
  void wait_for(Action& action, int other) {
    const Lane lane = program_.actions[static_cast<std::size_t>(other)].lane;
    int& joined = joined_[static_cast<std::size_t>(action.lane)][static_cast<std::size_t>(lane)];
    if (lane == action.lane || other <= joined) return;
    joined = other;
    action.waits.push_back({.action = other});
  }
  // A wait for whoever set a mark last, in this run or before. Who has waited for an action of this
  // run on the mark's lane has seen all of the earlier runs.
  void wait_for_mark(Action& action, Mark which) {
    if (const int other = mark(which); other >= 0) return wait_for(action, other);
    const auto lane = static_cast<std::size_t>(set_.marks.lane(which));
    if (joined_[static_cast<std::size_t>(action.lane)][lane] >= 0) return;
    if (seen_.emplace(action.lane, which).second) action.waits.push_back({.mark = which});
  }

  void add_load(Action& action) {
    action.lane = Lane::in;
    action.to = action.at[Base::batch] = slot_offset(action.micro);
    action.bytes = plumbing_.batch.bytes;
    wait_for_mark(action, set_.marks.read(program_.slot_of(action.micro)));
    loaded_[static_cast<std::size_t>(action.micro)] = next();
  }

  // A program that reads a batch may do so where another one has its other slots.
  void claim_batch_slots() {
    int last = -1;
    for (int slot = 0; slot < program_.slots(); ++slot)
      last = std::max(last, mark(set_.marks.read(slot)));
    for (Mark slot = 0; slot < set_.marks.used(Kind::weights, 0); ++slot)
      if (mark(slot) < 0) mark(slot) = last;
  }

  std::int64_t home(int layer, Kind kind) const {
    return set_.memory.begin(set_.residency->tier(layer, kind)) + set_.residency->home(layer, kind);
  }
  void set_copy(Action& action, Kind kind) const {
    action.kind = kind;
    action.bytes = set_.residency->blob_bytes(LayerKind::block, region_of(kind));
  }

  void add_fetch(Action& action, Kind kind) {
    action.lane = Lane::in;
    set_copy(action, kind);
    action.to = blob(action.layer, region_of(kind));
    const int slot = set_.residency->slot(action.layer, kind);
    const int staging = set_.residency->staging(action.layer, kind);
    wait_for_mark(action, set_.marks.used(kind, slot));
    wait_for_mark(action, set_.marks.emptied(kind, slot));
    if (staging < 0) {
      action.from = home(action.layer, kind);
      wait_for_mark(action, set_.marks.home(kind, action.layer));
    } else {  // right behind its read
      action.from = set_.memory.begin(Tier::host) + set_.residency->staging_in(kind, staging);
      wait_for(action, next() - 1);
      mark(set_.marks.fetched(kind, staging)) = next();
    }
    fetched_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(slot)] = next();
  }

  // Behind the action that was the last to write.
  void add_leave(Action& action, Kind kind) {
    action.lane = Lane::out;
    set_copy(action, kind);
    action.from = blob(action.layer, region_of(kind));
    const int slot = set_.residency->slot(action.layer, kind);
    const int staging = set_.residency->staging(action.layer, kind);
    wait_for(action, mark(set_.marks.used(kind, slot)));
    if (staging < 0) {
      action.to = home(action.layer, kind);
      mark(set_.marks.home(kind, action.layer)) = next();
    } else {  // a write comes right behind it
      action.to = set_.memory.begin(Tier::host) + set_.residency->staging_out(kind, staging);
      wait_for_mark(action, set_.marks.written(kind, staging));
    }
    mark(set_.marks.emptied(kind, slot)) = next();
  }

  // Whole pages go to disk and come from it.
  void add_read(Action& action, Kind kind) {
    action.lane = Lane::disk_read;
    const int staging = set_.residency->staging(action.layer, kind);
    action.kind = kind;
    action.bytes = set_.residency->slot_bytes(kind);
    action.from = home(action.layer, kind);
    action.to = set_.memory.begin(Tier::host) + set_.residency->staging_in(kind, staging);
    wait_for_mark(action, set_.marks.fetched(kind, staging));
    wait_for_mark(action, set_.marks.home(kind, action.layer));
  }

  void add_write(Action& action, Kind kind) {
    action.lane = Lane::disk_write;
    const int staging = set_.residency->staging(action.layer, kind);
    action.kind = kind;
    action.bytes = set_.residency->slot_bytes(kind);
    action.from = set_.memory.begin(Tier::host) + set_.residency->staging_out(kind, staging);
    action.to = home(action.layer, kind);
    wait_for(action, next() - 1);
    mark(set_.marks.written(kind, staging)) = next();
    mark(set_.marks.home(kind, action.layer)) = next();
  }

  // Who writes into a slot waits until what lay there has left. Whatever was fetched into the slot
  // has waited for that already.
  void wait_until_left(Action& action, Mark emptied, int fetch) {
    if (mark(emptied) > fetch)
      wait_for(action, mark(emptied));
    else if (fetch < 0)
      wait_for_mark(action, emptied);
  }

  // What a compute action waits for: its batch, what was fetched for it, and, where it overwrites
  // what lay in a slot, that this has left.
  void add_uses(Action& action) {
    const Known& known = lists_of_[static_cast<std::size_t>(action.list)];
    if (known.reads_batch) {
      wait_for(action, loaded_[static_cast<std::size_t>(action.micro)]);
      mark(set_.marks.read(program_.slot_of(action.micro))) = next();
    }
    if (action.phase == Phase::finish) return;
    for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer}) {
      const int slot = set_.residency->slot(action.layer, kind);
      const BlobUse& use = known.uses.of(kind);
      const bool packed =
          kind == Kind::weights && (known.uses.reads_packed || known.uses.writes_packed);
      if (slot < 0 || !(use.any() || packed)) continue;
      const int fetch = fetched_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(slot)];
      if (fetch >= 0) wait_for(action, fetch);
      if (use.writes) wait_until_left(action, set_.marks.emptied(kind, slot), fetch);
      mark(set_.marks.used(kind, slot)) = next();
    }
  }

  LayerKind kind_of(const Scheduled& item) const {
    return item.phase == Phase::finish ? LayerKind::step : model_.kind_of(item.layer);
  }

  // The op list of an action; equal ones are shared.
  int list_of(const Scheduled& item) {
    const std::pair key{kind_of(item), item.phase};
    const auto [list, is_new] = lists_.try_emplace(key, static_cast<int>(program_.lists.size()));
    if (is_new) {
      program_.lists.push_back(
          make_list(plumbing_, *set_.residency, key.first, key.second, backward_));
      const OpList& made = program_.lists.back();
      lists_of_.push_back({reads_batch(model_.of(key.first), made.ops), uses_of(made)});
    }
    return list->second;
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
  std::vector<Known> lists_of_;                       // by list
  std::vector<int> loaded_;                           // by micro-batch: the action
  std::array<std::vector<int>, blob_kinds> fetched_;  // by slot
  // By lane: the last action of each lane that it has waited for.
  std::array<std::array<int, lanes>, lanes> joined_ = [] {
    std::array<std::array<int, lanes>, lanes> none;
    for (auto& one : none) one.fill(-1);
    return none;
  }();
  std::set<std::pair<Lane, Mark>> seen_;  // marks of earlier runs that a lane has waited for
};

Program forward_program(const Plumbing& plumbing, const ProgramSet& set, const std::string& name,
                        int micro_batches, int at_once) {
  const ScheduleSpec spec{plumbing.model->layer_count(), micro_batches, at_once, false, false};
  return ProgramBuilder(plumbing, set, name, false).build(passes(spec), {micro_batches, at_once});
}

void add_training(ProgramSet& set, const Plumbing& plumbing, const BuildOptions& options) {
  const int layers = plumbing.model->layer_count();
  const std::vector<int> counts = options.all_micro_batches();
  for (std::size_t stretch = 0; stretch < counts.size(); ++stretch)
    for (const bool update : {false, true}) {
      const int count = counts[stretch], at_once = options.at_once(count);
      const ScheduleSpec spec{layers, count, at_once, update, true};
      const std::string name = stretch_name(update ? "steady" : "first", stretch);
      ProgramBuilder builder(plumbing, set, name, true);
      set.programs.push_back(builder.build(passes(spec), {count, at_once, !update, false}));
    }
  ProgramBuilder flush(plumbing, set, "flush", true);
  set.programs.push_back(flush.build(every_layer(layers, Phase::update), {0, 1, false, true}));
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

// Weights that stream come once for all micro-batches.
int BuildOptions::eval_at_once() const { return homes.streams() ? eval_micro_batches : 1; }

std::string stretch_name(const char* program, std::size_t stretch) {
  return stretch == 0 ? program : fmt::format("{}-{}", program, stretch);
}

namespace {

// A set without its programs, and what they share. Every program's needs come first: only then are
// the regions' places in the arena known.
struct Foundation {
  explicit Foundation(const ProgramSpec& spec)
      : residency(share(spec, set)), plumbing(spec.model, spec.options, spec.training, set.memory) {
    for (const CachedModel& one : spec.cached)
      cached.emplace_back(one.model, spec.options, false, set.memory);
  }

  ProgramSet set;
  std::shared_ptr<const Residency> residency;
  Plumbing plumbing;
  std::vector<Plumbing> cached;

 private:
  static std::shared_ptr<const Residency> share(const ProgramSpec& spec, ProgramSet& set) {
    std::vector<const ModelGraphs*> all{spec.model.get()};
    for (const CachedModel& cached : spec.cached) all.push_back(cached.model.get());
    return std::make_shared<Residency>(all, spec.options.homes, set.memory);
  }
};

}  // namespace

MemoryMap memory_map(const ProgramSpec& spec) { return Foundation(spec).set.memory; }

ProgramSet build_programs(const ProgramSpec& spec) {
  Foundation foundation(spec);
  ProgramSet set = std::move(foundation.set);
  const Plumbing& plumbing = foundation.plumbing;
  const std::vector<Plumbing>& cached = foundation.cached;
  set.model = spec.model;
  set.workers = spec.options.workers;
  set.residency = foundation.residency;
  const auto batch_slots =
      static_cast<int>(set.memory.bytes(Region::batch) / plumbing.slot_bytes());
  set.marks = Marks(batch_slots, *set.residency, spec.model->layer_count());

  if (spec.training) add_training(set, plumbing, spec.options);
  set.programs.push_back(ProgramBuilder(plumbing, set, "derive", spec.training)
                             .build(every_layer(spec.model->layer_count(), Phase::derive), {}));
  set.programs.push_back(forward_program(plumbing, set, "eval", spec.options.eval_micro_batches,
                                         spec.options.eval_at_once()));
  for (std::size_t i = 0; i < cached.size(); ++i)
    set.programs.push_back(forward_program(cached[i], set, spec.cached[i].name, 1, 1));
  return set;
}

}  // namespace sluice
