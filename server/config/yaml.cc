#include "server/config/yaml.h"

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
  int line;
  std::string text;
};

// Builds the tree. Stops at constructs that could expand beyond the file's
// size.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(YamlNode* root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(mark, "", anchor, YamlNode::Kind::kNull);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Stop{mark.line + 1, "aliases (*name) are not supported"};
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
      throw Stop{mark.line + 1, "anchors (&name) are not supported"};
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Stop{mark.line + 1, "tags (!name) are not supported"};
    }
  }

  void AddKey(const YAML::Mark& mark, const std::string& tag,
              YAML::anchor_t anchor, const std::string& key) {
    Refuse(mark, tag, anchor);
    open_.back()->keys.push_back(key);
    open_.back()->key_lines.push_back(mark.line + 1);
    has_key_ = true;
  }

  YamlNode* Add(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, YamlNode::Kind kind) {
    Refuse(mark, tag, anchor);
    if (++nodes_ > kMaxNodes) {
      throw Stop{mark.line + 1,
                 absl::StrCat("more than ", kMaxNodes, " values")};
    }
    YamlNode* node = root_;
    if (!open_.empty()) {
      YamlNode* const parent = open_.back();
      if (parent->kind == YamlNode::Kind::kMap && !has_key_) {
        throw Stop{mark.line + 1, "a key must be a word"};
      }
      has_key_ = false;
      node = &parent->values.emplace_back();
    }
    node->kind = kind;
    node->line = mark.line + 1;
    return node;
  }

  // `node` does not move: its parent gets no other child before it is closed.
  void Open(YamlNode* node) {
    if (open_.size() >= kMaxDepth) {
      throw Stop{node->line,
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
    throw Stop{mark.line + 1, "a second document (---) begins"};
  }
};

}  // namespace

void ConfigFaults::Add(int line, std::string_view path, std::string_view text) {
  std::string fault = absl::StrCat(file_, ":", line, ": ");
  if (!path.empty()) {
    fault += path;
    fault += ": ";
  }
  fault += text;
  faults_.emplace(line, std::move(fault));
}

std::vector<std::string> ConfigFaults::Lines() const {
  std::vector<std::string> lines;
  for (const auto& [line, fault] : faults_) {
    if (lines.size() == kMost) {
      lines.push_back(absl::StrCat(file_, ": and ", faults_.size() - kMost,
                                   " more faults"));
      break;
    }
    lines.push_back(fault);
  }
  return lines;
}

bool ParseYaml(std::string_view text, YamlNode* root, ConfigFaults* faults) {
  if (text.size() > kMaxBytes) {
    faults->Add(1, "", absl::StrCat("larger than ", kMaxBytes, " bytes"));
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
    faults->Add(stop.line, "", stop.text);
  } catch (const YAML::Exception& error) {
    faults->Add(error.mark.is_null() ? 1 : error.mark.line + 1, "",
                absl::StrCat("not YAML: ", error.msg));
  } catch (const std::exception& error) {
    faults->Add(1, "", absl::StrCat("not YAML: ", error.what()));
  }
  return false;
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(&out, "\\x", absl::Hex(c, absl::kZeroPad2));
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace hotline::server
