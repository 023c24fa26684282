//! Messages, clients and servers generated from `proto/`; nothing here is written by hand. The
//! documentation is that of the protos.

#[expect(
    clippy::all,
    clippy::allow_attributes,
    missing_docs,
    rustdoc::all,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use generated::*;

/// The `FileDescriptorSet` of all protos, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
