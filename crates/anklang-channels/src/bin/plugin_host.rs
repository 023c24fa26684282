//! The process of a plugin, as a program of its own: what `anklang plugin-host` is, without the
//! rest. Tests of this crate host plugins with it.

fn main() {
    anklang_channels::plugin_host()
}
