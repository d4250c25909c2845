// Stands in for a header of gloo, which the torch wheel does not ship: what ProcessGroupGloo.hpp names of it.
#pragma once

#include <chrono>

namespace gloo {

namespace transport {
class UnboundBuffer;
}

class Context {
public:
  void setTimeout(std::chrono::milliseconds timeout);
};

} // namespace gloo
