//! Tables of other sizes than this host's: what an older or a later host would hand over.
#![expect(unsafe_code, reason = "plays other hosts of a C interface")]

use std::mem::offset_of;

use anklang_plugin_abi::*;

/// A later host, whose table of the plugin's functions has more members.
pub(crate) const LARGER_TABLE: i32 = 1;
/// An older host, whose table ends before `drain`.
pub(crate) const SMALLER_TABLE: i32 = 2;
/// A later host, which offers more functions under a later minor version.
pub(crate) const LATER_HOST: i32 = 3;

/// What stands where nothing may be written.
const CANARY: u8 = 0xA5;

/// A table with room behind it.
#[repr(C)]
struct Roomy {
    table: AnkPlugin,
    behind: [u8; 64],
}

/// Runs one of the checks. The library is initialised with it.
pub(crate) fn check(init: InitFn, host: &'static AnkHost, which: i32) -> Result<(), String> {
    match which {
        LARGER_TABLE => larger_table(init, host),
        SMALLER_TABLE => smaller_table(init, host),
        LATER_HOST => later_host(init, host),
        other => Err(format!("there is no check {other}")),
    }
}

fn roomy(size: usize) -> Roomy {
    Roomy {
        table: AnkPlugin {
            size: u32::try_from(size).expect("far smaller than 4 GiB"),
            abi_major: 0,
            abi_minor: 0,
            open: None,
            call: None,
            drain: None,
            close: None,
        },
        behind: [CANARY; 64],
    }
}

fn larger_table(init: InitFn, host: &'static AnkHost) -> Result<(), String> {
    let mut roomy = roomy(size_of::<Roomy>());
    let table = (&raw mut roomy).cast::<AnkPlugin>();
    // SAFETY: both tables have their size set; ours is as large as it says.
    let status = unsafe { init(host, table) };
    accepted(status)?;
    if roomy.behind != [CANARY; 64] {
        return Err("it wrote into members that it does not know".to_owned());
    }
    complete(&roomy.table)
}

fn smaller_table(init: InitFn, host: &'static AnkHost) -> Result<(), String> {
    let size = offset_of!(AnkPlugin, drain);
    let mut roomy = roomy(size);
    let table = &raw mut roomy.table;
    // SAFETY: as above; more memory is there than the size says, to see who writes there.
    let status = unsafe { init(host, table) };
    // It may refuse a host that cannot drain; it may not write where the table has ended.
    if roomy.table.drain.is_some() || roomy.table.close.is_some() || roomy.behind != [CANARY; 64] {
        return Err(format!(
            "it wrote beyond the {size} bytes that the host has"
        ));
    }
    match status {
        ANK_OK | ANK_INVALID | ANK_UNSUPPORTED => Ok(()),
        status => Err(format!("its initialisation gave status {status}")),
    }
}

fn later_host(init: InitFn, host: &'static AnkHost) -> Result<(), String> {
    #[repr(C)]
    struct Later {
        known: AnkHost,
        further: [usize; 4],
    }
    let known = AnkHost {
        size: u32::try_from(size_of::<Later>()).expect("far smaller than 4 GiB"),
        abi_minor: ANK_ABI_MINOR + 7,
        ..*host
    };
    let later: &'static Later = Box::leak(Box::new(Later {
        known,
        further: [0; 4],
    }));
    let mut roomy = roomy(size_of::<AnkPlugin>());
    // SAFETY: both tables have their size set, and the host's lives for ever.
    let status = unsafe { init((&raw const *later).cast(), &raw mut roomy.table) };
    accepted(status)?;
    complete(&roomy.table)
}

fn accepted(status: AnkStatus) -> Result<(), String> {
    match status {
        ANK_OK => Ok(()),
        status => Err(format!("its initialisation gave status {status}")),
    }
}

fn complete(table: &AnkPlugin) -> Result<(), String> {
    let missing = table.open.is_none()
        || table.call.is_none()
        || table.drain.is_none()
        || table.close.is_none();
    match missing {
        true => Err("a function is missing from the table".to_owned()),
        false => Ok(()),
    }
}
