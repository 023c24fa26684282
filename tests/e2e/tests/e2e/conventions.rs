//! What all methods have in common, read from their descriptors: a new one that forgets it fails here.

use std::collections::BTreeSet;

use anklang_domain::access::Permission;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::raw;

/// Beginnings of methods that change nothing.
const READING: [&str; 10] = [
    "Analyse", "Get", "List", "Export", "Explain", "Preview", "Download", "Report", "Watch", "Wait",
];

/// Methods that change something and are done once in another way.
const OTHERWISE_ONCE: [(&str, &str); 6] = [
    (
        "anklang.imports.v1.ImportService/Import",
        "rows are keyed by the tenant's numbers: the same file again changes nothing",
    ),
    (
        "anklang.imports.v1.ImportService/ImportRows",
        "rows are keyed by the tenant's numbers: the same again change nothing",
    ),
    (
        "anklang.handover.v1.DeliveryService/ReplayDeadDeliveries",
        "in chunks, each a transaction: repeated, it replays what is still dead",
    ),
    (
        "anklang.messages.v1.MessageService/LookupMessages",
        "it asks outside of any transaction; repeated, it changes nothing that is settled",
    ),
    (
        "google.longrunning.Operations/CancelOperation",
        "a message of Google's; repeated, it changes nothing",
    ),
    (
        "google.longrunning.Operations/DeleteOperation",
        "a message of Google's; repeated, there is nothing to delete",
    ),
];

/// Changes of something that take no etag.
const UNSEEN: [(&str, &str); 20] = [
    (
        "anklang.winback.v1.WinbackTemplateService/GenerateVouchers",
        "it adds codes and leaves the pool as it is",
    ),
    (
        "anklang.winback.v1.WinbackMailService/MailWinbackCases",
        "many at once; it leaves out who was mailed or closed meanwhile",
    ),
    (
        "anklang.handover.v1.WebhookService/SendTestEvent",
        "it makes a delivery and leaves the webhook as it is",
    ),
    (
        "anklang.campaigns.v1.DryRunService/DryRunLaunch",
        "it leaves everything as it is",
    ),
    (
        "anklang.planning.v1.PlannedContactService/GeneratePlannedContacts",
        "many at once; what people are at stays",
    ),
    (
        "anklang.winback.v1.WinbackService/DetectWinback",
        "many at once; it writes only why a case is one",
    ),
    (
        "anklang.messages.v1.MessageService/BatchResolveMessages",
        "many at once; it refuses all when one is not ambiguous any more",
    ),
    (
        "anklang.documents.v1.DocumentService/MakeBundle",
        "it is made once; what there is stays",
    ),
    (
        "anklang.channels.v1.ChannelService/TestChannelAccount",
        "it sends a message and leaves the account as it is",
    ),
    (
        "anklang.planning.v1.WorkListService/ClaimNextContact",
        "it takes what nobody has",
    ),
    (
        "anklang.planning.v1.WorkListService/ClaimContact",
        "it takes what nobody has",
    ),
    (
        "anklang.planning.v1.WorkListService/ExtendClaim",
        "the claim is what keeps others out",
    ),
    (
        "anklang.planning.v1.WorkListService/ReleaseContact",
        "the claim is what keeps others out",
    ),
    (
        "anklang.planning.v1.WorkListService/RecordOutcome",
        "the claim is what keeps others out",
    ),
    (
        "anklang.planning.v1.WorkListService/TakeOrder",
        "the claim is what keeps others out; of an order that is added to it takes add_to_etag",
    ),
    (
        "anklang.privacy.v1.PrivacyService/ErasePersonalData",
        "whatever the customer is by then is erased",
    ),
    (
        "anklang.winback.v1.WinbackCaseService/NextWinbackCase",
        "it takes what nobody has",
    ),
    (
        "anklang.winback.v1.WinbackCaseService/ClaimWinbackCase",
        "it takes what nobody has",
    ),
    (
        "anklang.winback.v1.WinbackCaseService/ExtendWinbackCase",
        "the claim is what keeps others out",
    ),
    (
        "anklang.winback.v1.WinbackCaseService/ReleaseWinbackCase",
        "the claim is what keeps others out",
    ),
];

/// Updates of what is no resource of its own.
const PARTS: [(&str, &str); 1] = [(
    "anklang.selections.v1.SelectionService/UpdateSelectionTicks",
    "it says itself what to add and what to take away",
)];

/// What is read by those alone who may write it.
const GUARDED: [(&str, &str); 3] = [
    (
        "anklang.winback.v1.WinbackTemplateService/ListVouchers",
        "who knows a code can redeem it",
    ),
    (
        "anklang.privacy.v1.PrivacyService/ExportPersonalData",
        "it gathers all that is known of a person",
    ),
    (
        "anklang.privacy.v1.PrivacyService/DownloadPersonalData",
        "it gathers all that is known of a person",
    ),
];

fn mutations() -> impl Iterator<Item = (String, MethodDescriptor)> {
    raw::methods()
        .filter(|m| !reads(m))
        .map(|m| (raw::path(&m), m))
}

fn reads(method: &MethodDescriptor) -> bool {
    READING.iter().any(|verb| method.name().starts_with(verb))
}

fn is_listed(list: &[(&str, &str)], method: &str) -> bool {
    list.iter().any(|(known, _)| *known == method)
}

fn text(message: &MessageDescriptor, name: &str) -> bool {
    let field = message.get_field_by_name(name);
    field.is_some_and(|f| f.kind() == Kind::String && !f.is_list())
}

fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() => Some(message),
        _ => None,
    }
}

/// The permission that a method says is needed for it.
pub fn declared(method: &MethodDescriptor) -> Option<String> {
    let pool = method.parent_pool();
    let extension = pool.get_extension_by_name("anklang.common.v1.permission")?;
    let options = method.options();
    let value = options.get_extension(&extension);
    value.as_str().map(str::to_owned)
}

/// The resource that an update carries.
fn resource(method: &MethodDescriptor) -> Option<MessageDescriptor> {
    let fields: Vec<FieldDescriptor> = method.input().fields().collect();
    let mut messages = fields.iter().filter_map(inner);
    messages.find(|m| *m == method.output())
}

#[test]
fn lists_of_exceptions_name_what_there_is() {
    let known: Vec<String> = mutations().map(|(path, _)| path).collect();
    for (method, _) in [&OTHERWISE_ONCE[..], &UNSEEN, &PARTS].concat() {
        assert!(known.iter().any(|k| k == method), "no method {method}");
    }
    for (method, _) in GUARDED {
        let read = raw::methods().any(|m| reads(&m) && raw::path(&m) == method);
        assert!(read, "{method} reads nothing");
    }
}

#[test]
fn every_change_can_be_done_once_and_tried() {
    let mut looked_at = 0;
    for (path, method) in mutations().filter(|(path, _)| !is_listed(&OTHERWISE_ONCE, path)) {
        let input = method.input();
        assert!(text(&input, "request_id"), "{path} has no request_id");
        let trial = input.get_field_by_name("validate_only");
        assert!(
            trial.is_some_and(|f| f.kind() == Kind::Bool),
            "{path} has no validate_only"
        );
        looked_at += 1;
    }
    assert!(looked_at > 30, "{looked_at}");
}

#[test]
fn every_change_of_something_takes_its_etag() {
    for (path, method) in mutations() {
        let makes = method.name().starts_with("Create");
        if makes || is_listed(&OTHERWISE_ONCE, &path) || is_listed(&UNSEEN, &path) {
            continue;
        }
        let holder = match method.name().starts_with("Update") && !is_listed(&PARTS, &path) {
            true => resource(&method).unwrap_or_else(|| panic!("{path} gives what it changes")),
            false => method.input(),
        };
        assert!(text(&holder, "etag"), "{path}: {} has none", holder.name());
        // What was changed is told with its etag.
        let output = method.output();
        let tells = ["google.protobuf.Empty", "google.longrunning.Operation"]
            .contains(&output.full_name())
            || is_listed(&PARTS, &path);
        assert!(tells || text(&output, "etag"), "{path}: {}", output.name());
    }
}

#[test]
fn every_update_has_a_mask() {
    let mut looked_at = 0;
    for (path, method) in mutations() {
        let updates = method.name().starts_with("Update") && !is_listed(&PARTS, &path);
        let mask = method.input().get_field_by_name("update_mask");
        let is_mask = |f: &FieldDescriptor| {
            inner(f).is_some_and(|m| m.full_name() == "google.protobuf.FieldMask")
        };
        assert_eq!(mask.is_some_and(|f| is_mask(&f)), updates, "{path}");
        looked_at += usize::from(updates);
    }
    assert!(looked_at >= 12, "{looked_at}");
}

#[test]
fn every_list_has_pages_a_filter_and_an_order() {
    for method in raw::methods().filter(|m| m.name().starts_with("List")) {
        let (path, input, output) = (raw::path(&method), method.input(), method.output());
        let without = ["ListSelectionFields", "ListChannelPlugins"].contains(&method.name());
        assert_eq!(text(&input, "page_token"), !without, "{path}");
        assert_eq!(text(&input, "filter"), !without, "{path}");
        let of_google = path.starts_with("google.");
        assert_eq!(text(&input, "order_by"), !without && !of_google, "{path}");
        assert_eq!(text(&output, "next_page_token"), !without, "{path}");
    }
}

#[test]
fn every_method_says_which_permission_it_needs() {
    let mut needed = BTreeSet::new();
    for method in raw::methods() {
        let path = raw::path(&method);
        let service = method.parent_service();
        if service.full_name().starts_with("google.") {
            // No option of ours can be there; the server knows what these need.
            assert_eq!(service.full_name(), "google.longrunning.Operations");
            assert_eq!(declared(&method).unwrap_or_default(), "");
            continue;
        }
        let word = declared(&method).unwrap_or_default();
        let permission = Permission::parse(&word)
            .unwrap_or_else(|| panic!("{path} needs {word:?}, which is no permission"));
        let harmless = reads(&method) && !is_listed(&GUARDED, &path);
        assert_eq!(permission.is_read(), harmless, "{path} needs {word}");
        needed.insert(permission);
    }
    // Nothing can be allowed that is for nothing.
    needed.insert(Permission::OperationsWrite);
    let all: BTreeSet<Permission> = Permission::ALL.iter().copied().collect();
    assert_eq!(needed, all);
}
