// One caller's connection: a socket, perhaps a TLS engine, and the server's
// side of HTTP/2. It moves bytes and makes a ServerCall of each request.
//
//   kHandshake ──> kOpen ──────> kLingering ──> kClosed
//   (TLS only)       session over: its last frames have left, our side is shut
//                    down, and what the caller still sends is discarded, so
//                    that no reset takes those frames from it
//
// Each readiness is one read of at most 64 KiB, and no more are made in a turn
// that has had its share of calls, so a caller that sends much does not delay
// the others for long. What is to be written leaves in one write at the
// end of the loop's turn (FrontLoop::MarkDirty).
//
// Thread safety: none; everything happens on the loop.
//
// Invariants:
// 1. The session is asked for output only while the socket takes bytes and
//    everything before has been written (ServerSession's invariant 3).
// 2. It is closed from the loop's own events only, never inside of an event of
//    its session. Then every call's stream is gone.
// 3. It stays open without output for kLinger at most once its session is over.
#ifndef HOTLINE_SERVER_FRONT_CALLER_CONNECTION_H_
#define HOTLINE_SERVER_FRONT_CALLER_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/lease_id.h"
#include "base/time.h"
#include "net/http2/server_session.h"
#include "net/loop.h"
#include "net/tls/server.h"
#include "server/broker/answer_memory.h"
#include "server/broker/identity.h"
#include "server/front/assembly.h"
#include "server/front/front_door.h"

namespace hotline::server {

class FrontLoop;
class GrpcRefusal;
class ServerCall;

class CallerConnection final
    : public std::enable_shared_from_this<CallerConnection>,
      private net::SocketWatch::Watcher,
      private net::ServerEvents {
 public:
  // Takes `fd` over, which does not block. `tls` null: plain text.
  CallerConnection(FrontLoop* home, int fd, Visitor visitor,
                   std::unique_ptr<net::TlsServerEngine> tls, Instant now);
  ~CallerConnection() override;

  // Starts to read. False: the kernel does not take the watch; it is closed.
  bool Open();

  const Visitor& visitor() const { return visitor_; }

  // Whether leases that were acquired over it are held still; of the latest
  // kMaxAcquired.
  bool HoldsLeases(Instant now) const;
  // GOAWAY in two steps; calls that were accepted go on. Idempotent.
  void StartDrain(Instant now);
  // Now, with the end of every call and GOAWAY as far as the socket takes them.
  void CutOff();
  // Writes, once. At the end of a turn.
  void Flush(Instant now);

  // --- For its calls, while their streams are open ---
  FrontLoop& home() const { return *home_; }
  net::ServerSession& session() { return *session_; }
  // After everything that makes the session want to write.
  void Touch();
  void Consume(net::ServerStream* stream, size_t bytes);
  const IdentityPtr& identity() const { return identity_; }
  const AnswerMemory::CallerPtr& answers() const { return answers_; }
  Assembly& assembly() { return assembly_; }
  // The stream's answer grants this lease: it goes back if the caller resets
  // the stream later, before it can have seen the answer.
  void NoteAcquired(int32_t stream_id, const LeaseId& lease);

 private:
  enum class State : uint8_t { kHandshake, kOpen, kLingering, kClosed };
  struct Acquired {
    int32_t stream_id = 0;
    LeaseId lease;
  };

  // net::SocketWatch::Watcher:
  void OnSocketReady(bool readable, bool writable) override;

  // net::ServerEvents:
  void OnRequestHeaders(net::ServerStream* stream, const net::RequestHead& head,
                        bool end) override;
  void OnData(net::ServerStream* stream, std::string_view bytes) override;
  void OnEnd(net::ServerStream* stream) override;
  void OnSendable(net::ServerStream* stream) override;
  void OnClosed(net::ServerStream* stream, net::StreamEnd end,
                uint32_t code) override;
  void OnLateReset(int32_t stream_id, uint32_t code) override;

  void Read();
  void Decrypt(std::string_view ciphertext);
  // False: it is not finished.
  bool ContinueHandshake();
  void OnTlsFailed();
  void AfterInput();

  std::string_view NextOutput();
  void OnSent(size_t bytes);
  bool has_output() const;
  bool UpdateInterest();

  // Counts and logs the end of the session, once, and bounds what follows.
  void NoticeEnd();
  void Refuse(Refusal why, std::string_view text);
  void Linger();
  void Close();
  void DropSession();

  void Refuse(net::ServerStream* stream, const GrpcRefusal& refusal, bool end);
  void AnswerHttp(net::ServerStream* stream, int status);

  void ArmTimer();
  void OnTimer(Instant now);
  void Unlist(ServerCall* call);

  FrontLoop* const home_;
  const int fd_;
  const Visitor visitor_;
  const std::unique_ptr<net::TlsServerEngine> tls_;
  IdentityPtr identity_;
  const AnswerMemory::CallerPtr answers_;
  State state_;
  bool dirty_ = false;        // The loop will call Flush.
  bool blocked_ = false;      // The socket takes nothing for now.
  bool wants_write_ = false;  // The watch waits for that.
  bool peer_closed_ = false;  // By close_notify.
  bool tls_failed_ = false;
  bool end_noticed_ = false;
  Instant now_;  // Of the event under way.
  net::SocketWatch::Token watch_ = 0;

  // Null when lingering, or closed.
  std::optional<net::ServerSession> session_;
  Assembly assembly_;
  // Begun by what is being received, and not complete.
  std::vector<ServerCall*> incomplete_;
  // Requests that are not gRPC and not complete: stream and HTTP status.
  absl::flat_hash_map<int32_t, int> not_grpc_;
  std::vector<Acquired> acquired_;  // The latest, as a ring.
  size_t next_acquired_ = 0;

  std::string wire_;  // Ciphertext; what waits begins at wire_sent_.
  size_t wire_sent_ = 0;
  size_t wire_plain_ = 0;  // Of the session's output, in wire_.

  net::Loop::Deadline timer_;
  Instant armed_ = kNever;
  Instant linger_until_ = kNever;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_CALLER_CONNECTION_H_
