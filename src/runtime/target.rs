//! Containers that join another's pid namespace (`kubectl debug --target`).

use k3s_cri::{ContainerState, Error};

use crate::runtime::Runtime;
use crate::sandbox::Sandbox;

impl Runtime {
    /// Refuses a container that can't be joined, in containerd's words.
    pub(crate) fn check_target(&self, sandbox: &Sandbox, id: &str) -> Result<(), Error> {
        let invalid = |detail: String| Error::InvalidArgument { detail: format!("invalid target container: {detail}") };
        let target = self.container(id).map_err(|error| invalid(error.to_string()))?;
        if target.sandbox_id != sandbox.id {
            return Err(invalid(format!("container {id:?} is not in sandbox {}", sandbox.id)));
        }
        let state = target.state();
        if state != ContainerState::Running {
            return Err(invalid(format!("container {id:?} is not running - in state {state:?}")));
        }
        let handler = sandbox.record.lock().config.runtime_handler.clone();
        if !handler.is_empty() {
            let detail = format!("handler {handler:?} can't join the pid namespace of another container");
            return Err(Error::Unimplemented { detail });
        }
        Ok(())
    }
}
