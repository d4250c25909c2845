//! Every recipe that comes along: the tiny ones whole, the others for a step of a tiny model.

mod shipped;
mod smollm2;
