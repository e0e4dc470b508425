#include "server/observe/front_figures.h"

#include <chrono>

#include "server/broker/registry.h"

namespace hotline::server {

FrontFigures FiguresOf(const Broker& broker, const IdentityTable& identities,
                       const Front* front, const Certificates* certificates) {
  FrontFigures out;
  const FrontDoorCounts door =
      front != nullptr ? front->connections() : FrontDoorCounts();
  out.connections = door.connections;
  out.accepted = door.accepted;
  for (size_t i = 0; i < kRefusals.size(); ++i) {
    out.refused.emplace_back(kRefusals[i], door.refused[i]);
  }
  out.calls = broker.overload().calls();
  out.answer_bytes = broker.answers().used();
  out.answers_waiting = broker.answers().waiting();
  for (size_t i = 0; i < kSheds.size(); ++i) {
    out.shed.emplace_back(kSheds[i],
                          broker.overload().shed(static_cast<Shed>(i)));
  }
  for (size_t rpc = 0; rpc < kRuledMethods.size(); ++rpc) {
    for (size_t i = 0; i < kDenials.size(); ++i) {
      out.denied.push_back(
          {kRuledMethods[rpc], kDenials[i],
           broker.gatekeeper().denials(static_cast<RpcMethod>(rpc),
                                       static_cast<Denial>(i))});
    }
  }
  out.sessions = static_cast<int64_t>(broker.registry().sessions());
  out.identities = identities.Usage();
  out.identities.push_back(broker.gatekeeper().anonymous());
  if (certificates != nullptr) {
    out.certificate_expires = static_cast<double>(
        std::chrono::system_clock::to_time_t(certificates->expires()));
  }
  return out;
}

}  // namespace hotline::server
