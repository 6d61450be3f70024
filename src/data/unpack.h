// The bytes of an input file, unpacked while they are read: as they are, gzip, zstd or xz, of one
// member or many.
//
// An Unpacker belongs to one thread. Memory: its buffer and the format's window, at most 128 MiB
// (zstd) or 256 MiB (xz); what asks for more is refused. Errors: Exit::input, with the file's name.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace sluice {

enum class Packing : std::uint8_t { none, gzip, zstd, xz };

// Where unpacking may begin without what lies before: any byte of a plain file, a block of gzip, a
// frame of zstd, a stream of xz.
struct ReadPoint {
  std::int64_t offset = 0;                    // in the file, of the next byte
  int bits = 0;                               // of the byte before it that are still to come (gzip)
  std::shared_ptr<const std::string> window;  // what the next bytes may refer to (gzip)
  std::int64_t unpacked = 0;                  // bytes that come out before this point
};

// What of a file is read: all of it, or a member of an archive.
struct FileRange {
  std::string path, name;  // `name` is what errors call it
  std::int64_t begin = 0, end = 0;
};

class Unpacker {
 public:
  // A fresh one begins with a ReadPoint{} (its offset is moved to range.begin).
  static std::unique_ptr<Unpacker> open(FileRange range, Packing packing, ReadPoint from = {});
  virtual ~Unpacker();
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  // Up to `room` bytes; 0 only at the end. Error for a file that is damaged or ends too early.
  std::size_t read(char* out, std::size_t room);
  // Reads and drops bytes until `unpacked` have come out.
  virtual void skip_to(std::int64_t unpacked);

  std::int64_t unpacked() const { return unpacked_; }  // bytes out, those before `from` included
  std::int64_t packed() const { return offset_ - static_cast<std::int64_t>(have_); }  // in the file
  // The last point at or before `unpacked`, which grows from call to call.
  virtual ReadPoint point_before(std::int64_t unpacked);

 protected:
  Unpacker(FileRange range, ReadPoint from);
  virtual std::size_t unpack(char* out, std::size_t room) = 0;

  // The packed bytes at hand; refill() reads more when there are none and says false at the end.
  const unsigned char* next() const { return buffer_.get() + at_; }
  std::size_t have() const { return have_; }
  void consume(std::size_t bytes) { at_ += bytes, have_ -= bytes; }
  bool refill();
  void jump(std::int64_t bytes);  // over bytes that come out as they are
  void add_point(ReadPoint point) { points_.push_back(std::move(point)); }
  const ReadPoint& newest_point() const { return points_.back(); }
  [[noreturn]] void damaged(std::string found) const;
  [[noreturn]] void truncated() const;

  FileRange range_;

 private:
  int file_ = -1;
  std::unique_ptr<unsigned char[]> buffer_;
  std::size_t at_ = 0, have_ = 0;
  std::int64_t offset_ = 0;  // of the file, after the buffer
  std::int64_t unpacked_ = 0;
  std::deque<ReadPoint> points_;
};

}  // namespace sluice
