//! What the programs that are timed have in common.

use tch::Device;

/// Waits until a device has done what it was told.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
