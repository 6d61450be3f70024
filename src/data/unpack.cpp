#include "data/unpack.h"

#include <fcntl.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace sluice {
namespace {

constexpr std::size_t buffer_bytes = std::size_t{1} << 17;

class Plain final : public Unpacker {
 public:
  Plain(FileRange range, ReadPoint from) : Unpacker(std::move(range), std::move(from)) {}

 private:
  std::size_t unpack(char* out, std::size_t room) override {
    if (have() == 0 && !refill()) return 0;
    const std::size_t bytes = std::min(room, have());
    std::copy_n(next(), bytes, out);
    consume(bytes);
    return bytes;
  }
  void skip_to(std::int64_t unpacked) override { jump(unpacked - this->unpacked()); }
  ReadPoint point_before(std::int64_t unpacked) override {
    return {.offset = range_.begin + unpacked, .bits = 0, .window = nullptr, .unpacked = unpacked};
  }
};

// Members one after the other. At the end of a block, a megabyte after the last such point, the
// next 32 KiB's worth of memory is kept: from there on the rest can be unpacked by itself.
class Gzip final : public Unpacker {
 public:
  Gzip(FileRange range, ReadPoint from) : Unpacker(std::move(range), from) {
    raw_ = from.window != nullptr;
    if (inflateInit2(&stream_, raw_ ? -15 : 31) != Z_OK) throw std::bad_alloc();
    if (!raw_) return;
    if (from.bits > 0) {
      if (!refill()) truncated();
      inflatePrime(&stream_, from.bits, *next() >> (8 - from.bits));
      consume(1);
    }
    inflateSetDictionary(&stream_, reinterpret_cast<const Bytef*>(from.window->data()),
                         static_cast<uInt>(from.window->size()));
  }
  ~Gzip() override { inflateEnd(&stream_); }

 private:
  static constexpr std::int64_t between_points = std::int64_t{1} << 20;

  std::size_t unpack(char* out, std::size_t room) override {
    for (;;) {
      const bool more = have() > 0 || refill();
      if (!inside_ && (!more || !begin_member())) return 0;
      stream_.next_in = const_cast<Bytef*>(next());
      stream_.avail_in = static_cast<uInt>(have());
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(room, 1U << 30));
      const uInt before = stream_.avail_out;
      const int result = inflate(&stream_, Z_BLOCK);
      consume(have() - stream_.avail_in);
      const std::size_t made = before - stream_.avail_out;
      if (result == Z_STREAM_END) {
        end_member();
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        damaged(stream_.msg != nullptr ? stream_.msg : "no gzip");
      } else if ((stream_.data_type & 128) != 0 && (stream_.data_type & 64) == 0) {
        keep_point(unpacked() + static_cast<std::int64_t>(made));
      }
      if (made > 0) return made;
      if (!more && inside_) truncated();
    }
  }

  // False at the end: zeros may follow the last member, as tapes and block devices leave them.
  bool begin_member() {
    while (have() > 0 && *next() == 0) {
      consume(1);
      if (have() == 0 && !refill()) return false;
    }
    inside_ = true;
    return true;
  }
  void end_member() {
    inside_ = false;
    if (raw_) {  // the checksum and size that the other mode reads itself
      for (int i = 0; i < 8; ++i) {
        if (have() == 0 && !refill()) truncated();
        consume(1);
      }
    }
    raw_ = false;
    inflateReset2(&stream_, 31);
  }
  void keep_point(std::int64_t unpacked) {
    if (unpacked - newest_point().unpacked < between_points) return;
    std::array<Bytef, 32768> window;
    uInt bytes = 0;
    inflateGetDictionary(&stream_, window.data(), &bytes);
    const int bits = stream_.data_type & 7;
    add_point({.offset = packed() - (bits > 0 ? 1 : 0),
               .bits = bits,
               .window = std::make_shared<std::string>(reinterpret_cast<const char*>(window.data()),
                                                       bytes),
               .unpacked = unpacked});
  }

  z_stream stream_ = {};
  bool raw_ = false;    // begun inside a member
  bool inside_ = true;  // a member that has not ended
};

class Zstd final : public Unpacker {
 public:
  Zstd(FileRange range, const ReadPoint& from)
      : Unpacker(std::move(range), from), stream_(ZSTD_createDCtx()) {
    if (stream_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, 27);
  }
  ~Zstd() override { ZSTD_freeDCtx(stream_); }

 private:
  std::size_t unpack(char* out, std::size_t room) override {
    for (;;) {
      const bool more = have() > 0 || refill();
      if (!more && between_) return 0;
      if (between_ && unpacked() > newest_point().unpacked)
        add_point({.offset = packed(), .bits = 0, .window = nullptr, .unpacked = unpacked()});
      ZSTD_inBuffer in = {next(), have(), 0};
      ZSTD_outBuffer to = {out, room, 0};
      const std::size_t result = ZSTD_decompressStream(stream_, &to, &in);
      if (ZSTD_isError(result) != 0) damaged(ZSTD_getErrorName(result));
      consume(in.pos);
      between_ = result == 0;
      if (to.pos > 0) return to.pos;
      if (!more && !between_) truncated();
    }
  }

  ZSTD_DCtx* stream_;
  bool between_ = true;  // frames
};

class Xz final : public Unpacker {
 public:
  Xz(FileRange range, const ReadPoint& from) : Unpacker(std::move(range), from) {
    constexpr std::uint64_t memory = std::uint64_t{256} << 20;
    if (lzma_stream_decoder(&stream_, memory, LZMA_CONCATENATED) != LZMA_OK) throw std::bad_alloc();
  }
  ~Xz() override { lzma_end(&stream_); }

 private:
  std::size_t unpack(char* out, std::size_t room) override {
    while (!ended_) {
      const bool more = have() > 0 || refill();
      stream_.next_in = next();
      stream_.avail_in = have();
      stream_.next_out = reinterpret_cast<std::uint8_t*>(out);
      stream_.avail_out = room;
      const lzma_ret result = lzma_code(&stream_, more ? LZMA_RUN : LZMA_FINISH);
      consume(have() - stream_.avail_in);
      ended_ = result == LZMA_STREAM_END;
      if (!ended_ && result != LZMA_OK) {
        if (!more || result == LZMA_BUF_ERROR) truncated();
        damaged(result == LZMA_FORMAT_ERROR     ? "no xz"
                : result == LZMA_MEMLIMIT_ERROR ? "a window of more than 256 MiB"
                                                : "damaged bytes");
      }
      if (stream_.avail_out < room) return room - stream_.avail_out;
    }
    return 0;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<Unpacker> Unpacker::open(FileRange range, Packing packing, ReadPoint from) {
  from.offset = std::max(from.offset, range.begin);
  switch (packing) {
    case Packing::none:
      return std::make_unique<Plain>(std::move(range), from);
    case Packing::gzip:
      return std::make_unique<Gzip>(std::move(range), from);
    case Packing::zstd:
      return std::make_unique<Zstd>(std::move(range), from);
    case Packing::xz:
      return std::make_unique<Xz>(std::move(range), from);
  }
  throw Error("no such packing");
}

Unpacker::Unpacker(FileRange range, ReadPoint from)
    : range_(std::move(range)),
      file_(::open(range_.path.c_str(), O_RDONLY | O_CLOEXEC)),
      buffer_(std::make_unique_for_overwrite<unsigned char[]>(buffer_bytes)),
      offset_(from.offset),
      unpacked_(from.unpacked) {
  points_.push_back(std::move(from));
  if (file_ >= 0 && ::lseek(file_, offset_, SEEK_SET) == offset_) return;
  const int number = errno;
  if (file_ >= 0) ::close(file_);
  throw Error(Exit::input, {.what = fmt::format("cannot read {}", range_.path),
                            .where = range_.path,
                            .expected = "a readable file",
                            .found = std::generic_category().message(number),
                            .tries = {}});
}

Unpacker::~Unpacker() { ::close(file_); }

bool Unpacker::refill() {
  const auto left = static_cast<std::size_t>(std::max<std::int64_t>(range_.end - offset_, 0));
  const std::size_t want = std::min(buffer_bytes, left);
  ssize_t got = 0;
  do {
    got = want == 0 ? 0 : ::read(file_, buffer_.get(), want);
  } while (got < 0 && errno == EINTR);
  require(got >= 0, [&] {
    return Error(Exit::input, {.what = fmt::format("cannot read {}", range_.name),
                               .where = range_.name,
                               .expected = "a readable file",
                               .found = std::generic_category().message(errno),
                               .tries = {}});
  });
  require(got > 0 || want == 0, [&] {
    return Error(Exit::input, {.what = "the file changed while it was read",
                               .where = range_.name,
                               .expected = fmt::format("{} bytes", range_.end),
                               .found = fmt::format("{} bytes", offset_),
                               .tries = {}});
  });
  at_ = 0;
  have_ = static_cast<std::size_t>(got);
  offset_ += got;
  return got > 0;
}

std::size_t Unpacker::read(char* out, std::size_t room) {
  const std::size_t bytes = unpack(out, room);
  unpacked_ += static_cast<std::int64_t>(bytes);
  return bytes;
}

void Unpacker::skip_to(std::int64_t unpacked) {
  std::array<char, 16384> dropped;
  while (unpacked_ < unpacked) {
    const auto left = static_cast<std::size_t>(unpacked - unpacked_);
    if (read(dropped.data(), std::min(dropped.size(), left)) == 0) truncated();
  }
}

void Unpacker::jump(std::int64_t bytes) {
  if (bytes > range_.end - packed()) truncated();
  unpacked_ += bytes;
  if (bytes <= static_cast<std::int64_t>(have_)) return consume(static_cast<std::size_t>(bytes));
  offset_ = packed() + bytes;
  at_ = have_ = 0;
  if (::lseek(file_, offset_, SEEK_SET) != offset_) truncated();
}

ReadPoint Unpacker::point_before(std::int64_t unpacked) {
  while (points_.size() > 1 && points_[1].unpacked <= unpacked) points_.pop_front();
  return points_.front();
}

void Unpacker::damaged(std::string found) const {
  throw Error(Exit::input,
              {.what = "the packed file is damaged",
               .where = fmt::format("{} before byte {}", range_.name, packed() - range_.begin + 1),
               .expected = "what gzip, zstd or xz wrote",
               .found = std::move(found),
               .tries = {}});
}

void Unpacker::truncated() const {
  throw Error(Exit::input,
              {.what = "the packed file is truncated",
               .where = range_.name,
               .expected = "the end of what was packed",
               .found = fmt::format("{} bytes, and then nothing", packed() - range_.begin),
               .tries = {}});
}

}  // namespace sluice
