//! Everything Anklang needs around it on one machine: a private database server, a mail
//! server that only records, and the data of an invented utility.
//!
//! The demo and the test kit are built from these three rooms; the service itself never
//! uses them. They know nothing of Anklang's tables or API: [`cluster`] hands out a
//! connection string, [`smtp`] an address, [`utility`] a folder of CSV files.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod smtp;
pub mod utility;
