// How much of this machine the process may use: its affinity mask, and what its control groups
// (version 1 or 2) leave it. Asked once, at the start; the answers may change afterwards.
//
// Any thread. Files that are missing or unreadable set no limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice {

// CPUs of the affinity mask, at most the quota of CPU time rounded down (but at least 1): more
// threads than CPU time are stopped in turn, and every tile waits for the one that is stopped.
int usable_threads();

// Bytes that can be had now without swapping: the kernel's MemAvailable, and what is left of each
// control group's limit (page cache that it can drop counts as left).
std::int64_t available_memory();

// The parts, over the files below `root` ("" for this machine).
std::optional<double> cgroup_cpus(const std::string& root);
std::optional<std::int64_t> cgroup_memory_left(const std::string& root);
std::optional<std::int64_t> memory_available(const std::string& root);  // /proc/meminfo

}  // namespace sluice
