// Attention over bf16 in AVX512_BF16: products take pairs of bf16 (attention_dot.h), all else is
// float32. 4·H flops per score forward and 10·H backward, at two pairs a lane and cycle; about 15
// instructions for an exponential, 25 with the score's gradient; limit: products.
//
// As in the float32 kernels scores lie as [key, query], so that a softmax runs along lanes and rows
// of keys and values are the left sides where they lie; y, dq, dk and dv add up in rows. Orders are
// those of attention_forward.h and attention_backward.h.
#include "backend/cpu/ops/attention_dot.h"
#include "backend/cpu/ops/attention_rows.h"

namespace sluice {
namespace {

constexpr std::int64_t tile = attention_tile;
constexpr Isa tag = Isa::avx512_bf16;  // so that templates of this file stay in this file

// Two rows of 16 numbers as bf16, the first in the lower half.
__m512i rounded(__m512 first, __m512 second) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
}

// Words of two such rows.
__m512i paired(__m512i rows) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(0xffffffffu, order, rows);
}

// to = bf16 of factor * from.
void write_row(const float* from, std::int64_t size, float factor, Half* to) {
  for (std::int64_t h = 0; h < size; h += 16) {
    const auto mask = static_cast<__mmask16>(size - h >= 16 ? 0xffffu : (1u << (size - h)) - 1u);
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from + h), _mm512_set1_ps(factor));
    _mm256_mask_storeu_epi16(to + h, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
}

// Rows whose words are whole: those of an odd size are copied with a zero behind each.
AttentionRows<const Half> whole_words(const Half* rows, std::int64_t stride, std::int64_t count,
                                      std::int64_t size, Half* spare) {
  if (size % 2 == 0) return {rows, stride};
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t h = 0; h < size; ++h) spare[i * (size + 1) + h] = rows[i * stride + h];
    spare[i * (size + 1) + size] = 0;
  }
  return {spare, size + 1};
}

// Right sides: columns are rows of X[count, size], or columns of X.
void columns_of_rows(const Half* rows, std::int64_t stride, std::int64_t count, std::int64_t size,
                     Half* to) {
  const std::int64_t words = (size + 1) / 2;
  for (std::int64_t i = 0; i < count; i += 16) {
    const int some = static_cast<int>(count - i < 16 ? count - i : 16);
    avx512_transpose_bf16(rows + i * stride, stride, size, some, 16, to + 2 * i * words);
  }
}
void columns_of(const Half* rows, std::int64_t stride, std::int64_t count, std::int64_t size,
                Half* to) {
  avx512_interleave_bf16(rows, stride, count, size, 16, (count + 1) / 2 * 16, to);
}

// Asks for `count` rows that are read soon, as far as there are any: each lies in a page of its
// own, where no hardware prefetcher follows.
void ask_for(const Half* rows, std::int64_t stride, std::int64_t count, std::int64_t size) {
  if (count > tile) count = tile;
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t h = 0; h < size; h += 32) __builtin_prefetch(rows + i * stride + h, 0, 2);
}

// Takes pieces of scratch, each a multiple of 64 bytes.
class Pieces {
 public:
  explicit Pieces(float* scratch) : next_(scratch) {}
  float* floats(std::int64_t count) {
    float* const piece = next_;
    next_ += (count + 15) / 16 * 16;
    return piece;
  }
  Half* halves(std::int64_t count) { return reinterpret_cast<Half*>(floats((count + 1) / 2)); }

 private:
  float* next_;
};

// A tile that the diagonal crosses is taken in steps of 16 keys or queries, and what nobody sees is
// left out: key j, `ahead` places ahead of the first query, is seen by queries j + ahead and later.
struct Stairs {
  std::int64_t keys, ahead;
  std::int64_t step() const { return keys + ahead > 1 ? 16 : tile; }
  // Of 16 keys from j, rounded down to a panel.
  std::int64_t first_query(std::int64_t j) const {
    return j + ahead > 0 ? (j + ahead) / 16 * 16 : 0;
  }
  // Of a panel of queries from i.
  std::int64_t keys_of(std::int64_t i) const {
    if (step() == tile || i + 16 - ahead > keys) return keys;
    return i + 16 > ahead ? i + 16 - ahead : 0;
  }
};

struct Tiles {
  Half* q;      // right side of S: columns are queries
  Half* k;      // rows of an odd size
  Half* v;      // right side of Y
  Half* p;      // words of two keys: [32][64 queries]
  float* y;     // [64 queries][padded size]
  float* s;     // [64 keys][64 queries]
  float* keep;  // [4][64 keys][16 queries]
  float* spare;
  float* maximum;
  float* sum;
  float* turn;

  Tiles(float* scratch, std::int64_t size) {
    Pieces take(scratch);
    const std::int64_t padded = attention_padded(size);
    q = take.halves(tile * (padded + 2));
    k = take.halves(tile * (padded + 2));
    v = take.halves(tile * padded);
    p = take.halves(tile * tile);
    y = take.floats(tile * padded);
    s = take.floats(tile * tile);
    keep = take.floats(tile * tile);
    spare = take.floats(tile * tile);
    maximum = take.floats(tile);
    sum = take.floats(tile);
    turn = take.floats(tile);
  }
};

// One panel of 16 queries: words of exp(S - new maximum), times keep if there is one; sums, and
// what Y is to be multiplied by.
void softmax_words(const Tiles& t, std::int64_t i, std::int64_t keys, const float* keep) {
  const float* const s = t.s + i;
  const __m512 before = _mm512_loadu_ps(t.maximum + i);
  __m512 now = before;
  for (std::int64_t j = 0; j < keys; ++j)
    now = _mm512_maskz_max_ps(0xffff, _mm512_loadu_ps(s + j * tile), now);
  __m512 even = _mm512_setzero_ps(), odd = even;
  for (std::int64_t j = 0; j < keys; j += 2) {
    __m512 first = exp_of(_mm512_sub_ps(_mm512_loadu_ps(s + j * tile), now));
    __m512 second = _mm512_setzero_ps();
    if (j + 1 < keys) second = exp_of(_mm512_sub_ps(_mm512_loadu_ps(s + (j + 1) * tile), now));
    even = _mm512_add_ps(even, first);
    odd = _mm512_add_ps(odd, second);
    if (keep != nullptr) {
      first = _mm512_mul_ps(first, _mm512_loadu_ps(keep + j * 16));
      second = _mm512_mul_ps(second, _mm512_loadu_ps(keep + j * 16 + 16));
    }
    _mm512_storeu_si512(t.p + j * tile + 2 * i, paired(rounded(first, second)));
  }
  const __m512 turn = exp_of(_mm512_sub_ps(before, now));
  _mm512_storeu_ps(t.sum + i,
                   _mm512_fmadd_ps(_mm512_loadu_ps(t.sum + i), turn, _mm512_add_ps(even, odd)));
  _mm512_storeu_ps(t.maximum + i, now);
  _mm512_storeu_ps(t.turn + i, turn);
}

void forward(const AttentionBlock<Half>& block, float* scratch) {
  const std::int64_t size = block.size, padded = attention_padded(size), words = (size + 1) / 2;
  const std::int64_t width = attention_padded(block.queries);
  const Tiles t(scratch, size);
  columns_of_rows(block.q, block.q_stride, block.queries, size, t.q);
  for (std::int64_t i = 0; i < width; ++i) t.maximum[i] = attention_lowest;
  for (std::int64_t i = 0; i < width; ++i) t.sum[i] = 0;
  const bool drops = block.dropout.threshold > 0;
  const std::int64_t begin = first_tile<tag>(block.starts, block.queries);
  const std::int64_t end = block.position + block.queries;
  for (std::int64_t j0 = begin; j0 < end; j0 += tile) {
    const std::int64_t keys = end - j0 < tile ? end - j0 : tile, pairs = (keys + 1) / 2;
    const auto k = whole_words(block.k + j0 * block.k_stride, block.k_stride, keys, size, t.k);
    const Stairs stairs{.keys = keys, .ahead = j0 - block.position};
    const std::int64_t step = stairs.step();
    for (std::int64_t j = 0; j < keys; j += step) {
      const std::int64_t panel = stairs.first_query(j) / 16;
      DotProduct{.m = keys - j < step ? keys - j : step,
                 .panels = width / 16 - panel,
                 .depth = words,
                 .a = k.data + j * k.stride,
                 .a_row = k.stride / 2,
                 .a_step = 1,
                 .b = t.q + panel * words * 32,
                 .b_panel = words * 16,
                 .c = t.s + j * tile + panel * 16,
                 .c_row = tile,
                 .alpha = block.scale}
          .run();
    }
    mask_tile<tag>(t.s, j0, keys, block.queries, block.position, block.starts);
    if (drops)
      avx512_draw_dropout(block.dropout, j0, block.position, block.queries, t.spare, t.keep);
    for (std::int64_t i = 0; i < width; i += 16)
      softmax_words(t, i, stairs.keys_of(i), drops ? t.keep + i * tile : nullptr);
    columns_of(block.v + j0 * block.v_stride, block.v_stride, keys, size, t.v);
    for (std::int64_t i = 0; i < block.queries; i += step) {
      DotProduct{.m = block.queries - i < step ? block.queries - i : step,
                 .panels = padded / 16,
                 .depth = (stairs.keys_of(i) + 1) / 2,
                 .a = t.p + 2 * i,
                 .a_row = 1,
                 .a_step = tile,
                 .b = t.v,
                 .b_panel = pairs * 16,
                 .c = t.y + i * padded,
                 .c_row = padded,
                 .add = j0 != begin,
                 .turn = t.turn + i}
          .run();
    }
  }
  for (std::int64_t i = 0; i < block.queries; ++i) {
    write_row(t.y + i * padded, size, 1.0f / t.sum[i], block.y + i * block.y_stride);
    if (block.lse != nullptr) block.lse[i] = t.maximum[i] + __builtin_logf(t.sum[i]);
  }
}

struct GradTiles {
  Half *q_columns, *dy_columns;  // columns are queries
  Half *q_rows, *dy_rows;        // columns are features
  Half *k, *v;                   // rows of an odd size
  Half* k_rows;                  // columns are features
  Half *p, *ds;                  // [64 keys][64 queries]
  Half* ds_words;                // of two keys: [32][64 queries]
  float *s, *dp;                 // [64 keys][64 queries]
  float* dq;                     // [64 queries][padded size]
  float* keep;                   // [4][64 keys][16 queries]
  float* spare;
  float *delta, *lse;
  float *dk, *dv;  // [keys][padded size]

  GradTiles(float* scratch, std::int64_t size, std::int64_t keys) {
    Pieces take(scratch);
    const std::int64_t padded = attention_padded(size), rows = tile * (padded + 2);
    for (Half** piece : {&q_columns, &dy_columns, &q_rows, &dy_rows, &k, &v, &k_rows})
      *piece = take.halves(rows);
    for (Half** piece : {&p, &ds, &ds_words}) *piece = take.halves(tile * tile);
    for (float** piece : {&s, &dp, &keep, &spare}) *piece = take.floats(tile * tile);
    dq = take.floats(tile * padded);
    delta = take.floats(tile);
    lse = take.floats(tile);
    dk = scratch + attention_scratch_floats(size);
    dv = dk + keys * padded;
  }
};

// Reads q, y, dy and lse of queries i0 … i0 + queries of query head g; delta = rowsum(dy ∘ y).
void load_queries(const AttentionGradHead<Half>& head, std::int64_t g, std::int64_t i0,
                  std::int64_t queries, const GradTiles& t) {
  const std::int64_t size = head.size, words = (size + 1) / 2, at = i0 * head.y_stride + g * size;
  const Half* const q = head.q + i0 * head.q_stride + g * size;
  columns_of_rows(q, head.q_stride, queries, size, t.q_columns);
  columns_of_rows(head.dy + at, head.y_stride, queries, size, t.dy_columns);
  columns_of(q, head.q_stride, queries, size, t.q_rows);
  columns_of(head.dy + at, head.y_stride, queries, size, t.dy_rows);
  Half* const y = t.k_rows;  // for a moment
  columns_of_rows(head.y + at, head.y_stride, queries, size, y);
  const std::int64_t width = attention_padded(queries);
  for (std::int64_t i = 0; i < width; i += 16) {
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t k = i * words; k < (i + 16) * words; k += 16) {
      sum = _mm512_dpbf16_ps(sum,
                             reinterpret_cast<__m512bh>(_mm512_loadu_si512(t.dy_columns + 2 * k)),
                             reinterpret_cast<__m512bh>(_mm512_loadu_si512(y + 2 * k)));
    }
    _mm512_storeu_ps(t.delta + i, sum);
  }
  // Lanes without a query get P = 0.
  for (std::int64_t i = 0; i < width; ++i) t.lse[i] = -attention_lowest;
  for (std::int64_t i = 0; i < queries; ++i) t.lse[i] = head.lse[g * head.tokens + i0 + i];
}

// P = exp(S - lse) and dS = P ∘ (dP - delta) as bf16; P and dP ∘ keep if there is one.
void score_gradients(const GradTiles& t, std::int64_t i, std::int64_t keys, const float* keep) {
  const __m512 lse = _mm512_loadu_ps(t.lse + i), delta = _mm512_loadu_ps(t.delta + i);
  for (std::int64_t j = 0; j < keys; j += 2) {
    __m512 p[2], ds[2];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      const std::int64_t at = (j + r) * tile + i;
      // Behind the last key there is an odd row, of nothing.
      const auto mask = static_cast<__mmask16>(j + r < keys ? 0xffff : 0);
      p[r] = exp_of(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, t.s + at), lse));
      p[r] = _mm512_maskz_mov_ps(mask, p[r]);
      __m512 dp = _mm512_maskz_loadu_ps(mask, t.dp + at);
      const __m512 kept =
          keep == nullptr ? _mm512_set1_ps(1.0f) : _mm512_loadu_ps(keep + (j + r) * 16);
      ds[r] = _mm512_mul_ps(p[r], _mm512_fmsub_ps(dp, kept, delta));
      p[r] = _mm512_mul_ps(p[r], kept);
    }
    const __m512i p_rows = rounded(p[0], p[1]), ds_rows = rounded(ds[0], ds[1]);
    Half* const p_to = t.p + j * tile + i;
    Half* const ds_to = t.ds + j * tile + i;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p_to),
                        _mm512_maskz_extracti64x4_epi64(0xff, p_rows, 0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p_to + tile),
                        _mm512_maskz_extracti64x4_epi64(0xff, p_rows, 1));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds_to),
                        _mm512_maskz_extracti64x4_epi64(0xff, ds_rows, 0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds_to + tile),
                        _mm512_maskz_extracti64x4_epi64(0xff, ds_rows, 1));
    _mm512_storeu_si512(t.ds_words + j * tile + 2 * i, paired(ds_rows));
  }
}

// dv += P dy and dk += dS q of a tile of keys, the first of them row `at` of the sums. A tile is
// met first by the queries of its own block (add = false), since each sees itself.
void add_keys(const AttentionGradHead<Half>& head, const Stairs& stairs, std::int64_t at,
              std::int64_t queries, bool add, const GradTiles& t) {
  const std::int64_t padded = attention_padded(head.size), pairs = (queries + 1) / 2;
  const std::int64_t keys = stairs.keys, step = stairs.step();
  for (std::int64_t j = 0; j < keys; j += step) {
    const std::int64_t first = stairs.first_query(j) / 2;
    DotProduct sums{.m = keys - j < step ? keys - j : step,
                    .panels = padded / 16,
                    .depth = pairs - first,
                    .a = t.p + j * tile + 2 * first,
                    .a_row = tile / 2,
                    .a_step = 1,
                    .b = t.dy_rows + first * 32,
                    .b_panel = pairs * 16,
                    .c = t.dv + (at + j) * padded,
                    .c_row = padded,
                    .add = add};
    sums.run();
    sums.a = t.ds + j * tile + 2 * first;
    sums.b = t.q_rows + first * 32;
    sums.c = t.dk + (at + j) * padded;
    sums.run();
  }
}

// Rows from i0 on: of the next block of queries, and of the keys that it is the first to see.
void ask_for_block(const AttentionGradHead<Half>& head, std::int64_t g, std::int64_t i0) {
  const std::int64_t size = head.size, count = head.tokens - i0, at = i0 * head.y_stride + g * size;
  ask_for(head.q + i0 * head.q_stride + g * size, head.q_stride, count, size);
  ask_for(head.dy + at, head.y_stride, count, size);
  ask_for(head.y + at, head.y_stride, count, size);
  if (g > 0) return;
  ask_for(head.k + i0 * head.k_stride, head.k_stride, count, size);
  ask_for(head.v + i0 * head.v_stride, head.v_stride, count, size);
}

// One tile of keys against the block of queries that `t` holds. `first`: of this block's tiles.
void backward_tile(const AttentionGradHead<Half>& head, std::int64_t g, std::int64_t i0,
                   std::int64_t j0, std::int64_t queries, bool first, const GradTiles& t) {
  const std::int64_t size = head.size, padded = attention_padded(size), words = (size + 1) / 2;
  const std::int64_t keys = head.tokens - j0 < tile ? head.tokens - j0 : tile;
  const std::int64_t width = attention_padded(queries);
  const Half* const rows = head.k + j0 * head.k_stride;
  const auto k = whole_words(rows, head.k_stride, keys, size, t.k);
  const auto v = whole_words(head.v + j0 * head.v_stride, head.v_stride, keys, size, t.v);
  const Stairs stairs{.keys = keys, .ahead = j0 - i0};
  const std::int64_t step = stairs.step();
  for (std::int64_t j = 0; j < keys; j += step) {
    const std::int64_t panel = stairs.first_query(j) / 16;
    DotProduct scores{.m = keys - j < step ? keys - j : step,
                      .panels = width / 16 - panel,
                      .depth = words,
                      .a = k.data + j * k.stride,
                      .a_row = k.stride / 2,
                      .a_step = 1,
                      .b = t.q_columns + panel * words * 32,
                      .b_panel = words * 16,
                      .c = t.s + j * tile + panel * 16,
                      .c_row = tile,
                      .alpha = head.scale};
    scores.run();
    scores.a = v.data + j * v.stride, scores.a_row = v.stride / 2;
    scores.b = t.dy_columns + panel * words * 32;
    scores.c = t.dp + j * tile + panel * 16, scores.alpha = 1.0f;
    scores.run();
  }
  mask_tile<tag>(t.s, j0, keys, queries, i0, head.starts == nullptr ? nullptr : head.starts + i0);
  const bool drops = head.dropout.threshold > 0;
  if (drops) {
    AttentionDropout dropout = head.dropout;
    dropout.first += static_cast<std::uint64_t>((g * head.tokens + i0) * dropout.step);
    avx512_draw_dropout(dropout, j0, i0, queries, t.spare, t.keep);
  }
  for (std::int64_t i = 0; i < width; i += 16)
    score_gradients(t, i, stairs.keys_of(i), drops ? t.keep + i * tile : nullptr);
  if (head.keys) add_keys(head, stairs, j0 - head.first_key, queries, g > 0 || j0 < i0, t);
  if (!head.queries) return;
  columns_of(rows, head.k_stride, keys, size, t.k_rows);
  for (std::int64_t i = 0; i < queries; i += step) {
    DotProduct{.m = queries - i < step ? queries - i : step,
               .panels = padded / 16,
               .depth = (stairs.keys_of(i) + 1) / 2,
               .a = t.ds_words + 2 * i,
               .a_row = 1,
               .a_step = tile,
               .b = t.k_rows,
               .b_panel = (keys + 1) / 2 * 16,
               .c = t.dq + i * padded,
               .c_row = padded,
               .add = !first}
        .run();
  }
}

void backward(const AttentionGradHead<Half>& head, float* scratch) {
  const std::int64_t size = head.size, padded = attention_padded(size);
  const GradTiles t(scratch, size, head.last_key - head.first_key);
  const std::int64_t first_query =
      head.first_query > head.first_key ? head.first_query : head.first_key;
  for (std::int64_t g = 0; g < head.group; ++g) {
    for (std::int64_t i0 = first_query; i0 < head.last_query; i0 += tile) {
      const std::int64_t queries = head.tokens - i0 < tile ? head.tokens - i0 : tile;
      const std::int64_t seen =
          first_tile<tag>(head.starts == nullptr ? nullptr : head.starts + i0, queries);
      const std::int64_t begin = seen > head.first_key ? seen : head.first_key;
      if (begin >= head.last_key) continue;
      load_queries(head, g, i0, queries, t);
      ask_for_block(head, g, i0 + tile);
      for (std::int64_t j0 = begin; j0 <= i0 && j0 < head.last_key; j0 += tile)
        backward_tile(head, g, i0, j0, queries, j0 == begin, t);
      if (!head.queries) continue;
      for (std::int64_t i = 0; i < queries; ++i)
        write_row(t.dq + i * padded, size, head.scale,
                  head.dq + (i0 + i) * head.dq_stride + g * size);
    }
  }
  if (!head.keys) return;
  for (std::int64_t j = head.first_key; j < head.last_key; ++j) {
    const std::int64_t at = (j - head.first_key) * padded;
    write_row(t.dk + at, size, head.scale, head.dk + j * head.dk_stride);
    write_row(t.dv + at, size, 1.0f, head.dv + j * head.dv_stride);
  }
}

}  // namespace

const AttentionKernel<Half> avx512_bf16_attention_bf16 = {
    .forward = forward,
    .decode = avx512_bf16_attention_decode,
    .join = avx512_attention_join,
    .backward = backward,
};

}  // namespace sluice
