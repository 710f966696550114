// Test results as JUnit XML, for pipelines.
#pragma once

#include <string>
#include <vector>

namespace sluice::control {

struct TestResult {
  std::string name;
  std::string where;                     // file:line:column
  std::vector<std::string> differences;  // empty: passed
};

// The format that Jenkins, GitLab and GitHub read (testmoapp/junitxml). Bytes that XML cannot carry
// come out as '?'.
std::string to_junit(const std::vector<TestResult>& results);

}  // namespace sluice::control
