//! `cargo xtask picture`: draws README.md's pictures again, from a running memmon.

use std::process::Command;

use anstyle_svg::Term;
use anyhow::Result;
use fs_err as fs;

use crate::{shell, workspace};

/// The folder of the scene and its pictures.
const FOLDER: &str = "docs/pictures";

/// Plays the scene and writes the pictures.
pub(crate) fn main() -> Result<()> {
    let root = workspace::root();
    shell::run(workspace::cargo().args(["build", "--package=memmon", "--bin=memmon", "--example=hog"]))?;
    let target = workspace::target_dir();
    let screens = target.join("pictures");
    fs::create_dir_all(&screens)?;
    let mut scene = Command::new("unshare");
    scene.args(["--mount", "--propagation=private", "sh"]).arg(root.join(FOLDER).join("scene.sh"));
    scene.env("MEMMON", target.join("debug/memmon")).env("HOG", target.join("debug/examples/hog"));
    shell::run(scene.env("OUT", &screens))?;
    for name in ["top", "run"] {
        let (screen, picture) =
            (screens.join(format!("{name}.ansi")), root.join(FOLDER).join(format!("{name}.svg")));
        let screen = fs::read_to_string(screen)?;
        fs::write(&picture, Term::new().render_svg(screen.trim_end()))?;
        println!("{}", picture.display());
    }
    Ok(())
}
