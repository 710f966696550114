#include "gateway/main/table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>

namespace sluice::control {
namespace {

// 0: not a terminal, do not cut.
std::size_t terminal_width() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

void print_row(const std::vector<std::string>& row, const std::vector<std::size_t>& widths,
               std::size_t terminal) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) {
    line += row[i];
    if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
  }
  if (terminal > 8 && line.size() > terminal) line = line.substr(0, terminal - 3) + "...";
  std::cout << line << '\n';
}

// Control characters, also those of two bytes in UTF-8.
void make_printable(std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool ends_c1 = byte >= 0x80 && byte < 0xa0 && i > 0 && text[i - 1] == '\xc2';
    if (ends_c1) text[i - 1] = '?';
    if (byte < 0x20 || byte == 0x7f || ends_c1) text[i] = '?';
  }
}

}  // namespace

void Table::add(std::vector<std::string> row) {
  std::ranges::for_each(row, make_printable);
  rows_.push_back(std::move(row));
}

bool colours() {
  return ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
}

void Table::print() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    std::size_t width = heads_[i].size();
    for (const auto& row : rows_)
      width = std::max(width, row[i].size());
    widths.push_back(width);
  }
  const std::size_t terminal = terminal_width();
  if (colours()) std::cout << "\x1b[1m";
  print_row(heads_, widths, terminal);
  if (colours()) std::cout << "\x1b[0m";
  for (const auto& row : rows_)
    print_row(row, widths, terminal);
}

std::string human_bytes(double bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}

std::string human_seconds(long seconds) {
  const long days = seconds / 86400;
  const long hours = seconds / 3600 % 24;
  const long minutes = seconds / 60 % 60;
  if (days > 0) return std::to_string(days) + "d " + std::to_string(hours) + "h";
  if (hours > 0) return std::to_string(hours) + "h " + std::to_string(minutes) + "m";
  if (minutes > 0) return std::to_string(minutes) + "m " + std::to_string(seconds % 60) + "s";
  return std::to_string(seconds) + "s";
}

}  // namespace sluice::control
