// Checks the host compiler for nvcc, and so has nothing to say to another one. See host_defines.h.
#pragma once
