// The commit that the program was built from.
#ifndef HOTLINE_BASE_COMMIT_H_
#define HOTLINE_BASE_COMMIT_H_

namespace hotline {

// The last one that changed the programs' sources: "2f9c01d4e8ab", with
// "-dirty" if they had been changed since; "unknown" without a repository.
extern const char kCommit[];

}  // namespace hotline

#endif  // HOTLINE_BASE_COMMIT_H_
