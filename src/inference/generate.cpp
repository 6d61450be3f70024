#include "inference/generate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/random.h"
#include "graph/graph.h"
#include "inference/assembly.h"

namespace sluice {
namespace {

std::int32_t greedy(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Candidates by falling logit, ids ascending among equals, cut to top_k.
std::vector<std::int32_t> candidates(std::span<const float> logits, std::int64_t top_k) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const auto size = static_cast<std::int64_t>(ids.size());
  const std::int64_t keep = top_k > 0 ? std::min(top_k, size) : size;
  std::partial_sort(ids.begin(), ids.begin() + keep, ids.end(), better);
  ids.resize(static_cast<std::size_t>(keep));
  return ids;
}

}  // namespace

std::int32_t draw_token(std::span<const float> logits, const SamplingOptions& options,
                        std::uint64_t row, std::int64_t index) {
  if (options.temperature <= 0) return greedy(logits);
  const std::vector<std::int32_t> ids = candidates(logits, options.top_k);
  std::vector<double> weight(ids.size());
  double total = 0;
  const double best = logits[static_cast<std::size_t>(ids.front())];
  for (std::size_t i = 0; i < ids.size(); ++i) {
    weight[i] = std::exp((logits[static_cast<std::size_t>(ids[i])] - best) / options.temperature);
    total += weight[i];
  }
  std::size_t kept = ids.size();
  if (options.top_p < 1) {
    double share = 0;
    for (kept = 0; kept < ids.size() && share < options.top_p * total; ++kept)
      share += weight[kept];
    kept = std::max<std::size_t>(kept, 1);
    total = share;
  }
  double left = total * random_uniform(options.seed, stream_of("sample") + row,
                                       static_cast<std::uint64_t>(index));
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight[i];
    if (left < 0) return ids[i];
  }
  return ids[kept - 1];
}

Generator::Generator(Executor& executor, const ModelConfig& model, std::int64_t rows)
    : executor_(executor),
      rows_(rows),
      context_(model.context),
      vocab_(model.vocab),
      padded_(padded_vocab(model.vocab)),
      prefill_time_(std::min(prefill_tokens, model.context)),
      prefill_(executor.programs().index_of("prefill")),
      decode_(executor.programs().index_of("decode")) {
  staging_.resize(static_cast<std::size_t>(executor.programs().named("prefill").batch.bytes));
  fed_.resize(static_cast<std::size_t>(rows));
}

// Runs `program` on up to `time` uncached tokens of each row. Rows without any keep their cache:
// what a padded token writes lies beyond the row's length and is overwritten before it is ever
// read.
void Generator::feed(std::vector<Row>& rows, int program, std::int64_t time) {
  const BatchLayout& layout =
      executor_.programs().programs[static_cast<std::size_t>(program)].batch;
  std::memset(staging_.data(), 0, staging_.size());
  const auto field = [&](const char* name) {
    const BatchLayout::Field* found = layout.find(name);
    return found == nullptr ? nullptr
                            : reinterpret_cast<std::int32_t*>(staging_.data() + found->offset);
  };
  std::int32_t* ids = field("ids");
  std::int32_t* positions = field("positions");
  std::int32_t* lengths = field("lengths");
  for (std::size_t r = 0; r < rows.size(); ++r) {
    Row& row = rows[r];
    const auto size = static_cast<std::int64_t>(row.text.size()) - row.window;
    fed_[r] = row.done ? 0 : std::min(time, size - row.cached);
    lengths[r] = static_cast<std::int32_t>(row.cached);
    for (std::int64_t t = 0; t < fed_[r]; ++t) {
      const std::int64_t at = static_cast<std::int64_t>(r) * time + t;
      ids[at] = row.text[static_cast<std::size_t>(row.window + row.cached + t)];
      if (positions != nullptr) positions[at] = static_cast<std::int32_t>(row.cached + t);
    }
    row.cached += fed_[r];
  }
  const std::byte* block = staging_.data();
  executor_.wait(executor_.enqueue(program, {&block, 1}));
}

std::span<const float> Generator::logits(std::size_t row, std::int64_t time,
                                         std::int64_t token) const {
  const Tensor all = executor_.global(
      "logits", DType::f32, {{Axis::batch, rows_}, {Axis::time, time}, {Axis::vocab, padded_}});
  const std::int64_t offset = (static_cast<std::int64_t>(row) * time + token) * padded_;
  return {all.data<float>() + offset, static_cast<std::size_t>(vocab_)};
}

std::vector<Generated> Generator::generate(const std::vector<std::vector<std::int32_t>>& prompts,
                                           const SamplingOptions& options, OnToken on_token) {
  std::vector<Row> rows(static_cast<std::size_t>(rows_));
  std::vector<Generated> out(prompts.size());
  std::vector<Repeats> repeats(prompts.size(), Repeats(options.repeats));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    rows[r].done = r >= prompts.size() || options.max_tokens == 0;
    if (r >= prompts.size()) continue;
    rows[r].text = prompts[r];
    const auto size = static_cast<std::int64_t>(prompts[r].size());
    if (size > context_) rows[r].window = size - context_ / 2;
    repeats[r].add_prompt(prompts[r]);
  }
  const auto any = [&] {
    return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.done; });
  };
  while (any()) {
    std::int64_t most = 0;
    for (Row& row : rows) {
      if (row.done) continue;
      if (static_cast<std::int64_t>(row.text.size()) - row.window > context_) {
        row.window =
            static_cast<std::int64_t>(row.text.size()) - std::max<std::int64_t>(1, context_ / 2);
        row.cached = 0;
      }
      most = std::max(most, static_cast<std::int64_t>(row.text.size()) - row.window - row.cached);
    }
    const std::int64_t time = most > 1 ? prefill_time_ : 1;
    feed(rows, time == 1 ? decode_ : prefill_, time);
    for (std::size_t r = 0; r < prompts.size(); ++r) {
      Row& row = rows[r];
      const bool complete = row.window + row.cached == static_cast<std::int64_t>(row.text.size());
      if (row.done || fed_[r] == 0 || !complete) continue;
      const auto drawn = static_cast<std::int64_t>(out[r].ids.size());
      const std::int32_t id = draw_token(repeats[r].adjusted(logits(r, time, fed_[r] - 1)), options,
                                         options.first_row + r, drawn);
      if (id == options.stop_id) {
        out[r].finish = Finish::stop;
        row.done = true;
        continue;
      }
      out[r].ids.push_back(id);
      row.text.push_back(id);
      repeats[r].add_drawn(id);
      if (!on_token(r, id)) out[r].finish = Finish::stop, row.done = true;
      if (drawn + 1 >= options.max_tokens) row.done = true;
    }
  }
  return out;
}

void Generator::walk(const std::vector<std::vector<std::int32_t>>& prompts, bool one_by_one,
                     OnLogits on_logits) {
  std::vector<Row> rows(static_cast<std::size_t>(rows_));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    rows[r].done = r >= prompts.size();
    if (!rows[r].done) rows[r].text = prompts[r];
  }
  const std::int64_t time = one_by_one ? 1 : prefill_time_;
  for (bool more = true; more;) {
    feed(rows, one_by_one ? decode_ : prefill_, time);
    more = false;
    for (std::size_t r = 0; r < prompts.size(); ++r) {
      for (std::int64_t t = 0; t < fed_[r]; ++t)
        on_logits(r, rows[r].cached - fed_[r] + t, logits(r, time, t));
      more |= rows[r].cached < static_cast<std::int64_t>(rows[r].text.size());
    }
  }
}

void Generator::each_logits(const std::vector<std::vector<std::int32_t>>& prompts,
                            OnLogits on_logits) {
  walk(prompts, false, on_logits);
}

std::vector<std::vector<std::vector<float>>> Generator::all_logits(
    const std::vector<std::vector<std::int32_t>>& prompts, bool one_by_one) {
  std::vector<std::vector<std::vector<float>>> out(prompts.size());
  walk(prompts, one_by_one, [&](std::size_t row, std::int64_t, std::span<const float> logits) {
    out[row].emplace_back(logits.begin(), logits.end());
  });
  return out;
}

}  // namespace sluice
