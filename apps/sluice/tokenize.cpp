// sluice tokenize: text to ids and back, for pipes.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "backend/cpu/host.h"
#include "command.h"
#include "core/file.h"
#include "data/encode.h"
#include "data/find_tokenizer.h"
#include "inference/text_stream.h"

namespace sluice {
namespace {

struct Options {
  std::vector<std::string> inputs;
  TokenizerChoice tokenizer;
  bool decode = false, count = false, null = false;
  int threads = 0;  // 0: those there are
};

constexpr std::size_t block = std::size_t{1} << 20;

// A file, or standard input as "-", block by block.
class Input {
 public:
  explicit Input(const std::string& path)
      : path_(path == "-" ? "standard input" : path),
        file_(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file_ < 0) throw unreadable(errno);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input() {
    if (file_ != STDIN_FILENO) ::close(file_);
  }
  // Appends some bytes; false: there are none left.
  bool read(std::string& out) {
    const std::size_t before = out.size();
    out.resize(before + block);
    ssize_t got = -1;
    do {
      got = ::read(file_, out.data() + before, block);
    } while (got < 0 && errno == EINTR);
    out.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0) throw unreadable(errno);
    return got > 0;
  }
  const std::string& path() const { return path_; }

 private:
  Error unreadable(int code) const {
    return Error(Exit::input, {fmt::format("cannot read {}", path_),
                               path_,
                               "a readable file",
                               code == EISDIR ? "a folder" : std::strerror(code),
                               {}});
  }
  std::string path_;
  int file_;
};

// Ids out: a line for each text, or their number.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, const Options& options, bool json)
      : tokenizer_(tokenizer),
        threads_(options.threads > 0 ? options.threads : usable_threads()),
        silent_(options.count || json),
        lists_ids_(json && !options.count) {}

  void add(std::string_view text) {
    bytes_ += text.size();
    encode_in_parts(tokenizer_, text, threads_,
                    [this](std::span<const std::int32_t> ids) { add_ids(ids); });
  }
  void end_text() {
    if (lists_ids_) lists_.push_back(std::exchange(all_, {}));
    if (silent_) return;
    line_ += '\n';
    at_line_start_ = true;
    if (line_.size() >= block) flush();
  }
  void flush() { write_out(std::exchange(line_, {})); }

  std::size_t bytes() const { return bytes_; }
  std::size_t tokens() const { return tokens_; }
  const std::vector<std::vector<std::int32_t>>& lists() const { return lists_; }

 private:
  void add_ids(std::span<const std::int32_t> ids) {
    tokens_ += ids.size();
    if (lists_ids_) all_.insert(all_.end(), ids.begin(), ids.end());
    if (silent_) return;
    for (const std::int32_t id : ids) {
      if (!at_line_start_) line_ += ' ';
      line_.append(digits_.data(), std::to_chars(digits_.begin(), digits_.end(), id).ptr);
      at_line_start_ = false;
    }
    if (line_.size() >= block) flush();
  }

  const Tokenizer& tokenizer_;
  int threads_;
  bool silent_, lists_ids_, at_line_start_ = true;
  std::string line_;
  std::array<char, 16> digits_;
  std::vector<std::int32_t> all_;
  std::vector<std::vector<std::int32_t>> lists_;
  std::size_t bytes_ = 0, tokens_ = 0;
};

// Texts end at NUL bytes, or with the input.
void encode_texts(Input& input, Encoder& out) {
  std::string pending;
  std::size_t looked = 0;  // no NUL before it
  while (input.read(pending)) {
    std::size_t begin = 0;
    for (std::size_t end; (end = pending.find('\0', looked)) != std::string::npos;) {
      out.add(std::string_view(pending).substr(begin, end - begin));
      out.end_text();
      begin = looked = end + 1;
    }
    pending.erase(0, begin);
    looked = pending.size();
  }
  if (pending.empty()) return;
  out.add(pending);
  out.end_text();
}

// One text, in pieces that have the same ids.
void encode_text(Input& input, const Tokenizer& tokenizer, Encoder& out) {
  constexpr std::size_t tail = std::size_t{1} << 16, gathered = 16 * block;
  std::string pending;
  while (input.read(pending)) {
    if (pending.size() < gathered) continue;
    const std::size_t cut = tokenizer.safe_cut(pending, pending.size() - tail);
    if (cut == pending.size()) continue;
    out.add(std::string_view(pending).substr(0, cut));
    pending.erase(0, cut);
  }
  out.add(pending);
  out.end_text();
}

// Ids in, bytes out: whole characters at a time, and what is no UTF-8 as it is.
class Decoder {
 public:
  Decoder(const Tokenizer& tokenizer, bool null) : tokenizer_(tokenizer), null_(null) {}

  void run(Input& input) {
    std::string pending;
    while (input.read(pending)) {
      const std::size_t end = pending.find_last_of(" ,\t\r\n");
      if (end == std::string::npos) continue;
      add(std::string_view(pending).substr(0, end + 1), input);
      pending.erase(0, end + 1);
      show(false);
    }
    add(pending, input);
    if (null_ && open_) text_ += '\0';
    show(true);
  }

 private:
  void add(std::string_view text, const Input& input) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find_first_of(" ,\t\r\n"), text.size());
      if (end > 0) add_id(text.substr(0, end), input);
      if (null_ && end < text.size() && text[end] == '\n') text_ += '\0', open_ = false;
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }
  void add_id(std::string_view word, const Input& input) {
    ++number_;
    open_ = true;
    std::int32_t id = -1;
    const auto [next, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    const bool known = error == std::errc() && next == word.data() + word.size() && id >= 0 &&
                       id < tokenizer_.vocab_size();
    require(known, [&] {
      return Error(Exit::input, {"this is no id of the tokenizer",
                                 fmt::format("{}, number {}", input.path(), number_),
                                 fmt::format("ids from 0 to {}", tokenizer_.vocab_size() - 1),
                                 valid_utf8(word.substr(0, 40)),
                                 {}});
    });
    text_ += tokenizer_.bytes_of(id);
    if (text_.size() >= block) show(false);
  }
  // Writes what is there, but for a character that has only begun.
  void show(bool all) {
    std::size_t end = text_.size();
    for (std::size_t back = 1; !all && back <= std::min<std::size_t>(3, text_.size()); ++back) {
      const auto lead = static_cast<unsigned char>(text_[text_.size() - back]);
      const std::size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
      if (lead >= 0x80 && lead < 0xC0) continue;
      if (wanted > back) end = text_.size() - back;
      break;
    }
    write_out(std::string_view(text_).substr(0, end));
    text_.erase(0, end);
  }

  const Tokenizer& tokenizer_;
  bool null_, open_ = false;
  std::size_t number_ = 0;
  std::string text_;
};

int run(const Options& options, Context& context) {
  TokenizerChoice choice = options.tokenizer;
  if (choice.assets.empty()) choice.assets = context.assets;
  require(!options.decode || !(options.count || context.json), [&] {
    return usage_error("--decode gives text", "neither --count nor --json",
                       options.count ? "--count" : "--json");
  });
  const TokenizerPtr tokenizer = find_tokenizer(choice);
  std::vector<std::string> inputs = options.inputs;
  if (inputs.empty()) inputs.emplace_back("-");
  if (options.decode) {
    Decoder decoder(*tokenizer, options.null);
    for (const std::string& path : inputs) {
      Input input(path);
      decoder.run(input);
    }
    return 0;
  }
  Encoder encoder(*tokenizer, options, context.json);
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& path : inputs) {
    Input input(path);
    if (options.null)
      encode_texts(input, encoder);
    else
      encode_text(input, *tokenizer, encoder);
  }
  encoder.flush();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  nlohmann::json summary = {{"tokenizer", tokenizer->kind()},
                            {"vocab", tokenizer->vocab_size()},
                            {"bytes", encoder.bytes()},
                            {"tokens", encoder.tokens()},
                            {"seconds", took.count()}};
  if (!options.count) summary["ids"] = encoder.lists();
  if (context.json)
    write_json(summary);
  else if (options.count)
    write_out(fmt::format("{} tokens, {} bytes\n", encoder.tokens(), encoder.bytes()));
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "tokenize", "Turn text into ids, or ids into text", run, o);
  command->add_option("input", o->inputs, "files; none or -: standard input")->type_name("FILE");
  command
      ->add_option("--tokenizer", o->tokenizer.name,
                   "bytes, gpt2, or a file or folder: tokenizer.json, vocab.json, .tiktoken")
      ->required()
      ->type_name("KIND");
  command
      ->add_option("--pattern", o->tokenizer.pattern,
                   "how a .tiktoken's text is split: gpt2, cl100k, llama3 or none")
      ->type_name("NAME");
  command->add_flag("--decode", o->decode, "ids in, text out");
  command->add_flag("--count", o->count, "print how many tokens there are, not which");
  command->add_flag("-0,--null", o->null, "texts end with a NUL byte; a line of ids for each");
  command->add_option("--threads", o->threads, "default: as many as there are")
      ->check(at_least(1))
      ->type_name("N");
  command->add_option("--assets", o->tokenizer.assets, "folder with gpt2/vocab.bpe")
      ->type_name("DIR");
}

}  // namespace sluice
