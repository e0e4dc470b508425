#include "client/session_stream.h"

#include <utility>

#include "client/session_core.h"
#include "client/status.h"

namespace hotline::client {
namespace {

google::protobuf::ArenaOptions LargeBlocks() {
  google::protobuf::ArenaOptions options;
  options.start_block_size = 16 << 10;
  options.max_block_size = 64 << 10;
  return options;
}

}  // namespace

SessionStream::SessionStream(std::shared_ptr<SessionCore> core)
    : core_(std::move(core)), arena_(LargeBlocks()) {}

void SessionStream::Open(v1::Broker::Stub* stub, bool wait) {
  context_.set_wait_for_ready(wait);
  stub->async()->Session(&context_, this);
  AddHold();
  Read();
  StartCall();
}

void SessionStream::Write(Batch batch) {
  batch_ = std::move(batch);
  for (const auto& item : batch_) {
    // Owned by the entries; removed again before request_ is modified.
    request_.mutable_items()->UnsafeArenaAddAllocated(item.get());
  }
  StartWrite(&request_);
}

void SessionStream::ReleaseBatch() {
  request_.mutable_items()->UnsafeArenaExtractSubrange(0, request_.items_size(),
                                                       nullptr);
  batch_.clear();
}

void SessionStream::Read() {
  arena_.Reset();
  response_ =
      google::protobuf::Arena::CreateMessage<v1::SessionResponse>(&arena_);
  StartRead(response_);
}

void SessionStream::OnReadInitialMetadataDone(bool ok) {
  if (ok) core_->OnOpened(this);
}

void SessionStream::OnReadDone(bool ok) {
  if (!ok) return core_->OnEnded(this);
  core_->OnResults(response_);
  Read();
}

void SessionStream::OnWriteDone(bool) {
  ReleaseBatch();
  core_->OnWritten();
}

void SessionStream::OnDone(const grpc::Status& status) {
  const std::shared_ptr<SessionCore> core = core_;
  core->OnClosed(this, MakeStatus(status.error_code(), status.error_message(),
                                  status.error_details()));
  delete this;
  // The context, and with it this stream's reference to the channel, is gone.
  core->OnDeleted();
}

}  // namespace hotline::client
