// The order that turns have in a conversation, whatever order they came in.
#pragma once

#include "gateway/ai/conversation.h"

namespace sluice::gateway::ai {

// Adds to the last turn where it is the same side's: vendors take alternating turns only, and split
// ones tear thoughts from the calls that they belong to.
void add_turn(std::vector<Message>& messages, Message message);

// In each turn the results of tools come first: they must follow the calls at once.
void results_first(std::vector<Message>& messages);

}  // namespace sluice::gateway::ai
