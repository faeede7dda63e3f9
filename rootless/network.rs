//! Network drivers: a program on the host that gives the namespace a way out.

mod none;
pub mod pasta;
mod process;
pub mod slirp4netns;

use std::io;
use std::process::ExitStatus;

use crate::checks::{self, CheckError};
use crate::config::{Config, NetDriver};
use crate::host::NetworkInfo;
use crate::state::StateDir;

use none::NoDriver;
use pasta::{Pasta, PastaDriver};
pub(crate) use process::last_words;
pub use process::{RunningDriver, StartingDriver};
use slirp4netns::{Slirp4netns, Slirp4netnsDriver};

/// Name of the device a driver makes inside.
pub const TAP: &str = "tap0";

/// A way out of the network namespace.
pub trait NetworkDriver {
    /// The program, as it stands in messages.
    fn name(&self) -> &'static str;

    /// What it gives the namespace.
    fn network(&self) -> NetworkInfo;

    /// Starts it for the network namespace of `init`, whose ids must be mapped. `None` where there is nothing to run.
    ///
    /// # Errors
    /// It cannot be started.
    fn start(&self, init: i32) -> Result<Option<StartingDriver>, NetworkError>;
}

/// Finds out what the driver's program can do, which has been asked already.
pub(crate) type Find<'a> = Box<dyn FnOnce() -> Result<Box<dyn NetworkDriver>, CheckError> + 'a>;

/// Looks for the driver that the configuration names, and for all that it needs on the host. Asking the program takes
/// a while, in which the caller can do other things.
///
/// # Errors
/// Something is missing. That the program will not do is said by what is returned.
pub(crate) fn look_for<'a>(config: &'a Config, state: &'a StateDir) -> Result<Find<'a>, CheckError> {
    if config.net_driver == NetDriver::None {
        return Ok(Box::new(|| Ok(Box::new(NoDriver::new(config)))));
    }
    checks::tun(&config.host)?;
    checks::cidr(&config.host, config.cidr.network())?;
    Ok(match config.net_driver {
        NetDriver::Pasta => {
            let asked = Pasta::ask(&config.host)?;
            Box::new(move || Ok(Box::new(PastaDriver::new(asked.answer()?, config, state))))
        }
        _ => {
            let asked = Slirp4netns::ask(&config.host)?;
            Box::new(move || Ok(Box::new(Slirp4netnsDriver::new(asked.answer()?, config, state)?)))
        }
    })
}

/// The driver failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot {doing} for the network driver {driver}: {source}")]
    Io { driver: &'static str, doing: &'static str, source: io::Error },
    #[error("network driver {driver} failed ({status}): {output}")]
    Failed { driver: &'static str, status: ExitStatus, output: String },
    #[error("network driver {driver} was not ready within 10 seconds: {output}")]
    NotReady { driver: &'static str, output: String },
    #[error(
        "device {TAP} of an earlier network driver is still in the namespace; find that driver with: pgrep -u $(id -u) -l 'slirp4netns|pasta'"
    )]
    OldDevice,
    #[error("network driver {driver} keeps ending ({times} times within a minute), last: {output}")]
    KeepsEnding { driver: &'static str, times: usize, output: String },
}

/// What a driver with a device gives the namespace: the addresses are slirp4netns's, so that inside nothing depends on
/// the driver.
fn by_device(config: &Config) -> NetworkInfo {
    let cidr = config.cidr;
    NetworkInfo {
        device: TAP.to_owned(),
        address: cidr.tap(),
        gateway: Some(cidr.gateway()),
        dns: Some(cidr.dns()),
        cidr,
        mtu: config.mtu,
        ipv6: config.enable_ipv6,
    }
}
