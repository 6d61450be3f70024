#include "backend/cpu/host.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/test_folder.h"

namespace sluice {
namespace {

class Host : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root() + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root() const { return folder_.path(); }
  TestFolder folder_;
};

TEST_F(Host, no_files_no_limit) {
  EXPECT_FALSE(cgroup_cpus(root()));
  EXPECT_FALSE(cgroup_memory_left(root()));
  EXPECT_FALSE(memory_available(root()));
}

TEST_F(Host, version_2_takes_the_least_of_all_parents) {
  write("proc/self/cgroup", "0::/user/job\n");
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/user/cpu.max", "250000 100000\n");
  write("sys/fs/cgroup/user/job/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_cpus(root()), 2.5);
  write("sys/fs/cgroup/user/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus(root()), 4.0);

  write("sys/fs/cgroup/user/memory.max", "max\n");
  write("sys/fs/cgroup/user/memory.current", "70\n");
  write("sys/fs/cgroup/user/job/memory.max", "1000\n");
  write("sys/fs/cgroup/user/job/memory.current", "600\n");
  EXPECT_EQ(cgroup_memory_left(root()), 400);
  write("sys/fs/cgroup/user/job/memory.stat", "anon 5\nactive_file 9\ninactive_file 100\n");
  EXPECT_EQ(cgroup_memory_left(root()), 500);
}

TEST_F(Host, version_1_finds_each_controller) {
  write("proc/self/cgroup", "5:memory:/a/b\n4:cpu,cpuacct:/c\n3:cpuset:/d\n0::/\n");
  write("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "150000\n");
  write("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus(root()), 1.5);

  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n");
  write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "6000\n");
  write("sys/fs/cgroup/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 1500\n");
  EXPECT_EQ(cgroup_memory_left(root()), 500);
  write("sys/fs/cgroup/memory/a/memory.stat", "");
  EXPECT_EQ(cgroup_memory_left(root()), 0);  // never below nothing
}

TEST_F(Host, in_a_container_the_mount_is_the_group) {
  write("proc/self/cgroup", "0::/docker/0123\n");
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(cgroup_cpus(root()), 1.0);
}

TEST_F(Host, malformed_files_set_no_limit) {
  write("proc/self/cgroup", "nonsense\n0:\n0::relative\n");
  write("sys/fs/cgroup/cpu.max", "many\n");
  write("sys/fs/cgroup/memory.max", "\n");
  write("proc/meminfo", "MemAvailable: none\n");
  EXPECT_FALSE(cgroup_cpus(root()));
  EXPECT_FALSE(cgroup_memory_left(root()));
  EXPECT_FALSE(memory_available(root()));
}

TEST_F(Host, memory_available_is_in_bytes) {
  write("proc/meminfo", "MemTotal:  8 kB\nMemAvailable:      3 kB\n");
  EXPECT_EQ(memory_available(root()), 3072);
}

TEST_F(Host, this_machine) {
  EXPECT_GE(usable_threads(), 1);
  EXPECT_GT(available_memory(), 1 << 20);
}

constexpr const char* two_cpus =
    "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
    "flags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n";

TEST_F(Host, says_which_file_sets_a_limit) {
  write("proc/self/cgroup", "5:memory:/a\n0::/user/job\n");
  write("sys/fs/cgroup/user/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/user/job/cpu.max", "200000 100000\n");
  ASSERT_TRUE(cgroup_quota(root()));
  EXPECT_EQ(cgroup_quota(root())->cpus, 1.5);
  EXPECT_EQ(cgroup_quota(root())->file, "/sys/fs/cgroup/user/cpu.max");
  EXPECT_FALSE(cgroup_memory_limit(root()));
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // no limit
  EXPECT_FALSE(cgroup_memory_limit(root()));
  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n");
  write("sys/fs/cgroup/user/job/memory.max", "7000\n");
  ASSERT_TRUE(cgroup_memory_limit(root()));
  EXPECT_EQ(cgroup_memory_limit(root())->bytes, 5000);
  EXPECT_EQ(cgroup_memory_limit(root())->file, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
}

TEST_F(Host, facts_of_the_kernels_files) {
  write("proc/cpuinfo", two_cpus);
  write("proc/self/status", "Cpus_allowed:\tf\nCpus_allowed_list:\t0-2,8\n");
  write("proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\nHugepagesize: 2048 kB\n");
  write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  write("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise madvise [never]");
  write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  write("proc/loadavg", "1.25 1.00 0.50 3/200 77\n");
  const HostFacts facts = host_facts(root());
  EXPECT_EQ(facts.cpu, "AMD EPYC (family 26, model 2)");
  EXPECT_EQ(facts.cores, 2);
  EXPECT_TRUE(facts.has("avx512f"));
  EXPECT_FALSE(facts.has("avx512"));
  EXPECT_EQ(facts.affinity, "0-2,8");
  EXPECT_EQ(facts.affinity_cpus, 4);
  EXPECT_FALSE(facts.quota);
  EXPECT_EQ(facts.memory_total, 1000 * 1024);
  EXPECT_EQ(facts.memory_available, 600 * 1024);
  EXPECT_EQ(facts.huge_page, 2 << 20);
  EXPECT_EQ(facts.huge_pages, "madvise");
  EXPECT_EQ(facts.huge_pages_defragged, "never");
  EXPECT_EQ(facts.governor, "powersave");
  EXPECT_EQ(facts.load, 1.25);
}

TEST_F(Host, files_that_say_nothing_or_nonsense) {
  const HostFacts none = host_facts(root());
  EXPECT_TRUE(none.cpu.empty() && none.flags.empty() && none.governor.empty());
  EXPECT_EQ(none.cores + none.affinity_cpus, 0);
  write("proc/cpuinfo", "model name");
  write("proc/self/status", "Cpus_allowed_list: 7-3,x,99999999999999999999,-,5\n");
  write("proc/meminfo", "MemTotal:\nMemAvailable: many\n");
  write("sys/kernel/mm/transparent_hugepage/enabled", "always ]madvise[ never");
  write("sys/fs/cgroup/cpu.max", "100000");
  write("sys/fs/cgroup/memory.max", "-5");
  const HostFacts odd = host_facts(root());
  EXPECT_TRUE(odd.cpu.empty() && odd.huge_pages.empty());
  EXPECT_EQ(odd.affinity_cpus, 1);
  EXPECT_EQ(odd.memory_total, 0);
  EXPECT_FALSE(odd.quota);
  EXPECT_FALSE(odd.memory_limit);
}

}  // namespace
}  // namespace sluice
