//! What others than callers of the API reach: recipients the page behind the link by which they withdraw
//! consent; providers the addresses of their channels' accounts ([`crate::callbacks`]).
//!
//! - `GET /u/{token}` shows a page with a button and changes nothing: mail scanners follow links.
//! - `POST /u/{token}` withdraws, whether the button or a mail program sends it (RFC 8058), and as
//!   often as it is sent. Its body is not looked at.
//!
//! The pages show nothing about the recipient but the brand that wrote, have no script and load
//! nothing. Whoever has the link may withdraw; nobody can make one up ([`unsubscribe`]).

use std::sync::Arc;

use anklang_domain::unsubscribe;
use anklang_domain::{MessageId, TenantId};
use anklang_store::StoreError;
use anklang_store::unsubscribe as store;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, StatusCode, header};
use tokio::sync::Semaphore;

use crate::callbacks::{self, within_patience};
use crate::telemetry::meters;
use crate::work::App;

/// Where the links lead, before the token.
pub const PATH: &str = "/u/";

/// So many requests for pages are answered at the same time, as anybody may ask: they cannot use the database up.
const AT_ONCE: usize = 8;

/// Bodies are not read; this bounds what a client may send before it is answered.
const LARGEST_BODY: usize = 4 << 10;

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// The routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route(&format!("{PATH}{{token}}"), get(show).post(withdraw))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(
            Arc::new(Semaphore::new(AT_ONCE)),
            in_turn,
        ))
        .layer(from_fn(counted))
        .with_state(app.clone())
        .merge(callbacks::router(app))
}

/// Counts requests by how they were answered: a middleware of axum.
async fn counted(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    meters::page(&method, response.status());
    response
}

/// Answers when there is a place soon: a middleware of axum.
async fn in_turn(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match within_patience(places).await {
        Ok(_place) => next.run(request).await,
        Err(_) => respond(later()),
    }
}

async fn show(State(app): State<App>, Path(token): Path<String>) -> Response {
    let page = async {
        let Some((tenant, message)) = read(&app, &token).await? else {
            return Ok(unknown());
        };
        let link = store::link(&app.store, tenant, message).await?;
        // The message is gone, and with it whom it was for: there is nobody left to be written to.
        Ok(match link {
            Some(link) if !link.withdrawn => ask(&link.brand),
            Some(link) => done(&link.brand),
            None => done(""),
        })
    };
    answer(page.await)
}

async fn withdraw(State(app): State<App>, Path(token): Path<String>) -> Response {
    let page = async {
        let Some((tenant, message)) = read(&app, &token).await? else {
            return Ok(unknown());
        };
        if store::withdraw(&app.store, tenant, message).await? {
            tracing::info!(%tenant, message_id = %message, "consent withdrawn by link");
        }
        let link = store::link(&app.store, tenant, message).await?;
        Ok(done(&link.map_or_else(String::new, |link| link.brand)))
    };
    answer(page.await)
}

/// The message that a token was made for.
async fn read(app: &App, token: &str) -> Result<Option<(TenantId, MessageId)>, StoreError> {
    let Some(tenant) = unsubscribe::tenant(token) else {
        return Ok(None);
    };
    let mut tx = app.store.begin(tenant).await?;
    let key = store::key(&mut tx, tenant).await?;
    tx.commit().await?;
    Ok(key
        .and_then(|key| unsubscribe::open(&key, token))
        .map(|message| (tenant, message)))
}

type Page = (StatusCode, String);

fn answer(page: Result<Page, StoreError>) -> Response {
    respond(page.unwrap_or_else(|error| {
        tracing::error!(%error, "a link of a message");
        later()
    }))
}

fn respond((status, html): Page) -> Response {
    (status, HEADERS, Html(html)).into_response()
}

fn later() -> Page {
    let page = html(
        "Bitte später noch einmal",
        "<p>Das hat gerade nicht geklappt. Bitte versuchen Sie es in ein paar Minuten noch \
         einmal.</p><p lang=\"en\">That did not work just now. Please try again in a few \
         minutes.</p>",
    );
    (StatusCode::SERVICE_UNAVAILABLE, page)
}

fn ask(brand: &str) -> Page {
    let brand = escaped(brand);
    let body = format!(
        "<p>Möchten Sie keine weiteren Angebote von <strong>{brand}</strong> auf diesem Weg \
         erhalten?</p>\
         <p lang=\"en\">Would you like to receive no more offers from <strong>{brand}</strong> this \
         way?</p>\
         <form method=\"post\"><button name=\"List-Unsubscribe\" value=\"One-Click\">Abmelden · \
         Unsubscribe</button></form>"
    );
    (StatusCode::OK, html("Abmelden", &body))
}

fn done(brand: &str) -> Page {
    let from = |word: &str| match brand {
        "" => String::new(),
        brand => format!(" {word} <strong>{}</strong>", escaped(brand)),
    };
    let body = format!(
        "<p>Sie sind abgemeldet. Sie erhalten auf diesem Weg keine weiteren Angebote{}. Was schon \
         unterwegs ist, kann noch ankommen.</p>\
         <p lang=\"en\">You are unsubscribed and will receive no more offers{} this way. What is \
         on its way already may still arrive.</p>",
        from("von"),
        from("from"),
    );
    (StatusCode::OK, html("Abgemeldet", &body))
}

fn unknown() -> Page {
    let body = "<p>Dieser Link ist unvollständig oder ungültig. Bitte öffnen Sie ihn noch einmal aus \
                der Nachricht.</p><p lang=\"en\">This link is incomplete or not valid. Please open it \
                from the message again.</p>";
    (StatusCode::NOT_FOUND, html("Link ungültig", body))
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"de\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;\
         margin:12vh auto;padding:0 1.5rem;color:#1d2b33}}p[lang]{{color:#5c6b73}}button{{font:inherit;\
         padding:.7rem 1.4rem;border:0;border-radius:.3rem;background:#00616e;color:#fff;\
         cursor:pointer}}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_brands_are_text() {
        for (_, page) in [ask("A&B <script> \"x\""), done("A&B <script> \"x\"")] {
            assert!(
                page.contains("A&amp;B &lt;script&gt; &quot;x&quot;"),
                "{page}"
            );
            assert!(!page.contains("<script"), "{page}");
        }
    }
}
