//! `anklang token`: makes tokens for callers.

use std::process::ExitCode;

use anklang_domain::access::Role;
use anklang_domain::account::is_id;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::auth::{digest, generate};

/// Make tokens for callers (docs/identity.md).
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once, and what the configuration must hold of it.
    New(NewArgs),
}

// No doc comment: it would be that of the command.
#[derive(clap::Args)]
pub struct NewArgs {
    /// What the configuration calls it: a–z, 0–9 and hyphens.
    #[arg(value_parser = id)]
    id: String,
    /// A tenant for which it may act, by its slug; again for more of them. Without: for all tenants.
    #[arg(long = "tenant", value_name = "SLUG", value_parser = id)]
    tenants: Vec<String>,
    /// What it is: central, clerk, auditor or service; again for more.
    #[arg(long = "role", value_name = "ROLE", value_parser = Role::parse, required = true)]
    roles: Vec<Role>,
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

pub(super) fn run(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::New(args) = command;
    let token = generate().map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    eprintln!("The token, which is shown this once and kept nowhere, and lines for anklang.toml:");
    println!("{token}\n\n{}", args.lines(&token));
    Ok(ExitCode::SUCCESS)
}

impl NewArgs {
    /// What the configuration must hold. Nothing in it needs to be escaped.
    fn lines(&self, token: &str) -> String {
        let list = |words: Vec<&str>| match &words[..] {
            [] => "[]".to_owned(),
            words => format!("[\"{}\"]", words.join("\", \"")),
        };
        let tenants = list(self.tenants.iter().map(String::as_str).collect());
        let roles = list(self.roles.iter().map(|role| role.as_str()).collect());
        let mut lines = format!(
            "[auth.tokens.{}]\nsha256 = \"{}\"\ntenants = {tenants}\nroles = {roles}",
            self.id,
            hex::encode(digest(token)),
        );
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
    use crate::config::Config;

    #[test]
    fn the_lines_are_a_configuration() {
        let args = NewArgs {
            id: "crm".into(),
            tenants: vec!["acme".into(), "lindenau".into()],
            roles: vec![Role::Service, Role::Auditor],
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
        assert_eq!((&found.tenants, &found.roles), (&args.tenants, &args.roles));
        assert_eq!(found.expires, args.expires);

        let all = NewArgs {
            tenants: Vec::new(),
            expires: None,
            ..args
        };
        assert!(
            read(&all.lines(&token))
                .auth
                .tokens
                .iter()
                .all(|t| t.tenants.is_empty() && t.expires.is_none())
        );
    }
}
