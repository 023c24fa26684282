//! `anklang health`: asks a running server how it is.

use std::process::ExitCode;
use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::server_args::ServerArgs;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a running server how it is (grpc.health.v1). Exit code: 0 it serves, 1 it does not.
#[derive(clap::Args)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Of what: "" all of it, "live" whether it runs, "database" whether its database answers.
    #[arg(long, default_value = "")]
    service: String,
}

pub(super) async fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let channel = args.server.connect(Some(PATIENCE)).await?;
    let request = HealthCheckRequest {
        service: args.service,
    };
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
        .into_inner()
        .status();
    println!("{}", status.as_str_name());
    Ok(match status {
        ServingStatus::Serving => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
