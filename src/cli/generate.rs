//! `imapfs completions` and `imapfs man`, made from the command line's own description.

use std::io::Write;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::exit::Failure;
use super::{args, print};

/// Prints completions.
///
/// # Errors
/// System.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "imapfs", &mut out);
    print(&String::from_utf8_lossy(&out))
}

/// Prints the manual page: one page, with each command as a section.
///
/// # Errors
/// System.
pub fn man() -> Result<(), Failure> {
    let mut out = Vec::new();
    page(&mut out).map_err(|error| Failure::system("cannot write the manual page", &error))?;
    print(&String::from_utf8_lossy(&out))
}

fn page(out: &mut dyn Write) -> std::io::Result<()> {
    let mut command = args::command();
    command.build();
    let man = Man::new(command.clone()).manual("User Commands").source(format!("imapfs {}", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_options_section(out)?;
    for sub in command.get_subcommands() {
        let mut section = Vec::new();
        // Global flags are in OPTIONS.
        let sub = sub.clone().mut_args(|argument| {
            let hidden = argument.is_hide_set() || argument.is_global_set() || argument.get_long() == Some("help");
            argument.hide(hidden)
        });
        let mut title = Roff::default();
        title.control("SH", [format!("IMAPFS {}", sub.get_name().to_uppercase()).as_str()]);
        title.to_writer(out)?;
        let page = Man::new(sub);
        page.render_synopsis_section(&mut section)?;
        page.render_description_section(&mut section)?;
        page.render_options_section(&mut section)?;
        // One level deeper than on a page of their own.
        out.write_all(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes())?;
    }
    let mut tail = Roff::default();
    tail.control("SH", ["EXIT STATUS"]).text([roman(args::EXIT_CODES)]);
    tail.control("SH", ["FILES"]).text([roman(
        "$XDG_CONFIG_HOME/imapfs/config.toml holds the accounts. /etc/imapfs/config.toml is read when the user has none.",
    )]);
    tail.to_writer(out)
}
