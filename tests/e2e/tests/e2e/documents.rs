//! Documents of an outbound: one by one, as print files, and their index.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::documents::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use crate::campaigns::metadata;
use crate::hold::Hold;
use crate::refused;
use crate::story::pdf_text;
use crate::utility::{Case, FEW, launch, launched, offers_of, until, with_utility};

/// Waits for the bundle of a launch.
pub async fn bundled(client: &Client, launched: &campaigns::LaunchCampaignResponse) -> pb::Bundle {
    let operation = lro::Operation {
        name: launched.bundle_operation.clone(),
        ..Default::default()
    };
    made(&client.finished(&operation).await.unwrap())
}

fn made(operation: &lro::Operation) -> pb::Bundle {
    let Some(lro::operation::Result::Response(any)) = &operation.result else {
        panic!("no bundle: {operation:?}");
    };
    pb::Bundle::decode(&any.value[..]).unwrap()
}

/// The outbound of a launch.
pub fn outbound(launched: &campaigns::LaunchCampaignResponse) -> String {
    format!("{}/outbounds/1", launched.phase.as_ref().unwrap().name)
}

async fn get(client: &Client, outbound: &str) -> Result<pb::Bundle, Status> {
    let request = pb::GetBundleRequest {
        name: format!("{outbound}/bundle"),
    };
    let bundle = client.documents().get_bundle(request).await;
    bundle.map(tonic::Response::into_inner)
}

async fn make(client: &Client, outbound: &str) -> Result<lro::Operation, Status> {
    let request = pb::MakeBundleRequest {
        parent: outbound.into(),
        ..Default::default()
    };
    let operation = client.documents().make_bundle(request).await;
    operation.map(tonic::Response::into_inner)
}

async fn list(client: &Client, outbound: &str, filter: &str) -> Vec<pb::Document> {
    let request = pb::ListDocumentsRequest {
        parent: outbound.into(),
        page_size: 1_000,
        filter: filter.into(),
        ..Default::default()
    };
    let listed = client.documents().list_documents(request).await.unwrap();
    listed.into_inner().documents
}

/// All parts of a file from an offset on.
async fn parts(
    client: &Client,
    name: &str,
    offset: i64,
) -> Result<Vec<pb::DownloadFileResponse>, Status> {
    let request = pb::DownloadFileRequest {
        name: name.into(),
        offset,
    };
    let mut stream = client
        .documents()
        .download_file(request)
        .await?
        .into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part);
    }
    Ok(parts)
}

/// A whole file, whose size and hash must be as told.
pub async fn download(client: &Client, name: &str) -> Vec<u8> {
    let parts = parts(client, name, 0).await.unwrap();
    let mut bytes = Vec::new();
    for part in &parts {
        assert_eq!(part.offset, i64::try_from(bytes.len()).unwrap());
        assert!((1..=64 * 1024).contains(&part.data.len()));
        bytes.extend_from_slice(&part.data);
    }
    assert_eq!(parts[0].size_bytes, i64::try_from(bytes.len()).unwrap());
    assert_eq!(parts[0].sha256, hex::encode(Sha256::digest(&bytes)));
    assert!(parts[1..].iter().all(|p| p.sha256.is_empty()));
    bytes
}

fn three_letters_a_file() -> Options {
    Options {
        documents: "letters_per_print_file = 3".into(),
        ..Default::default()
    }
}

/// The text of some pages of a PDF.
fn text_of_pages(pdf: &[u8], from: i32, pages: i32) -> String {
    let (first, last) = (from.to_string(), (from + pages - 1).to_string());
    let mut child = Command::new("pdftotext")
        .args(["-f", &first, "-l", &last, "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = pdf.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Everything about a bundle fits together: list, print files, index, single documents.
pub async fn check(client: &Client, outbound: &str, bundle: &pb::Bundle) {
    assert_eq!(bundle.state(), pb::BundleState::Ready);
    assert_eq!(&get(client, outbound).await.unwrap(), bundle);
    let documents = list(client, outbound, "print_file > 0").await;
    assert_eq!(bundle.letters, i64::try_from(documents.len()).unwrap());
    let numbers: Vec<&str> = documents.iter().map(|d| &d.offer[..]).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");

    let mut prints = Vec::new();
    for file in &bundle.print_files {
        let bytes = download(client, &file.name).await;
        assert_eq!(file.sha256, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(file.standard, "PDF/A-2b");
        prints.push(bytes);
    }
    let index = download(client, &bundle.index.as_ref().unwrap().name).await;
    let mut lines = csv::Reader::from_reader(&index[..]);
    assert_eq!(
        lines.headers().unwrap(),
        vec![
            "offer",
            "contract",
            "customer",
            "file_name",
            "sha256",
            "size_bytes",
            "pages",
            "standard",
            "print_file",
            "first_page",
        ]
    );
    let lines: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), documents.len());
    let mut next = (1, 1);
    for (document, line) in documents.iter().zip(&lines) {
        if document.print_file != next.0 {
            next = (next.0 + 1, 1);
        }
        assert_eq!((document.print_file, document.print_page), next);
        next.1 += document.pages;
        let number = document.offer.strip_prefix("offers/").unwrap();
        let expected = [
            document.offer.clone(),
            document.contract.clone(),
            document.customer.clone(),
            format!("{number}.pdf"),
            document.sha256.clone(),
            document.size_bytes.to_string(),
            document.pages.to_string(),
            document.standard.clone(),
            format!("print-{:05}.pdf", document.print_file),
            document.print_page.to_string(),
        ];
        assert_eq!(line, expected.to_vec());
        assert_eq!(document.file_name, expected[3]);
        let pdf = &prints[usize::try_from(document.print_file - 1).unwrap()];
        let printed = text_of_pages(pdf, document.print_page, document.pages);
        assert!(printed.contains(number), "{number} in {printed}");
        let single = download(client, &document.name).await;
        assert_eq!(document.sha256, hex::encode(Sha256::digest(&single)));
        assert_eq!(text_of_pages(&single, 1, document.pages), printed);
    }
    let pages: i32 = documents.iter().map(|d| d.pages).sum();
    assert_eq!(bundle.pages, i64::from(pages));
}

/// Files under the folder of bundles, relative to the store.
fn files(server: &TestServer) -> BTreeSet<PathBuf> {
    fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&server.documents().join("bundles"), &mut found);
    found
}

#[tokio::test]
async fn a_launch_bundles_its_documents() {
    let server = TestServer::start_with(three_letters_a_file())
        .await
        .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let done = launch(&client, utility.launch()).await;
    let bundle = bundled(&client, &done).await;
    let outbound = outbound(&done);
    check(&client, &outbound, &bundle).await;
    let sizes: Vec<i64> = bundle.print_files.iter().map(|f| f.letters).collect();
    assert_eq!(sizes, [3, 1]);
    assert_eq!(files(&server).len(), 3);

    let documents = list(&client, &outbound, "").await;
    let offers = offers_of(&client, &done.campaign.unwrap().name).await;
    assert_eq!(documents.len(), offers.len());
    for document in &documents {
        let offer = &offers[&document.contract];
        assert_eq!(
            (&document.offer, &document.customer),
            (&offer.name, &offer.customer)
        );
        let own = offer.document.as_ref().unwrap();
        assert_eq!(
            (&document.sha256, &document.standard),
            (&own.sha256, &own.standard)
        );
        assert_eq!(document.offer_state(), offers::OfferState::Open);
    }
    assert_eq!(
        list(&client, &outbound, "print_file = 2 AND offer_state = OPEN")
            .await
            .len(),
        1
    );

    // Made once: asked for again, it is what it was.
    let again = make(&client, &outbound).await.unwrap();
    assert_eq!(made(&again), bundle);
    assert_eq!(again.name, bundle.operation);
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let done = launch(&client, utility.launch()).await;
    let bundle = bundled(&client, &done).await;
    let name = &bundle.print_files[0].name;
    let whole = download(&client, name).await;
    let size = i64::try_from(whole.len()).unwrap();
    for offset in [1, 65_536, 70_001, size - 1] {
        let rest = parts(&client, name, offset).await.unwrap();
        assert_eq!((rest[0].offset, rest[0].size_bytes), (offset, size));
        let bytes: Vec<u8> = rest.iter().flat_map(|p| p.data.to_vec()).collect();
        assert_eq!(bytes, whole[usize::try_from(offset).unwrap()..]);
    }
    let nothing = parts(&client, name, size).await.unwrap();
    assert_eq!((nothing.len(), nothing[0].data.len()), (1, 0));
    for offset in [-1, size + 1] {
        let status = parts(&client, name, offset).await.unwrap_err();
        refused::names(&status, &["offset"]);
    }
    let outbound = outbound(&done);
    for missing in [
        "offers/A-99999999/document".to_owned(),
        format!("{outbound}/printFiles/2"),
        format!("{outbound}0/index"),
    ] {
        refused::not_found(&parts(&client, &missing, 0).await.unwrap_err());
    }
    for wrong in [
        String::new(),
        "offers/A-00000001".into(),
        format!("{outbound}/printFiles/0"),
        format!("{outbound}/printFiles/x"),
        "offers/document".into(),
    ] {
        refused::names(&parts(&client, &wrong, 0).await.unwrap_err(), &["name"]);
    }
    for wrong in ["x", "campaigns/1/phases/1/outbounds/1"] {
        refused::names(&get(&client, wrong).await.unwrap_err(), &["name"]);
        refused::names(&make(&client, wrong).await.unwrap_err(), &["parent"]);
    }
}

#[tokio::test]
async fn an_outbound_without_documents_has_no_bundle() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.outbound.as_mut().unwrap().without_document = true;
    let done = launch(&client, request).await;
    assert_eq!(done.bundle_operation, "");
    let outbound = outbound(&done);
    refused::not_found(&get(&client, &outbound).await.unwrap_err());
    refused::precondition(&make(&client, &outbound).await.unwrap_err(), "PRECONDITION");
    assert_eq!(list(&client, &outbound, "").await, []);
}

#[tokio::test]
async fn a_bundle_survives_that_its_server_is_killed() {
    let mut server = TestServer::start_with(three_letters_a_file())
        .await
        .unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 8)]).await;
    // The first file is there, the second lies in the store and is not recorded.
    let hold = Hold::inserts(&server, "bundle_file", "NEW.number = 2").await;
    let done = launch(&client, utility.launch()).await;
    hold.reached().await;
    server.kill();
    hold.release().await;
    assert_eq!(files(&server).len(), 2);
    let outbound = outbound(&done);
    let recorded = "SELECT count(*) FROM bundle_file";
    assert_eq!(server.database.one(recorded).await.unwrap(), "1");

    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let bundle = bundled(&client, &done).await;
    check(&client, &outbound, &bundle).await;
    let sizes: Vec<i64> = bundle.print_files.iter().map(|f| f.letters).collect();
    assert_eq!(sizes, [3, 3, 2]);
    // What nobody recorded is gone.
    assert_eq!(files(&server).len(), 4);
    let taken_up = "SELECT attempt > 1 FROM operation WHERE kind = 'MakeBundle'";
    assert_eq!(server.database.one(taken_up).await.unwrap(), "t");
}

async fn cancel(client: &Client, operation: &str) {
    let request = lro::CancelOperationRequest {
        name: operation.into(),
    };
    client.operations().cancel_operation(request).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_bundle_can_be_made_later_and_leaves_out_what_was_taken_back() {
    let server = TestServer::start_with(three_letters_a_file())
        .await
        .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "bundle_file", "NEW.number = 1").await;
    let done = launch(&client, utility.launch()).await;
    let outbound = outbound(&done);
    hold.reached().await;
    let state = get(&client, &outbound).await.unwrap();
    assert_eq!(
        (state.state(), state.index),
        (pb::BundleState::Making, None)
    );
    let early = format!("{outbound}/index");
    refused::not_found(&parts(&client, &early, 0).await.unwrap_err());
    cancel(&client, &done.bundle_operation).await;
    hold.release().await;
    until("the bundle is cancelled", async || {
        get(&client, &outbound).await.unwrap().state() == pb::BundleState::Cancelled
    })
    .await;
    // The offers are as they were, but for the last one.
    let documents = list(&client, &outbound, "").await;
    assert!(
        documents
            .iter()
            .all(|d| d.offer_state() == offers::OfferState::Open)
    );
    let last = documents.last().unwrap().offer.clone();
    let withdraw = offers::WithdrawOfferRequest {
        name: last.clone(),
        ..Default::default()
    };
    client.offers().withdraw_offer(withdraw).await.unwrap();

    // As if its operation had ended without saying so.
    let left = "UPDATE bundle SET state = 'making'";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(left).await.unwrap();
    let operation = make(&client, &outbound).await.unwrap();
    assert_ne!(operation.name, done.bundle_operation);
    let bundle = made(&client.finished(&operation).await.unwrap());
    check(&client, &outbound, &bundle).await;
    assert_eq!(bundle.letters, 3);
    let left_out = list(&client, &outbound, "offer_state = WITHDRAWN").await;
    assert_eq!((left_out.len(), &left_out[0].offer), (1, &last));
    assert_eq!(left_out[0].print_file, 0);
}

#[tokio::test]
async fn nothing_is_printed_of_a_cancelled_phase() {
    let server = TestServer::start_with(three_letters_a_file())
        .await
        .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "bundle_file", "NEW.number = 1").await;
    let done = launch(&client, utility.launch()).await;
    let outbound = outbound(&done);
    hold.reached().await;
    let request = campaigns::CancelPhaseRequest {
        name: done.phase.unwrap().name,
        ..Default::default()
    };
    client.campaigns().cancel_phase(request).await.unwrap();
    hold.release().await;
    until("the bundle is cancelled", async || {
        get(&client, &outbound).await.unwrap().state() == pb::BundleState::Cancelled
    })
    .await;
    let status = make(&client, &outbound).await.unwrap_err();
    let (_, why) = refused::precondition(&status, "PRECONDITION");
    assert!(why.contains("cancelled"), "{why}");
}

#[tokio::test]
async fn a_letter_that_no_font_can_show_is_sent_all_the_same_and_says_so() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let sql = "UPDATE customer SET last_name = '張偉' WHERE number = 'K0001'";
    let owner = server.database.connect().await.unwrap();
    assert_eq!(owner.execute(sql, &[]).await.unwrap(), 1);
    let done = launch(&client, utility.launch()).await;
    assert_eq!((done.members, done.failed_documents), (4, 0));
    let bundle = bundled(&client, &done).await;
    let documents = list(&client, &outbound(&done), "standard = \"PDF 1.7\"").await;
    assert_eq!(
        (documents.len(), &documents[0].customer[..]),
        (1, "customers/K0001")
    );
    assert_eq!(bundle.print_files[0].standard, "PDF 1.7");
    let text = pdf_text(&download(&client, &bundle.print_files[0].name).await);
    assert!(text.contains("Sehr geehrte"), "{text}");
}

/// Saves the letter of a brand.
async fn save_letter(client: &Client, brand: &str, source: &str) {
    let request = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: format!("brands/{brand}/templates/offer_letter.de"),
            content: Some(templates::template::Content::Document(
                templates::DocumentContent {
                    typst_source: source.into(),
                },
            )),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    client.templates().update_template(request).await.unwrap();
}

/// A letter that fails for contracts whose number ends in an even digit.
async fn save_picky_letter(client: &Client) {
    for brand in ["linden", "nordlicht"] {
        // The samples' contracts pass.
        let source = "#let n = sys.inputs.contract.number\n\
            #assert(n.starts-with(\"V-\") or n.ends-with(regex(\"[13579]\")), message: \"even\")\n\
            #sys.inputs.offer.number";
        save_letter(client, brand, source).await;
    }
}

async fn get_offer(client: &Client, number: &str) -> offers::Offer {
    let request = offers::GetOfferRequest {
        name: format!("offers/{number}"),
    };
    client
        .offers()
        .get_offer(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn a_single_offer_without_a_document_is_withdrawn_and_says_why() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    save_picky_letter(&client).await;
    let even = utility
        .contracts
        .iter()
        .find(|c| c.case == Case::Plain && c.number.ends_with('2'))
        .unwrap();
    let request = offers::CreateOfferRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..utility.switch(even)
    };
    // Whoever lost the first answer is told the same.
    for _ in 0..2 {
        let status = client
            .offers()
            .create_offer(request.clone())
            .await
            .unwrap_err();
        let (_, why) = refused::precondition(&status, "PRECONDITION");
        assert!(why.contains("even"), "{why}");
    }
    let offer = get_offer(&client, "A-00000001").await;
    assert_eq!(offer.state(), offers::OfferState::Withdrawn);
    assert!(
        offer
            .withdraw_reason
            .contains("its document could not be made"),
        "{offer:?}"
    );
    assert!(offer.withdraw_time.is_some());
}

#[tokio::test]
async fn a_letter_without_end_holds_up_nothing() {
    let mut server = TestServer::start_with(Options {
        documents: "threads = 1\nletter_seconds = 10".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 3)]).await;
    // Of the brand of one contract alone. It takes the MWh to the power of four: nothing with the samples.
    let endless = "#let mwh = range(int(sys.inputs.offer.annual_quantity_kwh / 1000))\n\
        #for a in mwh { for b in mwh { for c in mwh { for d in mwh {} } } }\n\
        #sys.inputs.offer.number";
    save_letter(&client, "nordlicht", endless).await;
    let large = &utility.contracts[1];
    assert_eq!(large.brand.code, "nordlicht");
    let owner = server.database.connect().await.unwrap();
    let sql = "UPDATE contract SET annual_quantity_kwh = 3000000 WHERE number = $1";
    assert_eq!(owner.execute(sql, &[&large.number]).await.unwrap(), 1);

    let operation = client
        .campaigns()
        .launch_campaign(utility.launch())
        .await
        .unwrap()
        .into_inner();
    let operation = client.finished(&operation).await.unwrap();
    let done = launched(&operation);
    assert_eq!((done.members, done.failed_documents), (3, 1));
    let errors = metadata(&operation).last_errors;
    let offers = offers_of(&client, &done.campaign.unwrap().name).await;
    for contract in &utility.contracts {
        let offer = &offers[&contract.name()];
        if contract.number == large.number {
            assert_eq!(offer.state(), offers::OfferState::Withdrawn);
            let why = format!("offer {}: the letter takes longer than 10 s", offer.number);
            assert!(
                errors.len() == 1 && errors[0].starts_with(&why),
                "{errors:?}"
            );
        } else {
            // The only turn to render came back.
            assert_eq!(offer.state(), offers::OfferState::Open);
            assert!(offer.document.is_some(), "{offer:?}");
        }
    }

    // That version is not tried again, the next one is.
    let asked = Instant::now();
    let single = client.offers().create_offer(utility.switch(large)).await;
    let (_, why) = refused::precondition(&single.unwrap_err(), "PRECONDITION");
    assert!(why.contains("was not begun"), "{why}");
    assert!(asked.elapsed() < Duration::from_secs(10), "it was tried");
    save_letter(&client, "nordlicht", "#sys.inputs.offer.number").await;
    let done = launch(&client, utility.launch()).await;
    assert_eq!((done.members, done.failed_documents), (3, 0));

    let asked = Instant::now();
    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(
        asked.elapsed() < Duration::from_secs(18),
        "it used up its grace"
    );
    let log = server.log();
    assert_eq!(log.matches("a letter takes too long").count(), 1, "{log}");
}

#[tokio::test]
async fn drafts_without_document_do_not_keep_others_waiting() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 6)]).await;
    let (folder, away) = (
        server.documents(),
        server.documents().with_extension("away"),
    );
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "a file where the folder was").unwrap();
    for contract in &utility.contracts {
        let status = client
            .offers()
            .create_offer(utility.switch(contract))
            .await
            .unwrap_err();
        refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    }
    let waiting = "SELECT concat_ws(' ', count(*), min(document_failures), max(document_failures))
                   FROM offer WHERE state = 'draft'";
    assert_eq!(server.database.one(waiting).await.unwrap(), "6 1 1");

    // The store is back; three of the letters cannot be made any more.
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    save_picky_letter(&client).await;
    let owner = server.database.connect().await.unwrap();
    let later = "UPDATE offer SET updated_at = updated_at - interval '3 minutes'";
    owner.execute(later, &[]).await.unwrap();
    server.restart().await.unwrap();
    until("no draft is left", async || {
        server.database.one(waiting).await.unwrap().starts_with("0")
    })
    .await;
    let client = Client::connect(server.addr, "linden").await.unwrap();
    for number in 1..=6 {
        let offer = get_offer(&client, &format!("A-{number:08}")).await;
        if offer.contract.ends_with(['1', '3', '5', '7', '9']) {
            assert_eq!(offer.state(), offers::OfferState::Open);
        } else {
            assert_eq!(offer.state(), offers::OfferState::Withdrawn);
            assert!(offer.withdraw_reason.contains("even"), "{offer:?}");
        }
    }
}

#[tokio::test]
async fn a_launch_says_what_bundles_its_documents() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let operation = client
        .campaigns()
        .launch_campaign(utility.launch())
        .await
        .unwrap();
    let done = launched(&client.finished(operation.get_ref()).await.unwrap());
    assert!(done.bundle_operation.starts_with("operations/"));
    let bundle = bundled(&client, &done).await;
    assert_eq!(bundle.operation, done.bundle_operation);
    assert_eq!(bundle.name, format!("{}/bundle", outbound(&done)));
}
