//! The command line.

use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::Features;

/// Flags and arguments of one run, for the network namespace of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pid: i32,
    device: String,
    mtu: Option<u32>,
    cidr: Option<String>,
    ready_fd: Option<RawFd>,
    exit_fd: Option<RawFd>,
    disable_host_loopback: bool,
    enable_ipv6: bool,
    enable_sandbox: bool,
    enable_seccomp: bool,
    api_socket: Option<PathBuf>,
}

impl Invocation {
    /// A device of this name in the namespaces of this process, configured (`--configure`).
    pub fn new(pid: i32, device: &str) -> Self {
        Self {
            pid,
            device: device.to_owned(),
            mtu: None,
            cidr: None,
            ready_fd: None,
            exit_fd: None,
            disable_host_loopback: false,
            enable_ipv6: false,
            enable_sandbox: false,
            enable_seccomp: false,
            api_socket: None,
        }
    }

    /// `--mtu`, in bytes; 1500 without.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// `--cidr`, such as 10.0.2.0/24, the default. In it the gateway is number 2, DNS 3 and the device 100.
    pub fn cidr(mut self, network: &str) -> Self {
        self.cidr = Some(network.to_owned());
        self
    }

    /// `--ready-fd`: an inherited descriptor that gets the byte `1`.
    pub fn ready_fd(mut self, fd: RawFd) -> Self {
        self.ready_fd = Some(fd);
        self
    }

    /// `--exit-fd`: an inherited descriptor; when it hangs up, the program ends.
    pub fn exit_fd(mut self, fd: RawFd) -> Self {
        self.exit_fd = Some(fd);
        self
    }

    /// `--disable-host-loopback`: 127.0.0.1 of the host can't be reached by the gateway's address.
    pub fn disable_host_loopback(mut self, disable: bool) -> Self {
        self.disable_host_loopback = disable;
        self
    }

    /// `--enable-ipv6`.
    pub fn enable_ipv6(mut self, enable: bool) -> Self {
        self.enable_ipv6 = enable;
        self
    }

    /// `--enable-sandbox` and `--enable-seccomp`, as far as this slirp4netns has them.
    pub fn sandboxed_by(mut self, features: &Features) -> Self {
        (self.enable_sandbox, self.enable_seccomp) = (features.sandbox, features.seccomp);
        self
    }

    /// `--api-socket`: where it is to listen for an [`ApiClient`](crate::ApiClient). The file must not be there yet.
    pub fn api_socket(mut self, path: Option<PathBuf>) -> Self {
        self.api_socket = path;
        self
    }

    /// All of it, without the program's name.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--configure".to_owned()];
        let valued = [
            self.mtu.map(|mtu| format!("--mtu={mtu}")),
            self.cidr.as_ref().map(|cidr| format!("--cidr={cidr}")),
            self.ready_fd.map(|fd| format!("--ready-fd={fd}")),
            self.exit_fd.map(|fd| format!("--exit-fd={fd}")),
            self.api_socket.as_ref().map(|path| format!("--api-socket={}", path.display())),
        ];
        arguments.extend(valued.into_iter().flatten());
        let switches = [
            (self.disable_host_loopback, "--disable-host-loopback"),
            (self.enable_ipv6, "--enable-ipv6"),
            (self.enable_sandbox, "--enable-sandbox"),
            (self.enable_seccomp, "--enable-seccomp"),
        ];
        arguments.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_owned()));
        arguments.extend([self.pid.to_string(), self.device.clone()]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_flags_before_pid_and_device() {
        let features = Features::parse("slirp4netns version 1.2.0", "--enable-sandbox --enable-seccomp").unwrap();
        let invocation = Invocation::new(77, "tap0")
            .mtu(9000)
            .cidr("10.41.0.0/16")
            .ready_fd(5)
            .exit_fd(6)
            .disable_host_loopback(true)
            .enable_ipv6(true)
            .api_socket(Some("/run/s.sock".into()))
            .sandboxed_by(&features);
        assert_eq!(
            invocation.arguments().join(" "),
            "--configure --mtu=9000 --cidr=10.41.0.0/16 --ready-fd=5 --exit-fd=6 --api-socket=/run/s.sock \
             --disable-host-loopback --enable-ipv6 --enable-sandbox --enable-seccomp 77 tap0"
        );
    }

    #[test]
    fn what_is_not_set_is_left_to_the_program() {
        assert_eq!(Invocation::new(7, "tap1").arguments().join(" "), "--configure 7 tap1");
    }
}
