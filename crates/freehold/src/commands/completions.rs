//! `freehold completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold completions bash > /etc/bash_completion.d/freehold
  freehold completions zsh > ~/.zfunc/_freehold
  freehold completions fish > ~/.config/fish/completions/freehold.fish";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[allow(clippy::needless_pass_by_value, reason = "as every command")]
pub(crate) fn run(args: CompletionsArgs, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::args::Args::command(),
        "freehold",
        &mut script,
    );
    output.bytes(&script)?;
    Ok(Exit::Done)
}
