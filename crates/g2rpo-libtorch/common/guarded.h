// How an error leaves a shim: no exception does, but a 1, and a text in the room that the caller gives.
#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>
#include <string>

template <typename F> int guarded(char *error, size_t room, F f) {
  std::string text;
  try {
    f();
    return 0;
  } catch (const c10::Error &e) {
    text = e.what_without_backtrace();
  } catch (const std::exception &e) {
    text = e.what();
  } catch (...) {
    text = "an exception of unknown type";
  }
  if (room > 0) {
    std::strncpy(error, text.c_str(), room - 1);
    error[room - 1] = '\0';
  }
  return 1;
}
