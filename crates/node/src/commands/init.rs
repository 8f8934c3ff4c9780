//! `jaiminho init`: a small pipeline to begin with.

use std::fs;
use std::path::Path;

use crate::cli::{Global, Init};
use crate::exit::Failure;
use crate::output::line;

/// What is written: the file's path in the folder, and its text.
const FILES: [(&str, &str); 3] = [
    ("pipeline.yaml", include_str!("../../template/pipeline.yaml")),
    ("mappings/reading.vrl", include_str!("../../template/mappings/reading.vrl")),
    ("tests/reading.yaml", include_str!("../../template/tests/reading.yaml")),
];

pub(crate) fn run(global: &Global, init: &Init) -> Result<(), Failure> {
    write(&init.folder)?;
    for (path, _) in FILES {
        line(format!("wrote {}", init.folder.join(path).display()))?;
    }
    let enter = if init.folder == Path::new(".") { String::new() } else { format!("  cd {}\n", init.folder.display()) };
    let program = &global.program.name;
    line(format!("\nNext:\n\n{enter}  {program} test\n  {program} up"))
}

/// Never replaces a file.
fn write(folder: &Path) -> Result<(), Failure> {
    if let Some((path, _)) = FILES.iter().find(|(path, _)| folder.join(path).exists()) {
        return Err(Failure::usage(format!("{} is there already; choose another folder", folder.join(path).display())));
    }
    for (path, text) in FILES {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Setting, load};

    #[test]
    fn what_it_writes_is_valid_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for setting in [Setting::Together, Setting::Anywhere] {
            load(&folder.path().join("pipeline.yaml"), &Overrides::default(), setting).unwrap();
        }
        assert_eq!(write(folder.path()).unwrap_err().exit, crate::exit::Exit::Usage);
    }
}
