// Tables for people: columns as wide as their content, cut to the terminal, bold heads on a
// terminal only.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace sluice::control {

class Table {
 public:
  explicit Table(std::vector<std::string> heads) : heads_(std::move(heads)) {}
  // Names and reasons are the words of callers and vendors: what would speak to the terminal
  // becomes `?`.
  void add(std::vector<std::string> row);
  bool empty() const { return rows_.empty(); }
  // To standard output. The last column gives way when the terminal is too narrow.
  void print() const;

 private:
  std::vector<std::string> heads_;
  std::vector<std::vector<std::string>> rows_;
};

// "12.3 MiB", "4m 10s": for tables, never for JSON.
std::string human_bytes(double bytes);
std::string human_seconds(long seconds);

// True when standard output is a terminal and NO_COLOR is not set.
bool colours();

}  // namespace sluice::control
