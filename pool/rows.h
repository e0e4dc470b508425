// Makes the rows of a Snapshot from the pool's state.
#ifndef HOTLINE_POOL_ROWS_H_
#define HOTLINE_POOL_ROWS_H_

#include "base/time.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/snapshot.h"
#include "pool/target.h"

namespace hotline::pool {

// Called under the shard's mutex.
TargetRow RowOf(const Target& target, Instant now);
ConnectionRow RowOf(const ConnRecord& conn, const IdCodec& ids, Instant now);
LeaseRow RowOf(const Lease& lease, const IdCodec& ids, Instant now);

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_ROWS_H_
