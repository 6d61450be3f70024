// The algorithm table: which of its algorithms a library runs each matrix product of a training
// program with. It is measured once, before step 1, kept on disk and with the run, and part of the
// numerics key: another algorithm adds in another order.
//
// The file is read as something that anyone may have written: all of it is checked. Values and pure
// functions, any thread.
#pragma once

#include <array>
#include <compare>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "backend/epilogue.h"
#include "core/dtype.h"

namespace sluice {

// c [m n] = op(a) op(b) (+ c), row-major, lines lda, ldb, ldc numbers apart.
struct ProductShape {
  std::int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldc = 0;
  int a_align = 256, b_align = 256, c_align = 256;  // bytes: powers of two, up to 256
  DType type = DType::f32, c_type = DType::f32;     // of a and b; of c
  bool a_transposed = false, b_transposed = false, adds = false;
  Epilogue epilogue = Epilogue::none;

  auto operator<=>(const ProductShape&) const = default;
  std::string text() const;  // "16384 x 768 x 3072 bf16 to bf16, bias"
};

// As the library describes it to itself, of use only to the same version of it.
struct Algorithm {
  std::array<std::uint64_t, 8> words{};
  bool operator==(const Algorithm&) const = default;
};

struct TunedProduct {
  Algorithm algorithm = {};
  double seconds = 0, first_seconds = 0;  // of the algorithm, and of the library's first answer
  // No algorithm repeated its bits, or the library has none: our own kernel runs it.
  bool own = false;
};

struct AlgorithmTable {
  std::string gpu;           // "NVIDIA H200"
  std::int64_t library = 0;  // its version as it says it
  std::map<ProductShape, TunedProduct> products;

  bool same_machine(const AlgorithmTable& other) const {
    return gpu == other.gpu && library == other.library;
  }
  // Of who it is for and what runs what; times are no part of it.
  std::string hash() const;
};

std::string to_json(const AlgorithmTable& table);
// Exit::input, naming `where`, for whatever to_json() does not write.
AlgorithmTable parse_algorithms(std::string_view text, const std::string& where);
AlgorithmTable load_algorithms(const std::string& path);
// Replaces the file, making its folder. Exit::disk.
void save_algorithms(const std::string& path, const AlgorithmTable& table);

// --- how one is chosen ----------------------------------------------------------------------

// The candidates for a product, as whoever can run them sees them; candidate 0 is the library's
// first answer.
class ProductTrials {
 public:
  virtual ~ProductTrials() = default;
  virtual int count() const = 0;
  virtual double seconds(int candidate) = 0;  // of one run, measured now
  virtual bool repeats(int candidate) = 0;    // the same bits in twenty runs
};

struct Chosen {
  int candidate = -1;  // -1: none repeats
  double seconds = 0, first_seconds = 0;
};

// A candidate takes the first one's place if it was at least 3% faster in two rounds, each of them
// the medians of interleaved runs, and repeats its bits; of several the fastest in the second.
Chosen choose(ProductTrials& trials);

}  // namespace sluice
