//! What the centre's answer to a message means for it.
//!
//! Every answer other than ROK says that the message was not taken. So what is unknown is transient
//! and not ambiguous: another attempt may do, and the host limits them.

use std::time::Duration;

use anklang_plugin_sdk::{Outcome, Reason};
use rusmpp::CommandStatus;

use super::pdu::{Answer, status_name};

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The account is too fast, or the centre's queue is full.
    TooFast,
    /// Another attempt would be refused as well.
    ForGood(Reason),
    /// An operator has to mend the account; nobody is lost until then.
    Account,
    /// Another attempt may do.
    ForNow,
}

/// What a status other than ROK means.
pub(crate) fn refusal(status: CommandStatus) -> Refusal {
    use CommandStatus::*;
    match status {
        EsmeRthrottled | EsmeRmsgqful => Refusal::TooFast,
        EsmeRinvdstadr | EsmeRinvdstton | EsmeRinvdstnpi => Refusal::ForGood(Reason::Recipient),
        EsmeRinvmsglen | EsmeRinvdcs | EsmeRinvesmclass | EsmeRxPAppn | EsmeRxRAppn => {
            Refusal::ForGood(Reason::Content)
        }
        EsmeRinvsrcadr | EsmeRinvsrcton | EsmeRinvsrcnpi | EsmeRinvexpiry | EsmeRinvsched
        | EsmeRinvregdlvflg => Refusal::ForGood(Reason::Config),
        EsmeRbindfail | EsmeRinvpaswd | EsmeRinvsysid | EsmeRinvsystyp | EsmeRinvsertyp
        | EsmeRprohibited | EsmeRsertypunauth | EsmeRsertypdenied | EsmeRinvbndsts => {
            Refusal::Account
        }
        _ => Refusal::ForNow,
    }
}

/// The outcome of a message that was refused as a whole, perhaps being to blame for that itself.
pub(crate) fn outcome(answer: &Answer, is_to_blame: bool, rest: Duration) -> Outcome {
    let name = status_name(answer.status);
    if answer.is_nack {
        return Outcome::transient(name, "the centre could not read the request");
    }
    match refusal(answer.status) {
        Refusal::TooFast if !is_to_blame => Outcome::throttled(rest, "account"),
        Refusal::ForGood(reason) => Outcome::permanent(reason, name, "refused by the centre"),
        Refusal::Account => Outcome::transient("CONFIG", format!("the centre answers {name}")),
        Refusal::TooFast | Refusal::ForNow => Outcome::transient(name, "refused by the centre"),
    }
}

#[cfg(test)]
mod tests {
    use anklang_plugin_sdk::outcome::Kind;

    use super::*;

    fn kind(status: u32, is_to_blame: bool) -> String {
        let answer = Answer {
            status: CommandStatus::from(status),
            message_id: String::new(),
            is_nack: false,
        };
        match outcome(&answer, is_to_blame, Duration::from_secs(5)).kind {
            Some(Kind::Throttled(throttled)) => format!("throttled {}", throttled.scope),
            Some(Kind::Permanent(p)) => format!("{} {}", p.reason().as_str_name(), p.code),
            Some(Kind::Transient(t)) => format!("transient {}", t.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for (status, expected) in [
            (0x58, "throttled account"),
            (0x14, "throttled account"),
            (0x0B, "REASON_RECIPIENT ESME_RINVDSTADR"),
            (0x0A, "REASON_CONFIG ESME_RINVSRCADR"),
            (0x01, "REASON_CONTENT ESME_RINVMSGLEN"),
            (0x08, "transient ESME_RSYSERR"),
            (0x45, "transient ESME_RSUBMITFAIL"),
            (0x0E, "transient CONFIG"),
            (0x04, "transient CONFIG"),
            (0x400, "transient 0x00000400"),
        ] {
            assert_eq!(kind(status, false), expected);
        }
    }

    #[test]
    fn who_is_always_too_fast_holds_nobody_up() {
        assert_eq!(kind(0x58, false), "throttled account");
        assert_eq!(kind(0x58, true), "transient ESME_RTHROTTLED");
    }
}
