//! The `anklang` server: configuration, gRPC handlers, work in the background, and the commands of
//! the program.

pub mod accounts;
pub mod auth;
pub mod callbacks;
pub mod cli;
pub mod config;
pub mod connections;
pub mod content;
pub mod cors;
pub mod documents;
pub mod grpc;
pub mod limits;
pub mod outside;
pub mod planning;
pub mod public;
pub mod reload;
pub mod seal;
pub mod serve;
pub mod telemetry;
pub mod tls;
pub mod webhook;
pub mod winback;
pub mod work;
