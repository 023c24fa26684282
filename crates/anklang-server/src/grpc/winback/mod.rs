//! Winback: what a tenant sets, looking for customers who drift away, working their cases, and mailing them.

pub mod cases;
pub mod detection;
pub mod mails;
pub mod settings;
pub mod templates;

mod vouchers;

use anklang_domain::Violations;
use anklang_domain::winback::MailTemplate;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use tonic::{Request, Response, Status};

use super::reply;
use crate::work::App;

/// The service.
pub struct WinbackApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::winback_service_server::WinbackService for WinbackApi {
    async fn get_winback_settings(
        &self,
        request: Request<pb::GetWinbackSettingsRequest>,
    ) -> Result<Response<pb::WinbackSettings>, Status> {
        reply(self.get_settings(request).await)
    }

    async fn update_winback_settings(
        &self,
        request: Request<pb::UpdateWinbackSettingsRequest>,
    ) -> Result<Response<pb::WinbackSettings>, Status> {
        reply(self.update_settings(request).await)
    }

    async fn list_winback_settings_versions(
        &self,
        request: Request<pb::ListWinbackSettingsVersionsRequest>,
    ) -> Result<Response<pb::ListWinbackSettingsVersionsResponse>, Status> {
        reply(self.list_settings(request).await)
    }

    async fn detect_winback(
        &self,
        request: Request<pb::DetectWinbackRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.detect(request).await)
    }

    async fn get_winback_detection(
        &self,
        request: Request<pb::GetWinbackDetectionRequest>,
    ) -> Result<Response<pb::WinbackDetection>, Status> {
        reply(self.get_detection(request).await)
    }

    async fn list_winback_detections(
        &self,
        request: Request<pb::ListWinbackDetectionsRequest>,
    ) -> Result<Response<pb::ListWinbackDetectionsResponse>, Status> {
        reply(self.list_detections(request).await)
    }

    async fn explain_winback(
        &self,
        request: Request<pb::ExplainWinbackRequest>,
    ) -> Result<Response<pb::WinbackExplanation>, Status> {
        reply(self.explain(request).await)
    }
}

/// Which template a request names.
fn read_template(
    template: pb::WinbackTemplate,
    violations: &mut Violations,
) -> Option<MailTemplate> {
    match template {
        pb::WinbackTemplate::Unspecified => {
            violations.add("template", "is required: STANDARD or VOUCHER");
            None
        }
        pb::WinbackTemplate::Standard => Some(MailTemplate::Standard),
        pb::WinbackTemplate::Voucher => Some(MailTemplate::Voucher),
    }
}
