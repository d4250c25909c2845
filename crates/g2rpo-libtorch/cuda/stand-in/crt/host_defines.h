// NVIDIA's wheel of the CUDA runtime leaves out its folder `crt`, which another wheel holds. Of this
// file a compiler that is not nvcc needs only the names of annotations, most of which mean nothing to it.
#pragma once

#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define __device_builtin__
#define __device_builtin_surface_type__
#define __device_builtin_texture_type__
#define __cudart_builtin__
#define __host__
#define __device__
#define __global__
#define __shared__
#define __constant__
#define __managed__
#define CUDARTAPI
#define CUDARTAPI_CDECL
