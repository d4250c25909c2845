// Stands in for a header of CUDA that wants another wheel's `nv/target`; the headers of c10d, NCCL and cuBLAS only name
// its types.
#pragma once

struct __half;
struct __half2;
