//! `anklang token`: makes tokens for callers.

use std::process::ExitCode;

use anklang_domain::access::{Role, Units};
use anklang_domain::account::is_id;
use chrono::{DateTime, SecondsFormat, Utc};

use super::EXIT_USAGE;
use crate::auth::{digest, generate};

/// Make tokens for callers (docs/identity.md).
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once, and what the configuration must hold of it.
    New(NewArgs),
}

/// What stands for all tenants.
const ALL: &str = "*";

// No doc comment: it would be that of the command.
#[derive(clap::Args)]
pub struct NewArgs {
    /// What the configuration calls it: a–z, 0–9 and hyphens.
    #[arg(value_parser = id)]
    id: String,
    /// A tenant for which it may act, by its slug; again for more of them. '*' is all of them.
    #[arg(long = "tenant", value_name = "SLUG", value_parser = tenant, required = true)]
    tenants: Vec<String>,
    /// What it is: central, clerk, auditor, service, region or agency; again for more.
    #[arg(long = "role", value_name = "ROLE", value_parser = Role::parse, required = true)]
    roles: Vec<Role>,
    /// An org unit that a region or an agency is bound to, by its code; again for more of them.
    #[arg(long = "org-unit", value_name = "CODE", value_parser = unit)]
    org_units: Vec<String>,
    /// From when on it does not count any more, e.g. 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires: Option<DateTime<Utc>>,
}

fn id(text: &str) -> Result<String, String> {
    match is_id(text) {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 63 of a–z, 0–9 and hyphens".to_owned()),
    }
}

fn tenant(text: &str) -> Result<String, String> {
    match text {
        ALL => Ok(text.to_owned()),
        slug => id(slug).map_err(|why| format!("{why}, or '{ALL}'")),
    }
}

/// What needs no escapes where it is written.
fn unit(text: &str) -> Result<String, String> {
    match Units::is_code(text) && !text.contains(['"', '\\']) {
        true => Ok(text.to_owned()),
        false => {
            Err("must be 1 to 64 characters of one line, without quotes and backslashes".into())
        }
    }
}

pub(super) fn run(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::New(args) = command;
    let is_bound = args.roles.iter().all(|role| role.is_bound());
    if is_bound == args.org_units.is_empty() {
        eprintln!(
            "--org-unit is required for the roles region and agency, and goes with these alone"
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    if args.tenants.len() > 1 && args.tenants.iter().any(|tenant| tenant == ALL) {
        eprintln!("--tenant '*' stands alone: it is all tenants");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let token = generate().map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    eprintln!("The token, which is shown this once and kept nowhere, and lines for anklang.toml:");
    println!("{token}\n\n{}", args.lines(&token));
    Ok(ExitCode::SUCCESS)
}

impl NewArgs {
    /// What the configuration must hold. Nothing in it needs to be escaped.
    fn lines(&self, token: &str) -> String {
        let list = |words: Vec<&str>| format!("[\"{}\"]", words.join("\", \""));
        let tenants = list(self.tenants.iter().map(String::as_str).collect());
        let roles = list(self.roles.iter().map(|role| role.as_str()).collect());
        let mut lines = format!(
            "[auth.tokens.{}]\nsha256 = \"{}\"\ntenants = {tenants}\nroles = {roles}",
            self.id,
            hex::encode(digest(token)),
        );
        if !self.org_units.is_empty() {
            let units = list(self.org_units.iter().map(String::as_str).collect());
            lines.push_str(&format!("\norg_units = {units}"));
        }
        if let Some(expires) = self.expires {
            let expires = expires.to_rfc3339_opts(SecondsFormat::Secs, true);
            lines.push_str(&format!("\nexpires = \"{expires}\""));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Tenants;
    use crate::config::Config;

    #[test]
    fn the_lines_are_a_configuration() {
        let args = NewArgs {
            id: "crm".into(),
            tenants: vec!["acme".into(), "lindenau".into()],
            roles: vec![Role::Service, Role::Auditor],
            org_units: Vec::new(),
            expires: DateTime::from_timestamp(1_800_000_000, 0),
        };
        let token = generate().expect("random");
        let lines = args.lines(&token);
        assert!(!lines.contains(&token));
        let read = |lines: &str| {
            let file = format!("[auth]\nmode = 'token'\n{lines}");
            Config::read(Some(&file), []).expect("a configuration")
        };
        let known = read(&lines);
        let [found] = &known.auth.tokens[..] else {
            panic!("{:?}", known.auth.tokens);
        };
        assert_eq!((&found.id, found.sha256), (&args.id, digest(&token)));
        let tenants = Tenants::Only(args.tenants.iter().cloned().collect());
        assert_eq!((&found.tenants, &found.roles), (&tenants, &args.roles));
        assert_eq!(found.expires, args.expires);

        let agency = NewArgs {
            id: "kiel".into(),
            roles: vec![Role::Agency],
            org_units: vec![unit("Kiel/Süd 1").expect("a code")],
            tenants: args.tenants.clone(),
            expires: None,
        };
        let known = read(&agency.lines(&token));
        let units: Vec<_> = known.auth.tokens.iter().map(|t| &t.org_units).collect();
        assert_eq!(units, [&agency.org_units]);
        for bad in ["", "a\"b", "a\\b", "a\nb"] {
            assert!(unit(bad).is_err(), "{bad:?}");
        }

        let all = NewArgs {
            tenants: vec![tenant("*").expect("all")],
            expires: None,
            ..args
        };
        assert!(
            read(&all.lines(&token))
                .auth
                .tokens
                .iter()
                .all(|t| t.tenants == Tenants::All && t.expires.is_none())
        );
    }
}
