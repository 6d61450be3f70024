#include "checkpoint/events_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

#include "core/fault.h"

namespace sluice {
namespace {

using Clock = std::chrono::system_clock;

constexpr std::array<std::uint32_t, 256> crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
    table[i] = crc;
  }
  return table;
}();

// TFRecord's mask: a checksum over bytes that hold checksums would be a weak one.
std::uint32_t masked_crc(std::span<const std::byte> bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

// Protocol buffers: a field is its number and wire type, then its value.
enum Wire : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// Writes as long as there is room; ok() is false once there was none.
class Writer {
 public:
  Writer(std::span<std::byte> out, std::size_t used) : out_(out), used_(used) {}
  void key(std::uint32_t field, Wire wire) { number(field << 3 | wire); }
  void number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) put(static_cast<std::byte>(value | 0x80));
    put(static_cast<std::byte>(value));
  }
  template <class T>
  void raw(T value) {
    std::array<std::byte, sizeof(T)> text;
    std::memcpy(text.data(), &value, sizeof(T));  // this machine and the format are little-endian
    for (const std::byte one : text) put(one);
  }
  void text(std::uint32_t field, std::string_view value) {
    key(field, Wire::bytes);
    number(value.size());
    for (const char c : value) put(static_cast<std::byte>(c));
  }
  bool ok() const { return ok_; }
  std::size_t used() const { return used_; }

 private:
  void put(std::byte value) {
    if (used_ == out_.size())
      ok_ = false;
    else
      out_[used_++] = value;
  }

  std::span<std::byte> out_;
  std::size_t used_;
  bool ok_ = true;
};

std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

// Fields of Event, Summary.Value and SessionLog, by their numbers in TensorFlow's event.proto and
// summary.proto.
constexpr std::uint32_t event_time = 1, event_step = 2, event_version = 3, event_summary = 5,
                        event_session = 7, summary_value = 1, value_tag = 1, value_number = 2,
                        session_status = 1, session_started = 1;

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0U;
  for (const std::byte byte : bytes)
    crc = (crc >> 8) ^ crc_table[(crc ^ static_cast<std::uint32_t>(byte)) & 0xff];
  return ~crc;
}

EventsFile::EventsFile(const std::filesystem::path& folder, std::int64_t step) {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(Clock::now().time_since_epoch()).count();
  // Files are read in the order of their names.
  const std::filesystem::path path =
      folder / fmt::format("events.out.tfevents.{:010}.{}.sluice", now, ::getpid());
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw disk_error("open", path.string(), errno);
  size_ = std::max<std::int64_t>(0, ::lseek(fd_, 0, SEEK_END));
  begin_event(0);
  Writer version(event_, used_);
  version.text(event_version, "brain.Event:2");
  used_ = version.used();
  write_record();
  begin_event(step + 1);
  Writer session(event_, used_);
  session.key(event_session, Wire::bytes);
  session.number(2);  // bytes that follow
  session.key(session_status, Wire::varint);
  session.number(session_started);
  used_ = session.used();
  write_record();
}

EventsFile::~EventsFile() { ::close(fd_); }

void EventsFile::begin_event(std::int64_t step) {
  Writer out(event_, 0);
  out.key(event_time, Wire::fixed64);
  out.raw(std::chrono::duration<double>(Clock::now().time_since_epoch()).count());
  out.key(event_step, Wire::varint);
  out.number(static_cast<std::uint64_t>(step));
  used_ = out.used();
}

void EventsFile::add(std::int64_t step, std::initializer_list<Scalar> scalars) {
  begin_event(step);
  const auto value_size = [](const Scalar& scalar) {
    return 1 + varint_size(scalar.tag.size()) + scalar.tag.size() + 1 + sizeof(float);
  };
  std::size_t summary = 0;
  for (const Scalar& scalar : scalars)
    if (std::isfinite(scalar.value)) {
      const std::size_t size = value_size(scalar);
      summary += 1 + varint_size(size) + size;
    }
  if (summary == 0) return;
  Writer out(event_, used_);
  out.key(event_summary, Wire::bytes);
  out.number(summary);
  for (const Scalar& scalar : scalars) {
    if (!std::isfinite(scalar.value)) continue;
    out.key(summary_value, Wire::bytes);
    out.number(value_size(scalar));
    out.text(value_tag, scalar.tag);
    out.key(value_number, Wire::fixed32);
    out.raw(static_cast<float>(scalar.value));
  }
  if (!out.ok()) {
    ++lost_;
    return;
  }
  used_ = out.used();
  write_record();
}

void EventsFile::write_record() {
  const std::span<const std::byte> event(event_.data(), used_);
  std::array<std::byte, 8> length;
  const auto size = static_cast<std::uint64_t>(used_);
  std::memcpy(length.data(), &size, sizeof size);
  Writer out(record_, 0);
  out.raw(size);
  out.raw(masked_crc(length));
  std::memcpy(record_.data() + out.used(), event.data(), event.size());
  Writer tail(record_, out.used() + event.size());
  tail.raw(masked_crc(event));
  ssize_t written = 0;
  do {
    written = ::write(fd_, record_.data(), tail.used());
  } while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(tail.used())) {
    size_ += written;
    return;
  }
  // Half a record would end what a reader can read: it is taken back.
  ++lost_;
  if (written > 0 && ::ftruncate(fd_, size_) != 0) size_ += written;
}

}  // namespace sluice
