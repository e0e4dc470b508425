#include "server/observe/span.h"

#include <set>

#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "server/broker/http_head.h"

namespace hotline::server {
namespace {

using google::protobuf::Struct;
using std::chrono::milliseconds;

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c";
constexpr char kCaller[] =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kSpan[] =
    "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
constexpr std::chrono::system_clock::time_point kNow{
    std::chrono::seconds(1'700'000'000)};

Struct Parse(const std::string& json) {
  Struct out;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &out);
  EXPECT_TRUE(status.ok()) << status << "\n" << json;
  return out;
}

// The value of an attribute, as JSON; empty without it.
std::string Attribute(const Struct& span, const std::string& key) {
  for (const auto& item :
       span.fields().at("attributes").list_value().values()) {
    const auto& fields = item.struct_value().fields();
    if (fields.at("key").string_value() != key) continue;
    std::string json;
    EXPECT_TRUE(
        google::protobuf::util::MessageToJsonString(fields.at("value"), &json)
            .ok());
    return json;
  }
  return "";
}

CallRecord Record() {
  CallRecord record;
  record.rpc = RpcMethod::kExecute;
  record.target = "https://a.test:443";
  record.method = "GET";
  record.path = "/x";
  record.status = 200;
  record.traceparent = kCaller;
  record.span = kSpan;
  record.begun = Instant(std::chrono::seconds(7));
  record.ended = record.begun + milliseconds(250);
  return record;
}

TEST(SpanTest, TheSampledFlagIsTheLowestBit) {
  const std::string context =
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
  for (const char* flags : {"01", "03", "0f", "ff", "09", "0b"}) {
    EXPECT_TRUE(IsSampled(context + flags)) << flags;
  }
  for (const char* flags : {"00", "02", "0e", "fe", "08", "10"}) {
    EXPECT_FALSE(IsSampled(context + flags)) << flags;
  }
}

TEST(SpanTest, NewSpansAreValidSampledAndDifferent) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    for (const std::string& context : {ChildOf(kCaller), NewTrace()}) {
      EXPECT_TRUE(IsTraceparent(context)) << context;
      EXPECT_TRUE(IsSampled(context)) << context;
      EXPECT_TRUE(seen.insert(context).second) << context;
    }
    EXPECT_EQ(ChildOf(kCaller).substr(0, 36), std::string(kCaller, 36));
  }
}

TEST(SpanTest, ASpanHasItsTraceParentTimesAndKind) {
  const Struct span = Parse(EncodeSpan(Record(), kNow));
  const auto text = [&span](const char* key) {
    return span.fields().at(key).string_value();
  };
  EXPECT_EQ(text("traceId"), kTrace);
  EXPECT_EQ(text("spanId"), "00f067aa0ba902b7");
  EXPECT_EQ(text("parentSpanId"), "b7ad6b7169203331");
  EXPECT_EQ(text("name"), "hotline.v1.Broker/Execute");
  EXPECT_EQ(span.fields().at("kind").number_value(), 2);
  EXPECT_EQ(text("startTimeUnixNano"), "1699999999750000000");
  EXPECT_EQ(text("endTimeUnixNano"), "1700000000000000000");
  EXPECT_EQ(span.fields().count("status"), 0u);
}

TEST(SpanTest, WithoutACallersTraceASpanHasNoParent) {
  CallRecord record = Record();
  for (const char* traceparent : {"", "00-1-2-3"}) {
    record.traceparent = traceparent;
    EXPECT_EQ(Parse(EncodeSpan(record, kNow)).fields().count("parentSpanId"),
              0u);
  }
}

TEST(SpanTest, AttributesFollowTheConventions) {
  CallRecord record = Record();
  record.identity = "uid:7";
  record.attempts = 2;
  record.connection = 12;
  record.waited = milliseconds(5);
  const Struct span = Parse(EncodeSpan(record, kNow));
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, const char*>>{
           {"rpc.system", R"({"stringValue":"grpc"})"},
           {"rpc.service", R"({"stringValue":"hotline.v1.Broker"})"},
           {"rpc.method", R"({"stringValue":"Execute"})"},
           {"rpc.grpc.status_code", R"({"intValue":"0"})"},
           {"http.request.method", R"({"stringValue":"GET"})"},
           {"url.path", R"({"stringValue":"/x"})"},
           {"http.response.status_code", R"({"intValue":"200"})"},
           {"enduser.id", R"({"stringValue":"uid:7"})"},
           {"hotline.target", R"({"stringValue":"https://a.test:443"})"},
           {"hotline.attempts", R"({"intValue":"2"})"},
           {"hotline.connection", R"({"intValue":"12"})"},
           {"hotline.connection.reused", R"({"boolValue":false})"},
           {"hotline.wait_seconds", R"({"doubleValue":0.005})"},
           {"hotline.dial_seconds", ""},
           {"error.type", ""}}) {
    EXPECT_EQ(Attribute(span, key), value) << key;
  }
}

TEST(SpanTest, AFailedCallHasAStatusAndItsReason) {
  Error error;
  error.code = absl::StatusCode::kAborted;
  error.reason = "UPSTREAM_RESET";
  error.message = "not for the collector";
  error.metadata = {{"verdict", "SENT_UNKNOWN"}};
  CallRecord record = Record();
  record.error = &error;
  const std::string json = EncodeSpan(record, kNow);
  const Struct span = Parse(json);
  const auto& status = span.fields().at("status").struct_value().fields();
  EXPECT_EQ(status.at("code").number_value(), 2);
  EXPECT_EQ(status.at("message").string_value(), "ABORTED");
  EXPECT_EQ(Attribute(span, "rpc.grpc.status_code"), R"({"intValue":"10"})");
  EXPECT_EQ(Attribute(span, "error.type"),
            R"({"stringValue":"UPSTREAM_RESET"})");
  EXPECT_EQ(Attribute(span, "hotline.verdict"),
            R"({"stringValue":"SENT_UNKNOWN"})");
  EXPECT_EQ(json.find("not for the collector"), std::string::npos);
}

TEST(SpanTest, ForeignBytesAreEscaped) {
  CallRecord record = Record();
  record.path = "/\"\\\n\x01\xff";
  record.identity = "cn:\u2028";
  const Struct span = Parse(EncodeSpan(record, kNow));
  EXPECT_NE(Attribute(span, "url.path"), "");
  record.path = std::string_view();
  const std::string long_name(100'000, 'x');
  record.identity = long_name;
  EXPECT_LT(EncodeSpan(record, kNow).size(), 4096u);
}

TEST(SpanTest, ARequestHasTheProcessAndAllSpans) {
  const std::string one = EncodeSpan(Record(), kNow);
  const Struct request = Parse(EncodeRequest("2f6a", one + "," + one));
  const auto& resource = request.fields()
                             .at("resourceSpans")
                             .list_value()
                             .values(0)
                             .struct_value();
  const Struct& process = resource.fields().at("resource").struct_value();
  EXPECT_EQ(Attribute(process, "service.name"), R"({"stringValue":"hotline"})");
  EXPECT_EQ(Attribute(process, "service.instance.id"),
            R"({"stringValue":"2f6a"})");
  const auto& scope =
      resource.fields().at("scopeSpans").list_value().values(0).struct_value();
  EXPECT_EQ(scope.fields().at("spans").list_value().values_size(), 2);
}

TEST(SpanTest, CodesHaveGrpcsNames) {
  CallRecord record;
  EXPECT_EQ(CodeOf(record), "OK");
  Error error;
  error.code = absl::StatusCode::kResourceExhausted;
  record.error = &error;
  EXPECT_EQ(CodeOf(record), "RESOURCE_EXHAUSTED");
}

}  // namespace
}  // namespace hotline::server
