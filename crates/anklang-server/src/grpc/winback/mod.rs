//! Winback.

pub mod mails;
pub mod templates;

mod vouchers;

use anklang_domain::Violations;
use anklang_domain::winback::MailTemplate;
use anklang_proto::anklang::winback::v1 as pb;

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
