// Whether a request can be written as one HTTP message and no more.
#ifndef HOTLINE_UPSTREAM_CODEC_REQUEST_FAULT_H_
#define HOTLINE_UPSTREAM_CODEC_REQUEST_FAULT_H_

#include "upstream/types.h"

namespace hotline::upstream {

// What is wrong with the request, for people; null: nothing. Looked at just
// before it is written, whoever it comes from (a caller, its metadata, the
// configuration, Hotline itself): what ends a line early would become another
// request on a connection that others use.
const char* FaultOf(const Request& request);

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_REQUEST_FAULT_H_
