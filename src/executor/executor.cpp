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
  std::array<std::thread, lanes> threads;

  State(Backend& b, std::shared_ptr<const ProgramSet> s, ExecutorOptions o)
      : backend(b), set(std::move(s)), options(o) {}

  static void wait_until(const std::atomic<std::int64_t>& counter, std::int64_t value) {
    for (std::int64_t now = counter.load(std::memory_order_acquire); now < value;
         now = counter.load(std::memory_order_acquire))
      counter.wait(now, std::memory_order_acquire);
  }

  void lane_main(int lane);
  void run_lane(int lane, const Run& run);
  void run_action(const Run& run, LoadedProgram& program, int action);
  void copy(const Run& run, const Action& action);
  std::byte* at(std::int64_t offset) const;  // in the arena or, from its end on, in host memory
  void delay(const Action& action) const;
  void open_windows();
  void compute(const Run& run, LoadedProgram& program, int index, const Action& action);
  void fail();
  std::int64_t wait_value(const Run& run, const LoadedProgram& program, const Wait& wait,
                          int& lane) const;
};

void Executor::State::fail() {
  const std::lock_guard lock(error_mutex);
  if (!error) error = std::current_exception();
  failed.store(true, std::memory_order_release);
}

void Executor::State::lane_main(int lane) {
  for (std::int64_t next = 0;; ++next) {
    wait_until(queued, next + 1);
    if (stop.load(std::memory_order_acquire)) return;
    run_lane(lane, queue[static_cast<std::size_t>(next % queue_capacity)]);
    if (lane == static_cast<int>(Lane::compute))
      ended[static_cast<std::size_t>(next) % ended.size()] = Clock::now();
    runs_done[static_cast<std::size_t>(lane)].store(next + 1, std::memory_order_release);
    runs_done[static_cast<std::size_t>(lane)].notify_all();
  }
}

void Executor::State::run_lane(int lane, const Run& run) {
  LoadedProgram& program = loaded[static_cast<std::size_t>(run.program)];
  auto& done = progress[static_cast<std::size_t>(lane)];
  for (const int action : program.lane_actions[lane]) {
    // After a failure lanes only count, so that nobody waits for ever.
    try {
      if (!failed.load(std::memory_order_acquire)) run_action(run, program, action);
    } catch (...) {
      fail();
    }
    done.fetch_add(1, std::memory_order_release);
    done.notify_all();
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

void Executor::State::run_action(const Run& run, LoadedProgram& program, int index) {
  const Action& action = program.program->actions[static_cast<std::size_t>(index)];
  Recorder* const recorder = run.record < 0 ? nullptr : options.recorder;
  const std::int64_t asked = recorder == nullptr ? 0 : recorder->now();
  for (const Wait& wait : action.waits) {
    int lane = 0;
    const std::int64_t value = wait_value(run, program, wait, lane);
    wait_until(progress[static_cast<std::size_t>(lane)], value);
  }
  if (failed.load(std::memory_order_acquire)) return;
  const Recorder::Timed timed(recorder, run.record, static_cast<int>(action.lane), index, -1,
                              asked);
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
  list.move_to(action.at);
  try {
    for (std::size_t i = 0; i < what.ops.size(); ++i) {
      {
        const Recorder::Timed timed(recorder, run.record, static_cast<int>(action.lane), index,
                                    static_cast<int>(i), -1);
        backend.run(what.ops[i], {list.values(), list.workspace(i), action.first, action.layer});
      }
      if (!options.poison) continue;
      for (const FreedRange& range : what.freed)
        if (range.op == static_cast<int>(i)) fill_poison(list.freed(range, action.at));
    }
  } catch (Error& e) {
    e.add_context(program.program->action_name(index));
    throw;
  }
  if (options.observer != nullptr) options.observer->after(*program.program, index, list.values());
}

Executor::Executor(Backend& backend, std::shared_ptr<const ProgramSet> programs,
                   ExecutorOptions options)
    : state_(std::make_unique<State>(backend, std::move(programs), options)) {
  State& s = *state_;
  s.arena = backend.take(s.set->memory.total());
  if (s.set->memory.host_bytes() > 0) s.host = backend.take_host(s.set->memory.host_bytes());
  s.open_windows();
  std::size_t micro_batches = 1;
  for (const Program& program : s.set->programs) {
    s.loaded.emplace_back(program, s.arena, s.set->workers);
    micro_batches = std::max(micro_batches, static_cast<std::size_t>(program.micro_batches));
  }
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

const ProgramSet& Executor::programs() const { return *state_->set; }

Tensor Executor::tensor(int layer, std::string_view value, Access access) const {
  State& s = *state_;
  const ModelGraphs& model = *s.set->model;
  const LayerGraph& graph = model.of(model.kind_of(layer));
  const ValueType& type = graph[graph.require_value(value)].type;
  const ProgramSet::Home home = s.set->home(layer, value);
  if (home.tier != Tier::disk || s.arena == nullptr)
    return {s.arena == nullptr ? nullptr : s.at(home.offset), type.dtype, type.shape};
  Window& window = s.windows[static_cast<std::size_t>(home.kind)];
  std::byte* const data =
      window.see(home.blob - s.set->memory.begin(Tier::disk), home.offset - home.blob,
                 value_bytes(type), access != Access::read);
  return {data, type.dtype, type.shape};
}

Tensor Executor::global(const std::string& name, DType dtype, const Shape& shape) const {
  return {state_->arena + state_->set->global_offset(name), dtype, shape};
}

}  // namespace sluice
