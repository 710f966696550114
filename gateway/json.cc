// The one translation unit that holds Boost.JSON's own code; everybody else includes
// <boost/json.hpp>.
#include <boost/json/src.hpp>
