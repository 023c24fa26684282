//! Plugins in C, built by the system's compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C source with the plugin header into a shared library.
pub fn c_library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (c, so) = (
        dir.join(format!("{name}.c")),
        dir.join(format!("{name}.so")),
    );
    std::fs::write(&c, source).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/include");
    let built = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-const-variable",
            "-shared",
            "-fPIC",
            "-I",
        ])
        .arg(include)
        .arg(&c)
        .arg("-o")
        .arg(&so)
        .status()
        .expect("a C compiler is installed as `cc`");
    assert!(built.success());
    so
}
