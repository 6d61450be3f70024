#include "data/gather.h"

#include <algorithm>

namespace sluice {
namespace {

using Document = TokenStore::Document;
constexpr std::int64_t at_once = 4096;  // documents
constexpr std::int64_t buffer_tokens = 1 << 20;

// Documents copied from the store, in any order. Those that lie side by side are read together.
class Copier {
 public:
  explicit Copier(const TokenStore& store)
      : store_(store), buffer_(static_cast<std::size_t>(buffer_tokens * store.width())) {}

  void copy(const Document& document, ShardWriter& to) {
    for (std::int64_t at = document.begin; at < document.end;) {
      const std::int64_t count = std::min(document.end - at, have(at, document.end));
      const auto width = static_cast<std::size_t>(store_.width());
      to.append_bytes(std::span(buffer_).subspan(static_cast<std::size_t>(at - begin_) * width,
                                                 static_cast<std::size_t>(count) * width));
      at += count;
    }
    to.end_document(document.text_bytes);
  }
  // Reads beyond the document that is copied: to be said where the next one follows it.
  void read_ahead(bool far) { far_ = far; }

 private:
  // Tokens at hand from `at` on, at least 1.
  std::int64_t have(std::int64_t at, std::int64_t end) {
    if (at >= begin_ && at < filled_) return filled_ - at;
    begin_ = at;
    filled_ = std::min(at + buffer_tokens, far_ ? store_.tokens() : end);
    const auto bytes = static_cast<std::size_t>((filled_ - begin_) * store_.width());
    store_.read_tokens(begin_, std::span(buffer_).first(bytes));
    return filled_ - at;
  }

  const TokenStore& store_;
  std::vector<std::byte> buffer_;
  std::int64_t begin_ = 0, filled_ = 0;  // tokens in the buffer
  bool far_ = true;
};

// Documents [first, last), each to `take`.
template <class Take>
void each_in_order(const TokenStore& store, std::int64_t first, std::int64_t last, Take take) {
  std::vector<Document> documents;
  for (std::int64_t at = first; at < last; at += at_once) {
    documents.resize(static_cast<std::size_t>(std::min(at_once, last - at)));
    store.read_documents(at, documents);
    for (const Document& document : documents) take(document);
  }
}

void copy_shuffled(const TokenStore& store, std::span<const std::uint32_t> order, Copier& copier,
                   ShardWriter& to) {
  copier.read_ahead(false);
  Document document;
  for (const std::uint32_t number : order) {
    store.read_documents(number, {&document, 1});
    copier.copy(document, to);
  }
}

PreparedSet set_of(const std::string& prefix, const ShardWriter& writer) {
  return {prefix, writer.tokens(), writer.documents(), writer.text_bytes()};
}

}  // namespace

PrepareSummary write_shards(const PrepareOptions& options, TokenStore& store, const Sides& sides,
                            const Tokenizer& tokenizer) {
  ShardWriter train(options.out, tokenizer);
  std::optional<ShardWriter> validation;
  if (options.validation > 0) validation.emplace(options.out + "-val", tokenizer);
  Copier copier(store);
  if (!sides.order.empty()) {
    const std::span<const std::uint32_t> order = sides.order;
    const auto held_out = static_cast<std::size_t>(sides.validation);
    if (validation) copy_shuffled(store, order.first(held_out), copier, *validation);
    copy_shuffled(store, order.subspan(held_out), copier, train);
  } else if (validation) {
    const auto to = [&](ShardWriter& writer) {
      return [&](const Document& document) { copier.copy(document, writer); };
    };
    each_in_order(store, 0, sides.split, to(train));
    each_in_order(store, sides.split, sides.documents, to(*validation));
  } else {
    store.sync();
    train.adopt(store.tokens_path(), store.tokens_hash());
    each_in_order(store, 0, sides.documents, [&](const Document& document) {
      train.adopted(document.end - document.begin);
      train.end_document(document.text_bytes);
    });
  }
  train.finish();
  if (validation) validation->finish();
  train.publish();
  if (validation) validation->publish();
  PrepareSummary out;
  out.tokenizer = identity_of(tokenizer);
  out.train = set_of(options.out, train);
  if (validation) out.validation = set_of(options.out + "-val", *validation);
  return out;
}

}  // namespace sluice
