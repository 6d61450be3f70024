// From the tokens in the input's order to the shards of the two sides.
#pragma once

#include "data/prepare.h"
#include "data/prepare_tokenizer.h"
#include "data/token_store.h"

namespace sluice {

// Writes and publishes PREFIX, and PREFIX-val when options.validation is not 0. The store keeps
// what it has. Documents that keep their order and have no other side are not copied: the file that
// holds them gets a second name. The summary's other fields are left as they are.
PrepareSummary write_shards(const PrepareOptions& options, TokenStore& store, const Sides& sides,
                            const Tokenizer& tokenizer);

}  // namespace sluice
