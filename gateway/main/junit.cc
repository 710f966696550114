#include "gateway/main/junit.h"

namespace sluice::control {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;
    }
  }
  return out;
}

}  // namespace

std::string to_junit(const std::vector<TestResult>& results) {
  std::size_t failed = 0;
  for (const auto& result : results)
    failed += result.differences.empty() ? 0 : 1;
  const std::string counts = "tests=\"" + std::to_string(results.size()) + "\" failures=\"" +
                             std::to_string(failed) + "\"";
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites " + counts +
                    ">\n  <testsuite name=\"sluice policy\" " + counts + ">\n";
  for (const auto& result : results) {
    const std::string file = result.where.substr(0, result.where.find(':'));
    out += "    <testcase name=\"" + escaped(result.name) + "\" classname=\"" + escaped(file) + "\"";
    if (result.differences.empty()) {
      out += "/>\n";
      continue;
    }
    out += ">\n      <failure message=\"" + escaped(result.differences.front()) + "\">";
    for (const auto& line : result.differences)
      out += escaped(result.where + ": " + line) + "\n";
    out += "</failure>\n    </testcase>\n";
  }
  return out + "  </testsuite>\n</testsuites>\n";
}

}  // namespace sluice::control
