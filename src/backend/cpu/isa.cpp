#include "backend/cpu/isa.h"

#include <array>
#include <string>

#include "core/error.h"

namespace sluice {
namespace {

constexpr std::array all = {Isa::portable, Isa::avx2, Isa::avx512};

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

bool available(Isa isa) {
#if defined(__x86_64__)
  // The builtin reads cpuid once per process, before main, and xgetbv with it: a set whose
  // registers the operating system does not save counts as absent.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
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

Isa parse_isa(std::string_view name) {
  if (name == "auto") return best_isa();
  std::string list = "auto";
  bool known = false;
  for (Isa isa : all) {
    if (name == name_of(isa)) {
      if (available(isa)) return isa;
      known = true;
    }
    if (available(isa)) list += fmt::format(", {}", name_of(isa));
  }
  throw Error(Exit::usage,
              {.what = known ? "this machine lacks an instruction set that was asked for"
                             : "an instruction set that Sluice does not know",
               .where = "run.isa",
               .expected = "one of " + list,
               .found = std::string(name),
               .tries = {"--run.isa=auto"}});
}

}  // namespace sluice
