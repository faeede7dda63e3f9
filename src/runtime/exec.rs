//! Commands in running containers, attaching to them, and connections into sandboxes.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt};
use k3s_cri::{ContainerState, Duplex, Error, ExecRequest, Output, Streams, TerminalSize};
use oci_spec::runtime::Spec;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use crate::container::Container;
use crate::executor::ExecProcess;
use crate::relay::{self, Progress};
use crate::runtime::Runtime;
use crate::shim::client::ShimClient;
use crate::shim::protocol::Request;
use crate::terminal::Terminal;

/// Most that `exec_sync` keeps of an output.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// A command that is killed when this is dropped before it has ended.
struct Command {
    shim: Arc<ShimClient>,
    exec: u64,
    exited: oneshot::Receiver<i32>,
    ended: bool,
}

impl Command {
    async fn wait(&mut self) -> Result<i32, Error> {
        let code = (&mut self.exited).await.map_err(|_| self.shim.gone())?;
        self.ended = true;
        Ok(code)
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.shim.forget_exec(self.exec);
        if !self.ended {
            self.shim.notify(Request::KillExec { exec: self.exec });
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Internal { doing: "run command".to_owned(), detail: error.to_string() }
}

impl Runtime {
    fn running(&self, id: &str) -> Result<(Arc<Container>, Arc<ShimClient>), Error> {
        let container = self.container(id)?;
        if container.state() != ContainerState::Running {
            let detail = format!("container {id} is not running");
            return Err(Error::FailedPrecondition { detail });
        }
        let shim = self.sandbox(&container.sandbox_id)?.shim()?;
        Ok((container, shim))
    }

    /// Starts a command. `stdio`: its ends of the streams; none with a terminal, whose other end is returned.
    async fn start_command(
        &self,
        id: &str,
        command: Vec<String>,
        tty: bool,
        stdio: Vec<OwnedFd>,
    ) -> Result<(Command, Option<OwnedFd>), Error> {
        let (container, shim) = self.running(id)?;
        let process = self.exec_process(&container, command, tty)?;
        let (exec, exited) = shim.expect_exec()?;
        let running = Command { shim: shim.clone(), exec, exited, ended: false };
        let cgroup = container.record.lock().cgroup.clone();
        let request = Request::Exec { exec, container: id.to_owned(), terminal: tty, cgroup };
        let descriptors: Vec<_> = std::iter::once(&process).chain(&stdio).map(AsFd::as_fd).collect();
        let (_, mut answered) = shim.call(request, &descriptors).await?;
        Ok((running, answered.pop()))
    }

    /// The container's own process with another command, in a memfd.
    fn exec_process(&self, container: &Container, command: Vec<String>, tty: bool) -> Result<OwnedFd, Error> {
        let path = self.container_directory(&container.id).join("config.json");
        let bytes = std::fs::read(&path).map_err(failed)?;
        let mut spec: Spec = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
        let missing = || failed(std::io::Error::other("the container has no process"));
        let mut process = spec.process_mut().take().ok_or_else(missing)?;
        process.set_args(Some(command)).set_terminal(Some(tty));
        if tty
            && let Some(env) = process.env_mut()
            && !env.iter().any(|entry| entry.starts_with("TERM="))
        {
            env.push("TERM=xterm".to_owned());
        }
        if let Some(user) = container.record.lock().user.clone() {
            // Looked up when the container started; its files may say something else by now.
            let same = process.user_mut();
            same.set_username(None).set_uid(user.uid).set_gid(user.gid);
            same.set_additional_gids(Some(user.supplemental_groups));
        }
        let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().take());
        let request = ExecProcess { process, seccomp };
        let memory = rustix::fs::memfd_create("process", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(memory);
        let bytes = serde_json::to_vec(&request).map_err(|error| failed(error.into()))?;
        file.write_all(&bytes).map_err(failed)?;
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        Ok(file.into())
    }

    pub(crate) async fn run_exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error> {
        if request.tty {
            self.exec_in_terminal(request, streams).await
        } else {
            self.exec_with_pipes(request, streams).await
        }
    }

    async fn exec_with_pipes(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error> {
        let progress = Progress::default();
        let mut stdio = Vec::new();
        let input: BoxFuture<'_, ()> = match streams.stdin {
            Some(stdin) => {
                let (theirs, ours) = relay::to_command().map_err(failed)?;
                stdio.push(theirs);
                // Ends early when the command does not read; that is no error.
                relay::copy(stdin, ours, Progress::default()).map(drop).boxed()
            }
            None => {
                stdio.push(File::open("/dev/null").map_err(failed)?.into());
                future::ready(()).boxed()
            }
        };
        let mut outputs = Vec::new();
        for output in [streams.stdout, streams.stderr] {
            match output {
                Some(output) => {
                    let (theirs, ours) = relay::from_command().map_err(failed)?;
                    stdio.push(theirs);
                    // Ends early when the caller is gone; the command then gets a broken pipe.
                    outputs.push(relay::copy(ours, output, progress.clone()).map(drop));
                }
                None => stdio.push(File::options().write(true).open("/dev/null").map_err(failed)?.into()),
            }
        }
        let (command, _) = self.start_command(&request.container_id, request.command, false, stdio).await?;
        finish(command, input, future::join_all(outputs).map(drop), progress).await
    }

    async fn exec_in_terminal(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error> {
        let (command, controller) =
            self.start_command(&request.container_id, request.command, true, Vec::new()).await?;
        let controller = controller.ok_or_else(|| failed(std::io::Error::other("the shim sent no terminal")))?;
        let terminal = Terminal::new(controller).map_err(failed)?;
        let progress = Progress::default();
        let input: BoxFuture<'_, ()> = match streams.stdin {
            Some(stdin) => relay::copy(stdin, terminal.clone(), Progress::default()).map(drop).boxed(),
            None => future::ready(()).boxed(),
        };
        let sizes = streams.resize;
        let resized = terminal.clone();
        let resizing = each_size(sizes, move |size| {
            // A terminal that is gone needs no size.
            let _ = resized.resize(size);
            future::ready(())
        });
        let output: BoxFuture<'_, ()> = match streams.stdout {
            Some(stdout) => relay::copy(terminal, stdout, progress.clone()).map(drop).boxed(),
            None => relay::copy(terminal, tokio::io::sink(), progress.clone()).map(drop).boxed(),
        };
        finish(command, future::join(input, resizing).map(drop), output, progress).await
    }

    pub(crate) async fn run_exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<Output, Error> {
        let (stdout_fd, stdout) = relay::from_command().map_err(failed)?;
        let (stderr_fd, stderr) = relay::from_command().map_err(failed)?;
        let stdin = File::open("/dev/null").map_err(failed)?.into();
        let doing = format!("exec {command:?} in container {id}");
        let run = async {
            let (command, _) = self.start_command(id, command, false, vec![stdin, stdout_fd, stderr_fd]).await?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let progress = Progress::default();
            let outputs = future::join(collect(stdout, &mut out), collect(stderr, &mut err)).map(drop);
            let exit_code = finish(command, future::ready(()), outputs, progress).await?;
            Ok(Output { stdout: out, stderr: err, exit_code })
        };
        if timeout.is_zero() {
            return run.await;
        }
        // Dropping it kills the command.
        tokio::time::timeout(timeout, run).await.map_err(|_| Error::Timeout { doing })?
    }

    pub(crate) async fn run_attach(&self, id: &str, streams: Streams) -> Result<(), Error> {
        let (container, shim) = self.running(id)?;
        let mut theirs = Vec::new();
        let (stdin, stdout) = (streams.stdin.is_some(), streams.stdout.is_some());
        let stderr = streams.stderr.is_some();
        let input: BoxFuture<'_, ()> = match streams.stdin {
            Some(stdin) => {
                let (fd, ours) = relay::to_command().map_err(failed)?;
                theirs.push(fd);
                relay::copy(stdin, ours, Progress::default()).map(drop).boxed()
            }
            None => future::ready(()).boxed(),
        };
        let mut outputs = Vec::new();
        for output in [streams.stdout, streams.stderr].into_iter().flatten() {
            let (fd, ours) = relay::from_command().map_err(failed)?;
            theirs.push(fd);
            outputs.push(relay::copy(ours, output, Progress::default()).map(drop));
        }
        let descriptors: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        let request = Request::Attach { container: id.to_owned(), stdin, stdout, stderr };
        shim.call(request, &descriptors).await?;
        drop(theirs);
        let resizing = each_size(streams.resize, |size: TerminalSize| {
            let (width, height) = (size.width, size.height);
            let request = Request::Resize { container: container.id.clone(), width, height };
            let shim = shim.clone();
            async move {
                // A container that has ended meanwhile needs no size.
                let _ = shim.call(request, &[]).await;
            }
        });
        if !stdout && !stderr {
            input.await;
            return Ok(());
        }
        // The shim closes the outputs when the container ends; input may go on until then.
        let inputs = future::join(input, resizing).then(|_| future::pending::<()>());
        tokio::select! {
            _ = inputs => {}
            _ = future::join_all(outputs) => {}
        }
        Ok(())
    }

    pub(crate) async fn connect(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error> {
        let shim = self.sandbox(sandbox_id)?.shim()?;
        let (_, mut descriptors) = shim.call(Request::Connect { port }, &[]).await?;
        let socket = descriptors.pop().ok_or_else(|| failed(std::io::Error::other("the shim sent no socket")))?;
        let stream = tokio::net::TcpStream::from_std(TcpStream::from(socket)).map_err(failed)?;
        Ok(Box::new(stream))
    }
}

/// Relays until the command has ended and its output is through. Input may end early or never.
async fn finish(
    mut command: Command,
    input: impl Future<Output = ()>,
    outputs: impl Future<Output = ()>,
    progress: Progress,
) -> Result<i32, Error> {
    let outputs = outputs.fuse();
    tokio::pin!(outputs);
    let input = input.then(|()| future::pending::<()>());
    tokio::pin!(input);
    let mut over = false;
    let code = loop {
        tokio::select! {
            code = command.wait() => break code?,
            () = &mut outputs, if !over => over = true,
            () = &mut input => {}
        }
    };
    if !over {
        relay::drain(outputs, progress).await;
    }
    Ok(code)
}

async fn each_size<F: Future<Output = ()>>(
    sizes: Option<mpsc::Receiver<TerminalSize>>,
    mut resize: impl FnMut(TerminalSize) -> F,
) {
    let Some(mut sizes) = sizes else { return };
    while let Some(size) = sizes.recv().await {
        resize(size).await;
    }
}

async fn collect(mut from: impl tokio::io::AsyncRead + Unpin, into: &mut Vec<u8>) {
    // An output that breaks off has come to its end.
    let _ = (&mut from).take(OUTPUT_LIMIT).read_to_end(into).await;
    // The command must be able to go on writing.
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}
