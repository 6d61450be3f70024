#include "backend/cpu/findings.h"

#include <fmt/format.h>

namespace sluice {
namespace {

constexpr double gib = 1 << 30;
constexpr double little_memory = 4 * gib;  // a model of 111 million parameters trains in 3
constexpr double little_disk = 10 * gib;   // three checkpoints of that model take 4
constexpr double slow_disk = 100e6;        // bytes per second: such a checkpoint in 13 s
constexpr double busy_share = 0.5;         // of the threads, taken by other programs

void examine_processor(const HostFacts& host, const Examined& e, std::vector<Finding>& out) {
  if (e.best < Isa::avx2)
    out.push_back({"this processor has no AVX2: everything runs in plain C++, many times slower",
                   cpuinfo_file,
                   "another machine; in a virtual one, let the guest see the host's processor"});
  else if (e.best < Isa::avx512_bf16)
    out.push_back({"this processor has no bf16 instructions: bf16 saves memory here, not time",
                   cpuinfo_file, "--plan.precision=float32 where memory suffices"});
  if (host.has("amx_bf16") && e.best < Isa::amx)
    out.push_back({"this processor has AMX, but the kernel does not let this process use it",
                   "arch_prctl(ARCH_REQ_XCOMP_PERM)",
                   "Linux 5.16 or newer, and a container that allows arch_prctl"});
  if (host.quota && host.quota->cpus < host.affinity_cpus)
    out.push_back(
        {fmt::format("a quota leaves {:.3g} of {} CPUs: {} thread{} will be used", host.quota->cpus,
                     host.affinity_cpus, e.threads, e.threads == 1 ? "" : "s"),
         host.quota->file, "a larger quota in whole CPUs (docker --cpus, systemd CPUQuota=)"});
  if (host.affinity_cpus > 0 && host.affinity_cpus < host.cores)
    out.push_back({fmt::format("this process may run on {} of {} CPUs ({})", host.affinity_cpus,
                               host.cores, host.affinity),
                   status_file, "taskset -c, srun --cpus-per-task or docker --cpuset-cpus"});
  if (host.load > busy_share * e.threads)
    out.push_back({fmt::format("other programs are busy (load {:.2f}): rates measured now are too "
                               "low",
                               host.load),
                   loadavg_file, "sluice doctor again when the machine is quiet"});
  if (host.governor == "powersave")
    out.push_back({"the processor is told to save power", governor_file,
                   "cpupower frequency-set -g performance, as root"});
}

void examine_memory(const HostFacts& host, const Examined& e, std::vector<Finding>& out) {
  if (static_cast<double>(e.memory_left) < little_memory)
    out.push_back(
        {fmt::format("little memory is left: {:.2f} GiB", static_cast<double>(e.memory_left) / gib),
         host.memory_limit ? host.memory_limit->file : meminfo_file,
         "end other programs, or ask `sluice plan CONFIG` what fits"});
  if (host.memory_limit && host.memory_limit->bytes < host.memory_total / 2)
    out.push_back({fmt::format("a limit leaves {:.2f} of {:.2f} GiB of memory",
                               static_cast<double>(host.memory_limit->bytes) / gib,
                               static_cast<double>(host.memory_total) / gib),
                   host.memory_limit->file, "a larger limit (docker --memory, MemoryMax=)"});
  if (host.huge_pages == "never")
    out.push_back({"transparent huge pages are off: large arrays cost more time in page tables",
                   huge_pages_file, fmt::format("echo madvise > {}, as root", huge_pages_file)});
  else if (!host.huge_pages.empty() && host.huge_pages_defragged == "never")
    out.push_back({"huge pages are given only while memory is in one piece", defrag_file,
                   fmt::format("echo madvise > {}, as root", defrag_file)});
}

void examine_disk(const Examined& e, std::vector<Finding>& out) {
  const std::string remedy = "--out on another disk";
  if (!e.disk_error.empty()) {
    out.push_back({e.disk_error, e.disk, "--disk DIR, a folder that checkpoints will lie on"});
    return;
  }
  if (static_cast<double>(e.disk_free) < little_disk)
    out.push_back({fmt::format("the disk is nearly full: {:.2f} GiB are free",
                               static_cast<double>(e.disk_free) / gib),
                   e.disk, "free space, a smaller run.keep_last, or " + remedy});
  if (e.disk_write > 0 && e.disk_write < slow_disk)
    out.push_back({fmt::format("the disk is slow: {:.0f} MB/s written", e.disk_write / 1e6), e.disk,
                   "a larger run.save_every, or " + remedy});
}

}  // namespace

std::vector<Finding> findings(const HostFacts& facts, const Examined& examined) {
  std::vector<Finding> out;
  examine_processor(facts, examined, out);
  examine_memory(facts, examined, out);
  examine_disk(examined, out);
  return out;
}

}  // namespace sluice
