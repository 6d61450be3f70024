// What a backend whose products a library runs can be asked for before the first run.
#pragma once

#include <vector>

#include "backend/algorithms.h"
#include "backend/backend.h"

namespace sluice {

class ProductTuner {
 public:
  virtual ~ProductTuner() = default;
  // A table without products: for this GPU and this version of the library.
  virtual AlgorithmTable machine() const = 0;
  // The products that an op is made of, where its operands lie. Nothing runs, nothing is touched.
  virtual std::vector<ProductShape> products_of(const Op& op, const Frame& frame) = 0;
  // Measures, with memory of its own that is given back.
  virtual TunedProduct tune(const ProductShape& shape) = 0;
  // From here on products of these shapes run so, others by the library's first answer. Exit::input
  // when the library knows one of the algorithms no more.
  virtual void use(const AlgorithmTable& table) = 0;
};

}  // namespace sluice
