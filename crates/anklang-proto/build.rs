//! Compiles the protos with protox, so that no protoc is needed, and keeps the descriptor set for
//! reflection.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Build scripts run in the folder of their crate, and the package holds what these links lead to. Nothing
    // absolute: another clone of the repository may share the target folder, and this program with it.
    let (ours, google) = (Path::new("proto"), Path::new("googleapis"));
    println!("cargo:rerun-if-changed={}", ours.display());
    println!("cargo:rerun-if-changed={}", google.display());

    let mut files = Vec::new();
    find(ours, &mut files)?;
    // Plugins have a crate of their own (plugins/proto).
    files.retain(|file| !file.components().any(|c| c.as_os_str() == "plugin"));
    files.push(google.join("google/rpc/error_details.proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([ours, google])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    // These keep the options that google.api adds, which say e.g. what only the server sets.
    let described = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), described)?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // One message has one encoding: hashes of messages are compared.
    config.btree_map(["."]);
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .bytes(".")
        .include_file("all.rs")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
