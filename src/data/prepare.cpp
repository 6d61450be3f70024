#include "data/prepare.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "data/documents.h"
#include "data/gather.h"
#include "data/pipeline.h"
#include "data/prepare_check.h"
#include "data/prepare_tokenizer.h"
#include "data/token_store.h"

namespace sluice {
namespace {

// How much of the inputs has been read when a piece is taken.
class Meter {
 public:
  explicit Meter(const std::vector<InputSource>& sources) {
    for (const InputSource& source : sources) {
      before_.push_back(total_);
      total_ += source.bytes();
    }
  }
  std::int64_t total() const { return total_; }
  std::int64_t read(std::size_t source, std::int64_t packed) const {
    return source < before_.size() ? before_[source] + packed : total_;
  }

 private:
  std::vector<std::int64_t> before_;
  std::int64_t total_ = 0;
};

// Bytes of the input between two commits: a kill costs half of it and what is on its way.
std::int64_t between_commits(std::int64_t total) {
  return std::clamp(total / 128, std::int64_t{1} << 20, std::int64_t{1} << 28);
}

class Preparation {
 public:
  explicit Preparation(const PrepareOptions& options)
      : options_(options),
        sources_(find_inputs(options.inputs)),
        cut_(find_cut(options, sources_)),
        meter_(sources_),
        fingerprint_(fingerprint_of(options, sources_, cut_)),
        tokenizer_(prepare_tokenizer(
            {options, sources_, cut_, fingerprint_,
             [this](std::string_view doing, std::size_t source, const Piece& piece) {
               tell(doing, meter_.read(source, piece.packed), 0, 0);
             }})),
        store_(options.out, fmt::format("{} {}", fingerprint_, tokenizer_->hash()),
               id_width(*tokenizer_), options.faults) {}

  PrepareSummary run() {
    begun_at_ = committed_at_ =
        meter_.read(store_.progress().source, store_.resumed() ? packed_at(store_.progress()) : 0);
    tokenize();
    require(store_.documents() > 0, [&] { return no_document(); });
    const Sides sides = find_sides(options_, store_.documents(), progress_.split);
    const bool split = options_.validation > 0;
    require(sides.validation < sides.documents && (!split || sides.validation > 0), [&] {
      return share_leaves_nothing(options_, fmt::format("{} documents", sides.documents));
    });
    tell("writing", meter_.total(), store_.tokens(), store_.documents());
    PrepareSummary out = write_shards(options_, store_, sides, *tokenizer_);
    store_.remove();
    out.bad = progress_.bad;
    out.begun_at = begun_at_;
    out.begun_anew = store_.begun_anew();
    return out;
  }

 private:
  std::int64_t packed_at(const StoreProgress& progress) const {
    if (progress.source >= sources_.size()) return 0;
    return progress.place.point.offset - sources_[progress.source].range.begin;
  }

  void tokenize() {
    progress_ = store_.progress();
    const StoreProgress from = progress_;
    std::mutex alone;
    std::vector<std::unique_ptr<DocumentEncoder>> encoders;
    for (int i = 0; i < std::max(options_.threads, 1); ++i)
      encoders.push_back(std::make_unique<DocumentEncoder>(*tokenizer_, options_, sources_, alone));
    PipelineJob job;
    job.first = from.source;
    job.sources = sources_.size();
    job.threads = static_cast<int>(encoders.size());
    job.open = [&](std::size_t source) {
      ReaderOptions how;
      how.safe_cut = [this](std::string_view text, std::size_t at) {
        return tokenizer_->safe_cut(text, at);
      };
      how.whole_texts = options_.clean != Clean::none;
      if (cut_ && cut_->source == source) how.cut = cut_->at;
      return open_reader(sources_[source], how, source == from.source ? from.place : ReadPlace{});
    };
    job.work = [&](Piece& piece, int thread) {
      encoders[static_cast<std::size_t>(thread)]->encode(piece);
    };
    job.take = [this](Piece& piece) { take(piece); };
    run_pipeline(job);
    if (committed_at_ == begun_at_) return;  // too little to be worth it
    progress_.source = sources_.size();
    progress_.place = {};
    store_.commit(progress_);
  }

  void take(const Piece& piece) {
    store_.add(piece);
    progress_.bad.add(piece.bad);
    if (piece.cut_after) progress_.split = store_.documents();
    const std::int64_t read = meter_.read(piece.source, piece.packed);
    if (piece.after && read - committed_at_ >= between_commits(meter_.total())) {
      progress_.source = piece.source;
      progress_.place = *piece.after;
      store_.commit(progress_);
      committed_at_ = read;
    }
    tell("tokenizing", read, store_.tokens(), store_.documents());
  }

  void tell(std::string_view doing, std::int64_t read, std::int64_t tokens,
            std::int64_t documents) const {
    if (options_.progress)
      options_.progress({read, meter_.total(), begun_at_, tokens, documents, doing});
  }

  Error no_document() const {
    return Error(Exit::input, {.what = "there is no document in the input",
                               .where = options_.inputs.front(),
                               .expected = "at least one",
                               .found = progress_.bad.count == 0
                                            ? "no line"
                                            : fmt::format("{} lines without one, the first: {}",
                                                          progress_.bad.count, progress_.bad.first),
                               .tries = {}});
  }

  const PrepareOptions& options_;
  std::vector<InputSource> sources_;
  std::optional<Cut> cut_;
  Meter meter_;
  std::int64_t begun_at_ = 0, committed_at_ = 0;  // bytes of the inputs
  std::string fingerprint_;
  TokenizerPtr tokenizer_;
  TokenStore store_;
  StoreProgress progress_;
};

}  // namespace

PrepareSummary prepare(const PrepareOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  check(options);
  PrepareSummary summary = Preparation(options).run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  summary.seconds = took.count();
  return summary;
}

}  // namespace sluice
