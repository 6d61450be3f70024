#include "support/machine.h"

#include <algorithm>
#include <cstring>

#include "backend/around.h"
#include "checkpoint/state_files.h"
#include "core/hash.h"
#include "core/random.h"
#include "graph/derive.h"
#include "graph/initial.h"

namespace sluice::testing_support {
namespace {

// A backend with ops left out.
class Filtered final : public AroundBackend {
 public:
  Filtered(Backend& below, OpFilter filter) : AroundBackend(below), filter_(std::move(filter)) {}
  void run(const Op& op, const Frame& frame) override {
    if (!filter_ || filter_(op, frame.first)) AroundBackend::run(op, frame);
  }

 private:
  OpFilter filter_;
};

TrainingOptions training_options(const MachineSpec& spec) {
  TrainingOptions out;
  out.shape = spec.shape;
  out.head_chunk = spec.head_chunk;
  out.build.micro_batches = spec.micro_batches;
  out.build.eval_micro_batches = spec.micro_batches;
  out.numerics = spec.numerics;
  out.numerics.dropout = spec.model.dropout > 0;
  out.build.passes = spec.passes;
  out.build.homes = parse_homes(spec.homes, static_cast<int>(spec.model.layers));
  out.build.homes.slots.fill(spec.slots);
  out.build.spill_stash = spec.spill_stash;
  out.build.stash_slots = spec.slots;
  out.build.recompute = spec.recompute;
  out.blobs = spec.blobs;
  out.build.fuse = spec.fuse;
  out.build.workers.threads = spec.device == nullptr ? spec.threads : 1;
  out.packed = spec.device == nullptr;
  return out;
}

template <class T>
void copy_rows(const std::vector<T>& from, std::int64_t first, std::span<T> to) {
  std::copy_n(from.begin() + first, to.size(), to.begin());
}

void fill(const BatchView& view, const Batch& batch, std::int64_t first) {
  copy_rows(batch.ids, first, view.ids);
  copy_rows(batch.targets, first, view.targets);
  copy_rows(batch.positions, first, view.positions);
  copy_rows(batch.starts, first, view.starts);
  copy_rows(batch.weights, first, view.weights);
}

}  // namespace

void loss_to_logits(ModelGraphs& model) {
  LayerGraph& graph = model.head;
  for (Op& op : graph.forward) {
    const auto* loss = std::get_if<HeadLoss>(&op);
    if (loss == nullptr) continue;
    const std::int64_t rows = graph[loss->w].type.shape[0].size;
    const Shape shape{
        {Axis::batch, model.shape.batch}, {Axis::time, model.shape.time}, {Axis::vocab, rows}};
    const Id logits = graph.add_value("logits", {DType::f32, shape}, ValueKind::global);
    op = Linear{loss->x, loss->w, loss->bias, logits, true, loss->scale};
  }
}

Batch Batch::of(std::int64_t rows, std::int64_t time) {
  const auto count = static_cast<std::size_t>(rows * time);
  Batch out{rows, time, {}, {}, {}, {}, {}};
  out.ids.resize(count);
  out.targets.resize(count);
  out.starts.resize(count);
  out.weights.assign(count, 1.0f);
  for (std::size_t i = 0; i < count; ++i)
    out.positions.push_back(static_cast<std::int32_t>(i % static_cast<std::size_t>(time)));
  return out;
}

Batch Batch::random(std::int64_t rows, std::int64_t time, std::int64_t vocab, std::uint64_t seed) {
  Batch out = of(rows, time);
  const std::uint64_t stream = stream_of("test batch");
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t t = 0; t <= time; ++t) {
      const auto draw = static_cast<std::uint64_t>(row * (time + 1) + t);
      const double share = random_uniform(seed, stream, draw);
      // Squared, so that some ids are frequent and there is something to learn.
      const auto id = static_cast<std::int32_t>(share * share * static_cast<double>(vocab));
      if (t < time) out.ids[static_cast<std::size_t>(row * time + t)] = id;
      if (t > 0) out.targets[static_cast<std::size_t>(row * time + t - 1)] = id;
    }
  return out;
}

Machine::Machine(const MachineSpec& spec) : spec_(spec) {
  auto programs = std::make_shared<const ProgramSet>(
      assemble_training(spec.model, spec.optim, spec.scales, training_options(spec)));
  if (spec.device == nullptr)
    cpu_ = std::make_unique<CpuBackend>(CpuBackend::Options{spec.threads, spec.isa});
  backend_ = std::make_unique<Filtered>(computes(), spec.filter);
  ExecutorOptions options = executor_options();
  if (const std::int64_t disk = programs->memory.disk_bytes(); disk > 0)
    options.scratch = &scratch_.emplace(spec.scratch.string(), disk, faults_);
  executor_ = std::make_unique<Executor>(*backend_, programs, options);
  tensors_ = model_tensors(*programs->model, spec.model);
  staging_.emplace(programs->named("steady").batch, spec.micro_batches);
}

ExecutorOptions Machine::executor_options() const {
  return {.poison = spec_.poison && spec_.device == nullptr, .poison_seed = 1};
}

const ModelTensor& Machine::info(const std::string& name) const {
  for (const ModelTensor& tensor : tensors_)
    if (tensor.name == name) return tensor;
  throw Error(fmt::format("no tensor is called {}", name));
}

std::span<float> Machine::weight(const std::string& name) {
  const ModelTensor& one = info(name);
  return tensor(one.layer, one.value)
      .values<float>()
      .first(static_cast<std::size_t>(one.bytes / 4));
}

std::span<std::byte> Machine::bytes(const std::string& name, const std::string& kind) {
  const ModelTensor& one = info(name);
  const Tensor found = tensor(one.layer, kind.empty() ? one.value : kind + "." + one.value);
  return {static_cast<std::byte*>(found.raw()), static_cast<std::size_t>(found.bytes())};
}

void Machine::load(const std::filesystem::path& folder) {
  load_model(folder, spec_.model, tensors_,
             [this](int layer, const std::string& value) { return tensor(layer, value); });
  derive();
}

void Machine::initialize(std::uint64_t seed) {
  const ModelGraphs& model = *executor_->programs().model;
  std::size_t index = 0;
  for (int layer = 0; layer < model.layer_count(); ++layer)
    for (const Parameter& p : model.of(model.kind_of(layer)).parameters) {
      const std::string& name = tensors_[index++].name;
      const Tensor low = p.low == no_value ? Tensor{} : tensor(layer, "low." + p.name);
      fill_initial(tensor(layer, p.name), low, p, name, seed, spec_.scales);
      if (!name.ends_with(".bias")) continue;
      const std::span<float> bias = weight(name);
      for (std::size_t i = 0; i < bias.size(); ++i)
        bias[i] = 0.1f * random_normal(seed, stream_of(name), i);
    }
  begin_averages(tensors_,
                 [this](int layer, const std::string& value) { return tensor(layer, value); });
  derive();
}

void Machine::derive() {
  executor_->enqueue(executor_->programs().index_of("derive"), {});
  executor_->drain();
}

void Machine::stage(const Batch& batch, double lr, double number) {
  const std::int64_t count = staging_->rows() * staging_->time();
  require(batch.rows * batch.time == count * spec_.micro_batches && batch.time == staging_->time(),
          [] { return Error("the batch has another size than the machine"); });
  for (int micro = 0; micro < spec_.micro_batches; ++micro) {
    fill(staging_->view(micro), batch, micro * count);
    double* control = staging_->control(micro);
    control[Control::lr] = lr;
    control[Control::step] = number;
    control[Control::first_row] = static_cast<double>(micro * spec_.shape.batch);
  }
}

StepNumbers Machine::step(const Batch& batch, double lr, std::int64_t number) {
  stage(batch, lr, static_cast<double>(number));
  const ProgramSet& programs = executor_->programs();
  executor_->enqueue(programs.index_of(pending_ ? "steady" : "first"), staging_->blocks());
  executor_->drain();
  pending_ = true;
  const Tensor table =
      executor_->global("results", DType::f64, {{Axis::scalar, 2 * Results::slots}});
  const double* row = table.data<double>() + number % 2 * Results::slots;
  weight_sum_ = row[Results::weight];
  return {row[Results::loss], row[Results::grad_norm], row[Results::weight],
          row[Results::finite] != 0};
}

void Machine::settle() {
  if (pending_) executor_->enqueue(executor_->programs().index_of("flush"), {});
  executor_->drain();
  pending_ = false;
}

Tensors Machine::read(const std::string& prefix, double factor) const {
  Tensors out;
  for (const ModelTensor& one : tensors_) {
    if (one.frozen && !prefix.empty()) continue;
    const Tensor from = tensor(one.layer, prefix + one.value);
    std::vector<double>& to = out[one.name];
    for (std::int64_t i = 0; i < one.count(); ++i)
      to.push_back(factor * (from.dtype() == DType::bf16
                                 ? static_cast<double>(static_cast<float>(from.data<bf16>()[i]))
                                 : static_cast<double>(from.data<float>()[i])));
  }
  return out;
}

Tensors Machine::weights() const { return read("", 1); }

Tensors Machine::gradients() const { return read("d.", 1 / weight_sum_); }

std::uint64_t Machine::digest() const {
  return weights_digest(
      tensors_, [this](int layer, const std::string& value) { return tensor(layer, value); });
}

std::uint64_t Machine::state_digest() const {
  std::uint64_t digest = 0;
  const auto add = [&](const ModelTensor& one, const std::string& kind) {
    const Tensor state = tensor(one.layer, kind + "." + one.value);
    digest = hash64(state.raw(), static_cast<std::size_t>(state.bytes()), digest);
  };
  for (const ModelTensor& one : tensors_) {
    for (const StateTensor& state : one.state) add(one, state.kind);
    if (one.averaged) add(one, "average");
  }
  return digest;
}

void Machine::copy_weights(Executor& to) const {
  for (const ModelTensor& one : tensors_) {
    const Tensor from = tensor(one.layer, one.value);
    std::memcpy(to.tensor(one.layer, one.value).raw(), from.raw(),
                static_cast<std::size_t>(from.bytes()));
  }
  to.enqueue(to.programs().index_of("derive"), {});
  to.drain();
}

std::vector<double> Machine::logits(const Batch& batch) const {
  const BatchShape shape{batch.rows, batch.time};
  auto model = std::make_shared<ModelGraphs>(
      build_forward(spec_.model, shape, spec_.scales, 1, {.precision = spec_.numerics.precision}));
  loss_to_logits(*model);
  const TrainingOptions training = training_options(spec_);
  if (training.packed) derive_packed_weights(*model);
  BuildOptions options;
  options.fuse = spec_.fuse;
  options.workers = training.build.workers;
  auto programs = std::make_shared<const ProgramSet>(build_programs({model, false, {}, options}));
  Executor executor(computes(), programs, executor_options());
  copy_weights(executor);
  Staging staging(programs->named("eval").batch, 1);
  fill(staging.view(0), batch, 0);
  executor.enqueue(programs->index_of("eval"), staging.blocks());
  executor.drain();
  const LayerGraph& head = model->head;
  const Tensor all =
      executor.global("logits", DType::f32, head[head.require_value("logits")].type.shape);
  std::vector<double> out;
  for (std::int64_t row = 0; row < all.rows(); ++row) {
    const float* at = all.data<float>() + row * all.cols();
    out.insert(out.end(), at, at + spec_.model.vocab);
  }
  return out;
}

std::vector<std::vector<std::vector<float>>> Machine::cached_logits(
    const std::vector<std::vector<std::int32_t>>& rows, bool one_by_one) const {
  const TrainingOptions training = training_options(spec_);
  InferenceOptions options;
  options.rows = static_cast<std::int64_t>(rows.size());
  options.precision = spec_.numerics.precision;
  options.packed = training.packed;
  options.build.fuse = spec_.fuse;
  options.build.workers = training.build.workers;
  auto programs =
      std::make_shared<const ProgramSet>(assemble_inference(spec_.model, spec_.scales, options));
  Executor executor(computes(), programs, executor_options());
  copy_weights(executor);
  Generator generator(executor, spec_.model, options.rows);
  return generator.all_logits(rows, one_by_one);
}

std::vector<double> Machine::cached_logits(const Batch& batch, bool one_by_one) const {
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::int64_t row = 0; row < batch.rows; ++row)
    prompts.emplace_back(batch.ids.begin() + row * batch.time,
                         batch.ids.begin() + (row + 1) * batch.time);
  std::vector<double> out;
  for (const auto& row : cached_logits(prompts, one_by_one))
    for (const auto& token : row) out.insert(out.end(), token.begin(), token.end());
  return out;
}

double Machine::evaluate(const Batch& batch) {
  settle();
  stage(batch, 0, 0);
  executor_->enqueue(executor_->programs().index_of("eval"), staging_->blocks());
  executor_->drain();
  const Tensor stats = executor_->global("stats", DType::f64, {{Axis::scalar, 2}});
  return stats.data<double>()[0] / stats.data<double>()[1];
}

}  // namespace sluice::testing_support
