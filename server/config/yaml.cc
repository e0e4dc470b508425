#include "server/config/yaml.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/parser.h"

namespace hotline::server {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxNodes = 100'000;

// Thrown out of yaml-cpp's parser, and caught in this file.
struct Stop {
  Place place;
  std::string text;
};

Place PlaceOf(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

// Builds the tree. Stops at constructs that could expand beyond the file's
// size.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(YamlNode* root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode* const node = Add(mark, "", anchor, YamlNode::Kind::kNull);
    // The mark is that of whatever comes next.
    if (!open_.empty() && open_.back()->kind == YamlNode::Kind::kMap) {
      node->place = open_.back()->key_places.back();
    }
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Stop{PlaceOf(mark), "aliases (*name) are not supported"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, const std::string& value) override {
    if (!open_.empty() && open_.back()->kind == YamlNode::Kind::kMap &&
        !has_key_) {
      return AddKey(mark, tag, anchor, value);
    }
    YamlNode* const node = Add(mark, tag, anchor, YamlNode::Kind::kScalar);
    node->text = value;
    node->quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Add(mark, tag, anchor, YamlNode::Kind::kList));
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    Open(Add(mark, tag, anchor, YamlNode::Kind::kMap));
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  static void Refuse(const YAML::Mark& mark, const std::string& tag,
                     YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      throw Stop{PlaceOf(mark), "anchors (&name) are not supported"};
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Stop{PlaceOf(mark), "tags (!name) are not supported"};
    }
  }

  void AddKey(const YAML::Mark& mark, const std::string& tag,
              YAML::anchor_t anchor, const std::string& key) {
    Refuse(mark, tag, anchor);
    open_.back()->keys.push_back(key);
    open_.back()->key_places.push_back(PlaceOf(mark));
    has_key_ = true;
  }

  YamlNode* Add(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, YamlNode::Kind kind) {
    Refuse(mark, tag, anchor);
    if (++nodes_ > kMaxNodes) {
      throw Stop{PlaceOf(mark),
                 absl::StrCat("more than ", kMaxNodes, " values")};
    }
    YamlNode* node = root_;
    if (!open_.empty()) {
      YamlNode* const parent = open_.back();
      if (parent->kind == YamlNode::Kind::kMap && !has_key_) {
        throw Stop{PlaceOf(mark), "a key must be a word"};
      }
      has_key_ = false;
      node = &parent->values.emplace_back();
    }
    node->kind = kind;
    node->place = PlaceOf(mark);
    return node;
  }

  // `node` does not move: its parent gets no other child before it is closed.
  void Open(YamlNode* node) {
    if (open_.size() >= kMaxDepth) {
      throw Stop{node->place,
                 absl::StrCat("nested deeper than ", kMaxDepth, " levels")};
    }
    open_.push_back(node);
  }

  YamlNode* const root_;
  std::vector<YamlNode*> open_;
  bool has_key_ = false;  // The innermost map expects a value.
  size_t nodes_ = 0;
};

// Refuses a second document.
class NoMore : public Builder {
 public:
  NoMore() : Builder(nullptr) {}
  void OnDocumentStart(const YAML::Mark& mark) override {
    throw Stop{PlaceOf(mark), "a second document (---) begins"};
  }
};

}  // namespace

bool ParseYaml(std::string_view text, YamlNode* root, ConfigFaults* faults) {
  if (text.size() > kMaxBytes) {
    faults->Add({}, "", absl::StrCat("larger than ", kMaxBytes, " bytes"));
    return false;
  }
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Builder builder(root);
    if (parser.HandleNextDocument(builder)) {
      NoMore no_more;
      parser.HandleNextDocument(no_more);
    }
    return true;
  } catch (const Stop& stop) {
    faults->Add(stop.place, "", stop.text);
  } catch (const YAML::Exception& error) {
    faults->Add(PlaceOf(error.mark), "", absl::StrCat("not YAML: ", error.msg));
  } catch (const std::exception& error) {
    faults->Add({}, "", absl::StrCat("not YAML: ", error.what()));
  }
  return false;
}

std::optional<Place> TabInIndentation(std::string_view text) {
  for (int line = 1; !text.empty(); ++line) {
    const std::string_view all = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(all.size() + 1, text.size()));
    const size_t begin = all.find_first_not_of(" \t");
    const size_t tab = all.find('\t');
    if (begin == all.npos || all[begin] == '#' || all[begin] == '\r') continue;
    if (tab < begin) return Place{line, static_cast<int>(tab) + 1};
  }
  return std::nullopt;
}

}  // namespace hotline::server
