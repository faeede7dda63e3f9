//! `crictl completion`

use clap::{Args, Command, ValueEnum};
use clap_complete::aot::{Bash, Fish, Zsh, generate};

use crate::error::Error;
use crate::output::print;

/// Print a script that completes commands and flags in a shell
#[derive(Debug, Args)]
pub struct Completion {
    #[arg(default_value = "bash")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// `crictl`: the command to complete.
    pub fn run(self, crictl: Command) -> Result<(), Error> {
        // Under the name of the link that k3s's installer makes.
        let mut crictl = crictl.no_binary_name(false).name("crictl");
        let mut script = Vec::new();
        match self.shell {
            Shell::Bash => generate(Bash, &mut crictl, "crictl", &mut script),
            Shell::Zsh => generate(Zsh, &mut crictl, "crictl", &mut script),
            Shell::Fish => generate(Fish, &mut crictl, "crictl", &mut script),
        }
        print(String::from_utf8_lossy(&script))
    }
}
