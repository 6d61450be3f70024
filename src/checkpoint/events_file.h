// A run's numbers for TensorBoard: an event file in the run's folder, one record an event, framed
// as TensorFlow's TFRecord (length, its masked CRC-32C, bytes, their masked CRC-32C) and holding a
// protocol buffer "Event" with a summary of scalars.
//
// Every start of a run writes a file of its own, named by the second and the process. Its second
// event says that the run goes on after `step`: a reader then forgets what earlier files say of
// later steps. What cannot be written is lost, as a whole record; training goes on. One thread;
// allocates nothing after its making.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string_view>

namespace sluice {

// CRC-32C (Castagnoli), as iSCSI and TFRecord use it.
std::uint32_t crc32c(std::span<const std::byte> bytes);

class EventsFile {
 public:
  struct Scalar {
    std::string_view tag;  // what is before its first '/' groups charts
    double value = 0;      // a value that is not finite is left out
  };

  // Makes FOLDER/events.out.tfevents.…; throws Error(Exit::disk).
  EventsFile(const std::filesystem::path& folder, std::int64_t step);
  ~EventsFile();
  EventsFile(const EventsFile&) = delete;
  EventsFile& operator=(const EventsFile&) = delete;

  // One event of `step` with these numbers, stamped with the time of now. More than fit in 4 KiB
  // are left out.
  void add(std::int64_t step, std::initializer_list<Scalar> scalars);
  std::int64_t lost() const { return lost_; }  // records

 private:
  void begin_event(std::int64_t step);
  void write_record();

  int fd_ = -1;
  std::int64_t size_ = 0;  // of the file; always at the end of a record
  std::int64_t lost_ = 0;
  std::size_t used_ = 0;
  std::array<std::byte, 4096> event_;
  std::array<std::byte, 4096 + 16> record_;
};

}  // namespace sluice
