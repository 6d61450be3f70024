#include "core/fault.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace sluice {
namespace {

Exit code_of(std::string_view spec) {
  try {
    Faults::parse(spec);
  } catch (const Error& e) {
    return e.code();
  }
  return Exit::ok;
}

TEST(Faults, NoneByDefault) {
  Faults faults;
  for (const std::string& point : Faults::points()) {
    for (int i = 0; i < 100; ++i) {
      const Faults::Effect effect = faults.at(point);
      EXPECT_EQ(effect.error, 0);
      EXPECT_FALSE(effect.shorten);
    }
    EXPECT_EQ(faults.count(point), 100);
  }
}

TEST(Faults, FailsAtTheCountAndOnlyThere) {
  Faults faults = Faults::parse("save.write:enospc@3,save.fsync:eio@1,save.write:short@4");
  EXPECT_EQ(faults.errno_at("save.write"), 0);
  EXPECT_EQ(faults.errno_at("save.fsync"), EIO);
  EXPECT_EQ(faults.errno_at("save.write"), 0);
  EXPECT_EQ(faults.errno_at("save.write"), ENOSPC);
  EXPECT_EQ(faults.errno_at("save.fsync"), 0);
  EXPECT_TRUE(faults.at("save.write").shorten);
  EXPECT_EQ(faults.errno_at("save.write"), 0);
}

TEST(Faults, PlusMeansEveryLaterOne) {
  Faults faults = Faults::parse("save.write:enospc@2+");
  EXPECT_EQ(faults.errno_at("save.write"), 0);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(faults.errno_at("save.write"), ENOSPC);
}

TEST(Faults, HitThrowsAsIfTheDiskHadFailed) {
  Faults faults = Faults::parse("save.rename:enospc@2");
  EXPECT_NO_THROW(faults.hit("save.rename"));
  try {
    faults.hit("save.rename");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::disk);
    EXPECT_NE(e.text().find("No space left on device"), std::string::npos) << e.text();
  }
}

TEST(Faults, ArgumentIsHandedToTheCaller) {
  const Faults faults = Faults::parse("train.flip:h.0.attn.c_attn.weight@5");
  EXPECT_EQ(faults.argument("train.flip", 4), std::nullopt);
  EXPECT_EQ(faults.argument("train.flip", 5), "h.0.attn.c_attn.weight");
  EXPECT_EQ(faults.argument("train.flip", 6), std::nullopt);
  EXPECT_EQ(faults.argument("train.poison", 5), std::nullopt);
}

TEST(Faults, KillIsSigkill) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Faults faults = Faults::parse("train.step:kill@7");
    for (int step = 1; step <= 7; ++step) {
      if (step == 7) alarm(5);  // not needed when the kill works
      faults.hit("train.step");
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(Faults, RefusesWhatItDoesNotKnow) {
  for (const char* spec :
       {"save.write", "save.write:kill", "save.write:kill@", "save.write:kill@0",
        "save.write:kill@-1", "save.write:kill@3x", "save.write:kill@99999999999999999999",
        "save.writ:kill@3", "save.write:explode@3", "save.fsync:short@1", "save.write:@3",
        ":kill@3", "save.write:kill@3,,"}) {
    EXPECT_EQ(code_of(spec), Exit::usage) << spec;
  }
  for (const char* spec : {"", "save.write:kill@3", "save.write:short@1,train.step:kill@2+"}) {
    EXPECT_EQ(code_of(spec), Exit::ok) << spec;
  }
  EXPECT_THROW(Faults().at("save.writ"), Error);
}

}  // namespace
}  // namespace sluice
