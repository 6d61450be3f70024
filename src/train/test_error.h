// For the tests of this room.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace sluice {

// The text of the error that body() ends in, always of wrong usage.
template <class Body>
std::string error_of(Body body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

}  // namespace sluice
