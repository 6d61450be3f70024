#include "backend/cpu/isa.h"

#include <array>
#include <string>

#include "backend/cpu/isa_choice.h"
#include "core/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sluice {
namespace {

constexpr std::array all = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx};

// AMX-TILE and AMX-BF16 in cpuid, and the kernel's leave to use the tile registers. The kernel
// grants it to the process once and for all threads; it refuses where it does not save those
// registers.
bool ask_for_amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  if ((d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

// The sentence for a known set that is not there.
std::string lack_of(Isa isa) {
  if (isa <= Isa::avx512) return "this machine lacks an instruction set that was asked for";
  if (isa == Isa::avx512_bf16) return "this processor has no bf16 instructions";
  return "this processor, or its kernel, offers no AMX bf16 instructions";
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

bool available(Isa isa) {
#if defined(__x86_64__)
  // The builtin reads cpuid once per process, before main, and xgetbv with it: a set whose
  // registers the operating system does not save counts as absent.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  if (isa == Isa::avx512) return avx512;
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (isa == Isa::avx512_bf16) return avx512_bf16;
  if (isa == Isa::amx) {
    static const bool amx = avx512_bf16 && ask_for_amx();
    return amx;
  }
#endif
  return isa == Isa::portable;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (Isa isa : all) {
    if (available(isa)) found.push_back(isa);
  }
  return found;
}

Isa best_isa() {
  Isa best = Isa::portable;
  for (Isa isa : all) {
    if (available(isa)) best = isa;
  }
  return best;
}

Isa parse_isa(std::string_view name) { return choose_isa(name, available_isas()); }

Isa choose_isa(std::string_view name, std::span<const Isa> there) {
  if (name == "auto") return there.back();
  std::string list = "auto";
  for (Isa isa : there) {
    if (name == name_of(isa)) return isa;
    list += fmt::format(", {}", name_of(isa));
  }
  std::string what = "an instruction set that Sluice does not know";
  for (Isa isa : all)
    if (name == name_of(isa)) what = lack_of(isa);
  throw Error(Exit::usage, {.what = what,
                            .where = "run.isa",
                            .expected = "one of " + list,
                            .found = std::string(name),
                            .tries = {"--run.isa=auto"}});
}

}  // namespace sluice
