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

}  // namespace
}  // namespace sluice
