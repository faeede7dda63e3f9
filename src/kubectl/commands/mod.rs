//! The commands: the words of the user, read and sent to the file of their command.

mod api;
mod apply;
mod auth;
mod config;
mod cordon;
mod cp;
mod create;
mod delete;
mod describe;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod get;
mod logs;
mod metadata;
mod patch;
mod port_forward;
mod proxy;
mod replace;
mod rollout;
mod run;
mod scale;
mod set;
mod taint;
mod top;
mod version;
mod wait;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::arguments;
use crate::error::Error;
use crate::flags::{Context, GlobalFlags};

/// kubectl controls the Kubernetes cluster manager.
///
/// Find more information at: https://kubernetes.io/docs/reference/kubectl/
#[derive(Debug, Parser)]
#[command(name = "kubectl", bin_name = "kubectl", disable_version_flag = true, arg_required_else_help = true)]
struct Kubectl {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: GlobalFlags,
}

/// A row per command: its name and aliases, its arguments, and what runs it.
macro_rules! commands {
    ($($(#[$attribute:meta])* $name:ident($arguments:ty) => $run:path,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($(#[$attribute])* $name(Box<$arguments>),)*
        }

        impl Command {
            async fn run(self, context: &Context) -> Result<(), Error> {
                match self {
                    // Boxed: the futures of all commands need not be as large as the largest.
                    $(Self::$name(arguments) => Box::pin($run(*arguments, context)).await,)*
                }
            }
        }
    };
}

commands! {
    Create(create::Create) => create::run,
    Expose(expose::Expose) => expose::run,
    Run(run::Run) => run::run,
    Set(set::Set) => set::run,
    Explain(explain::Explain) => explain::run,
    Get(get::Get) => get::run,
    Edit(edit::Edit) => edit::run,
    Delete(delete::Delete) => delete::run,
    Rollout(rollout::Rollout) => rollout::run,
    Scale(scale::Scale) => scale::run,
    ClusterInfo(api::ClusterInfo) => api::cluster_info,
    Top(top::Top) => top::run,
    Cordon(cordon::Cordon) => cordon::cordon,
    Uncordon(cordon::Uncordon) => cordon::uncordon,
    Drain(cordon::Drain) => cordon::drain,
    Taint(taint::Taint) => taint::run,
    Describe(describe::Describe) => describe::run,
    #[command(alias = "log")]
    Logs(logs::Logs) => logs::run,
    Attach(exec::Attach) => exec::attach,
    Exec(exec::Exec) => exec::exec,
    PortForward(port_forward::PortForward) => port_forward::run,
    Proxy(proxy::Proxy) => proxy::run,
    Cp(cp::Cp) => cp::run,
    Auth(auth::Auth) => auth::run,
    Events(events::Events) => events::run,
    Apply(apply::Apply) => apply::run,
    Patch(patch::Patch) => patch::run,
    Replace(replace::Replace) => replace::run,
    Wait(wait::Wait) => wait::run,
    Label(metadata::Label) => metadata::label,
    Annotate(metadata::Annotate) => metadata::annotate,
    ApiResources(api::ApiResources) => api::resources,
    ApiVersions(api::ApiVersions) => api::versions,
    Config(config::Config) => config::run,
    Version(version::Version) => version::run,
}

/// Reads the words and runs the command.
pub async fn run(args: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let root = Kubectl::command();
    let words = arguments::normalize(&root, args);
    let matches = match root.clone().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing was asked of a command that has commands of its own: its help says which.
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                crate::output::write(error.render())?;
                return if words.len() > 1 { Err(Error::Silent(1)) } else { Ok(()) };
            }
            return match arguments::complaint(&error, &words, &root) {
                Some(complaint) => Err(complaint),
                None => crate::output::write(error.render()),
            };
        }
    };
    let kubectl = Kubectl::from_arg_matches(&matches).map_err(|error| Error::usage(error.to_string()))?;
    kubectl.command.run(&Context { flags: kubectl.flags }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Kubectl::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_anywhere_and_as_go_writes_them() {
        for words in [
            "get pods -A -o wide",
            "-n kube-system get po -w --show-labels=true",
            "get -o=jsonpath={.a} pods",
            "exec -it pod -c c -- sh -c ls",
            "logs -f deploy/x --tail=-1",
            "delete po x --grace-period=-1 --now=false --wait=false --cascade=orphan",
            "apply -f - --server-side --force-conflicts",
            "scale deploy/x --replicas=0",
            "rollout status deploy/x --timeout=5s",
            "create deployment x --image=i -r 3 --dry-run=client -o yaml -- sleep 1",
        ] {
            let root = Kubectl::command();
            let words = arguments::normalize(&root, words.split(' ').map(OsString::from));
            root.try_get_matches_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }
}
