//! Ids of sandboxes and containers: 64 hexadecimal digits, as containerd's.

/// A new random id.
pub(crate) fn new() -> String {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // After start-up this neither blocks nor fails; a signal may interrupt it.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    crate::snapshot::hex(&bytes)
}
