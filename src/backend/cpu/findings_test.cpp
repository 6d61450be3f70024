#include "backend/cpu/findings.h"

#include <gtest/gtest.h>

#include <functional>

namespace sluice {
namespace {

struct Machine {
  HostFacts host;
  Examined examined;
};

Machine healthy() {
  Machine m;
  m.host.cores = m.host.affinity_cpus = 8;
  m.host.affinity = "0-7";
  m.host.memory_total = std::int64_t{32} << 30;
  m.host.huge_pages = "madvise", m.host.huge_pages_defragged = "madvise";
  m.host.governor = "performance";
  m.host.load = 0.2;
  m.examined = {.best = Isa::avx512_bf16,
                .threads = 8,
                .memory_left = std::int64_t{30} << 30,
                .disk = ".",
                .disk_error = "",
                .disk_write = 1e9,
                .disk_free = std::int64_t{100} << 30};
  return m;
}

TEST(FindingsOf, NothingIsWrongWithAHealthyMachine) {
  EXPECT_TRUE(findings(healthy().host, healthy().examined).empty());
}

struct Ill {
  const char* name;
  std::function<void(Machine&)> change;
  const char* what;  // part of the one finding
  const char* source;
};

class Findings : public testing::TestWithParam<Ill> {};

TEST_P(Findings, SaysTheOneThingThatIsWrong) {
  Machine m = healthy();
  GetParam().change(m);
  const std::vector<Finding> found = findings(m.host, m.examined);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].what.find(GetParam().what), std::string::npos) << found[0].what;
  EXPECT_EQ(found[0].source, GetParam().source);
  EXPECT_FALSE(found[0].remedy.empty());
}

const Ill ills[] = {
    {"no_avx2", [](Machine& m) { m.examined.best = Isa::portable; }, "no AVX2", cpuinfo_file},
    {"no_bf16", [](Machine& m) { m.examined.best = Isa::avx512; }, "bf16 saves memory",
     cpuinfo_file},
    {"amx_refused", [](Machine& m) { m.host.flags = {"amx_bf16"}; }, "does not let",
     "arch_prctl(ARCH_REQ_XCOMP_PERM)"},
    {"quota",
     [](Machine& m) {
       m.host.quota = CpuQuota{1.5, "/q"}, m.examined.threads = 1;
     },
     "1.5 of 8 CPUs: 1 thread will", "/q"},
    {"affinity", [](Machine& m) { m.host.cores = 16; }, "8 of 16 CPUs (0-7)", status_file},
    {"busy", [](Machine& m) { m.host.load = 5; }, "load 5.00", loadavg_file},
    {"powersave", [](Machine& m) { m.host.governor = "powersave"; }, "save power", governor_file},
    {"memory", [](Machine& m) { m.examined.memory_left = 1 << 30; }, "1.00 GiB", meminfo_file},
    {"limit",
     [](Machine& m) {
       m.host.memory_limit = MemoryLimit{std::int64_t{8} << 30, "/m"};
     },
     "8.00 of 32.00 GiB", "/m"},
    {"huge_pages", [](Machine& m) { m.host.huge_pages = "never"; }, "are off", huge_pages_file},
    {"defrag", [](Machine& m) { m.host.huge_pages_defragged = "never"; }, "one piece", defrag_file},
    {"disk_refused", [](Machine& m) { m.examined.disk_error = "cannot make a file in ."; },
     "cannot make", "."},
    {"disk_full", [](Machine& m) { m.examined.disk_free = 1 << 30; }, "nearly full", "."},
    {"disk_slow", [](Machine& m) { m.examined.disk_write = 50e6; }, "50 MB/s", "."},
};

INSTANTIATE_TEST_SUITE_P(Ills, Findings, testing::ValuesIn(ills),
                         [](const auto& instance) { return instance.param.name; });

// A quota of all the CPUs, or of more, takes nothing away.
TEST(FindingsOf, LimitsThatLimitNothingAreNotFindings) {
  Machine m = healthy();
  m.host.quota = CpuQuota{8, "/q"};
  m.host.memory_limit = MemoryLimit{std::int64_t{31} << 30, "/m"};
  m.host.huge_pages = m.host.huge_pages_defragged = m.host.governor = "";
  EXPECT_TRUE(findings(m.host, m.examined).empty());
}

}  // namespace
}  // namespace sluice
