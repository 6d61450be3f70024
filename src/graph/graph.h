// A model as data: one graph per kind of layer.
//
// A LayerGraph holds a value table and lists of ops over it. Values say what they are (weight,
// batch, activation …), never where they lie. Every layer of a kind shares the same graph; what
// differs from layer to layer is only which memory the values are bound to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/parametrization.h"
#include "ops/all.h"

namespace sluice {

enum class LayerKind : std::uint8_t { embedding, block, head, step };
inline constexpr int layer_kinds = 4;
std::string_view name_of(LayerKind kind);

enum class ValueKind : std::uint8_t {
  weight,
  gradient,  // float32 accumulator of a weight
  packed,    // a gradient in the form in which it rests off the device
  state,     // what the optimizer keeps of a weight: remainder, moments, scales, average
  derived,   // remade from a weight at each update; never saved
  batch,     // ids, targets, weights, positions, starts, lengths
  global,    // short tables of the whole step: stats, norms, control, pending, results
  cache,     // keys and values of decoding
  carry,     // the running activation and its gradient between layers
  activation,
};
std::string_view name_of(ValueKind kind);

struct Value {
  std::string name;
  ValueType type;
  ValueKind kind = ValueKind::activation;
  // A value that lives in another layer (a tied weight in the embedding): which kind owns it. The
  // owner knows it under `owner_name`.
  LayerKind owner = LayerKind::block;
  std::string owner_name;
  bool frozen = false;  // a weight that never changes: nothing makes its gradient
};

struct Init {
  enum class Kind : std::uint8_t { zeros, ones, normal, truncated_normal };
  Kind kind = Kind::zeros;
  double std = 0;
};

// A trained tensor of one layer kind.
struct Parameter {
  std::string name;                           // of its weight value
  Id weight = no_value, gradient = no_value;  // a frozen one has no gradient and no state
  Id low = no_value, m = no_value, v = no_value, m_scale = no_value, v_scale = no_value;  // AdamW
  Id average = no_value;                                                                  // Ema
  std::vector<Role> roles;  // one, or one per part of the parts axis
  bool decays = false;      // matrices and embeddings
  bool frozen = false;      // never changes
  std::int64_t rows = 0;    // rows that exist; a vocabulary axis is padded beyond them in memory
  Init init;                // before the role's std multiplier
  std::int64_t count() const { return count_; }
  std::int64_t count_ = 0;  // elements without padding
};

struct LayerGraph {
  LayerKind kind = LayerKind::block;
  std::vector<Value> values;
  std::vector<Parameter> parameters;
  Id carry_in = no_value, carry_out = no_value;      // activation between layers
  Id d_carry_out = no_value, d_carry_in = no_value;  // its gradient, the other way

  std::vector<Op> forward;
  std::vector<Op> input_grad;   // I
  std::vector<Op> weight_grad;  // W
  std::vector<Op> norm;         // after the last micro-batch
  std::vector<Op> packed_norm;  // the same where gradients rest packed, and their packing
  std::vector<Op> unpack;       // packed gradients, before the update
  std::vector<Op> update;       // AdamW, then derived weights
  std::vector<Op> derive;       // derived weights alone, after weights were loaded

  Id add_value(std::string name, ValueType type, ValueKind kind);
  Id find(std::string_view name) const;           // no_value when absent
  Id require_value(std::string_view name) const;  // throws when absent
  const Value& operator[](Id id) const { return values[static_cast<std::size_t>(id)]; }
  std::vector<ValueType> types() const;
  std::int64_t trained() const;  // parameters that are not frozen
};

// Shape of one micro-batch.
struct BatchShape {
  std::int64_t batch = 1;
  std::int64_t time = 1;
};

struct ModelGraphs {
  int layers = 0;          // number of blocks
  std::int64_t vocab = 0;  // rows of the vocabulary that exist
  BatchShape shape;
  LayerGraph embedding, block, head, step;

  LayerGraph& of(LayerKind kind);
  const LayerGraph& of(LayerKind kind) const;
  int layer_count() const { return layers + 2; }  // embedding, blocks, head
  LayerKind kind_of(int layer) const {
    return layer == 0 ? LayerKind::embedding : layer <= layers ? LayerKind::block : LayerKind::head;
  }
  // "embedding", "block 3", "head": what errors, hashes and listings call a layer.
  std::string layer_name(int layer) const;
  std::int64_t parameters() const;  // trained numbers, padding apart, a tied weight once
};

inline std::int64_t padded_vocab(std::int64_t vocab) { return (vocab + 127) / 128 * 128; }

}  // namespace sluice
