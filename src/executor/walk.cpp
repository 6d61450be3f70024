#include "executor/walk.h"

#include <algorithm>
#include <unordered_map>

#include "executor/loaded.h"

namespace sluice {
namespace {

using Clock = std::array<std::int64_t, lanes>;  // per lane: actions that have surely ended

constexpr Base blob_bases[] = {Base::weights,
                               Base::gradients,
                               Base::optimizer,
                               Base::packed,
                               Base::derived,
                               Base::lent_weights,
                               Base::lent_gradients,
                               Base::lent_derived,
                               Base::batch,
                               Base::stash,
                               Base::x,
                               Base::y,
                               Base::dx,
                               Base::dy,
                               Base::side_x,
                               Base::side_y,
                               Base::side_dx,
                               Base::side_dy};

// What a place holds: first what layers own, as Kind numbers it.
enum class Holds : std::uint8_t {
  weights,
  gradients,
  optimizer,
  packed,
  derived,
  batch,
  stash,
  x,
  dx,
  side_x,
  side_dx
};
constexpr std::size_t versioned = 4;  // those that have versions of their own

struct Meant {
  Holds what = Holds::weights;
  int layer = -1, micro = -1;  // micro: of what lives within a run
  bool operator==(const Meant&) const = default;
};

bool lives_in_a_run(Holds what) { return what >= Holds::batch; }
bool leads_to_layer(Base base) {
  return base == Base::y || base == Base::dy || base == Base::side_y || base == Base::side_dy;
}

std::string_view name_of(Holds what) {
  static constexpr std::string_view names[] = {"weights",
                                               "gradients",
                                               "optimizer state",
                                               "packed gradients",
                                               "packed weights",
                                               "batch",
                                               "stash",
                                               "activation",
                                               "gradient of the activation",
                                               "activation beside it",
                                               "gradient of the activation beside it"};
  return names[static_cast<std::size_t>(what)];
}

Holds holds(Base base) {
  switch (base) {
    case Base::weights:
    case Base::lent_weights:
      return Holds::weights;
    case Base::gradients:
    case Base::lent_gradients:
      return Holds::gradients;
    case Base::optimizer:
      return Holds::optimizer;
    case Base::packed:
      return Holds::packed;
    case Base::derived:
    case Base::lent_derived:
      return Holds::derived;
    case Base::batch:
      return Holds::batch;
    case Base::stash:
      return Holds::stash;
    case Base::x:
    case Base::y:
      return Holds::x;
    case Base::side_x:
    case Base::side_y:
      return Holds::side_x;
    case Base::side_dx:
    case Base::side_dy:
      return Holds::side_dx;
    default:
      return Holds::dx;
  }
}

// How an op list touches what begins at a base.
struct Use {
  Base base;
  bool reads = false, writes = false, adds = false;
  bool written_first = false;  // the first op that touches it overwrites it
};

struct ListUses {
  std::vector<Use> uses;
  std::array<std::int64_t, static_cast<std::size_t>(Base::count)> extent{};  // bytes from each base
};

ListUses uses_of(const OpList& list, const std::vector<ValueType>& types, Workers workers) {
  std::array<Use, static_cast<std::size_t>(Base::count)> all{};
  ListUses out;
  for (std::size_t i = 0; i < list.ops.size(); ++i) {
    for_each_operand(list.ops[i], [&](Id id, Access access) {
      const Spot& spot = list.values[static_cast<std::size_t>(id)];
      if (!spot.known()) return;
      const auto b = static_cast<std::size_t>(spot.base);
      out.extent[b] =
          std::max(out.extent[b], spot.offset + value_bytes(types[static_cast<std::size_t>(id)]));
      Use& use = all[b];
      if (!use.reads && !use.writes) use.written_first = access == Access::write;
      use.reads |= access == Access::read || access == Access::update;
      use.writes |= access != Access::read;
      use.adds |= access == Access::accumulate;
    });
    if (const auto bytes = workspace_bytes(list.ops[i], types, workers); bytes > 0) {
      auto& frame = out.extent[static_cast<std::size_t>(Base::frame)];
      frame = std::max(frame, list.workspace[i] + bytes);
    }
  }
  for (const Base base : blob_bases) {
    Use use = all[static_cast<std::size_t>(base)];
    use.base = base;
    if (use.reads || use.writes) out.uses.push_back(use);
  }
  // What is packed here is made of the weights as this list leaves them.
  std::stable_sort(out.uses.begin(), out.uses.end(), [](const Use& a, const Use& b) {
    return (holds(a.base) != Holds::derived) > (holds(b.base) != Holds::derived);
  });
  return out;
}

struct Site {
  Meant content;
  std::int64_t version = -1;  // -1: nothing lies there
  std::int64_t run = -1;
  int writer_lane = -1;
  std::int64_t writer = -1;  // its place in the lane
  Clock reader;              // the last one of each lane; -1: none since the writer
  Site() { reader.fill(-1); }
};

// What a spilled stash is made of.
struct Spilled {
  bool values = false;  // of its own
  // Where in it the layer's input lies, and what comes beside it; -1: it does not.
  std::int64_t input = -1, side = -1;
};

struct Prepared {
  explicit Prepared(const Program& program, Workers workers) : at(program, nullptr, workers) {
    for (const OpList& list : program.lists)
      uses.push_back(uses_of(list, program.model->of(list.kind).types(), workers));
    const Action* kept[2] = {};  // the move of an input that came last; of what comes beside it
    for (const Action& action : program.actions) {
      if (action.phase == Phase::keep) kept[action.side] = &action;
      if (action.phase != Phase::forward) continue;
      Spilled& one = spilled[static_cast<std::size_t>(program.list_of(action).kind)];
      for (const Use& use : uses[static_cast<std::size_t>(action.list)].uses)
        one.values |= use.base == Base::stash && use.writes;
      for (const bool side : {false, true})
        if (kept[side] != nullptr && kept[side]->layer == action.layer)
          (side ? one.side : one.input) = kept[side]->to - action.at[Base::stash];
    }
  }
  LoadedProgram at;
  std::vector<ListUses> uses;
  std::array<Spilled, layer_kinds> spilled;  // by layer kind
};

}  // namespace

struct Walker::State {
  Backend& backend;
  const ProgramSet& set;
  std::vector<std::unique_ptr<Prepared>> loaded;  // made at the first run
  WalkCounts counts;
  std::unordered_map<std::int64_t, Site> places;            // by kind of place and offset
  std::array<std::vector<std::int64_t>, versioned> newest;  // version of each layer's blobs
  Clock ended{}, base{};            // actions of each lane that were taken; before this run
  std::array<Clock, lanes> joined;  // by lane
  std::vector<Clock> mark_clocks;   // what whoever waits for a mark has joined
  std::vector<Clock> clocks;        // of the run's actions, when they end
  Clock now{};                      // of the action that is looked at
  const Program* program = nullptr;
  int index = 0;

  State(Backend& b, const ProgramSet& s) : backend(b), set(s) {}

  const Action& action() const { return program->actions[static_cast<std::size_t>(index)]; }
  bool is_ready(const Prepared& from, int action) const;
  void take(Prepared& from);
  void compute(const Prepared& from);
  void copy(const Prepared& from);
  void move(const Meant& meant, std::int64_t from, std::int64_t to);
  void read(Site& place, const Meant& meant);
  void write(Site& place, const Meant& meant);
  void read_at(std::int64_t offset, const Meant& meant);
  void write_at(std::int64_t offset, const Meant& meant, std::int64_t version);
  void require_free(const Site& place, const Meant& meant) const;
  void require_joined(int lane, std::int64_t position, const Meant& meant, const char* what) const;
  void note_use(Site& place);
  void note_extent(std::int64_t begin, std::int64_t bytes);
  Meant meant(Base base) const;
  // Packed weights are as new as the weights that they are made of.
  std::int64_t& newest_of(const Meant& meant) {
    const Holds what = meant.what == Holds::derived ? Holds::weights : meant.what;
    return newest[static_cast<std::size_t>(what)][static_cast<std::size_t>(meant.layer)];
  }
  Site& place(Holds what, std::int64_t offset) {
    return places[offset * 2 + (what == Holds::stash ? 1 : 0)];
  }
  bool streams(const Meant& meant) const {
    const auto kind = meant.what == Holds::derived ? Kind::weights : static_cast<Kind>(meant.what);
    return meant.layer < program->model->layer_count() &&
           set.residency->slot(meant.layer, kind) >= 0;
  }
  // Where a blob goes on that covers more than one slot: the begins of the others.
  std::vector<std::int64_t> beyond(const Meant& meant, std::int64_t offset) const;
  std::string label(const Meant& meant) const;
  [[noreturn]] void refuse(const std::string& what, const std::string& found) const;
};

std::string Walker::State::label(const Meant& meant) const {
  std::string out(name_of(meant.what));
  if (meant.layer >= 0 && meant.layer < program->model->layer_count())
    out += " of " + program->model->layer_name(meant.layer);
  if (meant.micro >= 0) out += fmt::format(", micro {}", meant.micro);
  return out;
}

void Walker::State::refuse(const std::string& what, const std::string& found) const {
  throw Error(Exit::internal, {fmt::format("{} {}", program->action_name(index), what),
                               fmt::format("program {}, action {}", program->name, index),
                               "every place leased, and held in its newest version",
                               found,
                               {}});
}

Meant Walker::State::meant(Base base) const {
  const Action& a = action();
  const int last = program->model->layer_count() - 1;
  Meant out{holds(base), a.layer, -1};
  if (base == Base::lent_weights || base == Base::lent_gradients || base == Base::lent_derived)
    out.layer = a.layer == 0 ? last : 0;
  if (lives_in_a_run(out.what)) out.micro = a.micro;
  if (out.what == Holds::batch) out.layer = -1;
  if (leads_to_layer(base)) ++out.layer;  // between two layers it has the upper one's number
  return out;
}

void Walker::State::require_joined(int lane, std::int64_t position, const Meant& meant,
                                   const char* what) const {
  if (lane < 0 || position < 0 || now[static_cast<std::size_t>(lane)] > position) return;
  const auto own = static_cast<std::size_t>(action().lane);
  if (lane == static_cast<int>(own) && position == ended[own]) return;  // of this very action
  refuse(fmt::format("does not wait for {}", label(meant)),
         fmt::format("{} of it on lane {} may still run", what,
                     sluice::name_of(static_cast<Lane>(lane))));
}

void Walker::State::require_free(const Site& place, const Meant& meant) const {
  require_joined(place.writer_lane, place.writer, meant, "a write");
  for (int lane = 0; lane < lanes; ++lane)
    require_joined(lane, place.reader[static_cast<std::size_t>(lane)], meant, "a lease");
}

void Walker::State::note_use(Site& place) {
  ++counts.leases;
  const auto lane = static_cast<std::size_t>(action().lane);
  place.reader[lane] = ended[lane];
}

void Walker::State::note_extent(std::int64_t begin, std::int64_t bytes) {
  const std::int64_t end = begin + bytes;
  const Tier tier = begin < set.memory.end(Tier::device) ? Tier::device
                    : begin < set.memory.end(Tier::host) ? Tier::host
                                                         : Tier::disk;
  if (begin < 0 || end > set.memory.end(tier))
    refuse("reaches beyond the plan's memory", fmt::format("bytes {} to {}", begin, end));
  if (tier == Tier::disk) return;
  std::int64_t& peak = tier == Tier::device ? counts.device_peak : counts.host_peak;
  peak = std::max(peak, end - set.memory.begin(tier));
}

void Walker::State::read(Site& place, const Meant& meant) {
  require_joined(place.writer_lane, place.writer, meant, "the write");
  const bool lasts = !lives_in_a_run(meant.what);
  if (place.version < 0 && lasts && meant.what != Holds::derived && !streams(meant)) {
    place.content = meant;  // as the walk found it
    place.version = 0;
  }
  if (place.version < 0) refuse("reads " + label(meant), "nothing lies there");
  if (!(place.content == meant)) refuse("reads " + label(meant), label(place.content));
  const bool current = lasts ? place.version == newest_of(meant) : place.run == counts.runs;
  if (!current) refuse("reads " + label(meant), "an older version of it");
  note_use(place);
}

void Walker::State::write(Site& place, const Meant& meant) {
  require_free(place, meant);
  const auto lane = static_cast<std::size_t>(action().lane);
  place.content = meant;
  place.version = lives_in_a_run(meant.what) ? 0 : newest_of(meant);
  place.run = counts.runs;
  place.writer_lane = static_cast<int>(lane);
  place.writer = ended[lane];
  place.reader.fill(-1);
  ++counts.leases;
}

std::vector<std::int64_t> Walker::State::beyond(const Meant& meant, std::int64_t offset) const {
  std::vector<std::int64_t> out;
  if (lives_in_a_run(meant.what) || !streams(meant) || offset >= set.memory.end(Tier::device))
    return out;
  const Residency& residency = *set.residency;
  const bool derived = meant.what == Holds::derived;
  const Kind kind = derived ? Kind::weights : static_cast<Kind>(meant.what);
  const Region region = derived ? Region::derived : region_of(kind);
  const int first = residency.slot(meant.layer, kind);
  for (int s = first + 1; s < first + residency.covers(meant.layer, kind); ++s)
    out.push_back(offset + residency.slot_begin(kind, region, s) -
                  residency.slot_begin(kind, region, first));
  return out;
}

void Walker::State::read_at(std::int64_t offset, const Meant& meant) {
  read(place(meant.what, offset), meant);
  for (const std::int64_t other : beyond(meant, offset)) read(place(meant.what, other), meant);
}

void Walker::State::write_at(std::int64_t offset, const Meant& meant, std::int64_t version) {
  const auto one = [&](std::int64_t at) {
    Site& target = place(meant.what, at);
    write(target, meant);
    if (version >= 0) target.version = version;
  };
  one(offset);
  for (const std::int64_t other : beyond(meant, offset)) one(other);
}

void Walker::State::compute(const Prepared& from) {
  const Action& a = action();
  const ListUses& list = from.uses[static_cast<std::size_t>(a.list)];
  for (std::size_t b = 0; b < list.extent.size(); ++b)
    if (list.extent[b] > 0) note_extent(a.at[static_cast<Base>(b)], list.extent[b]);
  const OpList& ops = program->list_of(a);
  for (const Op& op : ops.ops) backend.run(op, {{}, {}, a.first, program->model->uncut(a.layer)});
  counts.ops += static_cast<std::int64_t>(ops.ops.size());
  if (a.phase == Phase::finish) return;
  for (const Use& use : list.uses) {
    const Meant meant = this->meant(use.base);
    const std::int64_t at = a.at[use.base];
    const bool reads = (use.reads && !use.written_first) || (use.adds && !a.first);
    if (use.base == Base::batch || (reads && !(use.adds && a.first))) {
      // A stash begins with the first value that F puts into it.
      const bool begins = meant.what == Holds::stash && use.writes && a.phase == Phase::forward;
      if (!begins) read_at(at, meant);
    }
    if (!use.writes) continue;
    if (meant.what <= Holds::packed) ++newest_of(meant);
    write_at(at, meant, -1);
  }
}

// One place's content to another place.
void Walker::State::move(const Meant& meant, std::int64_t from, std::int64_t to) {
  read_at(from, meant);
  write_at(to, meant, place(meant.what, from).version);
}

void Walker::State::copy(const Prepared& from) {
  const Action& a = action();
  const auto lane = static_cast<std::size_t>(a.lane);
  counts.bytes_of[lane] += a.bytes;
  note_extent(a.to, a.bytes);
  if (a.phase == Phase::load) {
    backend.copy_in(nullptr, nullptr, a.bytes);
    return write(place(Holds::batch, a.to), {Holds::batch, -1, a.micro});
  }
  note_extent(a.from, a.bytes);
  if (a.phase == Phase::keep) {
    backend.copy_within(nullptr, nullptr, a.bytes);
    return move({a.side ? Holds::side_x : Holds::x, a.layer, a.micro}, a.from, a.to);
  }
  if (a.phase == Phase::fetch) backend.copy_in(nullptr, nullptr, a.bytes);
  if (a.phase == Phase::leave) backend.copy_out(nullptr, nullptr, a.bytes);
  if (a.kind != Kind::stash) return move({static_cast<Holds>(a.kind), a.layer, -1}, a.from, a.to);
  const auto kind = static_cast<std::size_t>(program->model->kind_of(a.layer));
  const Spilled& stash = from.spilled[kind];
  if (stash.values) move({Holds::stash, a.layer, a.micro}, a.from, a.to);
  if (stash.input >= 0)
    move({Holds::x, a.layer, a.micro}, a.from + stash.input, a.to + stash.input);
  if (stash.side >= 0)
    move({Holds::side_x, a.layer, a.micro}, a.from + stash.side, a.to + stash.side);
}

// Whether all that an action waits for was taken; `now` is then what it has joined.
bool Walker::State::is_ready(const Prepared& from, int which) const {
  const Action& a = program->actions[static_cast<std::size_t>(which)];
  return std::all_of(a.waits.begin(), a.waits.end(), [&](const Wait& wait) {
    if (wait.action < 0) return true;
    const auto other = static_cast<std::size_t>(wait.action);
    const auto lane = static_cast<std::size_t>(program->actions[other].lane);
    return ended[lane] > base[lane] + from.at.ordinal[other];
  });
}

void Walker::State::take(Prepared& from) {
  const Action& a = action();
  const auto lane = static_cast<std::size_t>(a.lane);
  now = joined[lane];
  const auto join = [&](const Clock& other) {
    for (std::size_t i = 0; i < now.size(); ++i) now[i] = std::max(now[i], other[i]);
  };
  for (const Wait& wait : a.waits)
    join(wait.action < 0 ? mark_clocks[static_cast<std::size_t>(wait.mark)]
                         : clocks[static_cast<std::size_t>(wait.action)]);
  now[lane] = ended[lane];
  if (a.copies())
    copy(from);
  else
    compute(from);
  ++counts.actions;
  ++counts.actions_of[lane];
  counts.waits += static_cast<std::int64_t>(a.waits.size());
  now[lane] = ++ended[lane];
  joined[lane] = clocks[static_cast<std::size_t>(index)] = now;
}

Walker::Walker(Backend& backend, const ProgramSet& set)
    : state_(std::make_unique<State>(backend, set)) {
  State& s = *state_;
  backend.take(set.memory.total());
  if (set.memory.host_bytes() > 0) backend.take_host(set.memory.host_bytes());
  for (auto& versions : s.newest)
    versions.assign(static_cast<std::size_t>(set.model->layer_count()), 0);
  for (Clock& clock : s.joined) clock.fill(0);
  s.mark_clocks.assign(static_cast<std::size_t>(set.marks.count()), Clock{});
  s.loaded.resize(set.programs.size());
  for (int layer = 0; layer < set.model->layer_count(); ++layer)
    for (const Kind kind : owned_kinds)  // of gradients in two forms, the packed ones
      if (const std::int64_t home = set.residency->home(layer, kind); home >= 0) {
        const std::int64_t tier = set.memory.begin(set.residency->tier(layer, kind));
        Site& site = s.place(static_cast<Holds>(kind), tier + home);
        site.content = {static_cast<Holds>(kind), layer, -1};
        site.version = 0;
      }
}

Walker::~Walker() = default;

const WalkCounts& Walker::counts() const { return state_->counts; }

void Walker::run(int which) {
  State& s = *state_;
  s.program = &s.set.programs[static_cast<std::size_t>(which)];
  auto& loaded = s.loaded[static_cast<std::size_t>(which)];
  if (!loaded) loaded = std::make_unique<Prepared>(*s.program, s.set.workers);
  s.base = s.ended;
  s.clocks.assign(s.program->actions.size(), Clock{});
  std::array<std::size_t, lanes> next{};
  for (std::size_t taken = 0; taken < s.program->actions.size(); ++taken) {
    int chosen = -1, first_waiting = -1;
    for (int lane = 0; lane < lanes; ++lane) {
      const auto& list = loaded->at.lane_actions[lane];
      const std::size_t position = next[static_cast<std::size_t>(lane)];
      if (position >= list.size()) continue;
      first_waiting = list[position];
      if ((chosen < 0 || first_waiting < chosen) && s.is_ready(*loaded, first_waiting))
        chosen = first_waiting;
    }
    s.index = chosen < 0 ? first_waiting : chosen;
    if (chosen < 0) s.refuse("waits for ever", "no lane can go on");
    s.take(*loaded);
    ++next[static_cast<std::size_t>(s.action().lane)];
  }
  for (std::size_t mark = 0; mark < s.program->marks.size(); ++mark)
    if (const int action = s.program->marks[mark]; action >= 0)
      s.mark_clocks[mark] = s.clocks[static_cast<std::size_t>(action)];
  ++s.counts.runs;
}

}  // namespace sluice
