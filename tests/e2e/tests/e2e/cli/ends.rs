//! Calls that nobody answers.

use super::command;

#[tokio::test]
async fn what_nobody_answers_has_an_end_and_a_change_is_told_with_its_id() {
    // Connections are taken, and nothing comes of them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let said = async |line: &str| {
        let output = command(&addr, line).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = said("offers accept A-1 --timeout 1").await;
    let doubt = "may have been done; repeat with --request-id ";
    let id = told.lines().find_map(|line| line.strip_prefix(doubt));
    let id = id.unwrap_or_else(|| panic!("{told}"));
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{told}");
    for line in [
        "campaigns list --timeout 1",
        "offers accept A-1 --validate-only --timeout 1",
    ] {
        let told = said(line).await;
        assert!(told.contains("no answer within 1 seconds"), "{told}");
        assert!(!told.contains("may have been done"), "{told}");
    }
}

#[tokio::test]
async fn what_is_for_tls_is_refused_without_it() {
    let refused = command("127.0.0.1:1", "campaigns list --ca /nowhere/ca.pem")
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("--ca is for TLS"), "{told}");
}
