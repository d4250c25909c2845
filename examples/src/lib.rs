//! Examples live beside this file; the library target is empty.
