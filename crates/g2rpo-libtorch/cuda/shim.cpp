// What libtorch has for GPUs but tch does not bind: capturing CUDA graphs, and flash attention over
// sequences of unequal length.
//
// Built by ../build.rs as a shared object of its own and loaded by ../src/cuda/shim.rs after
// libtorch_cuda, so that the crate itself needs nothing of CUDA to be linked or started. No exception
// leaves this file: every function returns 0, or 1 with the text of the error in `error`.

#include "../common/guarded.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace {

using at::cuda::CUDAGraph;

// The stream for captures, one for each device: cuBLAS keeps megabytes for every stream that it has
// ever run on.
c10::cuda::CUDAStream capture_stream(c10::DeviceIndex device) {
  static std::mutex mutex;
  static std::unordered_map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(false, device)).first->second;
}

// A stream of its own, on which a capture is prepared, made and ended; the stream that was current
// is so again when this is destroyed.
struct Capture {
  explicit Capture(c10::DeviceIndex device)
      : before(c10::cuda::getCurrentCUDAStream(device)),
        guard(capture_stream(device)) {
    // Tensors made before are complete for the new stream.
    before.synchronize();
  }

  c10::cuda::CUDAStream before;
  c10::cuda::CUDAStreamGuard guard;
  std::unique_ptr<CUDAGraph> graph;
};

} // namespace

extern "C" {

int g2rpo_capture_enter(int device, Capture **out, char *error, size_t room) {
  return guarded(error, room, [&] { *out = new Capture(static_cast<c10::DeviceIndex>(device)); });
}

// Shares the memory of the graph `with`, which may be null, for what the captured work allocates.
int g2rpo_capture_begin(Capture *capture, CUDAGraph *with, char *error, size_t room) {
  return guarded(error, room, [&] {
    // Whatever ran on the stream to prepare the capture is not part of it.
    capture->guard.current_stream().synchronize();
    const auto pool = with == nullptr ? c10::MempoolId_t{0, 0} : with->pool();
    capture->graph = std::make_unique<CUDAGraph>();
    // Other threads may go on with calls that the stricter modes forbid to the whole process.
    capture->graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  });
}

int g2rpo_capture_end(Capture *capture, CUDAGraph **out, char *error, size_t room) {
  return guarded(error, room, [&] {
    capture->graph->capture_end();
    *out = capture->graph.release();
  });
}

// Goes back to the former stream. A capture that was begun and not ended is given up.
void g2rpo_capture_leave(Capture *capture) {
  char ignored[1];
  guarded(ignored, 0, [&] {
    // Never freed: after a failure the allocator may still hold a pointer to it.
    if (CUDAGraph *failed = capture->graph.release()) {
      try {
        failed->capture_end();
      } catch (...) {
      }
    }
    capture->guard.current_stream().synchronize();
  });
  guarded(ignored, 0, [&] { delete capture; });
}

int g2rpo_graph_replay(CUDAGraph *graph, char *error, size_t room) {
  return guarded(error, room, [&] { graph->replay(); });
}

void g2rpo_graph_free(CUDAGraph *graph) {
  char ignored[1];
  guarded(ignored, 0, [&] { delete graph; });
}

// Attention of `cu_q.size() - 1` sequences, neither causal nor with dropout. Queries `[total_q, heads,
// head_dim]`; keys and values `[total_k, kv_heads, head_dim]`; sequence i has the queries from cu_q[i] to
// cu_q[i + 1] and `used_k[i]` keys from `cu_k[i]` on. `max_q` and `max_k` bound their numbers. Gives `[total_q,
// heads, head_dim]` and the logarithms of the sums, `[heads, total_q]` in f32.
int g2rpo_flash(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v, const at::Tensor *cu_q,
                const at::Tensor *cu_k, const at::Tensor *used_k, int64_t max_q, int64_t max_k,
                double scale, at::Tensor **out, at::Tensor **log_sum, char *error, size_t room) {
  return guarded(error, room, [&] {
    auto result = at::_flash_attention_forward(*q, *k, *v, *cu_q, *cu_k, max_q, max_k,
                                               /*dropout_p=*/0.0, /*is_causal=*/false,
                                               /*return_debug_mask=*/false, scale,
                                               /*window_size_left=*/std::nullopt,
                                               /*window_size_right=*/std::nullopt, *used_k,
                                               /*alibi_slopes=*/std::nullopt);
    auto first = std::make_unique<at::Tensor>(std::move(std::get<0>(result)));
    *log_sum = new at::Tensor(std::move(std::get<1>(result)));
    *out = first.release();
  });
}
}
