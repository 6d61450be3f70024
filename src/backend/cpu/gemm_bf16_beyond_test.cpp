// bf16 products whose elements lie more than 2^31 apart.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <vector>

#include "backend/cpu/gemm_bf16.h"

namespace sluice {
namespace {

// Reserved memory whose pages come when touched.
template <class T>
class Reserved {
 public:
  explicit Reserved(std::int64_t count)
      : bytes_(static_cast<std::size_t>(count) * sizeof(T)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Reserved() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  bool ok() const { return data_ != MAP_FAILED; }
  T* data() const { return static_cast<T*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

constexpr std::int64_t ld = (std::int64_t{1} << 30) + 11;

// Lines so far apart that element 2^31 lies between them, for A, B and C, both ways of storing.
TEST(GemmBf16Beyond, LinesFarApart) {
  const Reserved<bf16> far_a(ld * 4), far_b(ld * 4), far_y(ld * 4);
  const Reserved<float> far_c(ld * 4);
  ASSERT_TRUE(far_a.ok() && far_b.ok() && far_c.ok() && far_y.ok()) << "no address space";
  std::vector<bf16> a(16), b(16);
  for (int i = 0; i < 16; ++i) {
    a[static_cast<std::size_t>(i)] = far_a.data()[i / 4 * ld + i % 4] =
        bf16(static_cast<float>(i - 5));
    b[static_cast<std::size_t>(i)] = far_b.data()[i / 4 * ld + i % 4] =
        bf16(static_cast<float>(i * i % 7));
  }
  Pool pool(2);
  std::vector<std::byte> workspace(static_cast<std::size_t>(gemm_bf16_workspace_bytes(2)));
  for (Isa isa : available_isas()) {
    for (Stored a_stored : {Stored::rows, Stored::transposed}) {
      for (Stored b_stored : {Stored::rows, Stored::transposed}) {
        std::vector<float> near(16, -1.0f);
        GemmBf16 g = {.m = 4,
                      .n = 4,
                      .k = 4,
                      .a = a.data(),
                      .lda = 4,
                      .a_stored = a_stored,
                      .b = b.data(),
                      .ldb = 4,
                      .b_stored = b_stored,
                      .c = near.data(),
                      .ldc = 4};
        gemm_bf16(pool, isa, g, workspace);
        g.a = far_a.data();
        g.b = far_b.data();
        g.c = far_c.data();
        g.lda = g.ldb = g.ldc = ld;
        for (int i = 0; i < 16; ++i) far_c.data()[i / 4 * ld + i % 4] = -1.0f;
        gemm_bf16(pool, isa, g, workspace);
        g.c = nullptr;
        g.c_bf16 = far_y.data();
        gemm_bf16(pool, isa, g, workspace);
        for (int i = 0; i < 16; ++i) {
          const float value = near[static_cast<std::size_t>(i)];
          EXPECT_EQ(value, far_c.data()[i / 4 * ld + i % 4]) << name_of(isa);
          EXPECT_EQ(bf16(value).bits, far_y.data()[i / 4 * ld + i % 4].bits) << name_of(isa);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
