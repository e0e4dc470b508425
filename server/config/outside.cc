#include "server/config/outside.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/read_file.h"

namespace hotline::server {
namespace {

constexpr std::string_view kFile = "file:";
constexpr size_t kMostBytes = 1 << 16;

bool IsVariableName(std::string_view name) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
  return !name.empty() && !(name[0] >= '0' && name[0] <= '9') &&
         name.find_first_not_of(kLetters) == std::string_view::npos;
}

absl::Status Malformed(std::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ${NAME} or ${file:/path}, not ",
                   std::string(found.substr(0, 60)), " ($$ stands for $)"));
}

absl::StatusOr<std::string> ReadValue(const std::string& path) {
  // Anything else could block, or have no end.
  std::error_code error;
  if (std::filesystem::exists(path, error) &&
      !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(path + " is not a regular file");
  }
  absl::StatusOr<std::string> text = ReadFile(path, kMostBytes + 1);
  if (!text.ok()) return text;
  if (text->size() > kMostBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is larger than ", kMostBytes, " bytes"));
  }
  if (text->ends_with('\n')) text->pop_back();
  if (text->ends_with('\r')) text->pop_back();
  return text;
}

}  // namespace

absl::StatusOr<Expanded> Expand(const std::string& text,
                                const ConfigLookup& lookup) {
  Expanded out;
  for (size_t at = 0; at < text.size();) {
    const size_t dollar = std::min(text.find('$', at), text.size());
    out.text.append(text, at, dollar - at);
    at = dollar;
    if (at == text.size()) break;
    const char next = at + 1 < text.size() ? text[at + 1] : '\0';
    if (next != '{') {
      out.text += '$';
      at += next == '$' ? 2 : 1;
      continue;
    }
    const size_t end = text.find('}', at);
    const std::string name =
        text.substr(at + 2, end == text.npos ? end : end - at - 2);
    const bool file = name.starts_with(kFile);
    if (end == text.npos || !(file ? name.substr(kFile.size()).starts_with('/')
                                   : IsVariableName(name))) {
      return Malformed(std::string_view(text).substr(
          at, end == text.npos ? end : end - at + 1));
    }
    if (!lookup) {
      return absl::InvalidArgumentError(absl::StrCat(
          "${", name, "}: references are expanded in the file only"));
    }
    const absl::StatusOr<std::string> value = lookup(name);
    if (!value.ok()) return value.status();
    out.text += *value;
    out.from_file = out.from_file || file;
    at = end + 1;
  }
  return out;
}

std::string WithoutReferences(const std::string& text) {
  return absl::StrReplaceAll(text, {{"$", "$$"}});
}

absl::StatusOr<std::string> LookUpOutside(const std::string& reference) {
  if (reference.starts_with(kFile)) {
    return ReadValue(reference.substr(kFile.size()));
  }
  const char* const value = std::getenv(reference.c_str());
  if (value == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the environment variable ", reference, " is not set"));
  }
  return value;
}

}  // namespace hotline::server
