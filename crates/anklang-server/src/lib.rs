//! The `anklang` server: configuration, gRPC handlers, work in the background, and the commands of
//! the program.

pub mod accounts;
pub mod cli;
pub mod config;
pub mod content;
pub mod documents;
pub mod grpc;
pub mod public;
pub mod serve;
pub mod work;
