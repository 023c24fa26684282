//! Work that is handed out: whoever gets it is in the log, and whoever gets none is not.

use anklang_proto::anklang::planning::v1 as planning;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_testkit::TestServer;

use super::list;
use crate::winback::desk;
use crate::work_list;

#[tokio::test]
async fn who_asks_when_there_is_none_leaves_nothing() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let ids = [(); 2].map(|()| uuid::Uuid::now_v7().to_string());
    for [contact, case] in [["", ""], [&ids[0][..], &ids[1]], [&ids[0][..], &ids[1]]] {
        let request = planning::ClaimNextContactRequest {
            request_id: contact.into(),
            ..work_list::asks("anna")
        };
        assert_eq!(work_list::next(&client, request).await, None);
        let request = winback::NextWinbackCaseRequest {
            request_id: case.into(),
            ..desk::asks("anna")
        };
        assert_eq!(desk::next(&client, request).await, None);
    }
    assert_eq!(list(&client, "").await, []);
}

#[tokio::test]
async fn who_gets_some_is_in_the_log_with_what_it_is() {
    let server = TestServer::start().await.unwrap();
    let client = desk::shop(&server).await;
    let case = desk::open(&server, "K1", &[]).await;
    let got = desk::next(&client, desk::asks("anna")).await;
    assert_eq!(got.unwrap().winback_case.unwrap().name, case);
    let entries = list(&client, "method:NextWinbackCase").await;
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    for name in ["users/anna", &case, "customers/K1"] {
        assert!(
            entry.resources.iter().any(|r| r == name),
            "{name}: {entry:?}"
        );
    }
}
