//! The command line, which is runc's: its callers (containerd, Docker, Podman) know no other.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::create::{self, Options};
use super::error::{Doing, Error};
use super::journal::Journal;
use super::record::Container;
use super::{end, exec, features, foreground, list, start};
use crate::spec;

/// Run containers from OCI bundles
#[derive(Parser)]
#[command(name = "k3s oci", no_binary_name = true, version)]
struct CommandLine {
    /// Folder for what is known of containers (/run/k3s/oci, or below $XDG_RUNTIME_DIR)
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File for errors and warnings
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How the log is written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Not available: cgroups are made directly
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted as by runc; there is nothing more to say
    #[arg(long, hide = true)]
    debug: bool,
    /// Accepted as by runc; it is found out
    #[arg(long, hide = true, num_args = 0..=1, value_name = "BOOL")]
    rootless: Option<Option<String>>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a container
    Create(Create),
    /// Run the command of a container that was made
    Start { id: String },
    /// Make a container and run its command
    Run(Run),
    /// Print the state of a container
    State { id: String },
    /// Send a signal to a container
    Kill {
        /// To every process of it
        #[arg(short, long)]
        all: bool,
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Take away what create has made
    Delete {
        /// Also if it runs; none being there is fine
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Run a further process in a container
    Exec(Exec),
    /// List the containers
    List {
        /// table or json
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        /// Only the names
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the processes of a container
    Ps {
        /// table or json
        #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
        format: String,
        id: String,
        /// Options of ps
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Print what this runtime knows
    Features,
}

#[derive(Args)]
struct Create {
    /// Folder with config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// Socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the pid of the first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// How many more descriptors the process gets
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: i32,
    /// Accepted as by runc: a session keyring of its own costs nothing
    #[arg(long, hide = true)]
    no_new_keyring: bool,
    id: String,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    create: Create,
    /// Leave when the command has begun
    #[arg(short, long)]
    detach: bool,
    /// Don't delete the container at its end
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Exec {
    /// Socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[arg(short, long)]
    tty: bool,
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the process, in place of the rest
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Leave when the command has begun
    #[arg(short, long)]
    detach: bool,
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    #[arg(long)]
    no_new_privs: bool,
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,
    #[arg(long, default_value_t = 0, value_name = "N")]
    preserve_fds: i32,
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs a command and says what went wrong.
pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to standard output, what makes no sense to standard error.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let journal = match Journal::open(line.log.clone(), line.log_format == "json") {
        Ok(journal) => journal,
        Err(error) => {
            eprintln!("k3s oci: {error}");
            return ExitCode::FAILURE;
        }
    };
    match line.run(&journal) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            journal.error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

impl CommandLine {
    fn run(self, journal: &Journal) -> Result<u8, Error> {
        if self.systemd_cgroup {
            return Err(Error::Usage("--systemd-cgroup is not available: k3s oci makes cgroups itself".into()));
        }
        let root = self.root.unwrap_or_else(default_root);
        let root = std::path::absolute(&root).doing(format!("find {}", root.display()))?;
        let find = |id: &str| Container::find(&root, id);
        match self.command {
            Command::Create(options) => {
                create::create(&root, &options.id, &options.as_options(false), journal)?;
            }
            Command::Run(run) => {
                let created = create::create(&root, &run.create.id, &run.create.as_options(!run.detach), journal)?;
                if let Err(error) = start::start(&created.container, journal) {
                    end::delete(&created.container, true, journal)?;
                    return Err(error);
                }
                if run.detach {
                    return Ok(0);
                }
                let code = foreground::wait(&created.pidfd, created.terminal)?;
                if !run.keep {
                    end::delete(&created.container, true, journal)?;
                }
                return Ok(code);
            }
            Command::Start { id } => start::start(&find(&id)?, journal)?,
            Command::State { id } => list::state(&find(&id)?)?,
            Command::Kill { all, id, signal } => {
                let number = spec::signal(&signal).ok_or_else(|| Error::Usage(format!("unknown signal {signal:?}")))?;
                end::kill(&find(&id)?, number, all)?;
            }
            Command::Delete { force, id } => match find(&id) {
                Err(Error::Unknown(_)) if force => {}
                container => end::delete(&container?, force, journal)?,
            },
            Command::Exec(exec) => {
                let (container, detach) = (find(&exec.id)?, exec.detach);
                let executed = exec::exec(&container, &exec.into_options())?;
                if !detach {
                    return foreground::wait(&executed.pidfd, executed.terminal);
                }
            }
            Command::List { format, quiet } => list::list(&root, &format, quiet)?,
            Command::Ps { format, id, options } => list::ps(&find(&id)?, &format, &options)?,
            Command::Features => list::print(&format!("{:#}\n", features::describe()))?,
        }
        Ok(0)
    }
}

impl Create {
    fn as_options(&self, foreground: bool) -> Options {
        Options {
            bundle: self.bundle.clone(),
            console_socket: self.console_socket.clone(),
            pid_file: self.pid_file.clone(),
            descriptors: self.preserve_fds,
            foreground,
        }
    }
}

impl Exec {
    fn into_options(self) -> exec::Options {
        exec::Options {
            process: self.process,
            args: self.args,
            cwd: self.cwd,
            env: self.env,
            terminal: self.tty,
            user: self.user,
            additional_gids: self.additional_gids,
            capabilities: self.cap,
            no_new_privileges: self.no_new_privs,
            apparmor: self.apparmor,
            console_socket: self.console_socket,
            pid_file: self.pid_file,
            descriptors: self.preserve_fds,
            foreground: !self.detach,
        }
    }
}

fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
    PathBuf::from(own.unwrap_or_else(|| "/run".into())).join("k3s/oci")
}
