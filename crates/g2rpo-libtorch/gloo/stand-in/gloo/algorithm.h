// Stands in for a header of gloo, which the torch wheel does not ship; ProcessGroupGloo.hpp uses nothing of it.
#pragma once
