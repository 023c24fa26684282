//! What a client wants to watch, and the tokens by which it goes on.

use std::sync::Arc;

use anklang_domain::Violations;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::planning::contact;
use anklang_store::planning::work::watch::{Moment, View};
use anklang_store::tenant::Tenant;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use prost::{Message, Name};
use serde::{Deserialize, Serialize};

use super::super::claims::{LONGEST_GROUP, MAX_GROUPS};
use super::super::read;
use super::MAX_MISSED_INSIDE;
use crate::grpc::{ApiError, ApiResult};
use crate::seal::Keys;

const DEFAULT_LISTED: i32 = 200;
const MAX_LISTED: i32 = 1_000;
/// The most bytes of a token; some hundred transactions may be in it.
const MAX_TOKEN: usize = 65_536;

/// What a client wants to watch.
pub(super) struct Wish {
    pub(super) view: View,
    pub(super) tokens: Tokens,
    /// Where it goes on.
    pub(super) since: Option<Since>,
}

impl Wish {
    pub(super) fn read(
        keys: &Arc<Keys>,
        tenant: &Tenant,
        request: &pb::WatchWorkListRequest,
    ) -> ApiResult<Wish> {
        let mut violations = Violations::new();
        if !(0..=MAX_LISTED).contains(&request.max_contacts) {
            let rule = format!("must be between 0 and {MAX_LISTED}");
            violations.add("max_contacts", rule);
        }
        let listed = match request.max_contacts {
            0 => DEFAULT_LISTED,
            wanted => wanted,
        };
        let is_resumed = !request.resume_token.is_empty();
        let size = match is_resumed {
            true => MAX_MISSED_INSIDE,
            false => usize::try_from(listed).unwrap_or(0),
        };
        let of = &contact::LISTABLE;
        let list = of.read(&request.filter, &request.order_by, size, &mut violations);
        let groups = &request.customer_groups;
        let field = "customer_groups";
        let groups = read::words(&mut violations, field, groups, MAX_GROUPS, LONGEST_GROUP);
        let groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
        let tokens = Tokens::new(keys, tenant, &request.filter, &groups);
        let since = is_resumed.then(|| tokens.open(&request.resume_token));
        let since = since.and_then(|since| violations.check("resume_token", since));
        violations
            .finish(Wish {
                view: View { list, groups },
                tokens,
                since,
            })
            .map_err(ApiError::from)
    }
}

/// Where a client stopped.
#[derive(Serialize, Deserialize)]
pub(super) struct Since {
    pub(super) snapshot: String,
    pub(super) at: DateTime<Utc>,
    pub(super) history: String,
}

/// Makes and reads the tokens of a filter.
pub(super) struct Tokens {
    keys: Arc<Keys>,
    /// What they are for: tenant, call and filter.
    purpose: Vec<u8>,
}

impl Tokens {
    fn new(keys: &Arc<Keys>, tenant: &Tenant, filter: &str, groups: &[String]) -> Tokens {
        let request = pb::WatchWorkListRequest {
            filter: filter.to_owned(),
            customer_groups: groups.to_vec(),
            ..Default::default()
        };
        let mut purpose = tenant.id.0.as_bytes().to_vec();
        purpose.extend(pb::WatchWorkListRequest::full_name().as_bytes());
        purpose.push(0);
        purpose.extend(request.encode_to_vec());
        Tokens {
            keys: Arc::clone(keys),
            purpose,
        }
    }

    pub(super) fn seal(&self, moment: &Moment) -> String {
        let since = Since {
            snapshot: moment.snapshot.to_string(),
            at: moment.at,
            history: moment.history.clone(),
        };
        let content = serde_json::to_vec(&since).unwrap_or_default();
        let sealed = self.keys.seal(&self.purpose, &content);
        BASE64_URL_SAFE_NO_PAD.encode(sealed.expect("a server has a key"))
    }

    fn open(&self, token: &str) -> Result<Since, &'static str> {
        let open = || {
            if token.len() > MAX_TOKEN {
                return None;
            }
            let sealed = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
            serde_json::from_slice(&self.keys.open(&self.purpose, &sealed).ok()?).ok()
        };
        open().ok_or("is no token of this call with this filter")
    }
}
