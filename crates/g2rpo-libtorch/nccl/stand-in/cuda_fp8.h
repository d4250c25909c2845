// Stands in for a header of CUDA that wants another wheel's `nv/target`; nccl.h uses nothing of it.
#pragma once
