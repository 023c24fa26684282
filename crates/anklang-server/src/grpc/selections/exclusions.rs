//! Selections by which winback excludes customers: whoever changes one changes what is set for winback.

use anklang_domain::SelectionId;
use anklang_domain::access::Permission;
use anklang_store::Conn;
use anklang_store::hold::{Held, hold};
use anklang_store::tenant::Tenant;
use anklang_store::winback::settings;
use tonic::Request;

use crate::grpc::error::Denied;
use crate::grpc::{ApiResult, may};

/// Who may change selections by which winback excludes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exclusions {
    may_change: bool,
}

impl Exclusions {
    /// As the caller may.
    pub(super) fn of<T>(request: &Request<T>) -> ApiResult<Self> {
        let may_change = may(request, Permission::WinbackManage)?;
        Ok(Exclusions { may_change })
    }

    /// Refuses a change of a selection that the settings that hold exclude by. It becomes none until the end of the
    /// transaction, either.
    pub(super) async fn check(
        self,
        conn: &mut Conn,
        tenant: &Tenant,
        id: SelectionId,
    ) -> ApiResult<()> {
        if self.may_change {
            return Ok(());
        }
        hold(conn, tenant.id, Held::WinbackSettings).await?;
        let held = settings::get(conn, tenant.id).await?.settings;
        let mut exclusions = held.detection.exclusions.into_iter();
        match exclusions.find(|exclusion| exclusion.selection == id.0) {
            Some(exclusion) => Err(Denied::Exclusion(exclusion.name).into()),
            None => Ok(()),
        }
    }
}
