//! Callers who are known by their certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_testkit::{Client, Options, TestServer, violations};
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType, date_time_ymd};
use serde_json::json;
use tonic::transport::Channel;

use super::streams::{end, ends, goes_on, watch_as};
use super::{LIST, brand, denied, knows, lacking, list, new_token, nobody, update};
use crate::raw::Raw;
use crate::server::{USAGE, names, refused as not_started};
use crate::tls::certificates::{Authority, Mount, Signed};
use crate::tls::{answers, endpoint};
use crate::utility::until;

const IMPORTER: &str = "spiffe://example.org/ns/crm/sa/importer";
/// A call after which one sees whose it was.
const POLICY: &str = "anklang.campaigns.v1.ApprovalService/UpdateApprovalPolicy";
const GET_POLICY: &str = "anklang.campaigns.v1.ApprovalService/GetApprovalPolicy";
/// A call that says who works.
const CLAIM: &str = "anklang.planning.v1.WorkListService/ClaimNextContact";

/// Settings by which a server knows a certificate: `name` is what it says, as TOML.
fn mapped(id: &str, name: &str, tenants: &[&str], role: &str) -> String {
    format!("[auth.certificates.{id}]\n{name}\ntenants = {tenants:?}\nroles = ['{role}']\n")
}

/// What a certificate with these URIs says, for a person of Acme.
fn saying(uris: &[&str], person: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    for uri in uris {
        let uri = (*uri).try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    }
    // The subject begins with what RFC 4514 writes last.
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::CommonName, person);
    params
}

/// A server that asks callers for certificates, with the tenants `linden` and `other`, each of which has
/// one brand, of its name.
struct Guarded {
    server: TestServer,
    /// Signs the server's certificate.
    authority: Authority,
    /// Signs those of callers.
    callers: Authority,
    mount: Mount,
}

impl Guarded {
    async fn start(trusts: &str) -> Self {
        let (authority, callers) = (Authority::new(), Authority::new());
        let mount = Mount::new(&authority.sign(), &callers.pem);
        let client_ca = format!("client_ca = '{}'", mount.file("ca.crt").display());
        let own = mapped("own", "subject = 'CN=own,O=Acme'", &["*"], "central");
        let server = TestServer::start_with(Options {
            config: format!(
                "{}\n[auth]\nmode = 'token'\n{own}\n{trusts}",
                mount.settings(&client_ca)
            ),
            ..Default::default()
        })
        .await
        .unwrap();
        let guarded = Guarded {
            server,
            authority,
            callers,
            mount,
        };
        let own = guarded.showing(&[], "own").await;
        for tenant in ["linden", "other"] {
            guarded.server.add_tenant(tenant).await.unwrap();
            update(&own, Some(tenant), &brand(tenant)).await.unwrap();
        }
        guarded
    }

    async fn connect(&self, shown: Option<&Signed>) -> Raw {
        let endpoint = endpoint(self.server.addr, &self.authority, shown);
        Raw::over(endpoint.connect().await.unwrap())
    }

    /// Somebody with a good certificate that says this.
    async fn showing(&self, uris: &[&str], person: &str) -> Raw {
        let signed = self.callers.sign_as(saying(uris, person));
        self.connect(Some(&signed)).await
    }

    /// Somebody whose SPIFFE ID is that.
    async fn spiffe(&self, path: &str) -> Raw {
        let id = format!("spiffe://example.org/{path}");
        self.showing(&[&id], "somebody").await
    }
}

fn spiffe_id(path: &str) -> String {
    format!("spiffe_id = 'spiffe://example.org/{path}'")
}

/// Whether a caller may change the tenant `linden`; whoever may not is told what is missing.
async fn changes(caller: &Raw) -> bool {
    let Err(status) = update(caller, Some("linden"), &brand("new")).await else {
        return true;
    };
    let lacks = lacking(&status);
    assert_eq!(lacks.as_deref(), Some("master.write"), "{status:?}");
    false
}

#[tokio::test]
async fn a_certificate_is_for_its_tenants_and_roles() {
    let trusts = [
        mapped(
            "importer",
            &spiffe_id("ns/crm/sa/importer"),
            &["linden"],
            "service",
        ),
        mapped(
            "auditor",
            "subject = 'CN=auditor,O=Acme'",
            &["linden", "other"],
            "auditor",
        ),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    let importer = guarded.showing(&[IMPORTER], "somebody").await;
    let auditor = guarded.showing(&[], "auditor").await;
    // Its one tenant need not be named.
    for tenant in [None, Some("linden")] {
        assert_eq!(list(&importer, tenant).await.unwrap(), ["linden"]);
    }
    assert!(!changes(&auditor).await);
    assert_eq!(list(&auditor, Some("linden")).await.unwrap(), ["linden"]);
    assert!(changes(&importer).await);
    assert_eq!(
        list(&auditor, Some("linden")).await.unwrap(),
        ["linden", "new"]
    );

    for tenant in ["other", "nowhere"] {
        denied(&list(&importer, Some(tenant)).await.unwrap_err());
        let stolen = update(&importer, Some(tenant), &brand("stolen")).await;
        denied(&stolen.unwrap_err());
    }
    assert_eq!(list(&auditor, Some("other")).await.unwrap(), ["other"]);
}

#[tokio::test]
async fn what_fits_best_counts() {
    let trusts = [
        mapped("below", &spiffe_id("ns/crm/*"), &["*"], "auditor"),
        mapped("deeper", &spiffe_id("ns/crm/sa/*"), &["*"], "service"),
        mapped("exact", &spiffe_id("ns/crm/sa/reader"), &["*"], "auditor"),
        mapped("subject", "subject = 'CN=boss,O=Acme'", &["*"], "central"),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    for (path, may) in [
        ("ns/crm/web", false),
        ("ns/crm/sa", false),
        ("ns/crm/sa/importer", true),
        ("ns/crm/sa/importer/2", true),
        ("ns/crm/sa/reader2", true),
        ("ns/crm/sa/reader", false),
    ] {
        let caller = guarded.spiffe(path).await;
        assert_eq!(list(&caller, Some("other")).await.unwrap(), ["other"]);
        assert_eq!(changes(&caller).await, may, "{path}");
    }
    // The SPIFFE ID before the subject, and the subject when nobody has that ID.
    let id = "spiffe://example.org/ns/crm/web";
    assert!(!changes(&guarded.showing(&[id], "boss").await).await);
    let id = "spiffe://example.org/ns/erp";
    assert!(changes(&guarded.showing(&[id], "boss").await).await);
}

#[tokio::test]
async fn who_is_below_a_name_is_somebody_of_its_own() {
    let trusts = [
        mapped("below", &spiffe_id("ns/crm/*"), &["*"], "central"),
        mapped("exact", &spiffe_id("ns/crm/sa/shop"), &["*"], "central"),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    for (path, name) in [
        ("ns/crm/importer", "certificates/below/importer"),
        ("ns/crm/sa/web", "certificates/below/sa/web"),
        ("ns/crm/sa/shop", "certificates/exact"),
    ] {
        let caller = guarded.spiffe(path).await;
        let request = json!({"approvalPolicy": {}});
        let set = caller.call(Some("linden"), POLICY, &request).await;
        assert_eq!(set.unwrap()["updater"], name);
    }
}

#[tokio::test]
async fn workloads_of_one_mapping_are_one_where_two_have_to_act() {
    let trusts = [
        mapped("crm", &spiffe_id("ns/crm/*"), &["*"], "central"),
        mapped("erp", &spiffe_id("ns/erp/*"), &["*"], "central"),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    let [web, job, erp] = ["ns/crm/web", "ns/crm/job", "ns/erp/web"];
    let (web, job, erp) = tokio::join!(
        guarded.spiffe(web),
        guarded.spiffe(job),
        guarded.spiffe(erp)
    );
    let set = async |caller: &Raw, policy: serde_json::Value| {
        let request = json!({"approvalPolicy": policy});
        let set = caller.call(Some("linden"), POLICY, &request).await;
        set.unwrap()
    };
    let stricter = async |caller: &Raw| {
        let policy = caller.call(Some("linden"), GET_POLICY, &json!({})).await;
        policy.unwrap()["stricter"]["membersOver"].clone()
    };
    set(&web, json!({"membersOver": 3})).await;
    set(&web, json!({})).await;
    for (caller, limit) in [(&web, json!("3")), (&job, json!("3")), (&erp, json!(null))] {
        assert_eq!(stricter(caller).await, limit);
    }
    // Another pod of the same is nobody else, whatever it is called; that of another mapping is.
    set(&job, json!({})).await;
    assert_eq!(stricter(&web).await, json!("3"));
    set(&erp, json!({})).await;
    for caller in [&web, &job, &erp] {
        assert_eq!(stricter(caller).await, json!(null));
    }
}

#[tokio::test]
async fn who_is_mapped_to_nobody_is_refused() {
    let trusts = [
        mapped(
            "importer",
            &spiffe_id("ns/crm/sa/importer"),
            &["*"],
            "central",
        ),
        mapped("below", &spiffe_id("ns/erp/*"), &["*"], "central"),
        mapped("boss", "subject = 'CN=boss,O=Acme'", &["*"], "central"),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    let (web, other) = ("https://example.org/", "spiffe://example.org/ns/erp/a");
    for (uris, person) in [
        (&["urn:crm"][..], "somebody"),
        (&[], "somebody"),
        (&[], "Boss"),
        (&[], "boss,O=Acme"),
        (&["spiffe://example.org/ns/crm/sa/importer2"], "somebody"),
        (&["spiffe://example.org/ns/crm/sa"], "somebody"),
        (&["spiffe://example.org/ns/erp"], "somebody"),
        (&["spiffe://example.org/ns/erp2/a"], "somebody"),
        (&["spiffe://example.com/ns/crm/sa/importer"], "somebody"),
        (&["https://example.org/ns/crm/sa/importer"], "somebody"),
        // No SVIDs: with several URIs, or with one that says who else it could be.
        (&[IMPORTER, other], "boss"),
        (&[web, IMPORTER], "boss"),
        (&["spiffe://example.org/ns/erp/../crm"], "boss"),
    ] {
        let status = list(&guarded.showing(uris, person).await, Some("linden")).await;
        let status = status.unwrap_err();
        nobody(&status, IMPORTER);
        let told = status.message();
        assert!(
            told.contains("mapped to nobody"),
            "{uris:?} {person}: {told}"
        );
    }
    // Without a certificate, one is asked for a token.
    let status = list(&guarded.connect(None).await, Some("linden")).await;
    let status = status.unwrap_err();
    nobody(&status, "");
    assert!(status.message().contains("must be Bearer"), "{status:?}");
    // What others have signed is no certificate at all, whatever it says.
    let forged = Authority::new().sign_as(saying(&[IMPORTER], "boss"));
    let forged = endpoint(guarded.server.addr, &guarded.authority, Some(&forged));
    assert!(!answers(forged).await);
}

#[tokio::test]
async fn where_there_is_a_token_it_decides() {
    let (auditor, central) = (new_token(), new_token());
    let trusts = [
        mapped(
            "importer",
            &spiffe_id("ns/crm/sa/importer"),
            &["other"],
            "service",
        ),
        knows("auditor", &auditor, &["linden"], &["auditor"]),
        knows("central", &central, &["linden"], &["central"]),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    let importer = guarded.showing(&[IMPORTER], "somebody").await;
    let unknown = guarded.showing(&[], "somebody").await;
    for caller in [&importer, &unknown, &guarded.connect(None).await] {
        let auditor = caller.bearing(&auditor);
        assert!(!changes(&auditor).await);
        assert!(changes(&caller.bearing(&central)).await);
        denied(&list(&auditor, Some("other")).await.unwrap_err());
        // A wrong one is not made good by a certificate.
        let wrong = new_token();
        for caller in [caller.bearing(&wrong), caller.authorized("Basic YTpi")] {
            nobody(&list(&caller, Some("other")).await.unwrap_err(), &wrong);
        }
    }
    assert_eq!(list(&importer, None).await.unwrap(), ["other"]);
}

#[tokio::test]
async fn a_clerk_works_under_the_name_that_the_settings_give() {
    let anna = mapped("anna", "subject = 'CN=Anna,O=Acme'", &["linden"], "clerk");
    let trusts = [
        format!("{anna}worker = 'anna'\n"),
        mapped("desk", "subject = 'CN=desk,O=Acme'", &["linden"], "clerk"),
        mapped(
            "dialler",
            "subject = 'CN=dialler,O=Acme'",
            &["linden"],
            "service",
        ),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    for (person, worker, may) in [
        ("Anna", "users/anna", true),
        ("Anna", "users/Anna", false),
        ("Anna", "users/berta", false),
        ("desk", "users/desk", false),
        ("dialler", "users/berta", true),
    ] {
        let caller = guarded.showing(&[], person).await;
        let request = json!({"worker": worker, "validateOnly": true});
        let result = caller.call(None, CLAIM, &request).await;
        if may {
            // There is nothing to work on, which is no fault.
            result.unwrap();
            continue;
        }
        let status = result.expect_err(worker);
        denied(&status);
        let told = violations(&status);
        let fields: Vec<&str> = told.iter().map(|(field, _)| &field[..]).collect();
        assert_eq!(fields, ["worker"], "{person} as {worker}: {status:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_streams_and_calls_of_its_connection() {
    let trusts = [
        mapped("anna", "subject = 'CN=anna,O=Acme'", &["linden"], "auditor"),
        mapped(
            "berta",
            "subject = 'CN=berta,O=Acme'",
            &["linden"],
            "auditor",
        ),
        // Connections last.
        "[server.limits]\nconnection_age_seconds = 0\n".to_owned(),
    ];
    let guarded = Guarded::start(&trusts.concat()).await;
    let connect = async |params: CertificateParams| {
        let shown = guarded.callers.sign_as(params);
        let endpoint = endpoint(guarded.server.addr, &guarded.authority, Some(&shown));
        let channel = endpoint.connect().await.unwrap();
        let client = Client::over(channel.clone(), Some("linden"), None).unwrap();
        (Raw::over(channel), watch_as(client).await)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = Duration::from_secs(now.as_secs() + 20);
    let mut short = saying(&[], "anna");
    short.not_after = date_time_ymd(1970, 1, 1) + until;
    let (anna, mut ending) = connect(short).await;
    assert_eq!(list(&anna, None).await.unwrap(), ["linden"]);
    let (berta, mut lasting) = connect(saying(&[], "berta")).await;
    ends(&mut ending, "has expired").await;
    assert!(
        SystemTime::now() >= UNIX_EPOCH + until,
        "not before its time"
    );
    let status = list(&anna, None).await.unwrap_err();
    nobody(&status, "");
    assert!(status.message().contains("has expired"), "{status:?}");
    goes_on(&mut lasting).await;
    assert_eq!(list(&berta, None).await.unwrap(), ["linden"]);
}

#[tokio::test]
async fn an_authority_that_is_taken_out_ends_streams_and_calls_of_those_it_has_signed() {
    let token = new_token();
    let trusts = [
        mapped("anna", "subject = 'CN=anna,O=Acme'", &["linden"], "auditor"),
        mapped(
            "berta",
            "subject = 'CN=berta,O=Acme'",
            &["linden"],
            "auditor",
        ),
        knows("crm", &token, &["linden"], &["auditor"]),
        // Connections last.
        "[server.limits]\nconnection_age_seconds = 0\n".to_owned(),
    ];
    let mut guarded = Guarded::start(&trusts.concat()).await;
    let others = Authority::new();
    let [anna, berta] = [(&guarded.callers, "anna"), (&others, "berta")]
        .map(|(authority, person)| authority.sign_as(saying(&[], person)));
    let [anna, berta] =
        [&anna, &berta].map(|shown| endpoint(guarded.server.addr, &guarded.authority, Some(shown)));
    let signed = guarded.authority.sign();
    let both = format!("{}{}", guarded.callers.pem, others.pem);
    guarded.mount.swap(&signed.certificate, &signed.key, &both);
    until("both authorities count", async || {
        answers(berta.clone()).await
    })
    .await;
    let watch = async |channel: &Channel, token: Option<&str>| {
        let client = Client::over(channel.clone(), Some("linden"), token);
        watch_as(client.unwrap()).await
    };
    let (annas, bertas) = (
        anna.connect().await.unwrap(),
        berta.connect().await.unwrap(),
    );
    let mut ending = watch(&annas, None).await;
    let mut by_token = watch(&annas, Some(&token)).await;
    let mut lasting = watch(&bertas, None).await;
    let (annas, bertas) = (Raw::over(annas), Raw::over(bertas));
    assert_eq!(list(&annas, None).await.unwrap(), ["linden"]);

    // A new certificate of the server's own is no news to callers.
    let signed = guarded.authority.sign();
    guarded.mount.swap(&signed.certificate, &signed.key, &both);
    goes_on(&mut ending).await;
    guarded
        .mount
        .swap(&signed.certificate, &signed.key, &others.pem);
    ends(&mut ending, "accept the caller's no more").await;
    list(&annas, None).await.unwrap_err();
    assert!(!answers(anna).await);
    // The connection ends, whoever is known over it.
    end(&mut by_token).await;
    goes_on(&mut lasting).await;
    assert_eq!(list(&bertas, None).await.unwrap(), ["linden"]);
}

#[tokio::test]
async fn what_is_open_asks_for_no_certificate() {
    let guarded = Guarded::start("").await;
    let unknown = guarded.callers.sign_as(saying(&[], "somebody"));
    for shown in [None, Some(&unknown)] {
        let endpoint = endpoint(guarded.server.addr, &guarded.authority, shown);
        assert!(answers(endpoint).await);
        let caller = guarded.connect(shown).await;
        let status = caller.call(Some("linden"), LIST, &json!({})).await;
        nobody(&status.unwrap_err(), "");
    }
}

#[test]
fn certificates_that_nobody_checks_are_not_taken() {
    let trusts = mapped(
        "importer",
        &spiffe_id("ns/crm/sa/importer"),
        &["*"],
        "service",
    );
    let (code, said) = not_started(&format!("[auth]\nmode = 'token'\n{trusts}"), &[]);
    assert_eq!(code, USAGE, "{said}");
    names(&said, &["auth.certificates: "]);
    assert!(said.contains("server.tls.client_ca"), "{said}");

    let wrong = "
        [auth]
        mode = 'token'
        [auth.certificates.both]
        spiffe_id = 'spiffe://example.org/a'
        subject = 'CN=a'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.crm]
        subject = 'CN=crm, O=Acme'
        tenants = ['*']
        roles = []
        [auth.certificates.erp]
        spiffe_id = 'erp'
        tenants = ['*']
        roles = ['king']
        [auth.certificates.none]
        tenants = ['*']
        roles = ['service']
        ";
    let (code, said) = not_started(wrong, &[]);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "auth.certificates: ",
            "auth.certificates.both: ",
            "auth.certificates.crm.subject: ",
            "auth.certificates.crm.roles: ",
            "auth.certificates.erp.spiffe_id: ",
            "auth.certificates.erp.roles[0]: ",
            "auth.certificates.none: ",
        ],
    );
}
