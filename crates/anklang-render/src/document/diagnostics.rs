//! Typst's diagnostics as [`TemplateError`]s with line and column.

use typst::WorldExt;
use typst::diag::SourceDiagnostic;
use typst::syntax::ast::{self, AstNode};
use typst::syntax::{DiagSpan, Source, Span, SyntaxNode};

use super::world::{DocumentWorld, is_module};
use crate::error::{Part, TemplateError};

/// Converts errors or warnings. Never empty if `diagnostics` is not.
pub(super) fn errors(
    world: &DocumentWorld<'_>,
    diagnostics: &[SourceDiagnostic],
) -> Vec<TemplateError> {
    diagnostics
        .iter()
        .map(|diagnostic| convert(world, diagnostic))
        .collect()
}

fn convert(world: &DocumentWorld<'_>, diagnostic: &SourceDiagnostic) -> TemplateError {
    let main = world.main_source();
    // The place itself, or where the template called into a module.
    let trace = diagnostic
        .trace
        .iter()
        .map(|point| DiagSpan::from(point.span));
    let offset = std::iter::once(diagnostic.span)
        .chain(trace)
        .filter(|span| span.id() == Some(main.id()))
        .find_map(|span| world.range(span))
        .map_or(0, |range| range.start);
    let mut message = diagnostic.message.to_string();
    for hint in &diagnostic.hints {
        message.push_str(&format!(" (hint: {})", hint.v));
    }
    TemplateError::at(Part::TypstSource, main.text(), offset, message)
}

/// Imports and includes of literal paths that are not there; see the module
/// documentation of [`super`] for why they are refused before anything runs.
pub(super) fn refused_imports(source: &Source) -> Vec<TemplateError> {
    let mut refused = Vec::new();
    let mut nodes = vec![source.root()];
    while let Some(node) = nodes.pop() {
        if let Some((span, path)) = literal_path(node).filter(|(_, path)| !is_module(path)) {
            let offset = source.find(span).map_or(0, |node| node.offset());
            let message = if path.starts_with('@') {
                format!("packages are not available in templates: {path}")
            } else {
                format!("templates can only import /anklang/*.typ: {path}")
            };
            refused.push(TemplateError::at(
                Part::TypstSource,
                source.text(),
                offset,
                message,
            ));
        }
        nodes.extend(node.children());
    }
    refused.sort();
    refused
}

fn literal_path(node: &SyntaxNode) -> Option<(Span, String)> {
    let path = match node.cast::<ast::ModuleImport<'_>>() {
        Some(import) => import.source(),
        None => node.cast::<ast::ModuleInclude<'_>>()?.source(),
    };
    match path {
        ast::Expr::Str(text) => Some((text.to_untyped().span(), text.get().to_string())),
        _ => None,
    }
}
