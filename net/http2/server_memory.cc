#include "net/http2/server_memory.h"

#include <cstdint>
#include <utility>

namespace hotline::net {
namespace {

// Kept for the next user.
constexpr size_t kSpareStreams = 1024;
constexpr size_t kSpareReaders = 16;
constexpr size_t kSpareOutputs = 16;
constexpr size_t kSpareOutputBytes = 128 << 10;
constexpr size_t kSpareBodyBytes = 1024;
// Mapped at a time.
constexpr size_t kTables = 256;

template <typename T>
std::unique_ptr<T> TakeFrom(std::vector<std::unique_ptr<T>>* spare) {
  if (spare->empty()) return std::make_unique<T>();
  std::unique_ptr<T> one = std::move(spare->back());
  spare->pop_back();
  return one;
}

}  // namespace

void* ServerMemory::TakeTable() {
  if (free_tables_.empty()) {
    auto pages = std::make_unique<Pages>();
    if (!pages->Map(kTables * kTableBytes)) return nullptr;
    for (size_t i = 0; i < kTables; ++i) {
      free_tables_.push_back(static_cast<char*>(pages->data()) +
                             i * kTableBytes);
    }
    tables_.push_back(std::move(pages));
  }
  void* const table = free_tables_.back();
  free_tables_.pop_back();
  return table;
}

void ServerMemory::GiveTable(void* table) {
  TrimTable(table);
  free_tables_.push_back(table);
}

void ServerMemory::TrimTable(void* table) {
  for (const std::unique_ptr<Pages>& pages : tables_) {
    const auto begin = reinterpret_cast<uintptr_t>(pages->data());
    const uintptr_t from = reinterpret_cast<uintptr_t>(table) - begin;
    if (from < pages->size()) return pages->GiveBack(from, kTableBytes);
  }
}

std::unique_ptr<ServerStream> ServerMemory::TakeStream() {
  return TakeFrom(&streams_);
}

void ServerMemory::Give(std::unique_ptr<ServerStream> stream) {
  if (streams_.size() >= kSpareStreams) return;
  std::string body = std::move(stream->body_);
  ServerStream* const place = stream.get();
  place->~ServerStream();
  new (place) ServerStream();
  if (body.capacity() <= kSpareBodyBytes) {
    body.clear();
    place->body_ = std::move(body);
  }
  streams_.push_back(std::move(stream));
}

std::unique_ptr<RequestHeadReader> ServerMemory::TakeHeadReader() {
  return TakeFrom(&readers_);
}

void ServerMemory::Give(std::unique_ptr<RequestHeadReader> reader) {
  if (readers_.size() < kSpareReaders) readers_.push_back(std::move(reader));
}

OutputBuffer ServerMemory::TakeOutput() {
  if (outputs_.empty()) return OutputBuffer();
  OutputBuffer buffer = std::move(outputs_.back());
  outputs_.pop_back();
  return buffer;
}

void ServerMemory::Give(OutputBuffer buffer) {
  buffer.Drop(buffer.size());
  if (outputs_.size() < kSpareOutputs && buffer.capacity() > 0 &&
      buffer.capacity() <= kSpareOutputBytes) {
    outputs_.push_back(std::move(buffer));
  }
}

}  // namespace hotline::net
