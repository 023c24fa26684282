//! Command lines and the requests that they come to.

use anklang_proto::anklang::campaigns::v1::{
    DryRunLaunchRequest, LaunchCampaignRequest, UpdateApprovalPolicyRequest, UpdateCampaignRequest,
};
use anklang_proto::anklang::channels::v1::UpdateChannelAccountRequest;
use anklang_proto::anklang::offers::v1::RejectOfferRequest;
use anklang_proto::anklang::selections::v1::PreviewSelectionRequest;
use anklang_proto::anklang::selections::v1::preview_selection_request::Source;

use super::*;

fn program() -> clap::Command {
    Asked::augment_subcommands(clap::Command::new("anklang"))
}

fn asked(line: &str) -> Result<Asked, clap::Error> {
    let words = std::iter::once("anklang").chain(line.split(' '));
    let matches = program().try_get_matches_from(words)?;
    Asked::from_arg_matches(&matches)
}

fn request<M: Message + Default>(line: &str) -> M {
    let asked = asked(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    asked.request.transcode_to().expect("the request")
}

#[test]
fn commands_are_such_as_clap_wants() {
    program().debug_assert();
}

#[test]
fn arguments_set_fields() {
    let rejected: RejectOfferRequest =
        request("offers reject A-1 --reason-code not-interested --source phone");
    assert_eq!(rejected.name, "offers/A-1");
    assert_eq!((rejected.reason_code, &rejected.source[..]), (7, "phone"));
    assert!(Uuid::try_parse(&rejected.request_id).is_ok());
    let paused: UpdateChannelAccountRequest = request("channels accounts pause mail");
    let account = paused.channel_account.expect("an account");
    assert_eq!(
        (&account.name[..], account.paused),
        ("channelAccounts/mail", true)
    );
    assert_eq!(paused.update_mask.expect("a mask").paths, ["paused"]);
    let renamed: UpdateCampaignRequest = request("campaigns rename 1 --title Neu");
    let campaign = renamed.campaign.expect("a campaign");
    assert_eq!(
        (&campaign.name[..], &campaign.display_name[..]),
        ("campaigns/1", "Neu")
    );
    assert_eq!(renamed.update_mask.expect("a mask").paths, ["display_name"]);
    assert!(asked("campaigns rename 1").is_err(), "without a name");
    let preview = |line| request::<PreviewSelectionRequest>(line).sample_size;
    assert_eq!(preview("selections preview x"), 10);
    assert_eq!(preview("selections preview x --sample 3"), 3);
}

#[test]
fn arguments_go_before_a_file_and_that_before_what_is_always_set() {
    let file = tempfile();
    let json = r#"{"selection": "selections/x", "sampleSize": 4}"#;
    std::fs::write(&file.0, json).expect("a file");
    let preview = |more: &str| -> PreviewSelectionRequest {
        let path = file.0.display();
        request(&format!("selections preview --file {path}{more}"))
    };
    let read = preview("");
    assert_eq!(read.sample_size, 4);
    assert_eq!(read.source, Some(Source::Selection("selections/x".into())));
    assert_eq!(preview(" --sample 3").sample_size, 3);
    std::fs::write(&file.0, r#"{"colour": 1}"#).expect("a file");
    let wrong = asked(&format!("selections preview --file {}", file.0.display()));
    let wrong = wrong.err().expect("refused").to_string();
    assert!(wrong.contains("colour"), "{wrong}");
}

/// A file that goes with the test.
struct File(std::path::PathBuf);

fn tempfile() -> File {
    File(std::env::temp_dir().join(format!("anklang-{}.json", Uuid::now_v7())))
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_dry_run_has_an_id_of_its_own() {
    let file = tempfile();
    let id = "0191f3a0-0000-7000-8000-000000000001";
    let json = format!(r#"{{"requestId": "{id}", "etag": "x"}}"#);
    std::fs::write(&file.0, json).expect("a file");
    let path = file.0.display().to_string();
    let dry = |more: &str| -> DryRunLaunchRequest {
        request(&format!("campaigns launch --file {path} --dry-run{more}"))
    };
    let made = dry("");
    assert_ne!(made.request_id, id);
    assert!(Uuid::try_parse(&made.request_id).is_ok(), "{made:?}");
    let launch = made.launch.expect("a launch");
    assert_eq!((&launch.request_id[..], &launch.etag[..]), ("", ""));
    let own = "0191f3a0-0000-7000-8000-000000000002";
    assert_eq!(dry(&format!(" --request-id {own}")).request_id, own);
    let refused = asked(&format!(
        "campaigns launch --file {path} --dry-run --etag x"
    ));
    let refused = refused.err().expect("refused").to_string();
    assert!(refused.contains("--etag"), "{refused}");
    // The launch itself has that of the file.
    let launch: LaunchCampaignRequest = request(&format!("campaigns launch --file {path}"));
    assert_eq!((&launch.request_id[..], &launch.etag[..]), (id, "x"));
}

#[test]
fn a_policy_is_set_or_cleared_and_nothing_else() {
    let set: UpdateApprovalPolicyRequest = request("approvals policy set --members-over 0");
    let policy = set.approval_policy.expect("a policy");
    assert_eq!((policy.members_over, policy.window_hours), (Some(0), None));
    let mask = set.update_mask.expect("a mask").paths;
    assert_eq!(mask, ["members_over", "window_hours"]);
    let week = "approvals policy set --members-over 500 --window-hours 168";
    let week: UpdateApprovalPolicyRequest = request(week);
    let policy = week.approval_policy.expect("a policy");
    assert_eq!(
        (policy.members_over, policy.window_hours),
        (Some(500), Some(168))
    );
    let cleared: UpdateApprovalPolicyRequest = request("approvals policy clear --etag x");
    let policy = cleared.approval_policy.expect("a policy");
    assert_eq!((policy.members_over, &policy.etag[..]), (None, "x"));
    assert_eq!(cleared.update_mask.expect("a mask").paths, ["members_over"]);
    assert!(asked("approvals policy set").is_err());
    assert!(
        asked("approvals approve campaigns/1/phases/1").is_err(),
        "without the hash"
    );
}

#[test]
fn calls_have_an_end() {
    let timeout = |line| asked(line).map(|asked| asked.timeout.as_secs());
    assert_eq!(timeout("campaigns list").expect("a command"), 60);
    assert_eq!(timeout("campaigns list --timeout 5").expect("a command"), 5);
    assert!(timeout("campaigns list --timeout 0").is_err());
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_asked() {
    for line in [
        "offers reject A-1 --reason-code none",
        "campaigns launch",
        "campaigns launch --file /nowhere/x.json",
        "plans generate --from 2027-01-01",
        "plans generate --from soon --to 2027-01-31",
        "campaigns list --limit 0",
        "selections count",
        "campaigns",
        "campaigns get",
    ] {
        assert!(asked(line).is_err(), "{line}");
    }
}
