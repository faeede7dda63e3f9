//! Seccomp filters from the specification's profile.
//!
//! A seccompiler filter knows two answers. A profile with more becomes one filter per further answer; the kernel asks
//! all of them and takes the most restrictive one.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::error::{Context, Error};
use super::syscalls;
use crate::syscall;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles a profile into filters to install in order.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Vec<BpfProgram>, Error> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let mut by_action: Vec<(SeccompAction, Rules)> = Vec::new();
    for rule in rules {
        let wanted = action(rule.action(), rule.errno_ret())?;
        if wanted == default {
            continue;
        }
        let index = by_action.iter().position(|(known, _)| *known == wanted).unwrap_or_else(|| {
            by_action.push((wanted, Rules::new()));
            by_action.len() - 1
        });
        add(&mut by_action[index].1, rule)?;
    }
    // What is answered otherwise than by the default must pass the filter that gives the default: it joins the rules
    // of the permissive answer there, and its own filter restricts it again.
    let permissive = SeccompAction::Allow;
    if default != permissive {
        let index = by_action.iter().position(|(known, _)| *known == permissive).unwrap_or_else(|| {
            by_action.push((permissive.clone(), Rules::new()));
            by_action.len() - 1
        });
        let restricted: Vec<i64> = by_action
            .iter()
            .filter(|(answer, _)| *answer != permissive)
            .flat_map(|(_, rules)| rules.keys().copied())
            .collect();
        for number in restricted {
            by_action[index].1.entry(number).or_default();
        }
    }
    by_action
        .into_iter()
        .map(|(answer, rules)| {
            let otherwise = if answer == permissive { default.clone() } else { permissive.clone() };
            let filter = SeccompFilter::new(rules, otherwise, answer, ARCH).map_err(invalid)?;
            filter.try_into().map_err(invalid)
        })
        .collect()
}

/// Installs compiled filters. They can't be taken back.
pub(super) fn install(filters: &[BpfProgram]) -> Result<(), Error> {
    filters.iter().try_for_each(|filter| syscall::seccomp_filter(filter).doing("install seccomp filter"))
}

fn add(rules: &mut Rules, rule: &LinuxSyscall) -> Result<(), Error> {
    let arguments = rule.args().as_deref().unwrap_or_default();
    for number in rule.names().iter().filter_map(|name| syscalls::number(name)) {
        // No conditions at all is written as an empty list, and wins over any condition.
        if arguments.is_empty() {
            rules.insert(number, Vec::new());
            continue;
        }
        let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        let parsed = SeccompRule::new(conditions).map_err(invalid)?;
        match rules.get_mut(&number) {
            Some(known) if known.is_empty() => {}
            Some(known) => known.push(parsed),
            None => drop(rules.insert(number, vec![parsed])),
        }
    }
    Ok(())
}

fn condition(argument: &LinuxSeccompArg) -> Result<SeccompCondition, Error> {
    let index = u8::try_from(argument.index()).map_err(|_| Error::invalid("seccomp: argument index over 5"))?;
    let value = argument.value();
    let (operator, value) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (SeccompCmpOp::Ne, value),
        LinuxSeccompOperator::ScmpCmpLt => (SeccompCmpOp::Lt, value),
        LinuxSeccompOperator::ScmpCmpLe => (SeccompCmpOp::Le, value),
        LinuxSeccompOperator::ScmpCmpEq => (SeccompCmpOp::Eq, value),
        LinuxSeccompOperator::ScmpCmpGe => (SeccompCmpOp::Ge, value),
        LinuxSeccompOperator::ScmpCmpGt => (SeccompCmpOp::Gt, value),
        // `value` is the mask here.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(value), argument.value_two().unwrap_or(0)),
    };
    // The kernel reads many arguments as 32 bits: "not this value" must not be met by garbage in the upper half.
    let length = match operator {
        SeccompCmpOp::Ne if value <= u64::from(u32::MAX) => SeccompCmpArgLen::Dword,
        _ => SeccompCmpArgLen::Qword,
    };
    SeccompCondition::new(index, length, operator, value).map_err(invalid)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction, Error> {
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(errno.unwrap_or(0)),
        other => return Err(Error::invalid(format!("seccomp: action {other:?} is not supported"))),
    })
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("seccomp: {error}"))
}
