// Streams of either side stand in lists of their connection; a stream that goes leaves them.
#pragma once

#include <boost/intrusive/list.hpp>

namespace sluice::gateway::http2 {

using StreamHook =
    boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

template <typename Stream, StreamHook Stream::* Hook>
using StreamList =
    boost::intrusive::list<Stream, boost::intrusive::member_hook<Stream, StreamHook, Hook>,
                           boost::intrusive::constant_time_size<false>>;

}  // namespace sluice::gateway::http2
