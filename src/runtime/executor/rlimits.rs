//! Resource limits of the specification.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType as Type};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::error::{Context, Error};

pub(super) fn set(limits: &[PosixRlimit]) -> Result<(), Error> {
    for limit in limits {
        let resource = match limit.typ() {
            Type::RlimitCpu => Resource::Cpu,
            Type::RlimitFsize => Resource::Fsize,
            Type::RlimitData => Resource::Data,
            Type::RlimitStack => Resource::Stack,
            Type::RlimitCore => Resource::Core,
            Type::RlimitRss => Resource::Rss,
            Type::RlimitNproc => Resource::Nproc,
            Type::RlimitNofile => Resource::Nofile,
            Type::RlimitMemlock => Resource::Memlock,
            Type::RlimitAs => Resource::As,
            Type::RlimitLocks => Resource::Locks,
            Type::RlimitSigpending => Resource::Sigpending,
            Type::RlimitMsgqueue => Resource::Msgqueue,
            Type::RlimitNice => Resource::Nice,
            Type::RlimitRtprio => Resource::Rtprio,
            Type::RlimitRttime => Resource::Rttime,
        };
        let value = |limit: u64| (limit != u64::MAX).then_some(limit);
        setrlimit(resource, Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) })
            .doing(format!("set limit {:?}", limit.typ()))?;
    }
    Ok(())
}
