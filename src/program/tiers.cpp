#include "program/tiers.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace sluice {
namespace {

constexpr std::string_view kinds[] = {"weights", "gradients", "optimizer", "packed gradients",
                                      "stash"};
constexpr std::string_view tiers[] = {"device", "host", "disk"};

Error bad_homes(std::string_view part, int blocks) {
  return {Exit::usage,
          {"this does not say where blobs live",
           "plan.homes",
           fmt::format("\"device\", \"host\", \"disk\", or a list of KIND=TIER and "
                       "KIND@WHERE=TIER; kinds: weights, gradients, optimizer; "
                       "where: FIRST-LAST of blocks 0 to {}, embedding, head or ends",
                       blocks - 1),
           std::string(part),
           {"plan.homes = \"optimizer=host,gradients=host\""}}};
}

// The index of `word` in `list`; -1: not there.
template <std::size_t n>
int index_in(const std::string_view (&list)[n], std::string_view word) {
  const auto* const found = std::find(std::begin(list), std::end(list), word);
  return found == std::end(list) ? -1 : static_cast<int>(found - std::begin(list));
}

bool number(std::string_view text, int& to) {
  const auto end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, to);
  return result.ec == std::errc() && result.ptr == end;
}

// Which layers are meant.
struct Where {
  int first = 0, last = -1;  // blocks; none if `last` is smaller
  bool embedding = false, head = false;
};

// False when `text` says nothing of the kind.
bool where(std::string_view text, int blocks, Where& out) {
  out = {};
  out.embedding = text == "embedding" || text == "ends";
  out.head = text == "head" || text == "ends";
  if (out.embedding || out.head) return true;
  const std::size_t dash = text.find('-');
  if (!number(text.substr(0, dash), out.first)) return false;
  out.last = out.first;
  if (dash != text.npos && !number(text.substr(dash + 1), out.last)) return false;
  return out.first >= 0 && out.first <= out.last && out.last < blocks;
}

// One part of the list; false when it is none.
bool apply(std::string_view part, int blocks, Homes& homes) {
  const std::size_t equals = part.find('=');
  const int found = index_in(tiers, part.substr(equals == part.npos ? 0 : equals + 1));
  if (found < 0) return false;
  const auto tier = static_cast<Tier>(found);
  int kind = -1;
  Where layers{0, blocks - 1};
  if (equals != part.npos) {
    const std::string_view what = part.substr(0, equals);
    const std::size_t at = what.find('@');
    kind = index_in(kinds, what.substr(0, at));
    if ((kind < 0 && at != 0) || kind >= blob_kinds) return false;
    if (at != what.npos && !where(what.substr(at + 1), blocks, layers)) return false;
  }
  for (std::size_t k = 0; k < blob_kinds; ++k) {
    if (kind >= 0 && static_cast<std::size_t>(kind) != k) continue;
    std::vector<Tier>& all = homes.blocks[k];
    std::fill(all.begin() + layers.first, all.begin() + layers.last + 1, tier);
    if (layers.embedding) homes.ends[k][0] = tier;
    if (layers.head) homes.ends[k][1] = tier;
  }
  return true;
}

}  // namespace

std::string_view name_of(Tier tier) { return tiers[static_cast<std::size_t>(tier)]; }
std::string_view name_of(Kind kind) { return kinds[static_cast<std::size_t>(kind)]; }

Tier Homes::of(Kind kind, int block) const {
  const std::vector<Tier>& all = blocks[static_cast<std::size_t>(kind)];
  return all.empty() ? Tier::device : all[static_cast<std::size_t>(block)];
}

int Homes::index_of(Kind kind, int block) const {
  const std::vector<Tier>& all = blocks[static_cast<std::size_t>(kind)];
  const auto streams = [](Tier tier) { return tier != Tier::device; };
  return static_cast<int>(std::count_if(all.begin(), all.begin() + block, streams));
}

int Homes::streaming(Kind kind) const {
  return index_of(kind, static_cast<int>(blocks[static_cast<std::size_t>(kind)].size()));
}

int Homes::on_disk(Kind kind) const {
  const std::vector<Tier>& all = blocks[static_cast<std::size_t>(kind)];
  return static_cast<int>(std::count(all.begin(), all.end(), Tier::disk));
}

bool Homes::ends_stream(Kind kind) const {
  return of_end(kind, false) != Tier::device || of_end(kind, true) != Tier::device;
}

bool Homes::streams(Kind kind) const { return streaming(kind) > 0 || ends_stream(kind); }

bool Homes::streams() const {
  return streams(Kind::weights) || streams(Kind::gradients) || streams(Kind::optimizer);
}

Homes parse_homes(std::string_view text, int blocks) {
  Homes homes;
  for (std::vector<Tier>& all : homes.blocks)
    all.assign(static_cast<std::size_t>(blocks), Tier::device);
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    require(apply(part, blocks, homes), [&] { return bad_homes(part, blocks); });
    if (comma == text.npos) return homes;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace sluice
