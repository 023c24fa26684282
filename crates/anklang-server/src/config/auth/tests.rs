//! What the section `auth` may say.

use super::*;
use crate::config::Config;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn read(file: &str) -> Result<AuthConfig, Vec<String>> {
    match Config::read(Some(file), []) {
        Ok(config) => Ok(config.auth),
        Err(violations) => Err(violations.into_vec().into_iter().map(|v| v.field).collect()),
    }
}

#[test]
fn tokens_and_issuers_are_read() {
    let file = format!(
        "[auth]
        mode = 'token'
        [auth.tokens.crm]
        sha256 = '{HASH}'
        tenants = ['acme']
        roles = ['service', 'auditor']
        expires = '2027-01-31T01:00:00+01:00'
        [auth.tokens.ops]
        sha256 = '{}'
        tenants = ['*']
        roles = ['central']
        [auth.issuers.corporate]
        issuer = 'https://id.example.com/'
        audience = 'anklang'
        [auth.issuers.other]
        issuer = 'other'
        audience = 'anklang'
        jwks_url = 'http://127.0.0.1:8080/keys'
        roles_claim = 'realm_access.roles'
        role_names = {{ 'Vertrieb Zentrale' = 'central' }}
        leeway_seconds = 0
        refresh_seconds = 60",
        HASH.replace('e', "F"),
    );
    let auth = read(&file).expect("all is right");
    assert_eq!((auth.mode, auth.open_health), (AuthMode::Token, true));
    let [crm, ops] = &auth.tokens[..] else {
        panic!("{:?}", auth.tokens);
    };
    assert_eq!((&crm.id[..], crm.sha256[0]), ("crm", 0xe3));
    assert_eq!(crm.roles, [Role::Service, Role::Auditor]);
    let expires = crm.expires.map(|at| at.to_rfc3339());
    assert_eq!(expires.as_deref(), Some("2027-01-31T00:00:00+00:00"));
    assert!(ops.tenants == Tenants::All && ops.expires.is_none());
    let [corporate, other] = &auth.issuers[..] else {
        panic!("{:?}", auth.issuers);
    };
    assert_eq!(corporate.issuer, "https://id.example.com/");
    assert_eq!((corporate.leeway_seconds, &corporate.jwks_url), (60, &None));
    assert_eq!(corporate.refresh.as_secs(), 300);
    let port = other.jwks_url.as_ref().and_then(Url::port);
    assert_eq!((port, other.refresh.as_secs()), (Some(8080), 60));
    assert_eq!(
        other.role_names.get("Vertrieb Zentrale"),
        Some(&Role::Central)
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let file = format!(
        "[auth]
        mode = 'token'
        open_reflection = 1
        [auth.tokens]
        flat = 'anklang_secret'
        [auth.tokens.A]
        sha256 = '{HASH}'
        tenants = ['*']
        roles = ['service']
        [auth.tokens.b]
        sha256 = '{HASH}'
        tenants = ['acme', 'Acme Energie']
        roles = ['service', 'king', 'boss']
        expires = 'tomorrow'
        token = 'anklang_secret'
        [auth.tokens.c]
        sha256 = 'abc'
        [auth.issuers.x]
        issuer = 'https://id.example.com'
        audience = ''
        jwks_url = 'http://id.example.com/keys'
        tls_ca = '/nonexistent/ca.crt'
        tenant_claim = ''
        role_names = {{ boss = 'chef' }}
        tenants = 'acme'
        leeway_seconds = 601
        refresh_seconds = 0
        allow_http = 'no'
        [auth.issuers.y]
        issuer = 'id.example.com'"
    );
    let mut found = read(&file).expect_err("nothing is right here");
    found.sort();
    assert_eq!(
        found,
        [
            "auth.issuers.x.allow_http",
            "auth.issuers.x.audience",
            "auth.issuers.x.jwks_url",
            "auth.issuers.x.leeway_seconds",
            "auth.issuers.x.refresh_seconds",
            "auth.issuers.x.role_names.boss",
            "auth.issuers.x.tenant_claim",
            "auth.issuers.x.tenants",
            "auth.issuers.x.tls_ca",
            "auth.issuers.y.audience",
            "auth.issuers.y.issuer",
            "auth.open_reflection",
            "auth.tokens.A",
            "auth.tokens.b.expires",
            "auth.tokens.b.roles[1]",
            "auth.tokens.b.roles[2]",
            "auth.tokens.b.tenants[1]",
            "auth.tokens.b.token",
            "auth.tokens.c.roles",
            "auth.tokens.c.sha256",
            "auth.tokens.c.tenants",
            "auth.tokens.flat",
        ]
    );
}

#[test]
fn all_tenants_are_named_by_a_star_and_by_nothing_else() {
    let with = |tenants: &str| {
        let file = format!(
            "[auth]\nmode = 'token'\n[auth.tokens.crm]\nsha256 = '{HASH}'\nroles = ['service']\n{tenants}"
        );
        read(&file).map(|auth| auth.tokens[0].tenants.clone())
    };
    let refused = |end: &str| Err(vec![format!("auth.tokens.crm.tenants{end}")]);
    assert_eq!(with("tenants = ['*']"), Ok(Tenants::All));
    let two = Tenants::Only(["acme".into(), "lindenau".into()].into());
    assert_eq!(with("tenants = ['acme', 'lindenau']"), Ok(two));
    assert_eq!(with(""), refused(""));
    assert_eq!(with("tenants = []"), refused(""));
    assert_eq!(with("tenants = '*'"), refused(""));
    assert_eq!(with("tenants = ['']"), refused("[0]"));
    assert_eq!(with("tenants = ['acme', '*']"), refused("[1]"));
    assert_eq!(with("tenants = ['acme*']"), refused("[0]"));

    // An issuer's tokens name theirs.
    let issuer = |tenants: &str| {
        let file = format!(
            "[auth]\nmode = 'token'\n[auth.issuers.a]\nissuer = 'https://id.example.com'\n\
             audience = 'a'\n{tenants}"
        );
        read(&file).map(|auth| auth.issuers[0].tenants.clone())
    };
    assert_eq!(issuer(""), Ok(Tenants::All));
    assert_eq!(issuer("tenants = ['*']"), Ok(Tenants::All));
    let none = Err(vec!["auth.issuers.a.tenants".to_owned()]);
    assert_eq!(issuer("tenants = []"), none);
}

#[test]
fn org_units_are_for_whose_roles_are_bound_to_them() {
    let with = |roles: &str, units: &str| {
        let file = format!(
            "[auth]\nmode = 'token'\n[auth.tokens.kiel]\nsha256 = '{HASH}'\ntenants = ['*']\n\
             roles = {roles}\n{units}"
        );
        read(&file).map(|auth| auth.tokens[0].org_units.clone())
    };
    let field = || Err(vec!["auth.tokens.kiel.org_units".to_owned()]);
    for roles in ["['agency']", "['region']", "['region', 'agency']"] {
        let units = with(roles, "org_units = ['kiel', 'Lübeck 1']");
        assert_eq!(units, Ok(vec!["kiel".into(), "Lübeck 1".into()]), "{roles}");
        assert_eq!(with(roles, ""), field(), "{roles}");
        assert_eq!(with(roles, "org_units = []"), field(), "{roles}");
    }
    for roles in ["['clerk']", "['agency', 'clerk']"] {
        assert_eq!(with(roles, "org_units = ['kiel']"), field(), "{roles}");
        assert_eq!(with(roles, ""), Ok(Vec::new()), "{roles}");
    }
    let empty = with("['agency']", "org_units = ['kiel', '']");
    assert_eq!(empty, Err(vec!["auth.tokens.kiel.org_units[1]".to_owned()]));

    let issuer = "[auth]\nmode = 'token'\n[auth.issuers.a]\nissuer = 'https://id.example.com'\naudience = 'a'";
    let claim = |file: &str| read(file).map(|auth| auth.issuers[0].org_unit_claim.clone());
    assert_eq!(claim(issuer), Ok("anklang_org_units".into()));
    let own = format!("{issuer}\norg_unit_claim = 'units'");
    assert_eq!(claim(&own), Ok("units".into()));
    let none = format!("{issuer}\norg_unit_claim = ''");
    assert_eq!(
        claim(&none),
        Err(vec!["auth.issuers.a.org_unit_claim".into()])
    );
    let certificate = format!(
        "{TLS}[auth]\nmode = 'token'\n[auth.certificates.desk]\nsubject = 'CN=desk'\ntenants = ['*']\n\
         roles = ['agency']"
    );
    let found = read(&certificate).expect_err("no unit");
    assert_eq!(found, ["auth.certificates.desk.org_units"]);
    let bound = read(&format!("{certificate}\norg_units = ['kiel']")).expect("all is right");
    assert_eq!(bound.certificates[0].org_units, ["kiel"]);
}

#[test]
fn what_is_told_apart_must_differ() {
    let file = format!(
        "[auth]
        mode = 'token'
        [auth.tokens.a]
        sha256 = '{HASH}'
        tenants = ['*']
        roles = ['service']
        [auth.tokens.b]
        sha256 = '{HASH}'
        tenants = ['*']
        roles = ['central']
        [auth.issuers.a]
        issuer = 'https://id.example.com'
        audience = 'a'
        [auth.issuers.b]
        issuer = 'https://id.example.com'
        audience = 'b'"
    );
    let found = read(&file).expect_err("twins");
    assert_eq!(found, ["auth.tokens.b.sha256", "auth.issuers.b.issuer"]);
    for kind in ["tokens", "certificates"] {
        let file = format!(
            "[auth]\nmode = 'token'\n[auth.issuers.{kind}]\nissuer = 'https://id.example.com'\naudience = 'a'"
        );
        let found = read(&file).expect_err("its callers would be called as others");
        assert_eq!(found, [format!("auth.issuers.{kind}")]);
    }
    assert_eq!(
        read("auth.mode = 'token'").expect_err("nobody could call"),
        ["auth.mode"]
    );
    // With "none" nobody would be asked for it.
    let forgotten =
        format!("[auth.tokens.crm]\nsha256 = '{HASH}'\ntenants = ['*']\nroles = ['service']");
    let found = read(&forgotten).expect_err("the mode was forgotten");
    assert_eq!(found, ["auth.mode"]);
}

/// What callers' certificates need.
const TLS: &str = "
    [server.tls]
    certificate = 'tls.crt'
    key = 'tls.key'
    client_ca = 'ca.crt'
";

#[test]
fn certificates_are_read() {
    let file = format!(
        "{TLS}
        [auth]
        mode = 'token'
        [auth.certificates.crm]
        spiffe_id = 'spiffe://example.org/ns/crm/*'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.desk]
        subject = 'CN=desk,O=Acme'
        tenants = ['acme']
        roles = ['clerk', 'auditor']
        worker = 'anna'
        [auth.certificates.importer]
        spiffe_id = 'spiffe://example.org/ns/crm/importer'
        subject = ''
        tenants = ['*']
        roles = ['service']
        worker = ''"
    );
    let auth = read(&file).expect("all is right");
    let names: Vec<_> = auth.certificates.iter().map(|c| c.name.clone()).collect();
    let prefix = "spiffe://example.org/ns/crm/";
    assert_eq!(
        names,
        [
            CertificateName::SpiffePrefix(prefix.into()),
            CertificateName::Subject("CN=desk,O=Acme".into()),
            CertificateName::SpiffeId(format!("{prefix}importer")),
        ]
    );
    let [crm, desk, importer] = &auth.certificates[..] else {
        panic!("{:?}", auth.certificates);
    };
    assert!(crm.tenants == Tenants::All && crm.worker.is_none() && importer.worker.is_none());
    assert_eq!(desk.tenants.single(), Some("acme"));
    assert_eq!(desk.roles, [Role::Clerk, Role::Auditor]);
    assert_eq!(desk.worker.as_deref(), Some("anna"));
}

#[test]
fn wrong_certificates_are_all_told_at_once() {
    let wrong = "
        [auth]
        mode = 'token'
        [auth.certificates]
        flat = 'CN=flat'
        [auth.certificates.a]
        spiffe_id = 'spiffe://example.org/a/'
        tenants = ['*']
        roles = ['king']
        colour = 'blue'
        [auth.certificates.b]
        subject = 'CN=b, O=Acme'
        tenants = ['Acme Energie']
        [auth.certificates.both]
        spiffe_id = 'spiffe://example.org/both'
        subject = 'CN=both'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.c]
        spiffe_id = 'spiffe://example.org/twins/*'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.d]
        spiffe_id = 'spiffe://example.org/twins/*'
        tenants = ['*']
        roles = ['auditor']
        [auth.certificates.e]
        subject = 'CN=twin'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.f]
        subject = 'CN=twin'
        tenants = ['*']
        roles = ['auditor']
        [auth.certificates.neither]
        tenants = ['*']
        roles = ['service']
        worker = ['anna']
        [auth.certificates.star]
        spiffe_id = 'spiffe://example.org/ns*'
        tenants = ['*']
        roles = ['service']
        [auth.certificates.way]
        subject = 'cn=way'
        tenants = ['*']
        roles = ['service']";
    let mut faults = [
        "auth.certificates.a.colour",
        "auth.certificates.a.roles[0]",
        "auth.certificates.a.spiffe_id",
        "auth.certificates.b.roles",
        "auth.certificates.b.subject",
        "auth.certificates.b.tenants[0]",
        "auth.certificates.both",
        "auth.certificates.d.spiffe_id",
        "auth.certificates.f.subject",
        "auth.certificates.flat",
        "auth.certificates.neither",
        "auth.certificates.neither.worker",
        "auth.certificates.star.spiffe_id",
        "auth.certificates.way.subject",
    ]
    .to_vec();
    let sorted = |file: &str| {
        let mut found = read(file).expect_err("nothing is right here");
        found.sort();
        found
    };
    assert_eq!(sorted(&format!("{TLS}{wrong}")), faults);
    // Without TLS, and with TLS that asks for no certificates.
    faults.insert(0, "auth.certificates");
    assert_eq!(sorted(wrong), faults);
    let none = TLS.replace("ca.crt", "");
    assert_eq!(sorted(&format!("{none}{wrong}")), faults);
}
