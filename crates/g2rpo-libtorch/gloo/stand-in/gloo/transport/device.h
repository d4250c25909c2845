// Stands in for a header of gloo, which the torch wheel does not ship; a device is only handed on.
#pragma once

namespace gloo {
namespace transport {
class Device;
}
} // namespace gloo
