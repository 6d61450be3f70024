// Models as files: a model without biases is saved with biases of zero, as Transformers wants it,
// and loads again with and without them.
#include "checkpoint/model_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "core/test_folder.h"
#include "graph/backward.h"
#include "models/test_models.h"

namespace sluice {
namespace {

// The weights of a model in memory.
class Weights {
 public:
  explicit Weights(const ModelConfig& model)
      : config(model),
        graphs_(build_forward(model, {1, model.context}, standard_parametrization(), 8)) {
    for (LayerGraph* graph : {&graphs_.embedding, &graphs_.block, &graphs_.head})
      derive_backward(*graph);
    tensors = model_tensors(graphs_, config);
  }
  Tensor operator()(int layer, const std::string& value) {
    const LayerGraph& graph = graphs_.of(graphs_.kind_of(layer));
    const ValueType& type = graph[graph.require_value(value)].type;
    std::vector<float>& numbers = memory_[{layer, value}];
    numbers.resize(static_cast<std::size_t>(type.shape.count()));
    return {numbers.data(), type.dtype, type.shape};
  }
  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const ModelTensor& tensor : tensors)
      std::generate_n((*this)(tensor.layer, tensor.value).data<float>(), tensor.count(),
                      [&] { return normal(random); });
  }
  std::uint64_t digest() { return weights_digest(tensors, *this); }
  void load(const std::filesystem::path& dir) { load_model(dir, config, tensors, *this); }

  ModelConfig config;
  std::vector<ModelTensor> tensors;

 private:
  ModelGraphs graphs_;
  std::map<std::pair<int, std::string>, std::vector<float>> memory_;
};

std::filesystem::path save(const TestFolder& folder, Weights& weights) {
  Faults faults;
  CheckpointStore store(folder.path(), 1, faults);
  CheckpointSave save = store.begin(1);
  save_model(save, weights.config, weights.tensors, weights);
  save.commit({{"digest", "0"}});
  return newest_verified(folder.path()).checkpoint.value().path;
}

class WithoutBiases : public ::testing::TestWithParam<const char*> {
 protected:
  ModelConfig model(bool biases) const {
    ModelConfig config = testing::tiny_model(GetParam());
    config.biases = biases;
    return config;
  }
};

TEST_P(WithoutBiases, IsSavedWithZerosAndLoadsAgain) {
  const TestFolder folder;
  Weights plain(model(false)), again(model(false)), biased(model(true));
  ASSERT_LT(plain.tensors.size(), biased.tensors.size());
  plain.fill(1);
  again.fill(2);
  biased.fill(3);
  const auto dir = save(folder, plain);

  // The file has what a model with biases has, name by name and shape by shape.
  const SafetensorsFile file = SafetensorsFile::open(dir / "model.safetensors");
  EXPECT_EQ(file.tensors().size(), biased.tensors.size());
  for (const ModelTensor& tensor : biased.tensors) {
    const TensorInfo* const info = file.find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->shape, tensor.shape) << tensor.name;
  }

  EXPECT_NE(again.digest(), plain.digest());
  again.load(dir);
  EXPECT_EQ(again.digest(), plain.digest());
  biased.load(dir);
  std::size_t zeros = 0;
  for (const ModelTensor& tensor : biased.tensors) {
    const float* const loaded = biased(tensor.layer, tensor.value).data<float>();
    const auto own = std::find_if(plain.tensors.begin(), plain.tensors.end(),
                                  [&](const ModelTensor& t) { return t.name == tensor.name; });
    if (own != plain.tensors.end()) {
      EXPECT_EQ(std::memcmp(loaded, plain(own->layer, own->value).raw(),
                            static_cast<std::size_t>(own->bytes)),
                0)
          << tensor.name;
    } else {
      EXPECT_TRUE(std::all_of(loaded, loaded + tensor.count(), [](float x) { return x == 0; }))
          << tensor.name;
      ++zeros;
    }
  }
  EXPECT_EQ(zeros, biased.tensors.size() - plain.tensors.size());
}

TEST_P(WithoutBiases, RefusesABiasThatIsNotZero) {
  const TestFolder folder;
  Weights plain(model(false)), biased(model(true));
  biased.fill(3);
  const auto dir = save(folder, biased);
  try {
    plain.load(dir);
    ADD_FAILURE() << "loaded";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a bias that this model lacks"), std::string::npos)
        << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Families, WithoutBiases, ::testing::Values("gpt2", "gptj"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice
