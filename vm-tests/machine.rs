//! A running machine.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use crate::Image;

/// A boot takes 20 s on an idle machine without acceleration.
const BOOT: Duration = Duration::from_secs(150);

/// What a script came to.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    /// Standard output and standard error.
    pub text: String,
}

/// Ends with this value.
pub struct Machine {
    qemu: Child,
    folder: TempDir,
    console: BufReader<UnixStream>,
}

impl Machine {
    /// Boots the image, with the archive `payload` as `/dev/vdb`.
    ///
    /// # Panics
    /// Without qemu, or if the machine does not come up.
    pub fn boot(image: &Image, payload: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("agent");
        let serial = folder.path().join("serial.log");
        // Without acceleration unless asked: not every host has it, and what passes slowly passes fast.
        let accelerator = std::env::var("K3S_VM_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", &accelerator, "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-kernel")
            .arg(image.kernel())
            .arg("-initrd")
            .arg(image.initrd())
            .args(["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off panic=5"])
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            // snapshot: writes go to a file that is thrown away, and survive a reboot.
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,snapshot=on", image.disk().display()))
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,readonly=on", payload.display()))
            .args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=k3s.agent"])
            .arg("-chardev")
            .arg(format!("socket,id=agent,server=on,wait=off,path={}", socket.display()))
            .args(["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 (package qemu-system-x86)");
        let deadline = Instant::now() + BOOT;
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                // QEMU makes it within milliseconds.
                Err(error) => assert!(Instant::now() < deadline, "no console of the machine: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut machine = Self { qemu, folder, console: BufReader::new(stream) };
        machine.await_boot();
        machine
    }

    fn await_boot(&mut self) {
        let line = self.line(BOOT);
        assert_eq!(line, "up", "the agent's greeting\n{}", self.serial());
    }

    /// Runs a script as root.
    ///
    /// # Panics
    /// If there is no answer in time.
    pub fn run(&mut self, script: &str, patience: Duration) -> Output {
        let line = format!("{}\n", BASE64.encode(script));
        self.console.get_mut().write_all(line.as_bytes()).expect("a console");
        let answer = self.line(patience);
        let (status, text) = answer.split_once(' ').unwrap_or((answer.as_str(), ""));
        let text = BASE64.decode(text).expect("an answer in base64");
        let text = String::from_utf8_lossy(&text).into_owned();
        Output { status: status.parse().unwrap_or_else(|_| panic!("{answer:?} is no answer")), text }
    }

    /// Boots anew, on the same disk.
    ///
    /// # Panics
    /// If the machine does not come up again.
    pub fn reboot(&mut self) {
        let line = format!("{}\n", BASE64.encode("systemctl --no-block reboot"));
        self.console.get_mut().write_all(line.as_bytes()).expect("a console");
        // Its answer may or may not come before it goes down.
        let deadline = Instant::now() + BOOT;
        while self.line(deadline.saturating_duration_since(Instant::now())) != "up" {}
    }

    fn line(&mut self, patience: Duration) -> String {
        self.console.get_ref().set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a timeout");
        let mut line = String::new();
        let read = self.console.read_line(&mut line);
        if !matches!(read, Ok(length) if length > 0) {
            panic!("the machine does not answer within {patience:?} ({read:?})\n{}", self.serial());
        }
        line.trim_end().to_owned()
    }

    /// The end of what it said on its serial line.
    fn serial(&self) -> String {
        let text = std::fs::read(self.folder.path().join("serial.log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(3000)..]).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has nothing that is to be kept.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
