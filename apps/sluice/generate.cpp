// sluice generate: a checkpoint continues a prompt.
#include "inference/generate.h"

#include <charconv>
#include <chrono>

#include "command.h"
#include "inference/text_stream.h"

namespace sluice {
namespace {

struct Options {
  std::string checkpoint, prompt, prompt_ids;
  bool has_prompt = false, has_ids = false;
  SamplingOptions sampling;
  std::vector<std::string> stops;
  ReadOptions read;
};

std::vector<std::int32_t> parse_ids(const std::string& text, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (;; ++at) {
    std::int32_t id = -1;
    const auto [next, error] = std::from_chars(at, end, id);
    require(error == std::errc() && (next == end || *next == ',') && id >= 0 && id < vocab, [&] {
      return usage_error("--prompt-ids holds no id of this model",
                         fmt::format("numbers from 0 to {}, say 1,2,3", vocab - 1),
                         std::string(at, std::find(at, end, ',')));
    });
    ids.push_back(id);
    at = next;
    if (at == end) return ids;
  }
}

std::vector<std::int32_t> prompt_of(const Options& options, const Session& session,
                                    const std::string& folder) {
  if (options.has_ids) return parse_ids(options.prompt_ids, session.model().vocab);
  require(session.tokenizer() != nullptr, [&] {
    return Error(Exit::input, {"a prompt in words needs a tokenizer",
                               folder,
                               "a tokenizer.json that Sluice can use",
                               session.without_tokenizer(),
                               {"--prompt-ids 1,2,3"}});
  });
  std::vector<std::int32_t> ids;
  session.tokenizer()->encode(options.prompt, ids);
  // An empty prompt is the beginning of a document, which follows the end of another.
  if (ids.empty()) ids.push_back(session.tokenizer()->end_of_text());
  return ids;
}

int run(const Options& options, Context& context) {
  require(options.has_prompt != options.has_ids, [&] {
    return usage_error("generate takes one prompt", "--prompt TEXT or --prompt-ids 1,2,3",
                       options.has_prompt ? "both" : "neither");
  });
  const ModelFolder folder = find_checkpoint(options.checkpoint);
  SessionOptions how = session_options(options.read, context, folder);
  how.rows = 1;
  Session session = open_session(folder, how, context);
  const std::vector<std::int32_t> prompt = prompt_of(options, session, folder.path.string());
  const Tokenizer* tokenizer = session.tokenizer();
  require(tokenizer != nullptr || options.stops.empty(),
          [&] { return usage_error("--stop needs a tokenizer", "", session.without_tokenizer()); });
  SamplingOptions sampling = options.sampling;
  sampling.stop_id = tokenizer == nullptr ? -1 : tokenizer->end_of_text();

  Generator generator(session.executor(), session.model(), 1);
  TextStream stream(options.stops);
  std::string text;
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (!context.json) write_out(piece);
  };
  const auto begin = std::chrono::steady_clock::now();
  std::string separator;
  const auto on_token = [&](std::size_t, std::int32_t id) {
    if (tokenizer != nullptr)
      show(stream.push(tokenizer->bytes_of(id)));
    else if (!context.json)
      write_out(fmt::format("{}{}", std::exchange(separator, ","), id));
    return !stream.stopped();
  };
  const Generated made = generator.generate({prompt}, sampling, on_token).front();
  show(stream.finish());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double speed = static_cast<double>(made.ids.size()) / seconds;
  if (!context.json) {
    write_out("\n");
    note(fmt::format("{} tokens, {:.1f} per second", made.ids.size(), speed));
    return 0;
  }
  write_json({{"ids", made.ids},
              {"text", tokenizer == nullptr ? nlohmann::json() : nlohmann::json(text)},
              {"finish_reason", made.finish == Finish::stop ? "stop" : "length"},
              {"tokens_per_second", speed},
              {"device", session.executor().programs().memory.total()},
              {"host", session.executor().programs().memory.host_bytes()},
              {"disk", session.executor().programs().memory.disk_bytes()},
              {"homes", session.placement().homes},
              {"blobs", name_of(session.placement().blobs)},
              {"prompt_tokens", prompt.size()}});
  return 0;
}

void add_sampling(CLI::App& command, SamplingOptions& sampling) {
  command.add_option("--max-tokens", sampling.max_tokens, "at most so many new tokens (64)")
      ->check(at_least(0))
      ->type_name("N");
  command.add_option("--seed", sampling.seed, "of the drawing (0)")->type_name("S");
  command
      .add_option("--temperature", sampling.temperature, "1: as the model says, 0: the best (1)")
      ->check(at_least(0))
      ->type_name("T");
  command.add_option("--top-k", sampling.top_k, "draw among the K best only (0: all)")
      ->check(at_least(0))
      ->type_name("K");
  command.add_option("--top-p", sampling.top_p, "draw among the best that hold the share P (1)")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P");
}

}  // namespace

void add_generate(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "generate", "Continue a text with a checkpoint", run, o);
  Options& options = *o;
  command->add_option("--checkpoint", o->checkpoint, "a run, a step or a Hugging Face folder")
      ->required()
      ->type_name("DIR");
  const auto keep = [](std::string& value, bool& given) {
    return [&value, &given](const std::string& text) { value = text, given = true; };
  };
  command
      ->add_option_function<std::string>("--prompt", keep(options.prompt, options.has_prompt),
                                         "the text to continue; empty: begin a document")
      ->type_name("TEXT");
  command
      ->add_option_function<std::string>("--prompt-ids", keep(options.prompt_ids, options.has_ids),
                                         "the same as token ids: 1,2,3")
      ->type_name("IDS");
  add_sampling(*command, options.sampling);
  command->add_option("--stop", o->stops, "end before this text; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  add_read_options(*command, o->read);
}

}  // namespace sluice
