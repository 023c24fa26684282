//! Both ways to host a plugin: each rule is tried in both.

use std::time::Duration;

use anklang_channels::{Counters, Plugin};

/// Waits until a plugin has counted this: what a process counts, it tells a little later.
pub async fn until_counted(plugin: &Plugin, wanted: Counters) {
    for _ in 0..12_000 {
        if plugin.counters() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(plugin.counters(), wanted);
}

/// Makes two tests of each function that takes a mode.
macro_rules! in_both_modes {
    ($(#[$test:meta] $($name:ident)+;)+) => {
        mod in_process {
            $($(#[$test] async fn $name() {
                super::$name(anklang_channels::Isolation::None).await
            })+)+
        }
        mod in_its_own_process {
            $($(#[$test] async fn $name() {
                super::$name(anklang_channels::Isolation::Process).await
            })+)+
        }
    };
}
