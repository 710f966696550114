#include "gateway/reactor_events.h"

#include <type_traits>

#include <boost/asio/detail/operation.hpp>

namespace sluice::gateway {

namespace {

struct Asked {
  using Object = std::remove_pointer_t<ReactorDescriptor>;
  friend std::uint32_t& lent(Asked, Object& object);
};
struct Told {
  using Object = boost::asio::detail::operation;
  friend std::uint32_t& lent(Told, Object& object);
};

// An explicit instantiation may name what is private ([temp.spec.general]/6), and so lends it.
template <class Tag, auto Member>
struct Lend {
  friend std::uint32_t& lent(Tag /*which*/, typename Tag::Object& object) { return object.*Member; }
};
template struct Lend<Asked, &Asked::Object::registered_events_>;
template struct Lend<Told, &Told::Object::task_result_>;

}  // namespace

std::uint32_t& asked_events(ReactorDescriptor descriptor) {
  return lent(Asked{}, *descriptor);
}

std::uint32_t told_events(ReactorDescriptor descriptor) {
  return lent(Told{}, *(Told::Object*)descriptor);  // a private base: no other cast goes there
}

}  // namespace sluice::gateway
