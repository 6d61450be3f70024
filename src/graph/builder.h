// What a model file sees: names, shapes and mathematics. It builds the forward graph of one layer.
//
// Every function appends one op, checks its shapes, and returns the value it makes. Names are
// unique within a layer and end up in checkpoints, hashes and error messages.
#pragma once

#include <string>
#include <string_view>

#include "graph/graph.h"
#include "graph/numerics.h"

namespace sluice {

// How a linear map's weight is made and stored.
struct LinearSpec {
  std::string name;         // "attn.c_attn": weight and bias hang below it
  Shape out;                // axes of the result, features only
  std::vector<Role> roles;  // one, or one per part
  Init init;
  bool bias = true;
  bool out_in = false;  // stored [out in] (torch.nn.Linear); otherwise [in out] (GPT-2's Conv1D)
};

class Builder {
 public:
  Builder(LayerKind kind, BatchShape shape, const Parametrization& parametrization,
          const Numerics& numerics = {});

  const Parametrization& scales() const { return scales_; }

  // Batch data of this micro-batch: "ids", "targets", "positions", "starts" (i32 [B T]), "weights"
  // (f32 [B T]); "control" (f64, see Control).
  Id batch(std::string_view name);
  // The activation that arrives from the layer below, [B T D].
  Id carry(std::int64_t width);
  // The activation handed to the layer above.
  void result(Id x);
  // Of a block: what follows may be a layer of its own (graph/parts.h). Of all values that came
  // before it reads these alone: the one that goes on to the next part and, if said, one beside it.
  void part(Id x, Id beside = no_value);

  // A table of `rows` x `width`, its vocabulary axis padded to a multiple of 128 in memory.
  Id table(const std::string& name, Axis rows_axis, std::int64_t rows, std::int64_t width,
           Role role, Init init);
  // The same table, owned by the embedding (tied weights).
  Id tied_table(const std::string& name, std::int64_t rows, std::int64_t width);

  Id embed(const std::string& name, Id ids, Id table);
  Id add(const std::string& name, Id a, Id b, double scale_b = 1);
  Id scale(const std::string& name, Id x, double factor);  // x itself when the factor is 1
  Id layer_norm(const std::string& name, Id x, double eps, Role role = Role::norm);
  Id linear(Id x, const LinearSpec& spec);
  Id gelu(const std::string& name, Id x, GeluForm form);
  Id rotary(const std::string& name, Id x, std::int32_t dims);
  // Causal, within documents; logits scaled by scales().attention_logits / sqrt(head size).
  Id attention(const std::string& name, Slice q, Slice k, Slice v, double dropout_rate = 0);
  // x itself when the rate is 0 or this is not training.
  Id dropout(const std::string& name, Id x, double rate);
  // Ends the head: token-weighted cross entropy over the first `vocab` rows of `weight`.
  void head_loss(Id x, Id weight, Id bias, std::int64_t vocab, std::int64_t chunk);
  // A bias over the padded vocabulary.
  Id vocab_bias(const std::string& name, std::int64_t vocab);

  LayerGraph take();

 private:
  Id activation(const std::string& name, const Shape& shape);
  Id statistic(const std::string& name, const Shape& shape);  // float32 whatever the precision
  DropoutKey dropout_key(const std::string& name, double rate) const;
  Id parameter(const std::string& name, const Shape& shape, std::vector<Role> roles, Init init,
               bool decays, std::int64_t rows);
  void emit(const Op& op);
  Shape token_shape(const Shape& features) const;

  LayerGraph graph_;
  BatchShape shape_;
  Parametrization scales_;
  Numerics numerics_;
};

}  // namespace sluice
