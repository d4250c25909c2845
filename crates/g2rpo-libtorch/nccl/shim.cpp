// What libtorch has for several GPUs but tch does not bind: c10d's process group over NCCL.
//
// Built by ../build.rs as a shared object of its own, where NCCL's header is, and loaded by ../src/ranks/nccl.rs after
// libtorch_cuda. The store comes from ../gloo/shim.cpp. No exception leaves this file: every function returns 0, or 1
// with the text of the error in `error`.

#include "../common/guarded.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <utility>
#include <vector>

namespace {

using std::chrono::milliseconds;

// One rank of a group, and the sum that is under way.
struct Nccl {
  Nccl(c10::intrusive_ptr<c10d::Store> store, int rank, int size, int device, milliseconds limit) {
    // By default c10d's watchdog ends the process when a rank is lost; here the caller names the rank first.
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", 0);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = limit;
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>("nccl", std::move(store));
    group = c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(prefixed), rank, size, std::move(options));
    const at::Device place(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    group->setBoundDeviceId(place);
    group->eagerConnectSingleDevice(place);
  }

  ~Nccl() {
    work.reset();
    try {
      if (broken)
        group->abort();
      else
        group->shutdown();
    } catch (...) {
      // The process ends, or the group is over.
    }
  }

  void start(const at::Tensor &tensor) {
    broken = true;
    std::vector<at::Tensor> tensors{tensor};
    work = group->allreduce(tensors, c10d::AllreduceOptions());
  }

  bool done() {
    TORCH_CHECK(work.defined(), "no sum is under way");
    if (!work->isCompleted()) return false;
    if (const std::exception_ptr failed = work->exception()) std::rethrow_exception(failed);
    // What this thread puts on its stream next comes after the sum.
    work->wait();
    work.reset();
    broken = false;
    return true;
  }

  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group;
  c10::intrusive_ptr<c10d::Work> work;
  bool broken = false;
};

} // namespace

extern "C" {

// Connects the GPUs of all ranks; takes the store over. `limit` is in milliseconds.
int g2rpo_nccl_join(c10d::Store *store, int rank, int size, int device, int64_t limit, Nccl **out, char *error,
                    size_t room) {
  return guarded(error, room, [&] {
    auto owned = c10::intrusive_ptr<c10d::Store>::reclaim(store);
    *out = new Nccl(std::move(owned), rank, size, device, milliseconds(limit));
  });
}

// Begins to replace the numbers of a tensor on the GPU by their sums over all ranks.
int g2rpo_nccl_start(Nccl *nccl, const at::Tensor *tensor, char *error, size_t room) {
  return guarded(error, room, [&] { nccl->start(*tensor); });
}

// Sets `done` to 1 once the sum is there.
int g2rpo_nccl_done(Nccl *nccl, int *done, char *error, size_t room) {
  return guarded(error, room, [&] { *done = nccl->done() ? 1 : 0; });
}

// Ends what a failed sum left on the GPU.
int g2rpo_nccl_abort(Nccl *nccl, char *error, size_t room) {
  return guarded(error, room, [&] { nccl->group->abort(); });
}

void g2rpo_nccl_leave(Nccl *nccl) {
  char ignored[1];
  guarded(ignored, 0, [&] { delete nccl; });
}
}
