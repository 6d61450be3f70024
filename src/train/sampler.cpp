#include "train/sampler.h"

#include <nlohmann/json.hpp>

namespace sluice {

Sampler::Sampler(Trainer& trainer, const Config& config, const Tokenizer& tokenizer,
                 const std::string& path)
    : generator_(trainer.executor(), config.model, 1), tokenizer_(tokenizer), file_(path) {
  tokenizer.encode(config.run.sample_prompt, prompt_);
  if (prompt_.empty()) prompt_.push_back(tokenizer.end_of_text());
  options_.max_tokens = config.run.sample_tokens;
  options_.temperature = 0.8;
  options_.seed = static_cast<std::uint64_t>(config.run.seed);
  options_.stop_id = tokenizer.end_of_text();
}

void Sampler::run(std::int64_t step, MetricsLog& log) {
  const auto all = [](std::size_t, std::int32_t) { return true; };
  const Generated made = generator_.generate({prompt_}, options_, all).front();
  std::string text;
  tokenizer_.decode_append(prompt_, text);
  tokenizer_.decode_append(made.ids, text);
  // Bytes that are not UTF-8 (a cut character, an untrained model) are shown as replacement marks.
  const nlohmann::json row = {{"step", step}, {"text", text}};
  file_.append(row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  const nlohmann::json shown = text;
  const std::string quoted = shown.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  log.say(fmt::format("step {} | sample | {}", step, quoted));
}

}  // namespace sluice
