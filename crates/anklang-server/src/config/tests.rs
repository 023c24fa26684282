//! What files and variables may say.

use anklang_domain::message::AmbiguousPolicy;

use super::*;

fn read(file: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<(String, String)>> {
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::read(Some(file), variables).map_err(|v| {
        v.into_vec()
            .into_iter()
            .map(|v| (v.field, v.reason))
            .collect()
    })
}

#[test]
fn the_documented_file_holds_every_default() {
    let config = Config::read(None, []).expect("the defaults are complete");
    assert_eq!(config.listen.port(), 50051);
    assert!(config.channel_accounts.is_empty());
    assert!(config.tls.is_none() && !config.plain_text);
    let Roles {
        api,
        worker,
        scheduler,
    } = config.roles;
    assert!(api && worker && scheduler && config.dispatch);
    let auth = config.auth;
    assert_eq!(auth.mode, AuthMode::None);
    assert!(auth.open_health && !auth.open_reflection && !auth.anybody);
    assert!(auth.tokens.is_empty() && auth.issuers.is_empty());
}

#[test]
fn entries_of_the_audit_log_are_kept_for_ever_or_for_a_month_at_least() {
    let days = |file: &str| read(file, &[]).map(|config| config.audit_keep_days);
    assert_eq!(days(""), Ok(None));
    assert_eq!(days("audit.keep_days = 0"), Ok(None));
    assert_eq!(days("audit.keep_days = 30"), Ok(Some(30)));
    for wrong in [1, 29] {
        let found = days(&format!("audit.keep_days = {wrong}")).expect_err("too few");
        let reason = "must be 0 (for ever), or at least 30";
        assert_eq!(found, [("audit.keep_days".to_owned(), reason.to_owned())]);
    }
}

#[test]
fn numbers_come_from_files_and_variables_alike() {
    let numbers = |config: Config| {
        (
            config.shutdown_grace.as_secs(),
            config.telemetry.sampling_ratio,
            config.public_url,
        )
    };
    let file = read(
        "server.shutdown_grace_seconds = 7\ntelemetry.sampling_ratio = 1",
        &[],
    );
    assert_eq!(numbers(file.expect("numbers")), (7, 1.0, String::new()));
    let variables = [
        ("ANKLANG_SERVER__SHUTDOWN_GRACE_SECONDS", "7"),
        ("ANKLANG_TELEMETRY__SAMPLING_RATIO", "0"),
    ];
    let variables = read("", &variables).expect("numbers");
    assert_eq!(numbers(variables), (7, 0.0, String::new()));
    let found = read("", &[("ANKLANG_SERVER__SHUTDOWN_GRACE_SECONDS", "-1")]);
    assert_eq!(found.expect_err("a number below 0").len(), 1);
    let digits = read("", &[("ANKLANG_DOCUMENTS__FOLDER", "2026")]).expect("a text");
    assert!(
        matches!(digits.documents.store, StoreConfig::Folder(folder) if folder.ends_with("2026"))
    );
}

#[test]
fn limits_are_there_without_being_asked_for() {
    let config = Config::read(None, []).expect("the defaults are complete");
    let (incoming, limits) = (config.incoming, config.limits);
    assert!(incoming.ping.is_some() && incoming.age.is_some());
    assert!(limits.requests_per_second > 0 && limits.of_each.calls < limits.in_total.calls);
    assert!(config.cors_origins.is_empty());
    let none = "[server.limits]\nkeepalive_seconds = 0\nconnection_age_seconds = 0\n\
                requests_per_second = 0";
    let config = read(none, &[]).expect("good limits");
    assert_eq!((config.incoming.ping, config.incoming.age), (None, None));
    assert_eq!(config.limits.requests_per_second, 0);
}

#[test]
fn origins_are_those_that_browsers_send() {
    let origins = |list: &str| read(&format!("server.cors_origins = {list}"), &[]);
    let good = origins("['https://app.example.com', 'http://localhost:8080']");
    let good = good.expect("good origins").cors_origins;
    assert_eq!(good, ["https://app.example.com", "http://localhost:8080"]);
    for wrong in [
        "*",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com:443",
        "https://APP.example.com",
        "https://app.example.com/page",
        "ftp://app.example.com",
    ] {
        let found = origins(&format!("['{wrong}']")).expect_err(wrong);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "server.cors_origins[0]");
    }
}

#[test]
fn only_a_worker_sends() {
    let roles = |roles| {
        let config = read("", &[("ANKLANG_SERVER__ROLES", roles)]).expect("good roles");
        (config.roles, config.dispatch)
    };
    let (api, dispatch) = roles("[\"api\"]");
    assert!(api.api && !api.worker && !api.scheduler && api.opens_accounts() && !dispatch);
    let (two, dispatch) = roles("[\"scheduler\", \"worker\"]");
    assert!(!two.api && two.worker && two.scheduler && two.opens_accounts() && dispatch);
    let (scheduler, dispatch) = roles("[\"scheduler\"]");
    assert!(scheduler.scheduler && !scheduler.opens_accounts() && !dispatch);
    for wrong in ["[]", "api", "true"] {
        let found = read("", &[("ANKLANG_SERVER__ROLES", wrong)]).expect_err(wrong);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "server.roles");
    }
}

#[test]
fn files_and_variables_override_defaults() {
    let file = "
        [server]
        listen = '[::1]:1'
        [channel_accounts.relay]
        plugin = 'mail'
        [channel_accounts.relay.config]
        host = 'localhost'";
    let config = read(
        file,
        &[
            ("ANKLANG_SERVER__LISTEN", "127.0.0.1:2"),
            ("ANKLANG_CHANNEL_ACCOUNTS__RELAY__CONFIG__PORT", "25"),
            ("ANKLANG_CHANNEL_ACCOUNTS__RELAY__AMBIGUOUS", "hold"),
            ("ANKLANG_CONFIG", "elsewhere.toml"),
            ("HOME", "/nowhere"),
        ],
    )
    .expect("a good configuration");
    assert_eq!(config.listen.port(), 2);
    let relay = &config.channel_accounts["relay"];
    assert_eq!(
        relay.config,
        serde_json::json!({"host": "localhost", "port": 25})
    );
    assert_eq!(relay.ambiguous, Some(AmbiguousPolicy::Hold));
    assert_eq!((relay.batch, relay.calls), (64, 4));
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = "
        colour = 'blue'
        [server]
        listen = 'here'
        port = 1
        roles = ['api', 'chef', 1]
        drain_seconds = -1
        plain_text = 'yes'
        cors_origins = ['*', 'https://app.example.com/', 'https://app.example.com']
        [server.limits]
        connections = 0
        header_bytes = 100
        requests_per_second = -1
        concurrent_requests = 2000
        longest_call_seconds = 'long'
        message_bytes = 1000000
        untaken_bytes = 1073741824
        calls = 1
        [server.tls]
        certificate = 'server.pem'
        require_client_certificate = true
        reload_seconds = 0
        [auth]
        mode = 'password'
        anybody = 'yes'
        open_health = 'yes'
        tokens = ['anklang_secret']
        [auth.issuers.Corporate]
        issuer = 'http://id.example.com'
        [database]
        url = 'host=localhost sslmode=prefer'
        tls_ca = 'authorities.pem'
        connections = 0
        migrate = 'maybe'
        [handover]
        attempts = 0
        allow_networks = ['10.0.0.0/8', 'inside']
        [keys]
        sealing = ['a', 'b:AAAA']
        [plugins]
        secret_env_prefix = 'ANKLANG_'
        secret_folder = 'secrets'
        for_tenants = ['Mail']
        [log]
        format = 'xml'
        [documents]
        store = 's3'
        letters_per_print_file = 0
        letter_seconds = 0
        [documents.s3]
        endpoint = 'minio:9000'
        prefix = '/a//b'
        access_key_id = 'only this'
        [telemetry]
        endpoint = 'localhost:4317'
        prometheus_listen = ':9464'
        logs = 'some'
        sampling_ratio = 2
        headers = ['authorization']
        [channels]
        lookups = 0
        stop_words = ['STOP', '?!']
        [channel_accounts.Relay]
        ambiguous = 'perhaps'
        tenants = 'acme'
        sha256 = 'abc'
        retries = 3
        rate = 'fast'
        isolation = 'thread'
        process = { memory_mib = 1 }
        hours = '20:00-08:00'
        days = ['Montag']
        [public]
        url = 'post.example.com'";
    let found = read(
        file,
        &[("ANKLANG_LISTEN", "x"), ("ANKLANG_SERVER__COLOUR", "red")],
    )
    .expect_err("nothing is right here");
    let fields: Vec<&str> = found.iter().map(|(field, _)| &field[..]).collect();
    for field in [
        "ANKLANG_LISTEN",
        "colour",
        "server.listen",
        "server.port",
        "server.roles[1]",
        "server.roles[2]",
        "server.drain_seconds",
        "server.plain_text",
        "server.cors_origins[0]",
        "server.cors_origins[1]",
        "server.limits.connections",
        "server.limits.header_bytes",
        "server.limits.requests_per_second",
        "server.limits.concurrent_requests",
        "server.limits.longest_call_seconds",
        "server.limits.message_bytes",
        "server.limits.untaken_bytes",
        "server.limits.calls",
        "server.tls.certificate",
        "server.tls.require_client_certificate",
        "server.tls.reload_seconds",
        "server.colour",
        "auth.mode",
        "auth.anybody",
        "auth.open_health",
        "auth.tokens",
        "auth.issuers.Corporate",
        "auth.issuers.Corporate.issuer",
        "auth.issuers.Corporate.audience",
        "database.tls_ca",
        "database.connections",
        "database.migrate",
        "handover.attempts",
        "handover.allow_networks[1]",
        "documents.letters_per_print_file",
        "documents.letter_seconds",
        "documents.s3.endpoint",
        "documents.s3.bucket",
        "documents.s3.prefix",
        "documents.s3.access_key_id",
        "keys.sealing[0]",
        "keys.sealing[1]",
        "plugins.secret_env_prefix",
        "plugins.secret_folder",
        "plugins.for_tenants[0]",
        "log.format",
        "channels.lookups",
        "channels.stop_words[1]",
        "telemetry.endpoint",
        "telemetry.logs",
        "telemetry.prometheus_listen",
        "telemetry.sampling_ratio",
        "telemetry.headers[0]",
        "channel_accounts.Relay",
        "channel_accounts.Relay.plugin",
        "channel_accounts.Relay.ambiguous",
        "channel_accounts.Relay.tenants",
        "channel_accounts.Relay.sha256",
        "channel_accounts.Relay.retries",
        "channel_accounts.Relay.rate",
        "channel_accounts.Relay.isolation",
        "channel_accounts.Relay.process.memory_mib",
        "channel_accounts.Relay.hours",
        "channel_accounts.Relay.days",
        "public.url",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert_eq!(fields.len(), 65, "{found:?}");
}

#[test]
fn behind_a_pooler_migrations_go_past_it() {
    let read = |more: &str| read(&format!("[database]\n{more}"), &[]);
    let none = read("").expect("the defaults");
    assert!(none.direct.is_none() && none.replica.is_none());
    let pooled = "pooler = 'transaction'\n";
    let found = read(pooled).expect_err("no way past it");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "database.direct_url");
    read(&format!("{pooled}migrate = false")).expect("others migrate");
    let direct = read(&format!("{pooled}direct_url = 'host=db dbname=anklang'"));
    assert!(direct.expect("a way past it").direct.is_some());
    let replica = read("replica_url = 'host=standby dbname=anklang'\nreplica_max_lag_seconds = 9");
    let replica = replica.expect("a standby").replica.expect("a standby");
    assert_eq!(replica.max_lag.as_secs(), 9);
    let wrong = "pooler = 'session'\ndirect_url = 'nowhere'\nreplica_url = '5'\n\
                 replica_max_lag_seconds = 0";
    let found = read(wrong).expect_err("four faults");
    let fields: Vec<&str> = found.iter().map(|(field, _)| &field[..]).collect();
    assert_eq!(
        fields,
        [
            "database.pooler",
            "database.direct_url",
            "database.replica_url",
            "database.replica_max_lag_seconds",
        ]
    );
}

#[test]
fn no_account_has_the_name_that_metrics_have_for_those_of_tenants() {
    let taken = read("[channel_accounts.tenants]\nplugin = 'mail'", &[]);
    let faults = taken.expect_err("the id is taken");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, "channel_accounts.tenants");
    assert!(faults[0].1.contains("another id"), "{faults:?}");
    let free = read("[channel_accounts.tenants-mail]\nplugin = 'mail'", &[]);
    assert!(free.is_ok(), "{free:?}");
}
