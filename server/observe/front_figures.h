// The figures of the front and of what the broker refused, for /metrics.
#ifndef HOTLINE_SERVER_OBSERVE_FRONT_FIGURES_H_
#define HOTLINE_SERVER_OBSERVE_FRONT_FIGURES_H_

#include "server/broker/broker.h"
#include "server/front/certificates.h"
#include "server/front/front.h"
#include "server/observe/metrics.h"

namespace hotline::server {

// `front` and `certificates` may be null. Thread-safe.
FrontFigures FiguresOf(const Broker& broker, const IdentityTable& identities,
                       const Front* front, const Certificates* certificates);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_FRONT_FIGURES_H_
