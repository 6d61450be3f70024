#include "graph/builder.h"

#include <cmath>

#include "core/random.h"

namespace sluice {

Builder::Builder(LayerKind kind, BatchShape shape, const Parametrization& parametrization,
                 const Numerics& numerics)
    : shape_(shape), scales_(parametrization), numerics_(numerics) {
  graph_.kind = kind;
}

Shape Builder::token_shape(const Shape& features) const {
  Shape shape{{Axis::batch, shape_.batch}, {Axis::time, shape_.time}};
  for (const Dim& dim : features) shape.push_back(dim);
  return shape;
}

Id Builder::activation(const std::string& name, const Shape& shape) {
  return graph_.add_value(name, {numerics_.precision, shape}, ValueKind::activation);
}

Id Builder::statistic(const std::string& name, const Shape& shape) {
  return graph_.add_value(name, {DType::f32, shape}, ValueKind::activation);
}

void Builder::emit(const Op& op) {
  check(op, graph_.types());
  graph_.forward.push_back(op);
}

Id Builder::parameter(const std::string& name, const Shape& shape, std::vector<Role> roles,
                      Init init, bool decays, std::int64_t rows) {
  Parameter p;
  p.name = name;
  const DType type = decays ? numerics_.precision : DType::f32;
  p.weight = graph_.add_value(name, {type, shape}, ValueKind::weight);
  p.roles = std::move(roles);
  p.init = init;
  p.decays = decays;
  p.rows = rows;
  p.count_ = rows * (shape.count() / shape[0].size);
  graph_.parameters.push_back(std::move(p));
  return graph_.parameters.back().weight;
}

Id Builder::batch(std::string_view name) {
  if (const Id known = graph_.find(name); known != no_value) return known;
  if (name == "control")
    return graph_.add_value("control", {DType::f64, {{Axis::scalar, Control::slots}}},
                            ValueKind::batch);
  const DType type = name == "weights" ? DType::f32 : DType::i32;
  return graph_.add_value(std::string(name), {type, token_shape({})}, ValueKind::batch);
}

Id Builder::carry(std::int64_t width) {
  const Shape shape = token_shape({{Axis::model, width}});
  graph_.carry_in = graph_.add_value("x", {numerics_.precision, shape}, ValueKind::carry);
  return graph_.carry_in;
}

void Builder::result(Id x) {
  graph_.carry_out = x;
  graph_.values[static_cast<std::size_t>(x)].kind = ValueKind::carry;
}

void Builder::part(Id x, Id beside) {
  graph_.cut = static_cast<int>(graph_.forward.size());
  graph_.cut_carry = x;
  graph_.cut_side = beside;
}

Id Builder::table(const std::string& name, Axis rows_axis, std::int64_t rows, std::int64_t width,
                  Role role, Init init) {
  const std::int64_t stored = rows_axis == Axis::vocab ? padded_vocab(rows) : rows;
  return parameter(name, {{rows_axis, stored}, {Axis::model, width}}, {role}, init, true, rows);
}

Id Builder::tied_table(const std::string& name, std::int64_t rows, std::int64_t width) {
  const Shape shape{{Axis::vocab, padded_vocab(rows)}, {Axis::model, width}};
  const Id id = graph_.add_value(name, {numerics_.precision, shape}, ValueKind::weight);
  graph_.values.back().owner = LayerKind::embedding;
  graph_.values.back().owner_name = name;
  return id;
}

Id Builder::vocab_bias(const std::string& name, std::int64_t vocab) {
  return parameter(name, {{Axis::vocab, padded_vocab(vocab)}}, {Role::bias}, {}, false, vocab);
}

Id Builder::embed(const std::string& name, Id ids, Id table) {
  const std::int64_t width = graph_[table].type.shape.last();
  const Id y = activation(name, token_shape({{Axis::model, width}}));
  emit(Embed{ids, table, y});
  return y;
}

Id Builder::add(const std::string& name, Id a, Id b, double scale_b) {
  const Id y = activation(name, graph_[a].type.shape);
  emit(Add{a, b, y, static_cast<float>(scale_b)});
  return y;
}

Id Builder::scale(const std::string& name, Id x, double factor) {
  if (factor == 1) return x;
  const Id y = activation(name, graph_[x].type.shape);
  emit(Scale{x, y, static_cast<float>(factor)});
  return y;
}

Id Builder::layer_norm(const std::string& name, Id x, double eps, Role role) {
  const Shape shape = graph_[x].type.shape;
  const Shape per_feature{{Axis::model, shape.last()}};
  const Id gain =
      parameter(name + ".weight", per_feature, {role}, {Init::Kind::ones, 0}, false, shape.last());
  const Id bias = parameter(name + ".bias", per_feature, {role}, {}, false, shape.last());
  const Id y = activation(name, shape);
  const Id mean = statistic(name + ".mean", token_shape({}));
  const Id rstd = statistic(name + ".rstd", token_shape({}));
  emit(LayerNorm{x, gain, bias, y, mean, rstd, static_cast<float>(eps)});
  return y;
}

Id Builder::linear(Id x, const LinearSpec& spec) {
  Shape in, out, weight;
  for (const Dim& dim : graph_[x].type.shape)
    if (dim.axis != Axis::batch && dim.axis != Axis::time) in.push_back(dim);
  for (const Dim& dim : spec.out) out.push_back(dim);
  // The two sides of a square weight have different names: D goes in, E comes out.
  const auto as_output = [](Dim dim) {
    return dim.axis == Axis::model ? Dim{Axis::model_out, dim.size} : dim;
  };
  if (!spec.out_in)
    for (const Dim& dim : in) weight.push_back(dim);
  for (const Dim& dim : out) weight.push_back(as_output(dim));
  if (spec.out_in)
    for (const Dim& dim : in) weight.push_back(dim);

  const Id w =
      parameter(spec.name + ".weight", weight, spec.roles, spec.init, true, weight[0].size);
  const Id bias = spec.bias
                      ? parameter(spec.name + ".bias", out, {Role::bias}, {}, false, out[0].size)
                      : no_value;
  const Id y = activation(spec.name, token_shape(spec.out));
  emit(Linear{x, w, bias, y, spec.out_in});
  return y;
}

Id Builder::gelu(const std::string& name, Id x, GeluForm form) {
  const Id y = activation(name, graph_[x].type.shape);
  const bool in_product =
      numerics_.gelu_in_product && numerics_.precision == DType::bf16 && form == GeluForm::tanh;
  emit(Gelu{x, y, form, in_product});
  return y;
}

Id Builder::rotary(const std::string& name, Id x, std::int32_t dims) {
  const Id y = activation(name, graph_[x].type.shape);
  emit(Rotary{x, batch("positions"), y, dims});
  return y;
}

DropoutKey Builder::dropout_key(const std::string& name, double rate) const {
  if (!numerics_.dropout || rate == 0) return {};
  const std::string unique = fmt::format("dropout {} {}", name_of(graph_.kind), name);
  return {static_cast<float>(rate), numerics_.seed, stream_of(unique)};
}

Id Builder::dropout(const std::string& name, Id x, double rate) {
  const DropoutKey key = dropout_key(name, rate);
  if (key.rate == 0) return x;
  const Id y = activation(name, graph_[x].type.shape);
  emit(Dropout{x, y, batch("control"), key});
  return y;
}

Id Builder::attention(const std::string& name, Slice q, Slice k, Slice v, double dropout_rate) {
  const Shape& of = graph_[q.id].type.shape;
  const Dim heads{Axis::heads, of.size(Axis::heads)}, head{Axis::head, of.size(Axis::head)};
  const Id y = activation(name, token_shape({heads, head}));
  const Id lse =
      statistic(name + ".lse", {{Axis::batch, shape_.batch}, heads, {Axis::time, shape_.time}});
  Attention op{.q = q, .k = k, .v = v, .starts = batch("starts"), .y = y, .lse = lse};
  op.scale =
      static_cast<float>(scales_.attention_logits / std::sqrt(static_cast<double>(head.size)));
  op.dropout = dropout_key(name, dropout_rate);
  op.kernels = numerics_.attention;
  if (op.dropout.rate > 0) op.control = batch("control");
  emit(op);
  return y;
}

void Builder::head_loss(Id x, Id weight, Id bias, std::int64_t vocab, std::int64_t chunk) {
  const Id stats = graph_.add_value("stats", {DType::f64, {{Axis::scalar, 2}}}, ValueKind::global);
  HeadLoss op{.x = x,
              .w = weight,
              .bias = bias,
              .targets = batch("targets"),
              .weights = batch("weights"),
              .stats = stats};
  op.vocab = vocab;
  op.chunk = std::min(chunk, shape_.batch * shape_.time);
  op.scale = static_cast<float>(scales_.output_logits);
  emit(op);
}

LayerGraph Builder::take() { return std::move(graph_); }

}  // namespace sluice
