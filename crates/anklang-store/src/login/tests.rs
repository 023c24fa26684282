//! What URLs of databases mean.

use super::*;

#[test]
fn modes_are_those_of_libpq() {
    for (url, encrypts, verifies) in [
        ("postgres://a:b@db/anklang", false, false),
        ("postgres://a:b@db/anklang?sslmode=disable", false, false),
        ("postgres://a:b@db/anklang?sslmode=prefer", false, false),
        ("postgres://a:b@db/anklang?sslmode=require", true, false),
        ("postgres://a:b@db/anklang?sslmode=verify-ca", true, true),
        (
            "postgres://a:b@db/anklang?sslmode=verify-full&connect_timeout=5",
            true,
            true,
        ),
        (
            "host=db user=a sslmode = 'verify-full' dbname=x",
            true,
            true,
        ),
        // A password is one, whatever it says.
        ("host=db password=verify-full", false, false),
        ("host=db password=verify-full sslmode=require", true, false),
        ("host=db password=verify-full sslmode=verify-ca", true, true),
    ] {
        let login = Login::read(url).expect(url);
        assert_eq!(
            (login.encrypts(), login.verifies()),
            (encrypts, verifies),
            "{url}"
        );
    }
    let (config, check) = parse("host=db password=verify-full sslmode=verify-full").expect("good");
    assert_eq!(config.get_password(), Some(&b"verify-full"[..]));
    assert_eq!(check, Check::Name);
    for url in [
        "host=db sslmode=verify",
        "host=db colour=verify-full",
        "verify-ca",
    ] {
        assert!(Login::read(url).is_err(), "{url}");
    }
}

#[test]
fn plain_text_to_other_machines_is_noticed_unless_the_url_says_how() {
    for url in [
        "postgres://a:b@db/anklang",
        "postgres://a:b@192.0.2.1/anklang",
        "postgres://a:b@[2001:db8::1]/anklang",
        "postgres://a:b@localhost,db2/anklang",
        "host=localhost hostaddr=192.0.2.1",
        "host=db password=sslmode=require",
        "host=db password=sslmode",
    ] {
        assert!(Login::read(url).expect(url).maybe_plain(), "{url}");
    }
    for url in [
        "postgres://localhost/anklang",
        "postgres://a:b@127.0.0.1/anklang",
        "postgres://a:b@[::1]/anklang",
        "postgres://a@%2Fvar%2Frun%2Fpostgresql/anklang",
        "host=/var/run/postgresql user=a",
        "host=db hostaddr=127.0.0.1",
        "postgres://a:b@db/anklang?sslmode=disable",
        "postgres://a:b@db/anklang?sslmode=prefer",
        "postgres://a:b@db/anklang?sslmode=require",
        "postgres://a:b@db/anklang?sslmode=verify-full",
        "host=db sslmode = prefer",
    ] {
        assert!(!Login::read(url).expect(url).maybe_plain(), "{url}");
    }
}

#[test]
fn a_host_that_is_gone_is_found_out_soon_unless_the_url_says_when() {
    let of = |url: &str| {
        let config = Login::read(url).expect(url).config;
        (
            config.get_tcp_user_timeout().copied(),
            config.get_keepalives_idle(),
            config.get_keepalives_interval(),
            config.get_keepalives_retries(),
        )
    };
    let (interval, retries) = (Some(ASKS), Some(RETRIES));
    let ours = of("postgres://a:b@db/anklang");
    assert_eq!(ours, (Some(GONE), SILENCE, interval, retries));
    let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
    let theirs = of(
        "host=db tcp_user_timeout=60 keepalives_idle=3600 keepalives_interval=60 keepalives_retries=9",
    );
    assert_eq!(theirs, (Some(minute), hour, Some(minute), Some(9)));
}

#[test]
fn of_several_hosts_the_one_that_can_be_written_to_is_taken_in_time() {
    let attributes = |url: &str| {
        let login = Login::read(url).expect(url).writing();
        let config = &login.config;
        (
            config.get_target_session_attrs(),
            config.get_connect_timeout().copied(),
        )
    };
    let any = TargetSessionAttrs::Any;
    let write = TargetSessionAttrs::ReadWrite;
    let third = WAIT_FOR_CONNECTION / 3;
    assert_eq!(attributes("postgres://a@one/anklang"), (any, None));
    assert_eq!(
        attributes("postgres://a@one/anklang?target_session_attrs=read-write"),
        (write, None)
    );
    assert_eq!(
        attributes("postgres://a@one,two/anklang"),
        (write, Some(third))
    );
    assert_eq!(
        attributes("host=one,two port=1,2 connect_timeout=1 dbname=x"),
        (write, Some(Duration::from_secs(1)))
    );
}

#[test]
fn only_behind_a_pooler_a_transaction_begins_with_cleaning_up() {
    let login = Login::read("postgres://a@db/anklang").expect("a URL");
    assert_eq!(login.prologue(), "");
    let pooled = login.through(Pooler::Transaction);
    let kept = pooled.trusting(RootCertStore::empty()).expect("none");
    assert!(kept.prologue().starts_with("DEALLOCATE ALL;"));
}

#[test]
fn passwords_are_not_shown() {
    let login = Login::read("postgres://anklang:geheim@db/anklang").expect("a URL");
    assert!(!format!("{login:?}").contains("geheim"), "{login:?}");
}
