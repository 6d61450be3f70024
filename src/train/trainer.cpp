#include "train/trainer.h"

#include <algorithm>

#include "checkpoint/state_files.h"
#include "graph/initial.h"
#include "program/build.h"

namespace sluice {

Trainer::Trainer(const Config& config, const Plan& plan, Backend& backend,
                 std::shared_ptr<const ProgramSet> programs, const TrainingBatches& batches,
                 ExecutorOptions options)
    : config_(config),
      plan_(plan),
      length_(length_of(config)),
      batches_(batches),
      executor_(backend, programs, options),
      tensors_(model_tensors(*programs->model, config.model)),
      flush_(programs->index_of("flush")),
      derive_(programs->index_of("derive")) {
  int most = 1;
  for (std::size_t stretch = 0; stretch < length_.stretches.size(); ++stretch) {
    first_.push_back(programs->index_of(stretch_name("first", stretch)));
    steady_.push_back(programs->index_of(stretch_name("steady", stretch)));
    most =
        std::max(most, programs->programs[static_cast<std::size_t>(steady_.back())].micro_batches);
  }
  for (int set = 0; set < 2; ++set) staging_.emplace_back(programs->named("steady").batch, most);
}

void Trainer::initialize() {
  const ModelGraphs& model = *executor_.programs().model;
  const Parametrization scales = standard_parametrization();
  std::size_t index = 0;
  for (int layer = 0; layer < model.layer_count(); ++layer)
    for (const Parameter& p : model.of(model.kind_of(layer)).parameters) {
      const auto seed = static_cast<std::uint64_t>(config_.run.seed);
      const Tensor low = p.low == no_value ? Tensor{} : tensor(layer, "low." + p.name);
      fill_initial(tensor(layer, p.name), low, p, tensors_[index++].name, seed, scales);
    }
  begin();
}

void Trainer::start_from(const std::filesystem::path& dir) {
  load_masters(dir, config_.model, tensors_,
               [&](int layer, const std::string& value) { return tensor(layer, value); });
  begin();
}

// What depends on the weights that a run begins with.
void Trainer::begin() {
  std::fill(spikes().begin(), spikes().end(), 0.0);
  begin_averages(tensors_,
                 [&](int layer, const std::string& value) { return tensor(layer, value); });
}

std::span<double> Trainer::spikes() const {
  if (config_.optim.skip_spikes <= 0) return {};
  return executor_.global("spikes", DType::f64, {{Axis::scalar, Spikes::slots}}, Access::update)
      .values<double>();
}

void Trainer::derive() {
  executor_.enqueue(derive_, {});
  executor_.drain();
}

void Trainer::enqueue(std::int64_t step) {
  const auto set = static_cast<std::size_t>(step % 2);
  Staging& staging = staging_[set];
  lr_[set] = learning_rate(config_.optim, length_, step - 1);
  const std::size_t stretch = length_.stretch_after(step - 1);
  const auto program = static_cast<std::size_t>((pending_ ? steady_ : first_)[stretch]);
  // The number, over the whole run, of the micro-batch's first sequence.
  std::int64_t cursor = length_.tokens_after(step - 1) / config_.batch.sequence;
  const int micro_batches = executor_.programs().programs[program].micro_batches;
  for (int micro = 0; micro < micro_batches; ++micro, cursor += plan_.micro_batch) {
    batches_.fill(cursor, staging.view(micro));
    double* control = staging.control(micro);
    control[Control::lr] = lr_[set];
    control[Control::step] = static_cast<double>(step);
    control[Control::first_row] = static_cast<double>(micro * plan_.micro_batch);
  }
  tickets_[set] = executor_.enqueue(static_cast<int>(program), staging.blocks());
  pending_ = true;
  newest_ = step;
}

Trainer::Failure Trainer::failure() const {
  Executor::Failure failed = executor_.failure();
  Failure out{-1, std::move(failed.program)};
  if (failed.run < 0) return out;
  for (const std::int64_t step : {newest_, newest_ - 1})
    if (step > 0 && tickets_[static_cast<std::size_t>(step % 2)] == failed.run) out.step = step;
  return out;
}

StepResult Trainer::result(std::int64_t step) {
  const auto set = static_cast<std::size_t>(step % 2);
  executor_.wait(tickets_[set]);
  const Tensor table =
      executor_.global("results", DType::f64, {{Axis::scalar, 2 * Results::slots}});
  const double* row = table.data<double>() + static_cast<std::int64_t>(set) * Results::slots;
  StepResult out;
  out.step = step;
  out.loss = row[Results::loss];
  out.grad_norm = row[Results::grad_norm];
  out.weight = row[Results::weight];
  out.lr = lr_[set];
  out.ended = executor_.ended(tickets_[set]);
  out.finite = row[Results::finite] != 0;
  out.skipped = static_cast<int>(row[Results::skipped]);
  out.bad_tensor = static_cast<std::int64_t>(row[Results::bad]);
  return out;
}

void Trainer::settle() {
  if (pending_) executor_.enqueue(flush_, {});
  executor_.drain();
  pending_ = false;
}

std::uint64_t Trainer::digest() const {
  return weights_digest(tensors_, [&](int layer, const std::string& value) {
    return tensor(layer, value, Access::read);
  });
}

}  // namespace sluice
