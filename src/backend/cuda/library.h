// A library of NVIDIA's that is loaded when it is needed: found by the system's own search, in the
// toolkit, or where pip puts it (site-packages/nvidia/*/lib).
#pragma once

#include <string>
#include <vector>

namespace sluice {

class Library {
 public:
  // Exit::usage naming `file` and `package`, which pip would install, when it is nowhere.
  Library(const std::string& file, const std::string& package);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  // Fills `function`; Exit::usage when the library has no such name.
  template <class Function>
  void find(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(address(name));
  }

 private:
  void* address(const char* name) const;

  std::string file_;
  void* handle_ = nullptr;
};

// A library in the system's search path or those places; null: it is in none. Any thread.
void* load_library(const std::string& file);
// Files of that name in the places where pip and the toolkit put them, in order.
std::vector<std::string> library_places(const std::string& file);

}  // namespace sluice
