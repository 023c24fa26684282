//! The section `auth` of the settings: what is wrong with it, and how tokens come into it.

use std::process::Command;

use anklang_testkit::program;

use super::{brand, guarded, knows, lacking, list, new_token, nobody, update};
use crate::raw::Raw;
use crate::server::{USAGE, names, refused as not_started};

#[test]
fn wrong_settings_are_named_all_at_once() {
    let good = "ab".repeat(32);
    let config = format!(
        "
        [auth]
        mode = 'perhaps'
        open_health = 'yes'
        colour = 'blue'
        [auth.tokens.crm]
        sha256 = 'abc'
        tenants = ['linden', 'Not A Slug']
        roles = ['service', 'boss']
        expires = 'soon'
        token = 'anklang_geheim'
        [auth.tokens.erp]
        sha256 = '{good}'
        tenants = ['*']
        roles = ['king']
        [auth.tokens.kiel]
        sha256 = '{}'
        tenants = ['*']
        roles = ['agency']
        [auth.tokens.lone]
        sha256 = '{}'
        tenants = ['*']
        roles = ['clerk']
        org_units = ['north']
        [auth.tokens.shop]
        sha256 = '{good}'
        tenants = ['*']
        roles = []
        [auth.issuers.far]
        issuer = 'http://idp.example'
        audience = 'anklang'
        [auth.issuers.idp]
        issuer = 'https://idp.example'
        audience = ''
        jwks_url = 'ftp://idp.example/keys'
        roles_claim = ''
        org_unit_claim = ''
        role_names = {{ boss = 'chief' }}
        tenants = 'linden'
        leeway_seconds = 100000
        refresh_seconds = 0
        allow_http = 'no'
        [auth.issuers.none]
        ",
        "cd".repeat(32),
        "ef".repeat(32),
    );
    let (code, said) = not_started(&config, &[]);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "auth.mode: ",
            "auth.open_health: ",
            "auth.colour: ",
            "auth.tokens.crm.sha256: ",
            "auth.tokens.crm.tenants[1]: ",
            "auth.tokens.crm.roles[1]: ",
            "auth.tokens.crm.expires: ",
            "auth.tokens.crm.token: ",
            "auth.tokens.erp.roles[0]: ",
            "auth.tokens.kiel.org_units: ",
            "auth.tokens.lone.org_units: ",
            "auth.tokens.shop.sha256: ",
            "auth.tokens.shop.roles: ",
            "auth.issuers.far.issuer: ",
            "auth.issuers.idp.audience: ",
            "auth.issuers.idp.jwks_url: ",
            "auth.issuers.idp.roles_claim: ",
            "auth.issuers.idp.org_unit_claim: ",
            "auth.issuers.idp.role_names.boss: ",
            "auth.issuers.idp.tenants: ",
            "auth.issuers.idp.leeway_seconds: ",
            "auth.issuers.idp.refresh_seconds: ",
            "auth.issuers.idp.allow_http: ",
            "auth.issuers.none.issuer: ",
            "auth.issuers.none.audience: ",
        ],
    );
    assert!(!said.contains("geheim"), "{said}");
    for word in ["org unit", "central", "agency"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn a_server_that_nobody_could_call_does_not_start() {
    let (code, said) = not_started("", &[("ANKLANG_AUTH__MODE", "token")]);
    assert_eq!(code, USAGE, "{said}");
    names(&said, &["auth.mode: "]);
    // Whoever knows tokens and forgets to ask for them would be open to all.
    let (code, said) = not_started("[auth.tokens.crm]\nroles = ['service']\n", &[]);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "auth.mode: ",
            "auth.tokens.crm.sha256: ",
            "auth.tokens.crm.tenants: ",
        ],
    );
    // Nor are all tenants meant where none is named.
    assert!(said.contains("[\"*\"] is all of them"), "{said}");
}

#[test]
fn a_server_that_anybody_could_call_has_to_be_asked_for() {
    let everywhere = [("ANKLANG_SERVER__LISTEN", "0.0.0.0:0")];
    let (code, said) = not_started("[server]\nplain_text = true\n", &everywhere);
    assert_eq!(code, USAGE, "{said}");
    names(&said, &["auth.anybody: "]);
    assert!(said.contains("auth.mode"), "{said}");
}

/// What `anklang token new` prints: the token, and the lines for the configuration.
fn made(args: &[&str]) -> (String, String) {
    let output = Command::new(&program().anklang)
        .args(["token", "new"])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (token, lines) = said.split_once('\n').unwrap();
    let random = token.strip_prefix("anklang_").unwrap();
    assert_eq!(random.len(), 43, "{token}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!lines.contains(random) && !told.contains(random));
    (token.to_owned(), lines.to_owned())
}

#[tokio::test]
async fn the_program_makes_tokens() {
    let args = ["crm", "--tenant", "linden", "--role", "service"];
    let (service, its_lines) = made(&args);
    let expires = [
        "--role",
        "auditor",
        "--role",
        "clerk",
        "--expires",
        "2099-01-01T00:00:00Z",
    ];
    let (auditor, more_lines) = made(&[&["desk", "--tenant", "*"][..], &expires].concat());
    let (over, old_lines) = made(&[
        "old",
        "--tenant",
        "*",
        "--role",
        "central",
        "--expires",
        "2020-01-01T00:00:00Z",
    ]);
    assert_ne!(made(&args).0, service, "another one each time");

    let lines = [its_lines, more_lines, old_lines].join("\n");
    let (_server, raw) = guarded("", &lines).await;
    let [service, auditor, over] = [service, auditor, over].map(|token| raw.bearing(&token));
    assert_eq!(list(&service, None).await.unwrap(), ["linden"]);
    update(&service, None, &brand("new")).await.unwrap();
    for tenant in ["linden", "other"] {
        list(&auditor, Some(tenant)).await.unwrap();
        let status = update(&auditor, Some(tenant), &brand("new")).await;
        let status = status.unwrap_err();
        assert_eq!(
            lacking(&status).as_deref(),
            Some("master.write"),
            "{status:?}"
        );
    }
    let status = list(&over, Some("linden")).await.unwrap_err();
    nobody(&status, "");
}

#[test]
fn wrong_tokens_are_not_made() {
    let for_all = ["--tenant", "*"];
    for args in [
        &["crm"][..],
        &["crm", "--role", "king"],
        &["crm", "--role", "agency"],
        &["crm", "--role", "clerk", "--org-unit", "north"],
        &[
            "crm",
            "--role",
            "agency",
            "--role",
            "clerk",
            "--org-unit",
            "north",
        ],
        &["crm", "--role", "agency", "--org-unit", "a\"b"],
        &["Not An Id", "--role", "service"],
        &["crm", "--role", "service", "--tenant", "Not A Slug"],
        &["crm", "--role", "service", "--tenant", "linden"],
        &["crm", "--role", "service", "--expires", "soon"],
    ] {
        not_made(&[args, &for_all].concat());
    }
    // For no tenant.
    not_made(&["crm", "--role", "service"]);
}

#[track_caller]
fn not_made(args: &[&str]) {
    let output = Command::new(&program().anklang)
        .args(["token", "new"])
        .args(args)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(USAGE), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
}

#[tokio::test]
async fn a_server_forgets_tokens_that_were_taken_out() {
    let (kept, lost) = (new_token(), new_token());
    let lines = knows("lost", &lost, &["linden"], &["central"]);
    let kept_lines = knows("kept", &kept, &["linden"], &["auditor"]);
    let (mut server, raw) = guarded("", &format!("{lines}{kept_lines}")).await;
    list(&raw.bearing(&lost), None).await.unwrap();
    let file = server.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(&lines, "")).unwrap();
    server.restart().await.unwrap();
    let raw = Raw::connect(server.addr).await;
    nobody(&list(&raw.bearing(&lost), None).await.unwrap_err(), &lost);
    assert_eq!(list(&raw.bearing(&kept), None).await.unwrap(), ["linden"]);
}
