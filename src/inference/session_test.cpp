#include "inference/session.h"

#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/model_files.h"
#include "core/test_folder.h"
#include "inference/generate.h"
#include "inference/test_model.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class SessionFiles : public testing::Test {
 protected:
  SessionFiles()
      : model_(config(), InferenceOptions()),
        tokenizer_(make_bytes_tokenizer()),
        run_(folder_.path("run")) {
    Faults none;
    CheckpointStore store(run_, 3, none);
    save(store, 10);
    save(store, 20);
  }

  static ModelConfig config() {
    ModelConfig config = small_model("gpt2", 24);
    config.vocab = 300;
    return config;
  }

  void save(CheckpointStore& store, std::int64_t step) {
    CheckpointSave save = store.begin(step);
    const auto tensors = model_tensors(*model_.executor().programs().model, model_.config());
    save_model(save, model_.config(), tensors, [&](int layer, const std::string& value) {
      return model_.executor().tensor(layer, value);
    });
    save.add_file("tokenizer.json", tokenizer_->tokenizer_json());
    save.commit({{"step", step}});
  }

  // The folder without its manifest is what Transformers would have written.
  std::string as_hugging_face() {
    const std::string path = folder_.path("hf");
    fs::copy(step(20), path);
    fs::remove(fs::path(path) / "manifest.json");
    return path;
  }
  fs::path step(std::int64_t number) const {
    return fs::path(run_) / "checkpoints" / folder_of_step(number);
  }
  static void flip(const fs::path& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(-3, std::ios::end);
    const auto byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(-3, std::ios::end);
    stream.put(byte);
  }
  static Exit code_of(const std::string& path) {
    try {
      Session session(resolve_checkpoint(path), {});
    } catch (const Error& e) {
      return e.code();
    }
    return Exit::ok;
  }

  TestFolder folder_;
  TestModel model_;
  TokenizerPtr tokenizer_;
  std::string run_;
};

TEST_F(SessionFiles, a_run_a_step_and_a_folder_are_checkpoints) {
  EXPECT_EQ(resolve_checkpoint(run_).step, 20);
  EXPECT_EQ(resolve_checkpoint(run_).run["step"], 20);
  EXPECT_EQ(resolve_checkpoint(step(10)).step, 10);
  const std::string hugging_face = as_hugging_face();
  EXPECT_FALSE(resolve_checkpoint(hugging_face).step);
  EXPECT_EQ(resolve_checkpoint(hugging_face).path, hugging_face);
}

TEST_F(SessionFiles, a_damaged_newest_step_is_passed_over_and_told) {
  flip(step(20) / "model.safetensors");
  const ModelFolder found = resolve_checkpoint(run_);
  EXPECT_EQ(found.step, 10);
  ASSERT_EQ(found.skipped.size(), 1u);
  EXPECT_NE(found.skipped[0].where.find("step-00000020"), std::string::npos);
  EXPECT_EQ(code_of(step(20)), Exit::input);
  flip(step(10) / "config.json");
  EXPECT_EQ(code_of(run_), Exit::input);
}

TEST_F(SessionFiles, what_is_no_checkpoint_is_an_error) {
  EXPECT_EQ(code_of(folder_.path("nothing")), Exit::input);
  EXPECT_EQ(code_of(folder_.path()), Exit::input);
}

TEST_F(SessionFiles, the_loaded_model_is_the_saved_one) {
  const std::vector<std::int32_t> ids = random_ids(20, 300, 2);
  const auto before = Generator(model_.executor(), model_.config(), 1).all_logits({ids}, false);
  for (const std::string& path : {run_, as_hugging_face()}) {
    Session session(resolve_checkpoint(path), {.threads = 1, .rows = 1});
    ASSERT_NE(session.tokenizer(), nullptr);
    EXPECT_EQ(session.tokenizer()->kind(), "bytes");
    const auto after = Generator(session.executor(), session.model(), 1).all_logits({ids}, false);
    EXPECT_EQ(after, before);
  }
}

TEST_F(SessionFiles, a_tokenizer_by_others_is_left_out_and_told) {
  const std::string path = as_hugging_face();
  std::ofstream(path + "/tokenizer.json") << R"({"model":{"type":"Unigram"}})";
  const Session session(resolve_checkpoint(path), {.threads = 1});
  EXPECT_EQ(session.tokenizer(), nullptr);
  EXPECT_FALSE(session.without_tokenizer().empty());
  fs::copy_file(SLUICE_SOURCE_DIR "/tests/goldens/tokenizers/hf-gpt2.json",
                path + "/tokenizer.json", fs::copy_options::overwrite_existing);
  EXPECT_EQ(Session(resolve_checkpoint(path), {.threads = 1}).without_tokenizer(),
            "its tokenizer.json has 3000 ids, the model 300");
  fs::remove(path + "/tokenizer.json");
  EXPECT_EQ(Session(resolve_checkpoint(path), {.threads = 1}).tokenizer(), nullptr);
}

TEST_F(SessionFiles, damage_in_a_folder_is_found) {
  const std::string path = as_hugging_face();
  fs::resize_file(path + "/model.safetensors", 1000);
  EXPECT_EQ(code_of(path), Exit::input);
  std::ofstream(path + "/config.json") << R"({"model_type":"bert"})";
  EXPECT_EQ(code_of(path), Exit::input);
}

TEST_F(SessionFiles, a_window_beyond_the_context_is_refused) {
  const auto session = [&](std::int64_t sequence) {
    return Session(resolve_checkpoint(run_), {.threads = 1, .sequence = sequence}).sequence();
  };
  EXPECT_EQ(session(0), 24);
  EXPECT_EQ(session(24), 24);
  EXPECT_THROW(session(25), Error);
}

}  // namespace
}  // namespace sluice
