#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <string_view>

#include "tests/fuzz/targets.h"
#include "tests/net/http2/raw_frames.h"

namespace hotline::fuzz {
namespace {

using net::EventRecorder;
using net::HeaderField;
using net::RawClient;
using net::ServerOptions;
using net::ServerStream;

struct Conversation {
  ServerOptions options;
  bool shakes_hands = false;
  bool answers = false;
  bool consumes = false;
  std::string_view input;
};

// By the stream's number: a whole answer, a streamed one, a reset.
void AnswerBy(RawClient* client, ServerStream* stream) {
  static const HeaderField kHead[] = {{":status", "200"}, {"a", "b"}};
  static const HeaderField kTrailers[] = {{"grpc-status", "0"}};
  constexpr size_t kBytes = 20'000;
  switch (stream->id() / 2 % 4) {
    case 0:
      client->session().Respond(
          stream, kHead, kBytes, [](char* to) { std::fill_n(to, kBytes, 'x'); },
          kTrailers);
      break;
    case 1:
      client->session().SubmitHeaders(stream, kHead, false);
      client->session().SubmitData(stream, "head", std::string(kBytes, 'y'));
      client->session().SubmitTrailers(stream, kTrailers);
      break;
    case 2:
      client->session().Reset(stream, NGHTTP2_CANCEL);
      break;
    default:
      client->session().SubmitHeaders(stream, kHead, true);
      break;
  }
}

// What must not depend on how the input is cut.
std::string Talk(const Conversation& talk,
                 const std::function<size_t(size_t)>& cut) {
  RawClient client(talk.options);
  if (talk.answers) {
    client.events.on_end = [&](ServerStream* s) { AnswerBy(&client, s); };
  }
  if (talk.consumes) {
    client.events.on_data = [&](ServerStream* s, std::string_view bytes) {
      client.session().Consume(s, bytes.size());
    };
  }
  if (talk.shakes_hands) client.Connect();
  std::string_view left = talk.input;
  bool open = true;
  while (!left.empty() && open) {
    const size_t size = cut(left.size());
    open = client.Send(left.substr(0, size));
    left.remove_prefix(size);
    HOTLINE_PROMISE(client.session().open_streams() <=
                    talk.options.max_concurrent_streams);
  }
  const bool http1 = client.session().end() == net::SessionEnd::kHttp1;
  if (!http1) {
    client.Read(1000);
    HOTLINE_PROMISE(client.unread().empty());
  }
  std::string text = std::to_string(static_cast<int>(client.session().end())) +
                     client.session().end_text() + "\n";
  if (client.session().end() != net::SessionEnd::kNone && !http1) {
    HOTLINE_PROMISE(client.session().finished());
    HOTLINE_PROMISE(client.session().open_streams() == 0);
  }
  client.Destroy();
  HOTLINE_PROMISE(client.events.disorders == 0);
  for (const auto& [id, call] : client.events.calls) {
    HOTLINE_PROMISE(call.closed == 1);
    text += std::to_string(id) + " " + call.path + " " +
            std::to_string(call.fields.size()) + " " +
            std::to_string(call.ended) + "\n";
    // A body that breaks a rule is reported up to about there.
    if (call.ended) text += call.body + "\n";
  }
  return text;
}

}  // namespace

void FuzzHttp2Server(std::string_view input) {
  if (input.size() < 2) return;
  const unsigned flags = static_cast<unsigned char>(input[0]);
  std::minstd_rand random(static_cast<unsigned char>(input[1]) + 1);
  Conversation talk;
  talk.shakes_hands = (flags & 1) != 0;
  talk.answers = (flags & 2) != 0;
  talk.consumes = (flags & 4) != 0;
  if ((flags & 8) != 0) {
    talk.options.max_concurrent_streams = 3;
    talk.options.stream_window_bytes = 100;
    talk.options.max_unconsumed_bytes = 50;
    talk.options.header_limits = {200, 400};
    talk.options.max_output_bytes = 100;
    talk.options.max_useless_frames = 20;
    talk.options.max_resets_per_second = 4;
  }
  talk.input = input.substr(2);
  const std::string whole = Talk(talk, [](size_t left) { return left; });
  const std::string pieces = Talk(talk, [](size_t) { return size_t{1}; });
  const size_t most = 1 + random() % 64;
  const std::string cut = Talk(
      talk, [&](size_t left) { return 1 + random() % std::min(left, most); });
  if (whole != pieces || whole != cut) {
    std::cerr << whole << "\n  in single bytes:\n"
              << pieces << "\n  in pieces:\n"
              << cut;
  }
  HOTLINE_PROMISE(whole == pieces);
  HOTLINE_PROMISE(whole == cut);
}

}  // namespace hotline::fuzz
