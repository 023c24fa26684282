//! Content: from a template and the data of one offer to a message or a PDF.
//!
//! - [`model`]: the data that both kinds of templates see.
//! - [`content`]: subject, text and HTML of a message (MiniJinja).
//! - [`document`]: PDF documents (Typst).
//! - [`print_file`]: many documents as one file.
//! - [`shipped`]: the templates that come with the product.
//!
//! # Guarantees
//! - Pure: no file system, no network, no clock, no async. Fonts and shipped
//!   templates are embedded at compile time. The same template and data give
//!   the same bytes, on every thread and in every process.
//! - A template is checked when it is compiled, against [`model::OfferData::samples`];
//!   its errors come back all at once, with line and column.
//! - Data is never code: no value of a customer is parsed as template source,
//!   as Typst markup or as HTML.
//!
//! # Trade-off
//! Template authors are a tenant's administrators, not its customers: endless
//! loops and recursion stop by themselves, but memory and time of a template
//! written to do harm have no hard limit inside one process. [`document`] says
//! what remains.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")
)]

pub mod content;
pub mod document;
mod error;
mod german;
pub mod model;
pub mod print_file;
mod salutation;
pub mod shipped;

pub use content::{Message, MessageSource, MessageTemplate, Samples};
pub use document::{DocumentTemplate, Pdf, Standard};
pub use error::{Part, RenderError, TemplateError};
pub use print_file::PrintFile;
