//! `anklang audit verify`: whether a chain is whole, and leads to heads that were noted.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anklang_domain::TenantId;
use anklang_domain::audit::{Head, Known, LEAST_DAYS};
use anklang_proto::anklang::audit::v1 as pb;
use anyhow::Context;
use chrono::{SecondsFormat, Utc};
use pb::audit_service_client::AuditServiceClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::line::{Line, digest};
use super::part::{Looked, Part, Since, since};
use super::read_server;
use crate::cli::client::call::refusal;
use crate::cli::client::text::{clean, clean_lines};
use crate::cli::server_args::ServerArgs;
use crate::grpc::TENANT_KEY;

/// The chain is broken.
const EXIT_BROKEN: u8 = 1;
/// There are no entries, or none in the part and no head to compare: nothing was checked.
const EXIT_EMPTY: u8 = 3;
/// The chain is whole, and whether it is the one that was noted is not known.
const EXIT_UNCOMPARED: u8 = 4;
/// Sealing takes a second or two; after so many seconds nobody seems to do it.
const UNSEALED: i64 = 60;
/// So often a log is looked at while entries go meanwhile.
const LOOKS: u32 = 3;
/// What whoever gives no head has not found out.
const UNCOMPARED: &str = "not compared with a noted head (--head): whether its end was cut off, or all of it made \
                          anew, was not checked";
/// What whoever gives only heads of entries that are gone has not found out.
const GONE: &str = "not compared with the noted head (--head): its entry went as it was old; compare with a later one, \
                    as all may have been made anew";
/// What whoever gives only heads of entries before the part that was checked has not found out.
const NOT_LOOKED_AT: &str =
    "not compared with the noted head (--head): its entry is before those that were checked";

// No doc comments: they would be those of the command.
#[derive(clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant, by its slug.
    #[arg(long, env = "ANKLANG_TENANT", required_unless_present = "file")]
    tenant: Option<String>,
    /// A head that was noted: the chain must lead to it. Several may be given, of which the newest must still be there.
    #[arg(long = "head", value_name = "SEQ:HASH", value_parser = head)]
    heads: Vec<Head>,
    /// That no head that was given can be compared, as all their entries are gone or before the part, is no failure.
    #[arg(long)]
    allow_uncompared: bool,
    /// For so many days entries are kept (audit.keep_days): the log must not tell of younger ones that went.
    #[arg(
        long,
        value_name = "DAYS",
        default_value_t = LEAST_DAYS,
        value_parser = clap::value_parser!(u32).range(i64::from(LEAST_DAYS)..=36_500)
    )]
    keep_days: u32,
    /// Only from this entry on, by its number, or from the first one of this time on (2027-01-31T10:00:00+01:00); the
    /// hash before it is taken for granted, unless it is that of a head.
    #[arg(long, value_name = "SEQ|TIME", value_parser = since)]
    from: Option<Since>,
    /// An exported file; otherwise what the server has is checked.
    file: Option<PathBuf>,
}

fn head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| {
        let seq = seq.parse().ok().filter(|seq: &i64| *seq >= 0)?;
        let hash = digest(hash).ok()?;
        Some(Head { seq, hash })
    });
    parts.ok_or_else(|| "must be a number, a colon and 64 hexadecimal digits".to_owned())
}

/// Runs the command.
pub async fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let known = Known {
        heads: args.heads.clone(),
        keep_days: args.keep_days,
    };
    let part = || Part::new(args.from, known.clone());
    let looked = match (&args.file, &args.tenant) {
        (Some(path), _) => {
            look_at_file(path, part()).with_context(|| path.display().to_string())?
        }
        (None, Some(tenant)) => {
            let server = &args.server;
            // From the entry before on, whose hash the first one follows.
            let after = match args.from {
                Some(since) => first_of(server, tenant, since)
                    .await?
                    .saturating_sub(2)
                    .max(0),
                None => 0,
            };
            let looked = settled(
                after,
                async || look_at_server(server, tenant, after, part()).await,
                async || first(server, tenant, "seq > 0".to_owned()).await,
            );
            let looked = looked.await?;
            warn(server, tenant).await;
            looked
        }
        (None, None) => anyhow::bail!("a file or a tenant is needed"),
    };
    Ok(tell(looked, &args.heads, args.allow_uncompared))
}

/// Says what came of it; gives the exit code.
fn tell(looked: Looked, heads: &[Head], allow_uncompared: bool) -> ExitCode {
    let Head { seq, hash } = match looked.head {
        Ok(head) => head,
        Err(why) => {
            eprintln!("anklang: the audit log is broken: {}", clean(&why));
            return ExitCode::from(EXIT_BROKEN);
        }
    };
    let before = looked.before;
    let gone = looked.removed.map_or(0, |removed| removed.until.seq);
    let there = seq.saturating_sub(gone.max(before));
    match (looked.tenant, before) {
        (None, 0) => {
            eprintln!("anklang: the audit log has no entries");
            return ExitCode::from(EXIT_EMPTY);
        }
        (None, _) if heads.is_empty() => {
            eprintln!("anklang: the audit log has no entries in this part, behind entry {before}");
            return ExitCode::from(EXIT_EMPTY);
        }
        (None, _) => println!("no entries in this part, behind entry {before}"),
        (Some(TenantId(tenant)), 0) => {
            println!("{there} entries of tenant {tenant}, the chain is whole");
        }
        (Some(TenantId(tenant)), _) => {
            println!(
                "{there} entries of tenant {tenant}, the chain is whole behind entry {before}"
            );
        }
    }
    println!("head {seq}:{}", hex::encode(hash));
    if let Some(removed) = looked.removed {
        let at = removed.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let before = removed.before.to_rfc3339_opts(SecondsFormat::Secs, true);
        println!(
            "entries 1 to {gone} went as they were old (audit.keep_days): of before {before}, as an entry of {at} says"
        );
    }
    let Some(newest) = heads.iter().map(|noted| noted.seq).max() else {
        eprintln!("{UNCOMPARED}");
        return ExitCode::SUCCESS;
    };
    if looked.is_compared {
        return ExitCode::SUCCESS;
    }
    match newest < gone {
        true => eprintln!("{GONE}"),
        false => eprintln!("{NOT_LOOKED_AT}"),
    }
    match allow_uncompared {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_UNCOMPARED),
    }
}

/// Looks at the lines of a file, up to one that is broken.
fn look_at_file(path: &Path, mut part: Part) -> anyhow::Result<Looked> {
    let mut found = Ok(());
    for text in BufReader::new(File::open(path)?).lines() {
        found = part.look(Line::parse(&text?));
        if found.is_err() {
            break;
        }
    }
    Ok(part.finish(found))
}

/// Looks at the sealed entries of a server behind a number, up to one that is broken.
async fn look_at_server(
    server: &ServerArgs,
    tenant: &str,
    after: i64,
    mut part: Part,
) -> anyhow::Result<Looked> {
    let mut found = Ok(());
    read_server(server, tenant, after, &mut |entry| {
        found = part.look(Line::of(entry)?.read());
        Ok(found.is_ok())
    })
    .await?;
    Ok(part.finish(found))
}

/// Looks behind a number, and again when something was found and the log begins further on than what was read, or than
/// the number when nothing was: what went as it was old meanwhile is not missing.
async fn settled(
    after: i64,
    look: impl AsyncFn() -> anyhow::Result<Looked>,
    first: impl AsyncFn() -> anyhow::Result<Option<i64>>,
) -> anyhow::Result<Looked> {
    for _ in 0..LOOKS {
        let looked = look().await?;
        let began = looked.first.unwrap_or(after.saturating_add(1));
        if looked.head.is_ok() || first().await? <= Some(began) {
            return Ok(looked);
        }
    }
    anyhow::bail!(
        "entries went as they were old while the log was read, again and again: verify it later"
    )
}

/// The number of the entry from which on is checked, of a server's log; when there is none, the one that comes next, so
/// that the last one is read, and compared.
async fn first_of(server: &ServerArgs, tenant: &str, since: Since) -> anyhow::Result<i64> {
    let found = match since {
        Since::Seq(seq) => Some(seq),
        Since::Time(at) => {
            let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
            let filter = format!("create_time >= \"{at}\" AND seq > 0");
            first(server, tenant, filter).await?
        }
    };
    let next = newest(server, tenant).await?.seq.saturating_add(1);
    Ok(found.map_or(next, |seq| seq.min(next)))
}

/// The number of the first entry of a server's chain that a filter lets through.
async fn first(server: &ServerArgs, tenant: &str, filter: String) -> anyhow::Result<Option<i64>> {
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut request = Request::new(pb::ListAuditEntriesRequest {
        filter,
        order_by: "seq".into(),
        page_size: 1,
        ..Default::default()
    });
    request.metadata_mut().insert(TENANT_KEY, slug);
    let listed = AuditServiceClient::new(connection)
        .list_audit_entries(request)
        .await;
    let listed = listed.map_err(|status| refusal(&status))?.into_inner();
    Ok(listed.audit_entries.first().map(|first| first.seq))
}

/// Says when entries of a server wait too long to be sealed.
async fn warn(server: &ServerArgs, tenant: &str) {
    match newest(server, tenant).await {
        Ok(newest) => {
            let warning = warning(&newest, Utc::now().timestamp());
            warning.into_iter().for_each(|said| eprintln!("{said}"));
        }
        Err(error) => {
            let error = clean_lines(&format!("{error:#}"));
            eprintln!("whether all is sealed is not known: {error}");
        }
    }
}

/// The end of a server's chain, and what is not sealed yet.
async fn newest(server: &ServerArgs, tenant: &str) -> anyhow::Result<pb::AuditHead> {
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut request = Request::new(pb::GetAuditHeadRequest {});
    request.metadata_mut().insert(TENANT_KEY, slug);
    let mut audit = AuditServiceClient::new(connection);
    let newest = audit.get_audit_head(request).await;
    let newest = newest.map_err(|status| refusal(&status))?;
    Ok(newest.into_inner())
}

/// What is to be said when entries wait too long to be sealed.
fn warning(newest: &pb::AuditHead, now: i64) -> Option<String> {
    let oldest = newest.oldest_unsealed_time.as_ref()?.seconds;
    let age = now.saturating_sub(oldest);
    (age > UNSEALED).then(|| {
        format!(
            "{} entries are not sealed, the oldest for {age} seconds: they were not checked, and nobody seems to seal",
            newest.unsealed_count
        )
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anklang_domain::audit::BEGINNING;

    use super::*;

    #[test]
    fn what_waits_too_long_to_be_sealed_is_told() {
        let newest = |oldest: Option<i64>| pb::AuditHead {
            unsealed_count: 7,
            oldest_unsealed_time: oldest.map(|seconds| prost_types::Timestamp {
                seconds,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(warning(&newest(None), 1_000), None);
        assert_eq!(warning(&newest(Some(940)), 1_000), None);
        let said = warning(&newest(Some(900)), 1_000).expect("a warning");
        assert!(
            said.starts_with("7 entries are not sealed, the oldest for 100 seconds"),
            "{said}"
        );
    }

    #[test]
    fn heads_are_a_number_and_a_hash() {
        let hash = "0a".repeat(32);
        let read = head(&format!("17:{hash}"));
        let expected = Head {
            seq: 17,
            hash: [10; 32],
        };
        assert_eq!(read, Ok(expected));
        for wrong in [
            "",
            "17",
            "17:",
            &hash,
            &format!("-1:{hash}"),
            "17:0a",
            &format!("x:{hash}"),
        ] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_goes_while_the_log_is_read_is_not_missing() {
        let looked = |first: i64, is_whole: bool| Looked {
            first: Some(first),
            before: 0,
            tenant: None,
            removed: None,
            is_compared: false,
            head: match is_whole {
                true => Ok(BEGINNING),
                false => Err("entry 4: missing".to_owned()),
            },
        };
        let looks = Cell::new(0);
        // Whole from the second look on; the log begins with entry 21 by then.
        let whole_then = async || {
            looks.set(looks.get() + 1);
            let is_second = looks.get() > 1;
            anyhow::Ok(looked(if is_second { 21 } else { 1 }, is_second))
        };
        let found = settled(0, whole_then, async || Ok(Some(21))).await;
        assert_eq!(found.expect("a look"), looked(21, true));
        assert_eq!(looks.get(), 2);

        // Nothing went: it is missing, and that is said at once.
        let found = settled(0, async || Ok(looked(21, false)), async || Ok(Some(21))).await;
        assert_eq!(found.expect("a look"), looked(21, false));

        // Going on and on.
        let found = settled(0, async || Ok(looked(1, false)), async || Ok(Some(21))).await;
        let why = found.expect_err("nothing is known").to_string();
        assert!(why.contains("verify it later"), "{why}");

        // Nothing to be read: behind the log's end, or in a log that lost all, its end is missing.
        let nothing = || Looked {
            first: None,
            ..looked(1, false)
        };
        for (after, first) in [(39_999, Some(21)), (0, Some(1)), (0, None)] {
            let found = settled(after, async || Ok(nothing()), async || Ok(first)).await;
            assert_eq!(found.expect("a look"), nothing(), "{after} {first:?}");
        }

        // Nothing was read, and by then the log begins further on than reading did.
        let found = settled(0, async || Ok(nothing()), async || Ok(Some(21))).await;
        let why = found.expect_err("nothing is known").to_string();
        assert!(why.contains("verify it later"), "{why}");
    }
}
