//! What a run leaves on the disk, and how it is found again.

pub mod checkpoint;
pub mod events;
pub mod files;
pub mod folder;
pub mod report;
pub mod step_log;
