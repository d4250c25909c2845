// What libtorch has for several processes but tch does not bind: c10d's store over TCP and its process group over
// Gloo.
//
// Built by ../build.rs as a shared object of its own and loaded by ../src/ranks/shim.rs. No exception leaves this
// file: every function returns 0, or 1 with the text of the error in `error`.

#include "../common/guarded.h"

#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using std::chrono::milliseconds;

// How often a rank shows that it lives, and how long nothing must be seen of one to believe that it does not.
constexpr milliseconds BEAT{500};
constexpr milliseconds SILENCE{4000};
// How long the store may take to say who is lost. It belongs to a process that may hang itself, and a question to it has
// no limit of its own.
constexpr milliseconds STORE_LIMIT{3 * SILENCE};

std::string key(const char *what, int rank) { return std::string(what) + "/" + std::to_string(rank); }

// One rank of a group. The store holds for each rank how often it has shown that it lives ("beat") and how many
// sums it has come to ("at"), and who was lost, once that is known ("lost"): one byte for each rank. Only the thread that
// beats writes the first two, so that a sum never waits for the store.
struct Ranks {
  Ranks(const char *host, int port, bool serve, const char *prefix, int rank, int size, milliseconds limit)
      : rank(rank), size(size), limit(limit) {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = serve;
    options.waitWorkers = false;
    options.timeout = limit;
    const auto connect = [&] {
      auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
      options.isServer = false;
      return c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store));
    };
    store = connect();
    beating = connect();
    thread = std::thread([this] { beat(); });
  }

  ~Ranks() {
    stop = true;
    thread.join();
  }

  // Waits for all ranks and connects them.
  void join() {
    for (int other = 0; other < size; ++other) store->wait({key("beat", other)}, limit);
    auto options = c10d::ProcessGroupGloo::Options::create_default(limit);
    if (const char *interface = std::getenv("GLOO_SOCKET_IFNAME"))
      options->devices = {c10d::ProcessGroupGloo::createDeviceForInterface(interface)};
    group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  // Runs on a thread with a connection of its own: the other may be waiting.
  void beat() {
    try {
      while (!stop) {
        beating->add(key("beat", rank), 1);
        const int64_t news = at - told;
        if (news != 0) beating->add(key("at", rank), news);
        told += news;
        if (beating->check({"lost"})) {
          const std::lock_guard<std::mutex> lock(mutex);
          lost = beating->get("lost");
        }
        std::this_thread::sleep_for(BEAT);
      }
    } catch (...) {
      // The rank that holds the store is gone; whoever needs the store next finds out.
    }
  }

  std::vector<uint8_t> known_lost() {
    const std::lock_guard<std::mutex> lock(mutex);
    return lost;
  }

  // Fails when a rank is known to be lost, or has shown no life for a while since the watch began.
  void watch(bool begin) {
    TORCH_CHECK(known_lost().empty(), "another rank found that one is lost");
    const auto now = std::chrono::steady_clock::now();
    const auto beats = counts("beat");
    if (begin) seen.assign(size, {-1, now});
    for (int other = 0; other < size; ++other) {
      if (seen[other].first != beats[other]) seen[other] = {beats[other], now};
      TORCH_CHECK(other == rank || now - seen[other].second < SILENCE, "rank ", other, " shows no life");
    }
  }

  std::vector<int64_t> counts(const char *what) {
    std::vector<int64_t> counts;
    for (int other = 0; other < size; ++other) counts.push_back(store->add(key(what, other), 0));
    return counts;
  }

  // As `find_lost`, for a limited time. Whoever holds the store is to blame when it is over: by default rank 0.
  std::vector<uint8_t> find_lost_in_time() {
    auto found = std::make_shared<std::promise<std::vector<uint8_t>>>();
    auto answer = found->get_future();
    std::thread([this, found] { found->set_value(find_lost()); }).detach();
    if (answer.wait_for(STORE_LIMIT) == std::future_status::ready) return answer.get();
    silent = true;
    std::vector<uint8_t> blame(size, 0);
    if (rank != 0) blame[0] = 1;
    return blame;
  }

  // Who is to blame for a call that failed: ranks that no longer show that they live; else those that have come to
  // fewer sums than this one.
  std::vector<uint8_t> find_lost() {
    std::vector<uint8_t> blame = known_lost();
    if (!blame.empty()) return blame;
    blame.assign(size, 0);
    try {
      const auto before = counts("beat");
      std::this_thread::sleep_for(SILENCE);
      if (store->check({"lost"})) return store->get("lost");
      const auto after = counts("beat");
      bool any = false;
      for (int other = 0; other < size; ++other)
        if (other != rank && before[other] == after[other]) any = blame[other] = 1;
      const auto came = counts("at");
      for (int other = 0; !any && other < size; ++other) blame[other] = came[other] < came[rank];
      store->set("lost", blame);
      // Everybody reads this before the store may end with this process.
      std::this_thread::sleep_for(4 * BEAT);
    } catch (...) {
      blame = known_lost();
      if (blame.empty()) blame.assign(size, 0);
      if (rank != 0) blame[0] = 1;
    }
    return blame;
  }

  const int rank;
  const int size;
  const milliseconds limit;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Store> beating;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  std::atomic<bool> stop{false};
  // Sums that this rank has come to, and those of them that the store knows of.
  std::atomic<int64_t> at{0};
  int64_t told = 0;
  // Whether the store no longer answers, so that threads wait for it that nothing ends.
  std::atomic<bool> silent{false};
  std::mutex mutex;
  std::vector<uint8_t> lost;
  // Of a watch: how often each rank had shown that it lives, and when that was news.
  std::vector<std::pair<int64_t, std::chrono::steady_clock::time_point>> seen;
  std::thread thread;
};

} // namespace

extern "C" {

// Connects to the store, which this process holds if `serve`. `limit` is in milliseconds and holds for every call.
int g2rpo_ranks_connect(const char *host, int port, int serve, const char *prefix, int rank, int size, int64_t limit,
                        Ranks **out, char *error, size_t room) {
  return guarded(error, room, [&] { *out = new Ranks(host, port, serve != 0, prefix, rank, size, milliseconds(limit)); });
}

// Waits for all ranks.
int g2rpo_ranks_join(Ranks *ranks, char *error, size_t room) {
  return guarded(error, room, [&] { ranks->join(); });
}

// Replaces `n` numbers, of double precision if `wide`, by their sums over all ranks.
int g2rpo_ranks_sum(Ranks *ranks, void *values, int64_t n, int wide, char *error, size_t room) {
  return guarded(error, room, [&] {
    TORCH_CHECK(ranks->known_lost().empty(), "another rank found that one is lost");
    ++ranks->at;
    std::vector<at::Tensor> tensors{at::from_blob(values, {n}, wide != 0 ? at::kDouble : at::kFloat)};
    c10d::AllreduceOptions options;
    options.timeout = ranks->limit;
    ranks->group->allreduce(tensors, options)->wait();
  });
}

// While another kind of sum goes on: fails when a rank is lost. `begin` starts a new watch, with the count of this
// rank's sums.
int g2rpo_ranks_watch(Ranks *ranks, int begin, char *error, size_t room) {
  return guarded(error, room, [&] {
    if (begin != 0) ++ranks->at;
    ranks->watch(begin != 0);
  });
}

// A connection of its own to the store, which the caller has to give back.
int g2rpo_ranks_store(Ranks *ranks, c10d::Store **out, char *error, size_t room) {
  return guarded(error, room, [&] { *out = ranks->store->clone().release(); });
}

// After a call that failed: sets `missing[r]` to 1 for every rank r that is to blame. Takes some seconds.
int g2rpo_ranks_lost(Ranks *ranks, uint8_t *missing, char *error, size_t room) {
  return guarded(error, room, [&] {
    const auto lost = ranks->find_lost_in_time();
    for (int rank = 0; rank < ranks->size && rank < static_cast<int>(lost.size()); ++rank) missing[rank] = lost[rank];
  });
}

void g2rpo_ranks_leave(Ranks *ranks) {
  // What waits for the store still uses all of it; the process is about to end.
  if (ranks->silent) return;
  char ignored[1];
  guarded(ignored, 0, [&] { delete ranks; });
}
}
