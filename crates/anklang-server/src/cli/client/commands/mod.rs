//! The commands that call a server, as data: which method each calls, and which fields of its request the
//! arguments set. What the fields are, what is a list and what an operation follows from the protos.

mod control;
mod outreach;
mod people;

use prost_reflect::MethodDescriptor;

use crate::grpc::mask::POOL;

/// A command.
pub struct Task {
    /// Its words, e.g. "campaigns list".
    pub path: &'static str,
    /// The method that it calls, as in the path of a call.
    pub method: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its own arguments; those of lists and changes come by themselves.
    pub args: &'static [Arg],
    /// Fields that it sets, unless file or arguments do.
    pub always: &'static [(&'static str, &'static str)],
    /// Whether the request can be read from a file.
    pub file: File,
    /// The method of `--dry-run`, and the field of its request into which this one's goes.
    pub dry_run: Option<(&'static str, &'static str)>,
}

/// Whether a request is read from a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// It is made of arguments.
    No,
    /// It is read from a file, and arguments go before what that says.
    Must,
    /// A file can stand in for arguments that are required otherwise.
    Can,
}

/// An argument, and the field of the request that it sets.
#[derive(Clone, Copy)]
pub struct Arg {
    /// Its name on the command line.
    pub name: &'static str,
    /// The way to the field, e.g. "channel_account.name".
    pub field: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it stands by itself, without `--name`.
    pub bare: bool,
    /// Whether it must be given.
    pub required: bool,
    /// The collection of the resource that it names, which then can be left out of the name.
    pub of: Option<&'static str>,
}

/// An argument that stands by itself, and must be given.
const fn bare(name: &'static str, field: &'static str, of: &'static str) -> Arg {
    Arg {
        name,
        field,
        help: "Its name, or the last part of it",
        bare: true,
        required: true,
        of: Some(of),
    }
}

/// An argument with a name.
const fn flag(name: &'static str, field: &'static str, help: &'static str) -> Arg {
    Arg {
        name,
        field,
        help,
        bare: false,
        required: false,
        of: None,
    }
}

impl Arg {
    const fn required(self) -> Self {
        Arg {
            required: true,
            ..self
        }
    }

    const fn of(self, collection: &'static str) -> Self {
        Arg {
            of: Some(collection),
            ..self
        }
    }
}

const fn task(
    path: &'static str,
    method: &'static str,
    about: &'static str,
    args: &'static [Arg],
) -> Task {
    Task {
        path,
        method,
        about,
        args,
        always: &[],
        file: File::No,
        dry_run: None,
    }
}

impl Task {
    const fn always(self, always: &'static [(&'static str, &'static str)]) -> Self {
        Task { always, ..self }
    }

    const fn file(self, file: File) -> Self {
        Task { file, ..self }
    }

    const fn dry_run(self, method: &'static str, field: &'static str) -> Self {
        Task {
            dry_run: Some((method, field)),
            ..self
        }
    }
}

/// A command that stands among others that are not of these.
pub const AUDIT_LIST: &str = "audit list";

/// What words that are no commands themselves stand for.
const GROUPS: &[(&str, &str)] = &[
    (
        "campaigns",
        "Launch campaigns, steer them, see what became of them",
    ),
    ("operations", "Long work: list it, watch it, stop it"),
    ("offers", "List and answer offers"),
    ("messages", "List messages, and see why somebody got none"),
    ("channels", "Channel accounts and plugins"),
    ("channels accounts", "What messages are sent through"),
    ("plans", "Contact plans, and the contacts they make"),
    ("contacts", "The work list: who is called next"),
    ("winback", "Customers who drift away"),
    ("winback cases", "List and read cases"),
    ("customers", "List and read customers"),
    (
        "selections",
        "List and count selections, and what they find",
    ),
    (
        "approvals",
        "Launches that wait for a second person, and which have to",
    ),
    ("approvals policy", "Which launches need an approval"),
    ("privacy", "Data of persons: export it, erase it"),
    (
        "privacy requests",
        "Exports and erasures that were asked for",
    ),
    ("audit", "The audit log"),
];

/// Arguments of all requests that have their fields.
pub const COMMON: &[Arg] = &[
    flag(
        "filter",
        "filter",
        "Only those for which this holds, e.g. 'create_time > 2027-01-31T00:00:00Z'",
    ),
    flag(
        "order-by",
        "order_by",
        "In this order, e.g. 'create_time desc'",
    ),
    flag(
        "etag",
        "etag",
        "Only if it is still as it was read with this etag",
    ),
    flag(
        "request-id",
        "request_id",
        "A UUID: the same request is done once for it; made up when not given",
    ),
    flag(
        "validate-only",
        "validate_only",
        "Check everything, change nothing",
    ),
];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Task> {
    let tasks = outreach::TASKS.iter().chain(people::TASKS);
    tasks.chain(control::TASKS)
}

/// The command of these words.
pub fn find(path: &str) -> Option<&'static Task> {
    all().find(|task| task.path == path)
}

/// What a word of a command is for.
pub fn about(path: &str) -> &'static str {
    let group = GROUPS.iter().find(|(group, _)| *group == path);
    match group {
        Some((_, about)) => about,
        None => find(path).map_or("", |task| task.about),
    }
}

/// The words that can follow, each once.
pub fn following(path: &str) -> Vec<&'static str> {
    let mut words = Vec::new();
    for task in all().filter(|task| task.path != AUDIT_LIST) {
        let rest = match path {
            "" => Some(task.path),
            path => task
                .path
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix(' ')),
        };
        let word = rest.and_then(|rest| rest.split(' ').next());
        if let Some(word) = word
            && !words.contains(&word)
        {
            words.push(word);
        }
    }
    words
}

/// The method of a path as in calls.
pub fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::args::field;
    use crate::cli::client::{columns, rows};

    #[test]
    fn every_command_calls_what_there_is() {
        for task in all() {
            let method = method(task.method).unwrap_or_else(|| panic!("{}", task.method));
            assert!(!method.is_client_streaming(), "{}", task.path);
            let input = method.input();
            let fields = task.args.iter().map(|arg| arg.field);
            for path in fields.chain(task.always.iter().map(|(field, _)| *field)) {
                assert!(field(&input, path).is_some(), "{}: {path}", task.path);
            }
            if let Some((other, within)) = task.dry_run {
                let other = super::method(other).expect("a method").input();
                let within = field(&other, within).expect("a field").kind();
                assert_eq!(within.as_message(), Some(&input), "{}", task.path);
            }
        }
    }

    #[test]
    fn lists_have_chosen_columns() {
        for task in all() {
            let method = method(task.method).expect("a method");
            let Some(rows) = rows(&method.output()) else {
                continue;
            };
            let of = rows.kind();
            let of = of.as_message().expect("messages").full_name();
            assert!(columns::declared(of).is_some(), "{}: {of}", task.path);
        }
    }

    #[test]
    fn words_are_explained_and_none_is_both_command_and_group() {
        for task in all() {
            assert_eq!(all().filter(|t| t.path == task.path).count(), 1);
            let words: Vec<&str> = task.path.split(' ').collect();
            for end in 1..=words.len() {
                let path = words[..end].join(" ");
                assert!(!about(&path).is_empty(), "{path}");
                assert_eq!(find(&path).is_some(), end == words.len(), "{path}");
            }
        }
        assert_eq!(following("channels"), ["accounts", "plugins"]);
        assert!(following("campaigns list").is_empty());
    }
}
