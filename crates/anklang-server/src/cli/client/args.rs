//! The command line of the commands in `commands`, and the request that it comes to: by the fields' types, as
//! the protos have them.

use std::fmt::Display;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args as _, FromArgMatches, Subcommand, ValueHint};
use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::commands::{self, AUDIT_LIST, Arg, COMMON, File, Task};
use super::values;
use crate::cli::server_args::ServerArgs;

/// Names of arguments that are no fields.
const FILE: &str = "file";
const LIMIT: &str = "limit";
const NO_WAIT: &str = "no-wait";
const DRY_RUN: &str = "dry-run";
const TENANT: &str = "tenant";
const JSON: &str = "json";
const TIMEOUT: &str = "timeout";
const REQUEST_ID: &str = "request-id";
const ETAG: &str = "etag";
/// The longest that a call may be given, in seconds.
const LONGEST: u64 = 86_400;

/// A command with its request.
pub struct Asked {
    /// Where it goes.
    pub server: ServerArgs,
    /// The tenant, by its slug.
    pub tenant: Option<String>,
    /// Whether the answer is printed as JSON.
    pub json: bool,
    /// What is called.
    pub method: MethodDescriptor,
    /// What it is called with.
    pub request: DynamicMessage,
    /// How long a call may take.
    pub timeout: Duration,
    /// The most rows of a list.
    pub limit: u64,
    /// Whether an operation that it begins is followed.
    pub wait: bool,
}

impl Subcommand for Asked {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let words = commands::following("").into_iter();
        // What is in them costs reading the protos: only when it is asked for.
        command.subcommands(words.map(|word| {
            clap::Command::new(word)
                .about(commands::about(word))
                .defer(|command| {
                    let word = command.get_name().to_owned();
                    grown(command, &word)
                })
        }))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        commands::following("").contains(&name)
    }
}

/// A word of a command with all that can follow.
fn grown(command: clap::Command, path: &str) -> clap::Command {
    if let Some(task) = commands::find(path) {
        return match commands::method(task.method) {
            Some(method) => with_arguments(command, task, &method),
            None => command,
        };
    }
    let words = commands::following(path).into_iter().map(|word| {
        let path = format!("{path} {word}");
        let command = clap::Command::new(word).about(commands::about(&path));
        grown(command, &path)
    });
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(words)
}

fn with_arguments(
    command: clap::Command,
    task: &'static Task,
    method: &MethodDescriptor,
) -> clap::Command {
    let input = method.input();
    let mut command =
        command.args(fields(task, &input).map(|(arg, field)| of_field(task, arg, &field)));
    if task.file != File::No {
        let path = clap::Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .help(format!(
                "The request as JSON of {}; - for standard input",
                input.name()
            ))
            .value_hint(ValueHint::FilePath)
            .required(task.file == File::Must)
            .value_parser(move |path: &str| values::from_file(&input, path));
        command = command.arg(path);
    }
    if task.dry_run.is_some() {
        command = command.arg(switch(DRY_RUN, "Only find out what would come of it"));
    }
    if is_paged(method) {
        let limit = clap::Arg::new(LIMIT)
            .long(LIMIT)
            .value_name("N")
            .help("The most that are listed; all when not given")
            .value_parser(clap::value_parser!(u64).range(1..));
        command = command.arg(limit);
    }
    if begins_work(method) {
        command = command.arg(switch(
            NO_WAIT,
            "Do not follow the operation that it begins",
        ));
    }
    let tenant = clap::Arg::new(TENANT)
        .long(TENANT)
        .value_name("SLUG")
        .env("ANKLANG_TENANT")
        .help("The tenant; not needed with a token for one alone");
    let timeout = clap::Arg::new(TIMEOUT)
        .long(TIMEOUT)
        .value_name("SECONDS")
        .help("How long a call may take, all tries together; what is followed may take longer")
        .default_value("60")
        .value_parser(clap::value_parser!(u64).range(1..=LONGEST));
    let command = command
        .arg(switch(
            JSON,
            "Print JSON: one object, or a line for each of a list",
        ))
        .next_help_heading("Server")
        .arg(tenant)
        .arg(timeout);
    ServerArgs::augment_args(command)
}

/// The arguments of a command that set fields, with these.
fn fields(
    task: &'static Task,
    input: &MessageDescriptor,
) -> impl Iterator<Item = (&'static Arg, FieldDescriptor)> {
    let all = task.args.iter().chain(COMMON);
    let all: Vec<_> = all
        .filter_map(|arg| Some((arg, field(input, arg.field)?)))
        .collect();
    all.into_iter()
}

/// The field at the end of a way.
pub fn field(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    match path.split_once('.') {
        None => message.get_field_by_name(path),
        Some((first, rest)) => match message.get_field_by_name(first)?.kind() {
            Kind::Message(inner) => field(&inner, rest),
            _ => None,
        },
    }
}

fn switch(name: &'static str, help: &'static str) -> clap::Arg {
    let switch = clap::Arg::new(name).long(name).help(help);
    switch.action(ArgAction::SetTrue)
}

fn is_switch(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::Bool && !field.is_list()
}

fn of_field(task: &Task, arg: &'static Arg, field: &FieldDescriptor) -> clap::Arg {
    if is_switch(field) {
        return switch(arg.name, arg.help);
    }
    let mut made = clap::Arg::new(arg.name)
        .value_name(arg.name.to_uppercase().replace('-', "_"))
        .value_parser(values::parser(arg, field));
    made = match arg.of {
        Some(collection) => made.help(format!("{} ({collection}/…)", arg.help)),
        None => made.help(arg.help),
    };
    if !arg.bare {
        made = made.long(arg.name);
    }
    if field.is_list() {
        made = made.action(ArgAction::Append);
    }
    match (arg.required, task.file) {
        (true, File::Can) => made.required_unless_present(FILE),
        (required, _) => made.required(required),
    }
}

/// `audit list`: the other commands of `audit` are not of these.
pub struct AuditList(pub Asked);

impl clap::Args for AuditList {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = command.about(commands::about(AUDIT_LIST));
        grown(command, AUDIT_LIST)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AuditList {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Asked::by(AUDIT_LIST, matches).map(AuditList)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl FromArgMatches for Asked {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (mut path, mut matches) = (String::new(), matches);
        while let Some((word, inner)) = matches.subcommand() {
            if !path.is_empty() {
                path.push(' ');
            }
            path.push_str(word);
            matches = inner;
        }
        Asked::by(&path, matches)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Asked {
    /// What the command of these words was given.
    fn by(path: &str, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let task = commands::find(path).ok_or_else(|| wrong("there is no such command"))?;
        let method = |path| commands::method(path).ok_or_else(|| wrong("there is no such method"));
        let mut called = method(task.method)?;
        let mut request = request(task, &called.input(), matches)?;
        if let Some((other, within)) = task.dry_run
            && on(matches, DRY_RUN)
        {
            if one::<Json>(matches, ETAG).is_some() {
                return Err(wrong(
                    "--etag does not go with --dry-run, which changes nothing",
                ));
            }
            // That of the file is the launch's, and would then be taken for another request.
            if one::<Json>(matches, REQUEST_ID).is_none() {
                request.clear_field_by_name("request_id");
            }
            called = method(other)?;
            request = inside(&called.input(), within, request)?;
        }
        named(&mut request)?;
        Ok(Asked {
            server: ServerArgs::from_arg_matches(matches)?,
            tenant: one::<String>(matches, TENANT).cloned(),
            json: on(matches, JSON),
            method: called,
            request,
            timeout: Duration::from_secs(one::<u64>(matches, TIMEOUT).copied().unwrap_or(LONGEST)),
            limit: one::<u64>(matches, LIMIT).copied().unwrap_or(u64::MAX),
            wait: !on(matches, NO_WAIT),
        })
    }
}

fn wrong(reason: impl Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{reason}\n"))
}

/// The value of an argument, if the command has it and it was given.
fn one<'a, T: Clone + Send + Sync + 'static>(matches: &'a ArgMatches, name: &str) -> Option<&'a T> {
    matches.try_get_one::<T>(name).ok().flatten()
}

fn on(matches: &ArgMatches, name: &str) -> bool {
    one::<bool>(matches, name).is_some_and(|on| *on)
}

/// What a command sets always, over that its file, over that its arguments.
fn request(
    task: &'static Task,
    input: &MessageDescriptor,
    matches: &ArgMatches,
) -> Result<DynamicMessage, clap::Error> {
    let mut always = Json::Object(Map::new());
    for (path, text) in task.always {
        let field = field(input, path).ok_or_else(|| wrong("there is no such field"))?;
        put(
            &mut always,
            path,
            values::read(&field, text).map_err(wrong)?,
        );
    }
    let mut given = Json::Object(Map::new());
    for (arg, field) in fields(task, input) {
        let value = if is_switch(&field) {
            on(matches, arg.name).then_some(Json::Bool(true))
        } else if field.is_list() {
            let all = matches.try_get_many::<Json>(arg.name).ok().flatten();
            all.map(|all| all.cloned().collect())
        } else {
            one::<Json>(matches, arg.name).cloned()
        };
        if let Some(value) = value {
            put(&mut given, arg.field, value);
        }
    }
    let mut request = DynamicMessage::deserialize(input.clone(), always).map_err(wrong)?;
    let given = DynamicMessage::deserialize(input.clone(), given).map_err(wrong)?;
    for over in one::<DynamicMessage>(matches, FILE)
        .into_iter()
        .chain([&given])
    {
        request.merge(&over.encode_to_vec()[..]).map_err(wrong)?;
    }
    Ok(request)
}

/// Puts a value to the end of a way.
fn put(within: &mut Json, path: &str, value: Json) {
    let Json::Object(fields) = within else { return };
    match path.split_once('.') {
        None => {
            fields.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = fields.entry(first).or_insert_with(|| json!({}));
            put(inner, rest, value);
        }
    }
}

/// A request as part of another one, which then has what all changes have.
fn inside(
    outer: &MessageDescriptor,
    field: &str,
    mut request: DynamicMessage,
) -> Result<DynamicMessage, clap::Error> {
    let mut made = DynamicMessage::new(outer.clone());
    request.clear_field_by_name("etag");
    for common in ["request_id", "validate_only"] {
        if let Some(value) = request.take_field_by_name(common) {
            made.try_set_field_by_name(common, value).map_err(wrong)?;
        }
    }
    let set = made.try_set_field_by_name(field, Value::Message(request));
    set.map_err(wrong).map(|()| made)
}

/// Gives a change an id, under which it can be asked for again after a lost connection.
fn named(request: &mut DynamicMessage) -> Result<(), clap::Error> {
    let given = request.get_field_by_name("request_id");
    if given.is_some_and(|id| id.as_str() == Some("")) {
        let id = Value::String(Uuid::now_v7().to_string());
        request
            .try_set_field_by_name("request_id", id)
            .map_err(wrong)?;
    }
    Ok(())
}

/// Whether a method lists by pages.
pub fn is_paged(method: &MethodDescriptor) -> bool {
    method.input().get_field_by_name("page_token").is_some()
}

/// Whether a method begins an operation.
pub fn begins_work(method: &MethodDescriptor) -> bool {
    method.output().full_name() == "google.longrunning.Operation"
        && method.parent_service().full_name() != "google.longrunning.Operations"
}

#[cfg(test)]
mod tests;
