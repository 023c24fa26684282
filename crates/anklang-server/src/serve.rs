//! The server: opens everything, serves until told to stop, drains, closes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anklang_domain::Violations;
use anklang_proto as proto;
use anklang_store::{Store, handover as handover_store, migrate};
use anyhow::Context;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::ListenerExt;
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tower_http::trace::TraceLayer;

use crate::accounts::Accounts;
use crate::auth::{self, Auth};
use crate::config::{AuthMode, Config, DATABASE_KEY};
use crate::content::Templates;
use crate::documents::Documents;
use crate::limits::{self, Limits};
use crate::outside::Outside;
use crate::seal::{Keys, SealingKey};
use crate::tls::Tls;
use crate::work::{
    App, accounts, audit, dispatch, handover, lookups, moves, operations, phases, reports, sweep,
};
use crate::{connections, cors, grpc, public, reload, telemetry};

/// How often the health of the dependencies is looked at.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

/// What plugins get at least to end what they have begun, also when the grace period is over.
const LAST_DRAIN: Duration = Duration::from_secs(5);

/// What the health service calls the process itself, whatever becomes of its database.
const LIVE: &str = "live";

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong: all of them.
    #[error("{0}")]
    Config(#[from] Violations),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Opens everything. TLS, who may call and accounts first: their settings are checked before anything is touched.
pub async fn open(config: Config) -> Result<App, StartError> {
    connections::allow_open_files();
    for setting in config.maybe_plain() {
        tracing::warn!(
            setting,
            "it names another machine and no sslmode: connections are plain text where the database offers no TLS"
        );
    }
    let tls = Tls::open(&config);
    let anybody = auth::check_anybody(&config);
    let accounts = match config.roles.opens_accounts() {
        true => Accounts::open(&config.plugins, &config.channel_accounts).await,
        false => Ok(Accounts::unopened(
            &config.plugins,
            &config.channel_accounts,
        )),
    };
    let (tls, accounts) = match (tls, anybody, accounts) {
        (Ok(tls), Ok(()), Ok(accounts)) => (tls, accounts),
        (tls, anybody, accounts) => {
            let mut violations = Violations::new();
            let found = [tls.err(), anybody.err(), accounts.err()];
            for found in found.into_iter().flatten() {
                violations.extend_under("", found);
            }
            return Err(violations.into());
        }
    };
    let store = config.store(config.connections).context("database")?;
    if config.migrate {
        migrate::up(&store).await.context("migrations")?;
    } else {
        let pending = migrate::pending(&store).await.context("migrations")?;
        if !pending.is_empty() {
            let pending = pending.join(", ");
            return Err(anyhow::anyhow!(
                "migrations have not run: {pending}; run `anklang migrate`"
            )
            .into());
        }
    }
    let documents = Documents::open(&config.documents.store)
        .await
        .context("the document store")?;
    let keys = Arc::new(keys(&store, &config.sealing).await?);
    let settings = &config.handover;
    let outside = Outside::open(settings.rules.clone(), settings.timeout).context("TLS")?;
    let auth = Auth::open(&config.auth)?;
    if config.auth.mode == AuthMode::None && !config.listen.ip().to_canonical().is_loopback() {
        tracing::warn!("auth.mode is none: whoever reaches the port may do everything");
    }
    Ok(App {
        store,
        auth,
        documents,
        accounts,
        templates: Templates::new(config.render_threads, config.documents.letter_time),
        outside,
        keys,
        tls,
        config: Arc::new(config),
        wake: Arc::default(),
        stopping: CancellationToken::new(),
    })
}

/// The configured keys, and the one in the database, which seals when there is no other and else
/// opens what it sealed before there was.
async fn keys(store: &Store, configured: &[SealingKey]) -> anyhow::Result<Keys> {
    if configured.is_empty() {
        tracing::warn!(
            "keys.sealing is empty: secrets are sealed with a key that lies in the database itself"
        );
    }
    let found = handover_store::server_key(store)
        .await
        .context("server_key")?;
    let key = found.try_into().ok().context("server_key: 32 bytes")?;
    let id = DATABASE_KEY.to_owned();
    Ok(Keys::new(&[configured, &[SealingKey { id, key }]].concat()))
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    ending: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// Binds and serves in the background.
    pub async fn start(app: App) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(app.config.listen)
            .await
            .with_context(|| format!("listening on {}", app.config.listen))?;
        let addr = listener.local_addr()?;
        let ending = CancellationToken::new();
        let serving = tokio::spawn(serve(app, listener, ending.clone()));
        Ok(Server {
            addr,
            ending,
            serving,
        })
    }

    /// Says that it does not serve any more, stops taking calls, lets running work end, closes.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.ending.cancel();
        self.serving.await?
    }

    /// Serves until `signal`, then stops.
    pub async fn until(mut self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            () = signal => {
                tracing::info!("stopping");
                self.stop().await
            }
            ended = &mut self.serving => ended?,
        }
    }
}

/// Serves until `ending`, then ends what runs: first health says so and the work in the background begins
/// nothing new; when balancers had their time, no more calls are taken; then calls and work share one
/// grace period.
async fn serve(app: App, listener: TcpListener, ending: CancellationToken) -> anyhow::Result<()> {
    let (grace, stop) = (app.config.shutdown_grace, app.stopping.clone());
    let served = CancellationToken::new();
    let workers = start_workers(&app, &ending, &served);
    let (health, health_service) = tonic_health::server::health_reporter();
    // Once before the first call comes: until then nothing is known.
    health
        .set_service_status(LIVE, ServingStatus::Serving)
        .await;
    report_health(&app, &health).await;
    let watching = tokio::spawn(watch_health(app.clone(), health, ending.clone()));
    let router = routes(&app, health_service)?;
    let rooms = connections::Rooms {
        full: router.clone().layer(from_fn(limits::health_alone)),
        calls: router,
    };
    tracing::info!(addr = %listener.local_addr()?, tls = app.tls.is_some(), "serving");

    // A small answer must not wait until the client has acknowledged its headers (Nagle).
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let config = app.config.incoming.clone();
    let scraped = app.config.telemetry.prometheus_listen;
    let scrapers = scraped.map_or(0, |_| connections::scrapers());
    let mut serving = match &app.tls {
        Some(tls) => {
            workers.spawn(reload::follow(tls.clone(), stop.clone()));
            let handshakes = connections::handshakes();
            let listener = tls.listen(listener, config.header_time, handshakes);
            let besides = handshakes + scrapers;
            connections::serve(listener, rooms, config, besides, stop.clone()).boxed()
        }
        None => connections::serve(listener, rooms, config, scrapers, stop.clone()).boxed(),
    };
    let told = async {
        ending.cancelled().await;
        let _ = watching.await;
        tokio::time::sleep(app.config.drain).await;
    };
    // It takes connections until it is told to stop.
    tokio::select! {
        () = &mut serving => anyhow::bail!("serving ended by itself"),
        () = told => {}
    }
    stop.cancel();
    let deadline = Instant::now() + grace;
    if timeout_at(deadline, serving).await.is_err() {
        tracing::warn!("calls still run after the grace period; closing them");
    }
    served.cancel();
    workers.close();
    if timeout_at(deadline, workers.wait()).await.is_err() {
        tracing::warn!("work still runs after the grace period; it is left to its leases");
    }
    let left = deadline.saturating_duration_since(Instant::now());
    app.accounts.drain(left.max(LAST_DRAIN)).await;
    tracing::info!("stopped");
    Ok(())
}

/// Starts what the server's roles do in the background. Each of it finds its work by looking into the
/// database; that one wakes the other where both are in one process only makes it prompt. `served` is when the last
/// call has ended.
fn start_workers(app: &App, ending: &CancellationToken, served: &CancellationToken) -> TaskTracker {
    let workers = TaskTracker::new();
    let (roles, with) = (app.config.roles, || (app.clone(), ending.clone()));
    if roles.worker {
        for _ in 0..app.config.operation_workers {
            let (app, stop) = with();
            workers.spawn(operations::run(app, stop));
        }
        let (app, stop) = with();
        workers.spawn(handover::run(app, stop));
    }
    if roles.scheduler {
        let (app, stop) = with();
        workers.spawn(sweep::run(app, stop));
        let (app, stop) = with();
        workers.spawn(phases::run(app, stop));
        let (app, stop) = with();
        workers.spawn(audit::run(app, stop));
    }
    let (own, stop) = with();
    workers.spawn(telemetry::backlog::run(own, stop));
    let (own, stop) = with();
    workers.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            is_foreign = own.store.learn_words() => {
                if is_foreign {
                    tracing::info!("the database does not speak English: it is known how it says that it goes down");
                }
            }
        }
    });
    if let Some(certificate) = app.config.database_certificate.clone() {
        // Also while the server drains: its last connections are shown what is good then.
        workers.spawn(reload::follow(certificate, app.stopping.clone()));
    }
    if roles.api {
        // A token that is taken back while the server drains counts no more. Nobody waits for these.
        app.auth.start(&TaskTracker::new(), served);
        // What is left of calls when the server stops is read from the primary.
        let (app, stop) = with();
        workers.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = app.store.watch_replica() => {}
            }
        });
    }
    if roles.opens_accounts() {
        let (app, stop) = with();
        workers.spawn(accounts::run(app, stop));
    }
    for account in app.accounts.configured() {
        let with = || (app.clone(), Arc::clone(account), ending.clone());
        // Whoever has an account open is told what comes back on it.
        let (own, account, stop) = with();
        workers.spawn(reports::run(own, account, stop));
        if app.config.dispatch {
            let (own, account, stop) = with();
            workers.spawn(dispatch::configured(own, account, stop));
            let (own, account, stop) = with();
            workers.spawn(lookups::run(own, account, stop));
        }
    }
    if app.config.dispatch {
        let (app, stop) = with();
        workers.spawn(moves::run(app, stop));
    }
    workers
}

/// Looks at the database and reports it and the server.
async fn report_health(app: &App, health: &tonic_health::server::HealthReporter) {
    let answers = app.store.is_alive().await;
    telemetry::meters::database(answers);
    let status = if answers {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    health.set_service_status("", status).await;
    health.set_service_status("database", status).await;
}

/// Keeps the report up to date until `ending`; from then on the server counts as not serving.
async fn watch_health(
    app: App,
    health: tonic_health::server::HealthReporter,
    ending: CancellationToken,
) {
    let look = async || {
        tokio::time::sleep(HEALTH_EVERY).await;
        report_health(&app, &health).await;
    };
    loop {
        tokio::select! {
            () = ending.cancelled() => break,
            () = look() => {}
        }
    }
    health
        .set_service_status("", ServingStatus::NotServing)
        .await;
}

macro_rules! services {
    ($most:expr; $($server:path => $api:expr),+ $(,)?) => {{
        let mut routes = Routes::default();
        $(routes = routes.add_service(<$server>::new($api)
            .max_decoding_message_size($most)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(tonic::codec::CompressionEncoding::Gzip));)+
        routes
    }};
}

/// What the server answers: without the role `api`, nothing but how it is.
fn routes(
    app: &App,
    health: impl tower::Service<
        http::Request<tonic::body::Body>,
        Response = http::Response<tonic::body::Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + tonic::server::NamedService
    + Clone
    + Send
    + Sync
    + 'static,
) -> anyhow::Result<axum::Router> {
    let api = app.config.roles.api;
    let routes = match api {
        true => api_routes(app)?,
        false => Routes::default(),
    };
    let limits = Limits::new(&app.config.limits, app.store.clone());
    let router = routes
        .add_service(health)
        .prepare()
        .into_axum_router()
        // Innermost: what these refuse is observed, translated and logged like any answer.
        .layer(from_fn_with_state(limits.clone(), limits::admit))
        .layer(from_fn_with_state(app.auth.clone(), auth::check))
        .layer(from_fn_with_state(limits, limits::shed))
        // A refusal is no failure of ours, and its words quote the caller; `grpc/error.rs` logs what is.
        .layer(TraceLayer::new_for_grpc().on_failure(()))
        // Inside of the translation for browsers: there the status is in the trailers.
        .layer(from_fn(telemetry::rpc::observe))
        .layer(tonic_web::GrpcWebLayer::new());
    // Outermost: browsers ask whether they may call before they do.
    let router = match cors::layer(&app.config.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    // Not under these layers: it is plain HTTP, and its paths are not for logs.
    Ok(match api {
        true => router.merge(public::router(app.clone())),
        false => router,
    })
}

fn api_routes(app: &App) -> anyhow::Result<Routes> {
    use proto::anklang as pb;
    let most = app.config.limits.message_bytes;
    let store = || app.store.clone();
    let keys = || Arc::clone(&app.keys);
    let app = || app.clone();
    let routes = services! { most;
        pb::audit::v1::audit_service_server::AuditServiceServer<_> => grpc::audit::AuditApi { app: app() },
        pb::brands::v1::brand_service_server::BrandServiceServer<_> => grpc::brands::BrandsApi::new(store(), keys()),
        pb::products::v1::product_service_server::ProductServiceServer<_> => grpc::products::ProductsApi::new(store(), keys()),
        pb::customers::v1::customer_service_server::CustomerServiceServer<_> => grpc::customers::CustomersApi::new(store(), keys()),
        pb::contracts::v1::contract_service_server::ContractServiceServer<_> => grpc::contracts::ContractsApi::new(store(), keys()),
        pb::orders::v1::order_service_server::OrderServiceServer<_> => grpc::orders::OrdersApi::new(store(), keys()),
        pb::org::v1::org_unit_service_server::OrgUnitServiceServer<_> => grpc::org_units::OrgUnitsApi::new(store(), keys()),
        pb::planning::v1::contact_plan_service_server::ContactPlanServiceServer<_> => grpc::planning::PlanningApi { app: app() },
        pb::planning::v1::planned_contact_service_server::PlannedContactServiceServer<_> => grpc::planning::PlanningApi { app: app() },
        pb::imports::v1::import_service_server::ImportServiceServer<_> => grpc::imports::ImportsApi { app: app() },
        pb::selections::v1::selection_service_server::SelectionServiceServer<_> => grpc::selections::SelectionsApi::new(store(), keys()),
        pb::selections::v1::preset_service_server::PresetServiceServer<_> => grpc::presets::PresetsApi::new(store(), keys()),
        pb::templates::v1::template_service_server::TemplateServiceServer<_> => grpc::templates::TemplatesApi { app: app() },
        pb::campaigns::v1::approval_service_server::ApprovalServiceServer<_> => grpc::campaigns::CampaignsApi { app: app() },
        pb::campaigns::v1::dry_run_service_server::DryRunServiceServer<_> => grpc::campaigns::CampaignsApi { app: app() },
        pb::campaigns::v1::campaign_service_server::CampaignServiceServer<_> => grpc::campaigns::CampaignsApi { app: app() },
        pb::offers::v1::offer_service_server::OfferServiceServer<_> => grpc::offers::OffersApi { app: app() },
        pb::documents::v1::document_service_server::DocumentServiceServer<_> => grpc::documents::DocumentsApi { app: app() },
        pb::channels::v1::channel_service_server::ChannelServiceServer<_> => grpc::channels::ChannelsApi { app: app() },
        pb::reach::v1::reach_service_server::ReachServiceServer<_> => grpc::reach::ReachApi { app: app() },
        pb::messages::v1::message_service_server::MessageServiceServer<_> => grpc::messages::MessagesApi { app: app() },
        pb::inbound::v1::inbound_service_server::InboundServiceServer<_> => grpc::inbound::InboundApi { app: app() },
        pb::handover::v1::webhook_service_server::WebhookServiceServer<_> => grpc::webhooks::WebhooksApi { app: app() },
        pb::handover::v1::delivery_service_server::DeliveryServiceServer<_> => grpc::deliveries::DeliveriesApi { app: app() },
        pb::planning::v1::work_list_service_server::WorkListServiceServer<_> => grpc::work_list::WorkListApi::new(app()),
        pb::winback::v1::winback_service_server::WinbackServiceServer<_> => grpc::winback::WinbackApi { app: app() },
        pb::winback::v1::winback_case_service_server::WinbackCaseServiceServer<_> => grpc::winback::cases::WinbackCasesApi { app: app() },
        pb::winback::v1::winback_template_service_server::WinbackTemplateServiceServer<_> => grpc::winback::templates::WinbackTemplatesApi { app: app() },
        pb::winback::v1::winback_mail_service_server::WinbackMailServiceServer<_> => grpc::winback::mails::WinbackMailsApi { app: app() },
        pb::privacy::v1::privacy_service_server::PrivacyServiceServer<_> => grpc::privacy::PrivacyApi { app: app() },
        pb::operations::v1::operation_progress_service_server::OperationProgressServiceServer<_> => grpc::progress::ProgressApi::new(app()),
        proto::google::longrunning::operations_server::OperationsServer<_> => grpc::operations::OperationsApi { app: app() },
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    Ok(routes.add_service(reflection))
}
