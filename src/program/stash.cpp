#include "program/stash.h"

#include <algorithm>

namespace sluice {
namespace {

struct Slot {
  int layer = -1, micro = -1;
  bool done = true;  // nobody reads what lies in it
  int used = -1;     // the last item that did
};

class Ring {
 public:
  explicit Ring(int slots) : slots_(static_cast<std::size_t>(slots)) {}

  // The slot of an item with this number. `reuses`: what lies in slots may be found there.
  int slot_for(const Scheduled& item, int number, bool reuses) {
    const auto holds = [&](const Slot& slot) {
      return slot.layer == item.layer && slot.micro == item.micro && !slot.done;
    };
    auto found = std::find_if(slots_.begin(), slots_.end(), holds);
    if (found == slots_.end())
      found = std::min_element(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
        if (reuses && a.done != b.done) return a.done;
        return a.used < b.used;
      });
    *found = {item.layer, item.micro, item.phase == Phase::weight_grad, number};
    return static_cast<int>(found - slots_.begin());
  }

 private:
  std::vector<Slot> slots_;
};

}  // namespace

std::vector<int> stash_slots(const std::vector<Scheduled>& schedule, int slots, int micro_batches,
                             int at_once, const std::function<bool(int layer)>& has_stash) {
  std::vector<int> out(schedule.size(), -1);
  Ring ring(slots);
  for (std::size_t i = 0; i < schedule.size(); ++i) {
    const Scheduled& item = schedule[i];
    const bool touches = item.phase == Phase::forward || item.phase == Phase::input_grad ||
                         item.phase == Phase::weight_grad;
    if (!touches || !has_stash(item.layer)) continue;
    const int of_pass = std::min(at_once, micro_batches - item.micro / at_once * at_once);
    out[i] = ring.slot_for(item, static_cast<int>(i), of_pass <= slots);
  }
  return out;
}

}  // namespace sluice
