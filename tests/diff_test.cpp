// `sluice diff RUN RUN`: the first step, layer and tensor where two runs part.
#include "tiny_run.h"

namespace sluice {
namespace {

class Diff : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tiny_ = new TinyRun;
    tiny_->train("one", "--run.log_hashes=true");
    // Free options differ: the runs are equal all the same.
    tiny_->train("two",
                 "--run.log_hashes=true --run.threads=2 --run.save_every=5 --plan.blobs=parts");
  }
  static void TearDownTestSuite() { delete tiny_; }
  static const TinyRun& tiny() { return *tiny_; }

 private:
  static inline TinyRun* tiny_ = nullptr;
};

TEST_F(Diff, EqualRunsAreEqual) {
  const Ended ended = tiny().run("sluice diff one two");
  EXPECT_EQ(ended.exit, 0) << ended.out << ended.err;
}

TEST_F(Diff, NamesStepLayerAndTensorOfOneFlippedBit) {
  const std::string name = "transformer.h.1.mlp.c_fc.weight";
  tiny().train("flipped", "--run.log_hashes=true --fault train.flip:" + name + "@5");
  EXPECT_NE(tiny().digest("flipped"), tiny().digest("one"));
  const Ended ended = tiny().run("sluice diff one flipped");
  EXPECT_NE(ended.exit, 0);
  const std::string said = ended.out + ended.err;
  EXPECT_NE(said.find("step 5"), std::string::npos) << said;
  EXPECT_NE(said.find("c_fc.weight"), std::string::npos) << said;
  EXPECT_NE(said.find("1"), std::string::npos) << said;
}

}  // namespace
}  // namespace sluice
