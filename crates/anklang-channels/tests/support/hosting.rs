//! How plugins are hosted in these tests.

use anklang_channels::{HostProgram, Hosting, Isolation};

/// Hosted this way, with this crate's own host program.
pub fn hosting(isolation: Isolation) -> Hosting {
    Hosting {
        isolation,
        program: HostProgram {
            path: env!("CARGO_BIN_EXE_anklang-plugin-host").into(),
            arguments: Vec::new(),
        },
        ..Hosting::default()
    }
}
