#include "executor/executor.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>

#include "core/random.h"
#include "executor/loaded.h"
#include "executor/mirror.h"
#include "executor/window.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int queue_capacity = 4;

// One queued run. Progress of a lane is the count of its actions that ended since the executor
// began, so "action a of this run has ended" is one comparison.
struct Run {
  int program = 0;
  int record = -1;                         // of the recorder; -1: not recorded
  std::array<std::int64_t, lanes> base{};  // progress of each lane when this run begins
  std::vector<std::int64_t> marks;  // progress of each mark's lane when runs before have set it
  std::vector<const std::byte*> staging;  // capacities of both are fixed at construction
};

void fill_poison(std::span<std::byte> range) { std::memset(range.data(), 0xFF, range.size()); }

}  // namespace

struct Executor::State {
  Backend& backend;
  std::shared_ptr<const ProgramSet> set;
  ExecutorOptions options;
  std::byte* arena = nullptr;
  std::byte* host = nullptr;
  std::vector<LoadedProgram> loaded;
  std::array<Window, copied_kinds> windows;  // on blobs at home on disk
  std::unique_ptr<Mirror> mirror;            // of a device that the host does not see

  std::array<Run, queue_capacity> queue;
  std::atomic<std::int64_t> queued = 0;  // runs enqueued so far; run i lies in queue[i % capacity]
  std::array<std::atomic<std::int64_t>, lanes> progress{};
  std::array<std::atomic<std::int64_t>, lanes> runs_done{};
  // End of run i on the compute lane, at i % size; published by runs_done.
  std::array<Clock::time_point, 2 * queue_capacity> ended{};
  std::array<std::int64_t, lanes> enqueued{};  // actions enqueued per lane
  std::vector<std::int64_t> marks;             // after the run enqueued last
  bool settled = true;                         // likewise
  std::atomic<bool> stop = false;
  std::atomic<bool> failed = false;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::int64_t failed_run = -1;
  std::array<std::thread, lanes> threads;

  // What is told once work of the compute lane has really ended: that `count` more of its actions
  // have, or that a run has.
  struct Told {
    State* state = nullptr;
    std::int64_t count = 0;
  };
  std::vector<std::vector<Told>> told;  // by program and action; count 0: nobody asks after it
  std::array<Told, queue_capacity> ran;

  State(Backend& b, std::shared_ptr<const ProgramSet> s, ExecutorOptions o)
      : backend(b), set(std::move(s)), options(o) {}

  static void wait_until(const std::atomic<std::int64_t>& counter, std::int64_t value) {
    for (std::int64_t now = counter.load(std::memory_order_acquire); now < value;
         now = counter.load(std::memory_order_acquire))
      counter.wait(now, std::memory_order_acquire);
  }

  // Neighbours on the compute lane that wait for nobody between them and that nobody waits for but
  // for the last: what the backend may keep, and enqueue as a whole.
  struct Stretch {
    std::size_t first = 0, count = 0;  // of the lane's actions
    int kept = -1;                     // the backend's number of it
  };
  struct Stretches {
    std::vector<Stretch> all;  // empty: the program runs op by op
    int runs = 0;
  };
  std::vector<Stretches> stretches;  // by program

  void find_stretches();
  void run_stretch(const Run& run, LoadedProgram& program, Stretch& stretch);
  void run_stretches(const Run& run, LoadedProgram& program, std::vector<Stretch>& all);
  void wait_for_others(const Run& run, const LoadedProgram& program, int action) const;
  bool waits_for_others(const LoadedProgram& program, const Action& action) const;
  void lane_main(int lane);
  void run_lane(int lane, const Run& run);
  void run_action(const Run& run, LoadedProgram& program, int action);
  void copy(const Run& run, const Action& action);
  std::byte* at(std::int64_t offset) const;  // in the arena or, from its end on, in host memory
  void delay(const Action& action) const;
  void open_windows();
  void compute(const Run& run, LoadedProgram& program, int index, const Action& action);
  // Where the times of a trace come from: of work that is only put on a queue, from the device.
  Backend* clock_of(const Action& action) {
    return action.lane == Lane::compute && !backend.host_sees() ? &backend : nullptr;
  }
  void fail(std::exception_ptr why);
  void tell_later();
  void prepare();
  void end_action(int lane, Told& one);
  void end_run(int lane, std::int64_t run);
  void finish(const Op& op, const Program& program, int index) const;
  void observe(const Program& program, int index, const Action& action, const LoadedList& list);
  static void tell_actions(void* with, std::exception_ptr failed);
  static void tell_run(void* with, std::exception_ptr failed);
  std::int64_t wait_value(const Run& run, const LoadedProgram& program, const Wait& wait,
                          int& lane) const;
};

void Executor::State::fail(std::exception_ptr why) {
  const std::lock_guard lock(error_mutex);
  if (!error) {
    error = std::move(why);
    failed_run = runs_done[static_cast<std::size_t>(Lane::compute)].load();
  }
  failed.store(true, std::memory_order_release);
}

// Which actions of the compute lane somebody else waits for. A backend that returns when work has
// ended tells of every one at once.
void Executor::State::tell_later() {
  const auto compute = static_cast<std::size_t>(Lane::compute);
  for (const LoadedProgram& program : loaded) {
    const std::vector<Action>& actions = program.program->actions;
    std::vector<bool> asked(actions.size(), backend.host_sees());
    for (const Action& action : actions)
      for (const Wait& wait : action.waits)
        if (wait.action >= 0) asked[static_cast<std::size_t>(wait.action)] = true;
    for (const int action : program.program->marks)
      if (action >= 0) asked[static_cast<std::size_t>(action)] = true;
    const std::vector<int>& lane = program.lane_actions[compute];
    if (!lane.empty()) asked[static_cast<std::size_t>(lane.back())] = true;
    told.emplace_back(actions.size(), Told{this, 0});
    std::int64_t count = 0;
    for (const int action : lane) {
      ++count;
      if (!asked[static_cast<std::size_t>(action)]) continue;
      told.back()[static_cast<std::size_t>(action)].count = count;
      count = 0;
    }
  }
}

void Executor::State::tell_actions(void* with, std::exception_ptr failed) {
  const Told& one = *static_cast<const Told*>(with);
  if (failed) one.state->fail(std::move(failed));
  auto& done = one.state->progress[static_cast<std::size_t>(Lane::compute)];
  done.fetch_add(one.count, std::memory_order_release);
  done.notify_all();
}

void Executor::State::tell_run(void* with, std::exception_ptr failed) {
  const Told& one = *static_cast<const Told*>(with);
  State& s = *one.state;
  if (failed) s.fail(std::move(failed));
  s.ended[static_cast<std::size_t>(one.count) % s.ended.size()] = Clock::now();
  auto& done = s.runs_done[static_cast<std::size_t>(Lane::compute)];
  done.store(one.count + 1, std::memory_order_release);
  done.notify_all();
}

void Executor::State::end_action(int lane, Told& one) {
  if (lane != static_cast<int>(Lane::compute)) {
    auto& done = progress[static_cast<std::size_t>(lane)];
    done.fetch_add(1, std::memory_order_release);
    done.notify_all();
  } else if (one.count > 0) {
    try {
      backend.then(tell_actions, &one);
    } catch (...) {
      tell_actions(&one, std::current_exception());
    }
  }
}

void Executor::State::end_run(int lane, std::int64_t run) {
  if (lane != static_cast<int>(Lane::compute)) {
    auto& done = runs_done[static_cast<std::size_t>(lane)];
    done.store(run + 1, std::memory_order_release);
    done.notify_all();
    return;
  }
  Told& one = ran[static_cast<std::size_t>(run % queue_capacity)];
  one = {this, run};
  try {
    backend.then(tell_run, &one);
  } catch (...) {
    tell_run(&one, std::current_exception());
  }
}

void Executor::State::lane_main(int lane) {
  for (std::int64_t next = 0;; ++next) {
    wait_until(queued, next + 1);
    if (stop.load(std::memory_order_acquire)) return;
    run_lane(lane, queue[static_cast<std::size_t>(next % queue_capacity)]);
    end_run(lane, next);
  }
}

bool Executor::State::waits_for_others(const LoadedProgram& program, const Action& action) const {
  return std::any_of(action.waits.begin(), action.waits.end(), [&](const Wait& wait) {
    const Lane lane = wait.action < 0
                          ? set->marks.lane(wait.mark)
                          : program.program->actions[static_cast<std::size_t>(wait.action)].lane;
    return lane != action.lane;
  });
}

void Executor::State::find_stretches() {
  stretches.resize(loaded.size());
  if (!backend.records() || arena == nullptr || options.eager || options.sync || options.poison ||
      options.observer != nullptr || options.recorder != nullptr)
    return;
  for (std::size_t p = 0; p < loaded.size(); ++p) {
    const std::vector<int>& lane = loaded[p].lane_actions[static_cast<int>(Lane::compute)];
    bool ended = true;
    for (std::size_t i = 0; i < lane.size(); ++i) {
      const auto action = static_cast<std::size_t>(lane[i]);
      if (ended || waits_for_others(loaded[p], loaded[p].program->actions[action]))
        stretches[p].all.push_back({i, 0});
      ++stretches[p].all.back().count;
      ended = told[p][action].count > 0;
    }
  }
}

void Executor::State::run_stretch(const Run& run, LoadedProgram& program, Stretch& stretch) {
  const std::vector<int>& lane = program.lane_actions[static_cast<int>(Lane::compute)];
  wait_for_others(run, program, lane[stretch.first]);
  if (stretch.kept < 0) {
    backend.record();
    try {
      for (std::size_t i = 0; i < stretch.count; ++i)
        run_action(run, program, lane[stretch.first + i]);
    } catch (...) {
      backend.abandon();
      throw;
    }
    stretch.kept = backend.recorded();
  }
  if (!failed.load(std::memory_order_acquire)) backend.replay(stretch.kept);
}

// As one that runs op by op; the first time a program does, so that kernels are loaded by then.
void Executor::State::run_stretches(const Run& run, LoadedProgram& program,
                                    std::vector<Stretch>& all) {
  const std::vector<int>& lane = program.lane_actions[static_cast<int>(Lane::compute)];
  std::vector<Told>& tells = told[static_cast<std::size_t>(run.program)];
  for (Stretch& stretch : all) {
    try {
      if (!failed.load(std::memory_order_acquire)) run_stretch(run, program, stretch);
    } catch (...) {
      fail(std::current_exception());
    }
    for (std::size_t i = 0; i < stretch.count; ++i)
      end_action(static_cast<int>(Lane::compute),
                 tells[static_cast<std::size_t>(lane[stretch.first + i])]);
  }
}

void Executor::State::run_lane(int lane, const Run& run) {
  LoadedProgram& program = loaded[static_cast<std::size_t>(run.program)];
  std::vector<Told>& tells = told[static_cast<std::size_t>(run.program)];
  if (lane == static_cast<int>(Lane::compute)) {
    Stretches& known = stretches[static_cast<std::size_t>(run.program)];
    if (!known.all.empty() && known.runs++ > 0) return run_stretches(run, program, known.all);
  }
  for (const int action : program.lane_actions[lane]) {
    // After a failure lanes only count, so that nobody waits for ever.
    try {
      if (!failed.load(std::memory_order_acquire)) run_action(run, program, action);
    } catch (...) {
      fail(std::current_exception());
    }
    end_action(lane, tells[static_cast<std::size_t>(action)]);
  }
}

std::int64_t Executor::State::wait_value(const Run& run, const LoadedProgram& program,
                                         const Wait& wait, int& lane) const {
  if (wait.action < 0) {
    lane = static_cast<int>(set->marks.lane(wait.mark));
    return run.marks[static_cast<std::size_t>(wait.mark)];
  }
  const auto index = static_cast<std::size_t>(wait.action);
  lane = static_cast<int>(program.program->actions[index].lane);
  return run.base[static_cast<std::size_t>(lane)] + program.ordinal[index] + 1;
}

void Executor::State::wait_for_others(const Run& run, const LoadedProgram& program,
                                      int index) const {
  const Action& action = program.program->actions[static_cast<std::size_t>(index)];
  for (const Wait& wait : action.waits) {
    int lane = 0;
    const std::int64_t value = wait_value(run, program, wait, lane);
    if (lane == static_cast<int>(action.lane)) continue;  // its own order says so
    wait_until(progress[static_cast<std::size_t>(lane)], value);
  }
}

void Executor::State::run_action(const Run& run, LoadedProgram& program, int index) {
  const Action& action = program.program->actions[static_cast<std::size_t>(index)];
  Recorder* const recorder = run.record < 0 ? nullptr : options.recorder;
  const std::int64_t asked = recorder == nullptr ? 0 : recorder->now();
  wait_for_others(run, program, index);
  if (failed.load(std::memory_order_acquire)) return;
  const Recorder::Timed timed(recorder, run.record, static_cast<int>(action.lane), index, -1, asked,
                              clock_of(action));
  if (action.copies())
    doing([&] { return program.program->action_name(index); }, [&] { copy(run, action); });
  else
    compute(run, program, index, action);
}

std::byte* Executor::State::at(std::int64_t offset) const {
  const std::int64_t end = set->memory.total();
  std::byte* const base = offset < end ? arena : host;
  return base == nullptr ? nullptr : base + (offset < end ? offset : offset - end);
}

void Executor::State::delay(const Action& action) const {
  static constexpr const char* streams[] = {"", "copy in delay", "copy out delay",
                                            "disk read delay", "disk write delay"};
  const auto lane = static_cast<std::size_t>(action.lane);
  const auto draw = static_cast<std::uint64_t>(progress[lane].load());
  const double share = random_uniform(options.poison_seed, stream_of(streams[lane]), draw);
  std::this_thread::sleep_for(std::chrono::microseconds(static_cast<int>(2000 * share)));
}

void Executor::State::copy(const Run& run, const Action& action) {
  if (action.phase == Phase::keep)
    return backend.copy_within(at(action.to), at(action.from), action.bytes);
  const bool writes = action.phase == Phase::write;
  const std::int64_t disk = set->memory.begin(Tier::disk);
  std::byte* const to = writes ? nullptr : at(action.to);
  if (options.poison && arena != nullptr) {
    if (!writes) fill_poison({to, static_cast<std::size_t>(action.bytes)});
    delay(action);
  }
  if (action.phase == Phase::load)
    backend.copy_in(to, run.staging[static_cast<std::size_t>(action.micro)], action.bytes);
  else if (action.phase == Phase::fetch)
    backend.copy_in(to, at(action.from), action.bytes);
  else if (action.phase == Phase::leave)
    backend.copy_out(to, at(action.from), action.bytes);
  else if (arena == nullptr)
    return;  // what owns no memory has no disk either
  else if (writes)
    options.scratch->write(at(action.from), action.to - disk, action.bytes);
  else
    options.scratch->read(to, action.from - disk, action.bytes);
}

void Executor::State::compute(const Run& run, LoadedProgram& program, int index,
                              const Action& action) {
  Recorder* const recorder = run.record < 0 ? nullptr : options.recorder;
  LoadedList& list = program.lists[static_cast<std::size_t>(action.list)];
  const OpList& what = program.program->list_of(action);
  const int layer = program.program->model->uncut(action.layer);
  list.move_to(action.at);
  std::size_t at = 0;
  try {
    for (std::size_t i = 0; i < what.ops.size(); ++i) {
      at = i;
      {
        const Recorder::Timed timed(recorder, run.record, static_cast<int>(action.lane), index,
                                    static_cast<int>(i), -1, clock_of(action));
        backend.run(what.ops[i], {list.values(), list.workspace(i), action.first, layer});
      }
      if (options.sync) finish(what.ops[i], *program.program, index);
      if (!options.poison) continue;
      for (const FreedRange& range : what.freed)
        if (range.op == static_cast<int>(i)) fill_poison(list.freed(range, action.at));
    }
  } catch (Error& e) {
    e.add_context(program.program->action_name(index));
    if (options.sync && e.report().where.empty())
      e.report().where =
          fmt::format("{} in {}", name_of(what.ops[at]), program.program->action_name(index));
    throw;
  }
  if (options.observer != nullptr) observe(*program.program, index, action, list);
}

void Executor::State::finish(const Op& op, const Program& program, int index) const {
  try {
    backend.finish();
  } catch (Error& e) {
    if (e.report().where.empty())
      e.report().where = fmt::format("{} in {}", sluice::name_of(op), program.action_name(index));
    throw;
  }
}

// On a device of its own the observer sees copies, and what it does to weights goes back.
void Executor::State::observe(const Program& program, int index, const Action& action,
                              const LoadedList& list) {
  if (mirror == nullptr) return options.observer->after(program, index, list.values());
  backend.finish();
  const auto copy = [&](std::byte* device, std::byte* host, std::int64_t bytes, bool out) {
    return out ? backend.copy_out(host, device, bytes) : backend.copy_in(device, host, bytes);
  };
  std::vector<Tensor> seen;
  for (const bool out : {true, false}) {
    if (!out) options.observer->after(program, index, seen);
    if (!out && action.phase != Phase::update) return;
    for (const Tensor& value : list.values()) {
      auto* const device = static_cast<std::byte*>(value.raw());
      std::byte* const host = device == nullptr ? nullptr : mirror->observed(device - arena);
      if (device != nullptr) copy(device, host, value.bytes(), out);
      if (out) seen.emplace_back(host, value.dtype(), value.shape());
    }
  }
}

// The backend sees every op with every frame that it will have, before lanes have threads.
void Executor::State::prepare() {
  for (LoadedProgram& program : loaded)
    for (const Action& action : program.program->actions) {
      if (action.copies()) continue;
      LoadedList& list = program.lists[static_cast<std::size_t>(action.list)];
      const OpList& what = program.program->list_of(action);
      list.move_to(action.at);
      for (std::size_t i = 0; i < what.ops.size(); ++i)
        backend.prepare(what.ops[i],
                        {list.values(), list.workspace(i), action.first, action.layer});
    }
}

Executor::Executor(Backend& backend, std::shared_ptr<const ProgramSet> programs,
                   ExecutorOptions options)
    : state_(std::make_unique<State>(backend, std::move(programs), options)) {
  State& s = *state_;
  s.arena = backend.take(s.set->memory.total());
  if (s.set->memory.host_bytes() > 0) s.host = backend.take_host(s.set->memory.host_bytes());
  s.open_windows();
  if (!backend.host_sees() && s.arena != nullptr)
    s.mirror = std::make_unique<Mirror>(backend, s.arena, s.set->memory.total());
  std::size_t micro_batches = 1;
  for (const Program& program : s.set->programs) {
    s.loaded.emplace_back(program, s.arena, s.set->workers);
    micro_batches = std::max(micro_batches, static_cast<std::size_t>(program.micro_batches));
  }
  s.prepare();
  s.tell_later();
  s.find_stretches();
  s.marks.resize(static_cast<std::size_t>(s.set->marks.count()));
  for (Run& run : s.queue) {
    run.staging.reserve(micro_batches);
    run.marks.resize(s.marks.size());
  }
  for (int lane = 0; lane < lanes; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    const bool used = std::any_of(s.loaded.begin(), s.loaded.end(), [&](const LoadedProgram& p) {
      return !p.lane_actions[l].empty();
    });
    if (used || lane == static_cast<int>(Lane::compute))
      s.threads[l] = std::thread([&s, lane] { s.lane_main(lane); });
    else
      s.runs_done[l] = std::numeric_limits<std::int64_t>::max();  // always done with everything
  }
}

Executor::~Executor() {
  State& s = *state_;
  for (int lane = 0; lane < lanes; ++lane)
    State::wait_until(s.runs_done[static_cast<std::size_t>(lane)], s.queued.load());
  s.stop.store(true, std::memory_order_release);
  s.queued.fetch_add(1, std::memory_order_release);
  s.queued.notify_all();
  for (std::thread& thread : s.threads)
    if (thread.joinable()) thread.join();
}

// Between runs nobody needs the first staging slot of a kind.
void Executor::State::open_windows() {
  const MemoryMap& memory = set->memory;
  if (memory.disk_bytes() == 0 || arena == nullptr) return;
  require(options.scratch != nullptr && options.scratch->bytes() >= memory.disk_bytes(),
          [] { return Error("blobs are at home on disk, and there is no room for them"); });
  for (const Kind kind : owned_kinds)
    if (set->residency->stagings(kind) > 0)
      windows[static_cast<std::size_t>(kind)] =
          Window(*options.scratch, host + set->residency->staging_in(kind, 0),
                 set->residency->staging_bytes(kind));
}

Executor::Ticket Executor::enqueue(int program, std::span<const std::byte* const> staging) {
  State& s = *state_;
  const std::int64_t ticket = s.queued.load(std::memory_order_relaxed);
  for (const auto& done : s.runs_done) State::wait_until(done, ticket - queue_capacity + 1);
  Run& run = s.queue[static_cast<std::size_t>(ticket % queue_capacity)];
  const LoadedProgram& loaded = s.loaded[static_cast<std::size_t>(program)];
  assert(static_cast<int>(staging.size()) >= loaded.program->micro_batches);
  run.program = program;
  run.record = s.options.recorder == nullptr ? -1 : s.options.recorder->claim(program);
  run.staging.assign(staging.begin(), staging.end());
  // While nothing streams, a program may run over a pending update: nobody moves what it will use.
  require(s.set->memory.host_bytes() == 0 || s.settled == loaded.program->begins_settled, [&] {
    return Error(fmt::format("program {} cannot run {} a pending update", loaded.program->name,
                             s.settled ? "without" : "over"));
  });
  for (Window& window : s.windows) window.close();
  if (s.mirror != nullptr) s.mirror->close();
  s.settled = loaded.program->ends_settled;
  run.marks = s.marks;
  run.base = s.enqueued;
  for (std::size_t lane = 0; lane < lanes; ++lane)
    s.enqueued[lane] += static_cast<std::int64_t>(loaded.lane_actions[lane].size());
  for (std::size_t mark = 0; mark < s.marks.size(); ++mark) {
    const int action = loaded.program->marks[mark];
    if (action < 0) continue;
    const auto lane = static_cast<std::size_t>(s.set->marks.lane(static_cast<Mark>(mark)));
    s.marks[mark] = run.base[lane] + loaded.ordinal[static_cast<std::size_t>(action)] + 1;
  }
  s.queued.store(ticket + 1, std::memory_order_release);
  s.queued.notify_all();
  return ticket;
}

void Executor::wait(Ticket ticket) {
  State& s = *state_;
  for (const auto& done : s.runs_done) State::wait_until(done, ticket + 1);
  if (!s.failed.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(s.error_mutex);
  std::rethrow_exception(s.error);
}

void Executor::drain() { wait(state_->queued.load(std::memory_order_relaxed) - 1); }

std::chrono::steady_clock::time_point Executor::ended(Ticket ticket) const {
  return state_->ended[static_cast<std::size_t>(ticket) % state_->ended.size()];
}

Executor::Failure Executor::failure() const {
  State& s = *state_;
  const std::lock_guard lock(s.error_mutex);
  if (!s.error) return {};
  // Nothing is enqueued after a failure was seen, so its place in the queue is still its own.
  const Run& run = s.queue[static_cast<std::size_t>(s.failed_run % queue_capacity)];
  const auto program = static_cast<std::size_t>(run.program);
  return {s.failed_run, s.set->programs[program].name};
}

const ProgramSet& Executor::programs() const { return *state_->set; }

Tensor Executor::tensor(int layer, std::string_view value, Access access) const {
  State& s = *state_;
  const ModelGraphs& model = *s.set->model;
  const LayerGraph& graph = model.of(model.kind_of(layer));
  const ValueType& type = graph[graph.require_value(value)].type;
  const ProgramSet::Home home = s.set->home(layer, value);
  if (s.mirror != nullptr && home.tier == Tier::device)
    return {s.mirror->see(layer, home.offset, value_bytes(type), access), type.dtype, type.shape};
  if (home.tier != Tier::disk || s.arena == nullptr)
    return {s.arena == nullptr ? nullptr : s.at(home.offset), type.dtype, type.shape};
  Window& window = s.windows[static_cast<std::size_t>(home.kind)];
  std::byte* const data =
      window.see(home.blob - s.set->memory.begin(Tier::disk), home.offset - home.blob,
                 value_bytes(type), access != Access::read);
  return {data, type.dtype, type.shape};
}

Tensor Executor::global(const std::string& name, DType dtype, const Shape& shape,
                        Access access) const {
  State& s = *state_;
  const std::int64_t offset = s.set->global_offset(name);
  Tensor out{s.arena + offset, dtype, shape};
  if (s.mirror == nullptr) return out;
  return {s.mirror->see(Mirror::no_layer, offset, out.bytes(), access), dtype, shape};
}

}  // namespace sluice
