#include "upstream/types.h"

namespace hotline::upstream {

std::string_view ToString(Verdict verdict) {
  switch (verdict) {
    case Verdict::kComplete:
      return "COMPLETE";
    case Verdict::kNotSent:
      return "NOT_SENT";
    case Verdict::kRefusedByPeer:
      return "REFUSED_BY_PEER";
    case Verdict::kPartial:
      return "PARTIAL";
    case Verdict::kSentUnknown:
      return "SENT_UNKNOWN";
    case Verdict::kResponseStarted:
      return "RESPONSE_STARTED";
  }
  return "UNKNOWN";
}

}  // namespace hotline::upstream
