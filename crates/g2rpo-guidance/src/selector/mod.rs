//! Who is guided: the trait of selectors and its implementations.

pub(crate) mod fraction;
pub(crate) mod member;
pub(crate) mod probe;
pub(crate) mod retry;
pub(crate) mod rounds;
pub(crate) mod selectors;
pub(crate) mod wrap;
