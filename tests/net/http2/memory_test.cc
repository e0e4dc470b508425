#include "net/http2/memory.h"

#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace hotline::net {
namespace {

constexpr size_t kFrame = 16394;  // As nghttp2 asks for it.

class Http2MemoryTest : public ::testing::Test {
 protected:
  void* Malloc(size_t bytes) {
    return mem_->malloc(bytes, mem_->mem_user_data);
  }
  void* Realloc(void* old, size_t bytes) {
    return mem_->realloc(old, bytes, mem_->mem_user_data);
  }
  void Free(void* memory) { mem_->free(memory, mem_->mem_user_data); }

  Http2Memory memory_;
  nghttp2_mem* const mem_ = memory_.functions();
};

TEST_F(Http2MemoryTest, AFrameBufferTakesMemoryWhileItIsUsed) {
  void* const frame = Realloc(nullptr, kFrame);
  ASSERT_NE(frame, nullptr);
  EXPECT_EQ(memory_.resident_bytes(), 0u);
  std::memset(frame, 1, 100);
  EXPECT_GT(memory_.resident_bytes(), 0u);
  EXPECT_LT(memory_.resident_bytes(), kFrame);
  memory_.GiveBack();
  EXPECT_EQ(memory_.resident_bytes(), 0u);
  std::memset(frame, 2, kFrame);
  EXPECT_GE(memory_.resident_bytes(), kFrame);
  Free(frame);
  EXPECT_EQ(memory_.resident_bytes(), 0u);
}

TEST_F(Http2MemoryTest, WhatIsNotTheFrameBufferKeepsWhatIsInIt) {
  void* const frame = Malloc(kFrame);
  auto* const other = static_cast<char*>(Malloc(kFrame));
  auto* const small = static_cast<char*>(Malloc(100));
  std::memset(other, 'o', kFrame);
  std::memset(small, 's', 100);
  memory_.GiveBack();
  EXPECT_EQ(std::string(other, kFrame), std::string(kFrame, 'o'));
  EXPECT_EQ(std::string(small, 100), std::string(100, 's'));
  Free(small);
  Free(other);
  Free(frame);
  Free(nullptr);
}

TEST_F(Http2MemoryTest, AGrowingBufferKeepsWhatIsInIt) {
  auto* frame = static_cast<char*>(Malloc(kFrame));
  std::memset(frame, 'f', kFrame);
  frame = static_cast<char*>(Realloc(frame, kFrame + 1000));
  EXPECT_EQ(std::string(frame, kFrame), std::string(kFrame, 'f'));
  frame = static_cast<char*>(Realloc(frame, 100'000));
  EXPECT_EQ(std::string(frame, kFrame), std::string(kFrame, 'f'));
  // It is malloc's now, and nobody takes it back.
  memory_.GiveBack();
  EXPECT_EQ(std::string(frame, kFrame), std::string(kFrame, 'f'));
  Free(frame);
}

TEST_F(Http2MemoryTest, WhatIsLeftGoesWithIt) {
  Http2Memory other;
  nghttp2_mem* const mem = other.functions();
  std::memset(mem->malloc(kFrame, mem->mem_user_data), 1, kFrame);
  EXPECT_GE(other.resident_bytes(), kFrame);
}

}  // namespace
}  // namespace hotline::net
