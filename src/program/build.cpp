#include "program/build.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "program/lists.h"

namespace sluice {
namespace {

struct Shape {
  int micro_batches = 0, at_once = 1;
  bool begins_settled = true, ends_settled = true;
  SlotContents pending = {};  // of a program that begins with an update pending, and ends settled
};

class ProgramBuilder {
 public:
  ProgramBuilder(const Plumbing& plumbing, const ProgramSet& set, std::string name, bool backward)
      : plumbing_(plumbing), set_(set), model_(*plumbing.model), backward_(backward) {
    program_.name = std::move(name);
    program_.model = plumbing.model;
    program_.batch = plumbing.batch;
  }

  Program build(std::vector<Scheduled> schedule, const Shape& shape) {
    unpack_before_updates(schedule);
    program_.micro_batches = shape.micro_batches;
    program_.at_once = shape.at_once;
    program_.begins_settled = shape.begins_settled;
    program_.ends_settled = shape.ends_settled;
    program_.marks.assign(static_cast<std::size_t>(set_.marks.count()), -1);
    loaded_.assign(static_cast<std::size_t>(shape.micro_batches), -1);
    for (int k = 0; k < copied_kinds; ++k)
      fetched_[static_cast<std::size_t>(k)].assign(
          static_cast<std::size_t>(slots(static_cast<Kind>(k))), -1);
    for (const Scheduled& item : schedule)
      if (item.phase != Phase::load) list_of(item);  // lists in the order of their first use
    CopySpec copies = copies_of(schedule);
    if (program_.ends_settled)
      copies.pending = shape.pending;
    else
      copies.pending = left_pending(schedule, copies);
    for (const Stop& stop : with_copies(schedule, copies)) add(stop);
    pending_ = std::move(copies.pending);
    claim_batch_slots();
    return std::move(program_);
  }
  const SlotContents& pending() const { return pending_; }

 private:
  struct Known {
    bool reads_batch;
    BlobUses uses;
  };

  bool packs(int layer) const {
    return layer < model_.layer_count() && set_.residency->slot(layer, Kind::packed) >= 0;
  }
  void unpack_before_updates(std::vector<Scheduled>& schedule) const {
    if (!set_.residency->packs()) return;
    std::vector<Scheduled> out;
    for (const Scheduled& item : schedule) {
      if (item.phase == Phase::update && packs(item.layer))
        out.push_back({Phase::unpack, item.layer, item.micro});
      out.push_back(item);
    }
    schedule = std::move(out);
  }

  bool spills() const { return backward_ && plumbing_.ring.slots > 0; }
  int slots(Kind kind) const {
    return kind == Kind::stash ? plumbing_.ring.slots : set_.residency->slots(kind);
  }

  CopySpec copies_of(const std::vector<Scheduled>& schedule) {
    CopySpec out{set_.residency.get(),
                 [&](const Scheduled& item) {
                   return lists_of_[static_cast<std::size_t>(list_of(item))].uses;
                 },
                 model_.layer_count(),
                 program_.begins_settled,
                 program_.ends_settled,
                 {},
                 program_.micro_batches,
                 {},
                 slots(Kind::stash),
                 [&](int layer) {
                   const LayerKind kind = model_.kind_of(layer);
                   return plumbing_.kept_input(kind) >= 0 || plumbing_.kept_side(kind) >= 0;
                 }};
    if (spills() && program_.micro_batches > 0)
      out.stash_slots =
          stash_slots(schedule, plumbing_.ring.slots, program_.micro_batches, program_.at_once,
                      [&](int layer) { return plumbing_.stash_bytes(model_.kind_of(layer)) > 0; });
    return out;
  }

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
        add_fetch(action, stop);
        break;
      case Phase::leave:
        add_leave(action, stop);
        break;
      case Phase::keep:
        for (const bool side : {false, true}) add_keep(action, stop.stash, side);
        return;
      case Phase::read:
        add_read(action, stop.kind);
        break;
      case Phase::write:
        add_write(action, stop.kind);
        break;
      default:
        action.list = list_of(stop.item);
        if (program_.list_of(action).ops.empty()) return;
        set_bases(action, stop.stash);
        add_uses(action, stop.stash);
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
  std::int64_t in_host(std::int64_t offset) const { return set_.memory.begin(Tier::host) + offset; }

  // Says what is copied, and gives the end that lies in its slot.
  std::int64_t set_copy(Action& action, const Stop& stop) const {
    action.kind = stop.kind;
    if (stop.kind == Kind::stash) {
      action.slot = stop.stash;
      action.bytes = plumbing_.of(model_.kind_of(action.layer), true).stash_bytes;
      return stash_slot(stop.stash);
    }
    action.slot = set_.residency->slot(action.layer, stop.kind);
    action.bytes = set_.residency->blob_bytes(model_.kind_of(action.layer), region_of(stop.kind));
    return blob(action.layer, region_of(stop.kind));
  }

  void add_fetch(Action& action, const Stop& stop) {
    action.lane = Lane::in;
    const Kind kind = stop.kind;
    action.to = set_copy(action, stop);
    const int slot = action.slot;
    const int staging = set_.residency->staging(action.layer, kind);
    const int end = slot + covers(action.layer, kind);
    for (int s = slot; s < end; ++s) {
      wait_for_mark(action, set_.marks.used(kind, s));
      wait_for_mark(action, set_.marks.emptied(kind, s));
    }
    if (kind == Kind::stash) {
      action.from = in_host(own_stash(action.layer, action.micro));
      wait_for(action, spilled_.at({action.layer, action.micro}));
    } else if (staging < 0) {
      action.from = home(action.layer, kind);
      wait_for_mark(action, set_.marks.home(kind, action.layer));
    } else {  // right behind its read
      action.from = in_host(set_.residency->staging_in(kind, staging));
      wait_for(action, next() - 1);
      mark(set_.marks.fetched(kind, staging)) = next();
    }
    for (int s = slot; s < end; ++s) fetched(kind, s) = next();
  }

  int covers(int layer, Kind kind) const {
    return kind == Kind::stash ? 1 : set_.residency->covers(layer, kind);
  }
  int& fetched(Kind kind, int slot) {
    return fetched_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(slot)];
  }

  // Behind the action that was the last to write.
  void add_leave(Action& action, const Stop& stop) {
    action.lane = Lane::out;
    const Kind kind = stop.kind;
    action.from = set_copy(action, stop);
    const int slot = action.slot;
    const int staging = set_.residency->staging(action.layer, kind);
    wait_for(action, mark(set_.marks.used(kind, slot)));
    if (kind == Kind::stash) {
      action.to = in_host(own_stash(action.layer, action.micro));
      spilled_[{action.layer, action.micro}] = next();
    } else if (staging < 0) {
      action.to = home(action.layer, kind);
      mark(set_.marks.home(kind, action.layer)) = next();
    } else {  // a write comes right behind it
      action.to = in_host(set_.residency->staging_out(kind, staging));
      wait_for_mark(action, set_.marks.written(kind, staging));
    }
    for (int s = slot; s < slot + covers(action.layer, kind); ++s)
      mark(set_.marks.emptied(kind, s)) = next();
  }

  // Whole pages go to disk and come from it.
  void add_read(Action& action, Kind kind) {
    action.lane = Lane::disk_read;
    const int staging = set_.residency->staging(action.layer, kind);
    action.kind = kind;
    action.bytes = set_.residency->page_bytes(action.layer, kind);
    action.from = home(action.layer, kind);
    action.to = in_host(set_.residency->staging_in(kind, staging));
    wait_for_mark(action, set_.marks.fetched(kind, staging));
    wait_for_mark(action, set_.marks.home(kind, action.layer));
  }

  void add_write(Action& action, Kind kind) {
    action.lane = Lane::disk_write;
    const int staging = set_.residency->staging(action.layer, kind);
    action.kind = kind;
    action.bytes = set_.residency->page_bytes(action.layer, kind);
    action.from = in_host(set_.residency->staging_out(kind, staging));
    action.to = home(action.layer, kind);
    wait_for(action, next() - 1);
    mark(set_.marks.written(kind, staging)) = next();
    mark(set_.marks.home(kind, action.layer)) = next();
  }

  // A layer's input moves into the slot where F and what follows look for it.
  void add_keep(Action action, int slot, bool side) {
    const LayerKind kind = model_.kind_of(action.layer);
    const LayerGraph& graph = model_.of(kind);
    const std::int64_t kept = side ? plumbing_.kept_side(kind) : plumbing_.kept_input(kind);
    if (kept < 0) return;
    action.kind = Kind::stash;
    action.slot = slot;
    action.side = side;
    action.bytes = value_bytes(graph[side ? graph.side_in : graph.carry_in].type);
    action.from = side ? side_carry(action.micro) : activation_carry(action.layer, action.micro);
    action.to = stash_slot(slot) + kept;
    use_stash(action, slot, true);
    program_.actions.push_back(std::move(action));
  }

  void use_stash(Action& action, int slot, bool writes) {
    const int fetch = fetched(Kind::stash, slot);
    if (fetch >= 0) wait_for(action, fetch);
    if (writes) wait_until_left(action, set_.marks.emptied(Kind::stash, slot), fetch);
    mark(set_.marks.used(Kind::stash, slot)) = next();
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
  void add_uses(Action& action, int stash_slot) {
    const Known& known = lists_of_[static_cast<std::size_t>(action.list)];
    if (known.reads_batch) {
      wait_for(action, loaded_[static_cast<std::size_t>(action.micro)]);
      mark(set_.marks.read(program_.slot_of(action.micro))) = next();
    }
    if (stash_slot >= 0) use_stash(action, stash_slot, action.phase == Phase::forward);
    if (action.phase == Phase::finish) return;
    const BlobUses& uses = known.uses;
    for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer, Kind::packed}) {
      const bool weights = kind == Kind::weights;
      add_use(action, kind, action.layer, uses.of(kind),
              weights && (uses.reads_packed || uses.writes_packed));
      add_use(action, kind, lender(action.layer), uses.lent[static_cast<std::size_t>(kind)],
              weights && uses.reads_lent_packed);
    }
  }

  void add_use(Action& action, Kind kind, int layer, const BlobUse& use, bool packed) {
    const int slot = set_.residency->slot(layer, kind);
    if (slot < 0 || !(use.any() || packed)) return;
    for (int s = slot; s < slot + covers(layer, kind); ++s) {
      const int fetch = fetched(kind, s);
      if (fetch >= 0) wait_for(action, fetch);
      if (use.writes) wait_until_left(action, set_.marks.emptied(kind, s), fetch);
      mark(set_.marks.used(kind, s)) = next();
    }
  }

  // The end that lends to a layer: a tied weight is lent both ways.
  int lender(int layer) const { return layer == 0 ? model_.layer_count() - 1 : 0; }

  LayerKind kind_of(const Scheduled& item) const {
    return item.phase == Phase::finish ? LayerKind::step : model_.kind_of(item.layer);
  }

  // The op list of an action; equal ones are shared.
  int list_of(const Scheduled& item) {
    const bool packing = item.phase == Phase::norm && packs(item.layer);
    const std::tuple key{kind_of(item), item.phase, packing};
    const auto [list, is_new] = lists_.try_emplace(key, static_cast<int>(program_.lists.size()));
    if (is_new) {
      program_.lists.push_back(
          make_list(plumbing_, *set_.residency, kind_of(item), item.phase, backward_, packing));
      const OpList& made = program_.lists.back();
      lists_of_.push_back({reads_batch(model_.of(kind_of(item)), made.ops), uses_of(made)});
      BlobUse& stash = lists_of_.back().uses.kinds[static_cast<std::size_t>(Kind::stash)];
      stash.writes = item.phase == Phase::forward;
      stash.reads = item.phase == Phase::input_grad || item.phase == Phase::weight_grad;
    }
    return list->second;
  }

  void set_bases(Action& action, int slot) const {
    Bases& at = action.at;
    at[Base::globals] = set_.memory.base(Region::globals);
    at[Base::batch] = slot_offset(action.micro);
    at[Base::frame] = set_.memory.base(Region::frame);
    if (action.phase == Phase::finish) return;
    const int layer = action.layer, last = model_.layer_count() - 1;
    const int lender = this->lender(layer);
    at[Base::weights] = blob(layer, Region::weights);
    at[Base::gradients] = blob(layer, Region::gradients);
    at[Base::packed] = blob(layer, Region::packed);
    at[Base::optimizer] = blob(layer, Region::optimizer);
    at[Base::derived] = blob(layer, Region::derived);
    at[Base::lent_weights] = blob(lender, Region::weights);
    at[Base::lent_gradients] = blob(lender, Region::gradients);
    at[Base::lent_derived] = blob(lender, Region::derived);
    at[Base::norms] =
        at[Base::globals] + set_.residency->norm_index(layer) * static_cast<int>(sizeof(double));
    at[Base::cache] = cache_offset(layer);
    if (backward_) at[Base::stash] = slot >= 0 ? stash_slot(slot) : stash(layer, action.micro);
    at[Base::x] = layer == 0 ? -1 : input(layer, action.micro, slot);
    at[Base::y] = layer == last ? -1 : activation(layer + 1, action.micro);
    at[Base::dx] = layer == 0 ? -1 : carry(action.micro + layer - 1);
    at[Base::dy] = layer == last ? -1 : carry(action.micro + layer);
    set_sides(action, slot);
  }

  // What goes beside the activations, between the parts of a block.
  void set_sides(Action& action, int slot) const {
    const LayerGraph& graph = model_.of(model_.kind_of(action.layer));
    Bases& at = action.at;
    if (graph.side_in != no_value) {
      const std::int64_t kept = slot < 0 ? -1 : plumbing_.kept_side(graph.kind);
      at[Base::side_x] = kept >= 0 ? stash_slot(slot) + kept : side(action.layer, action.micro);
      at[Base::side_dx] = side_carry(action.micro);
    }
    if (graph.side_out == no_value) return;
    at[Base::side_y] = side(action.layer + 1, action.micro);
    at[Base::side_dy] = side_carry(action.micro);
  }

  std::int64_t blob(int layer, Region region) const {
    const std::int64_t offset = set_.residency->blob(layer, region);
    return offset < 0 ? -1 : set_.memory.base(region) + offset;
  }

  std::int64_t slot_offset(int micro) const {
    return set_.memory.base(Region::batch) + program_.slot_of(micro) * plumbing_.slot_bytes();
  }

  // A stash's own place: in the region or, spilled, in host memory.
  std::int64_t own_stash(int layer, int micro) const {
    return plumbing_.stash_base[static_cast<std::size_t>(layer)] +
           micro % program_.at_once * plumbing_.stash_bytes(model_.kind_of(layer));
  }
  std::int64_t stash(int layer, int micro) const {
    return spills() ? -1 : set_.memory.base(Region::stash) + own_stash(layer, micro);
  }
  std::int64_t stash_slot(int slot) const {
    return set_.memory.base(Region::stash) + slot * plumbing_.ring.slot_bytes;
  }

  // The input of a layer: written by the layer below straight into the stash that keeps it, or into
  // a carry when nothing keeps it, or in another place later (Phase::keep).
  std::int64_t activation(int layer, int micro) const {
    const std::int64_t kept = backward_ ? plumbing_.kept_input(model_.kind_of(layer)) : -1;
    return kept >= 0 && !spills() ? stash(layer, micro) + kept : activation_carry(layer, micro);
  }
  std::int64_t activation_carry(int layer, int micro) const {
    return carry(micro + model_.layer_count() - layer);
  }
  // The same as the layer itself sees it, its stash being in `slot`.
  std::int64_t input(int layer, int micro, int slot) const {
    const std::int64_t kept = slot < 0 ? -1 : plumbing_.kept_input(model_.kind_of(layer));
    return kept >= 0 ? stash_slot(slot) + kept : activation(layer, micro);
  }

  // The same of what comes beside it.
  std::int64_t side(int layer, int micro) const {
    const std::int64_t kept = backward_ ? plumbing_.kept_side(model_.kind_of(layer)) : -1;
    return kept >= 0 && !spills() ? stash(layer, micro) + kept : side_carry(micro);
  }
  std::int64_t side_carry(int micro) const {
    return set_.memory.base(Region::carry) + plumbing_.sides +
           micro % program_.at_once * plumbing_.side_bytes;
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
    return set_.memory.base(Region::cache) + model_.block_of(layer) * bytes;
  }

  const Plumbing& plumbing_;
  const ProgramSet& set_;
  const ModelGraphs& model_;
  bool backward_;
  Program program_;
  SlotContents pending_;
  std::map<std::tuple<LayerKind, Phase, bool>, int> lists_;
  std::vector<Known> lists_of_;                         // by list
  std::vector<int> loaded_;                             // by micro-batch: the action
  std::array<std::vector<int>, copied_kinds> fetched_;  // by slot
  std::map<std::pair<int, int>, int> spilled_;          // by layer and micro-batch: the leave
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
  SlotContents pending;
  for (std::size_t stretch = 0; stretch < counts.size(); ++stretch)
    for (const bool update : {false, true}) {
      const int count = counts[stretch], at_once = options.at_once(count);
      const ScheduleSpec spec{layers, count, at_once, update, true};
      const std::string name = stretch_name(update ? "steady" : "first", stretch);
      ProgramBuilder builder(plumbing, set, name, true);
      set.programs.push_back(builder.build(passes(spec), {count, at_once, !update, false}));
      require(set.programs.size() == 1 || builder.pending() == pending,
              [&] { return Error(fmt::format("{} ends as no other step does", name)); });
      pending = builder.pending();
    }
  ProgramBuilder flush(plumbing, set, "flush", true);
  set.programs.push_back(
      flush.build(every_layer(layers, Phase::update), {0, 1, false, true, pending}));
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
    bool one_pass = true;
    for (const int count : spec.options.all_micro_batches())
      one_pass = one_pass && spec.options.at_once(count) == count;
    return std::make_shared<Residency>(all, spec.options.homes, one_pass, set.memory);
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
  set.marks = Marks(batch_slots, plumbing.ring.slots, *set.residency, spec.model->layer_count());

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
